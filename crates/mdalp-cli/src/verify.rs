//! `mdalp verify`: checks every byte that servers hold, or a file against that, or against a receipt.

use crate::console;
use crate::exit::{Exit, Outcome};
use crate::held::DataArgs;
use crate::receipt::Receipt;
use crate::show;
use crate::text;
use mdalp::Payload;
use mdalp_proto::ids::TransactionId;
use mdalp_store::{Query, State, assemble};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Checks every byte that servers hold, or a file against a transaction or a receipt
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file that was sent; without one, all that is in the data directories is checked
    #[arg(requires = "against")]
    file: Option<PathBuf>,

    /// A transaction that the servers hold, or a receipt that `send --receipt` wrote
    #[arg(value_name = "TID|RECEIPT")]
    against: Option<String>,

    #[command(flatten)]
    data: DataArgs,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        match (&self.file, &self.against) {
            (Some(file), Some(against)) => self.compare(file, against),
            _ => self.check(),
        }
    }

    /// Looks at every byte of the data directories.
    fn check(&self) -> Outcome {
        let held = self.data.open_as_it_is()?;
        let failed = |error| Exit::LocalIo.because(format_args!("{}: {error}", self.data.names()));
        let damage = held.check().map_err(failed)?;
        for (at, damage) in &damage {
            let dir = self.data.dirs().get(*at).map(|dir| dir.display().to_string());
            console::print(&format!("{}: {damage}\n", dir.unwrap_or_default()))?;
        }
        let mut damaged = 0;
        for one in held.list().map_err(failed)? {
            if one.state == State::Damaged {
                damaged += 1;
                console::print(&format!("transaction {} is damaged; send it again\n", one.tid))?;
            }
        }
        let names = self.data.names();
        if !damage.is_empty() {
            let count = text::count(damage.len() as u64, "place");
            return Err(Exit::Verification.because(format_args!("{names}: damaged in {count}")));
        }
        // The server has seen to it already; what was lost has not been sent again.
        if damaged > 0 {
            let count = text::count(damaged, "transaction");
            return Err(Exit::Verification.because(format_args!("{names}: {count} damaged")));
        }
        console::note(format_args!("{names}: every byte is as it was written"));
        Ok(ExitCode::SUCCESS)
    }

    fn compare(&self, file: &Path, against: &str) -> Outcome {
        let name = file.display();
        let is_number = file.to_str().is_some_and(|text| text.parse::<u64>().is_ok());
        if is_number && !file.exists() && Path::new(against).is_file() {
            return Err(Exit::Usage.because(format_args!(
                "there is no file {name}; the file comes first: mdalp verify {against} {name}"
            )));
        }
        let unreadable = |error| Exit::LocalIo.because(format_args!("{name}: {error}"));
        let payload = Payload::open(file).map_err(unreadable)?;
        let blake3 = payload.blake3().map_err(unreadable)?;
        let (bytes, expected, whose) = match against.parse() {
            Ok(tid) => self.held(TransactionId(tid))?,
            Err(_) if self.data.is_given() => {
                return Err(Exit::Usage.because(
                    "a receipt is compared without the servers: leave --data out, or give the \
                     transaction id in place of the receipt",
                ));
            }
            Err(_) => receipt(Path::new(against))?,
        };
        if (payload.len(), blake3::Hash::from_bytes(blake3)) != (bytes, expected) {
            return Err(Exit::Verification.because(format_args!(
                "{name} is not what {whose}: {} with BLAKE3 {} here, {} with BLAKE3 {expected} there",
                text::count(payload.len(), "byte"),
                show::hex(&blake3),
                text::count(bytes, "byte"),
            )));
        }
        let count = text::count(bytes, "byte");
        console::note(format_args!("{name} is what {whose}: {count}, BLAKE3 {expected}"));
        Ok(ExitCode::SUCCESS)
    }

    /// Length and hash of what the servers hold.
    fn held(
        &self,
        tid: TransactionId,
    ) -> Result<(u64, blake3::Hash, String), crate::exit::Failure> {
        let held = self.data.open()?;
        let summary = show::find(&held, tid, &self.data)?;
        let missing = show::missing(&summary);
        if !missing.is_empty() {
            return Err(Exit::Partial.because(format_args!(
                "transaction {tid} is not whole: chunks {missing} are missing"
            )));
        }
        let done = assemble(&held, tid, &mut std::io::sink()).map_err(|error| {
            Exit::Verification.because(format_args!("transaction {tid}: {error}"))
        })?;
        let whose = format!("the servers hold of transaction {tid}");
        Ok((done.bytes, blake3::Hash::from_bytes(done.blake3), whose))
    }
}

/// Length and hash in a receipt.
fn receipt(path: &Path) -> Result<(u64, blake3::Hash, String), crate::exit::Failure> {
    let receipt = Receipt::read(path).map_err(|problem| Exit::LocalIo.because(problem))?;
    let hash = receipt.blake3.as_deref().and_then(|hex| blake3::Hash::from_hex(hex).ok());
    let name = path.display();
    let Some(hash) = hash else {
        return Err(Exit::Verification.because(format_args!("{name} has no hash to compare")));
    };
    let said = if receipt.verified { "verified" } else { "acknowledged, not verified" };
    Ok((receipt.bytes, hash, format!("{name} says was {said} as transaction {}", receipt.tid)))
}
