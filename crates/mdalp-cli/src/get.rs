//! `mdalp get`: writes a payload that servers hold to a file.
//!
//! The file appears whole or not at all: what is read goes to another file beside it first.

use crate::console;
use crate::exit::{Exit, Failure, Outcome};
use crate::held::{DataArgs, Held};
use crate::show;
use crate::text;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::ranges::RangeSet;
use mdalp_store::{
    AssembleError, Query, ReadError, State, Statement, TransactionSummary, assemble,
};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Writes a payload that servers hold to a file
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The transaction
    tid: u64,

    /// Where to; - is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Write what is there, without a gap where chunks are missing; the exit code stays 6
    #[arg(long)]
    partial: bool,

    #[command(flatten)]
    data: DataArgs,
}

/// What was written.
struct Written {
    bytes: u64,
    blake3: Option<[u8; 32]>,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        let held = self.data.open()?;
        let tid = TransactionId(self.tid);
        let summary = show::find(&held, tid, &self.data)?;
        if matches!(summary.state, State::Expired | State::Removed) {
            return Err(Exit::Partial
                .because(format_args!("transaction {tid} was released; its chunks are not kept")));
        }
        let missing = show::missing(&summary);
        let problem = problem(&summary, &missing);
        if let Some(problem) = problem.as_ref().filter(|_| !self.partial) {
            return Err(Exit::Partial.because(format_args!("transaction {tid}: {problem}")));
        }
        let written = save(&self.output, |sink| match summary.statement {
            Some(stated) if problem.is_none() => whole(&held, tid, &stated, sink),
            _ => partial(&held, tid, sink),
        })?;
        let bytes = text::count(written.bytes, "byte");
        let what = match (&written.blake3, problem) {
            (Some(hash), _) => {
                format!("{bytes}, BLAKE3 {}, as its sender stated", show::hex(hash))
            }
            (None, Some(problem)) => format!("{bytes} of what is there: {problem}"),
            (None, None) => format!("{bytes} of what is there"),
        };
        console::note(format_args!("{}: {what}", self.output.display()));
        Ok(if written.blake3.is_some() { ExitCode::SUCCESS } else { Exit::Partial.into() })
    }
}

/// Why what is held cannot be handed out as the whole payload.
fn problem(summary: &TransactionSummary, missing: &RangeSet) -> Option<String> {
    let stated = summary.statement.is_some();
    match (stated, missing.is_empty()) {
        (true, true) => None,
        (true, false) => Some(format!(
            "not whole: chunks {missing} are missing; name the data directories of all its receivers \
             with --data, send it again, or use --partial to have what is there"
        )),
        (false, _) => {
            let gaps = if missing.is_empty() {
                String::new()
            } else {
                format!("; of what came, chunks {missing} are missing")
            };
            Some(format!(
                "nobody knows whether this is the whole payload: its sender never stated that (a classic \
                 client, or one that was interrupted){gaps}; use --partial to have what is there"
            ))
        }
    }
}

fn whole(
    held: &Held,
    tid: TransactionId,
    stated: &Statement,
    sink: &mut dyn Write,
) -> Result<Written, Failure> {
    match assemble(held, tid, sink) {
        Ok(done)
            if (done.chunks, done.bytes, done.blake3)
                == (stated.chunks, stated.bytes, stated.blake3) =>
        {
            Ok(Written { bytes: done.bytes, blake3: Some(done.blake3) })
        }
        Ok(done) => Err(Exit::Verification.because(format_args!(
            "transaction {tid}: what is held is not what its sender stated: {} with BLAKE3 {} here, {} \
             with BLAKE3 {} stated",
            text::count(done.bytes, "byte"),
            show::hex(&done.blake3),
            text::count(stated.bytes, "byte"),
            show::hex(&stated.blake3),
        ))),
        Err(AssembleError::Read(error)) => Err(show::read_failure(tid, &error)),
        Err(AssembleError::Sink(error)) => {
            Err(Exit::LocalIo.because(format_args!("writing: {error}")))
        }
        Err(error) => Err(Exit::Partial.because(format_args!("transaction {tid}: {error}"))),
    }
}

/// Writes every chunk that can be read.
fn partial(held: &Held, tid: TransactionId, sink: &mut dyn Write) -> Result<Written, Failure> {
    let (mut bytes, mut result, mut from) = (0, Ok(()), SequenceNumber(0));
    loop {
        let read = held.read(tid, from, &mut |_, data| {
            bytes += data.len() as u64;
            result = sink.write_all(data);
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match read {
            Ok(()) => break,
            // The good ones behind it are good all the same.
            Err(ReadError::Damaged { seq }) => {
                console::note(format_args!("mdalp: transaction {tid}: chunk {seq} is damaged"));
                from = SequenceNumber(seq.0.saturating_add(1));
            }
            Err(error) => return Err(show::read_failure(tid, &error)),
        }
    }
    result.map_err(|error| Exit::LocalIo.because(format_args!("writing: {error}")))?;
    Ok(Written { bytes, blake3: None })
}

/// Lets `produce` write to what `output` names.
fn save(
    output: &Path,
    produce: impl FnOnce(&mut dyn Write) -> Result<Written, Failure>,
) -> Result<Written, Failure> {
    let failed =
        |error: io::Error| Exit::LocalIo.because(format_args!("{}: {error}", output.display()));
    if output.as_os_str() == "-" {
        return produce(&mut Forgiving(io::stdout().lock()));
    }
    // A link stays a link; what it names is replaced.
    let target = fs::canonicalize(output).unwrap_or_else(|_| output.to_owned());
    match fs::metadata(&target) {
        Ok(metadata) if metadata.is_dir() => return Err(failed(ErrorKind::IsADirectory.into())),
        // A pipe or a device cannot be replaced.
        Ok(metadata) if !metadata.is_file() => {
            let mut file = OpenOptions::new().write(true).open(&target).map_err(failed)?;
            return produce(&mut file);
        }
        _ => {}
    }
    let dir = target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new();
    temporary.prefix(".mdalp-").suffix(".part");
    #[cfg(unix)]
    temporary.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = temporary.tempfile_in(dir).map_err(failed)?;
    let mut sink = BufWriter::with_capacity(1 << 16, file);
    let written = produce(&mut sink)?;
    let file = sink.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&target).map_err(|error| failed(error.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).or_else(unsupported).map_err(failed)?;
    Ok(written)
}

/// Directories cannot be flushed everywhere.
fn unsupported(error: io::Error) -> io::Result<()> {
    if cfg!(unix) { Err(error) } else { Ok(()) }
}

/// Standard output whose reader may go away: that is no error.
struct Forgiving<W>(W);

impl<W: Write> Write for Forgiving<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}
