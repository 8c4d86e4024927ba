//! `mdalp show`: what servers hold of one transaction. `ls` uses the same description.

use crate::console;
use crate::exit::{Exit, Failure, Outcome};
use crate::held::{DataArgs, Held};
use crate::text;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;
use mdalp_store::{Query, ReadError, State, Statement, TransactionSummary, UnixMillis, assemble};
use serde::Serialize;
use std::io;
use std::process::ExitCode;

/// Shows what servers hold of one transaction
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The transaction
    tid: u64,

    #[command(flatten)]
    data: DataArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A transaction, as `--json` prints it. Fields are added, never changed or removed.
#[derive(Serialize)]
pub(crate) struct Description {
    pub(crate) tid: u64,
    /// `open`, `share` (of a payload that is known, the rest of which other receivers may hold),
    /// `complete`, `damaged`, `expired` or `removed`.
    pub(crate) state: &'static str,
    pub(crate) bytes: u64,
    pub(crate) chunks: u64,
    /// Of all chunks in order; null while some are missing.
    blake3: Option<String>,
    /// First and last of each run of missing chunks below the highest one held.
    missing: Vec<(u64, u64)>,
    /// What the sender stated of the whole payload; null if it is not known.
    stated: Option<Stated>,
    receivers: Vec<Holding>,
    begun: Option<String>,
    pub(crate) last_append: Option<String>,
    pub(crate) client: Option<String>,
}

/// What the sender stated of the whole payload.
#[derive(Serialize)]
struct Stated {
    chunks: u64,
    bytes: u64,
    blake3: String,
}

/// What one receiver was the first to take.
#[derive(Serialize)]
struct Holding {
    name: String,
    address: String,
    chunks: u64,
    bytes: u64,
    ranges: Vec<(u64, u64)>,
}

impl Stated {
    fn text(&self) -> String {
        let (bytes, chunks) = (text::count(self.bytes, "byte"), text::count(self.chunks, "chunk"));
        format!("{bytes} in {chunks}, BLAKE3 {}", self.blake3)
    }
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        let held = self.data.open()?;
        let summary = find(&held, TransactionId(self.tid), &self.data)?;
        let description = Description::of(&held, &summary)?;
        if self.json {
            console::print_json(&description)?;
        } else {
            console::print(&description.text())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The transaction, or an error that says what there is instead.
pub(crate) fn find(
    held: &Held,
    tid: TransactionId,
    data: &DataArgs,
) -> Result<TransactionSummary, Failure> {
    held.transaction(tid).map_err(|error| read_failure(tid, &error))?.ok_or_else(|| {
        let place = data.names();
        Exit::Usage.because(format_args!(
            "{place} has no transaction {tid}; mdalp ls shows which there are"
        ))
    })
}

/// What reading a transaction failed for.
pub(crate) fn read_failure(tid: TransactionId, error: &ReadError) -> Failure {
    let exit = match error {
        ReadError::Damaged { .. } | ReadError::Contradiction => Exit::Verification,
        ReadError::UnknownTransaction => Exit::Usage,
        _ => Exit::LocalIo,
    };
    exit.because(format_args!("transaction {tid}: {error}"))
}

/// What is not there below the end that the sender stated, or else below the highest chunk held.
pub(crate) fn missing(summary: &TransactionSummary) -> RangeSet {
    let held = || summary.ranges.last().map_or(0, |last| last.saturating_add(1));
    summary.ranges.missing_below(summary.statement.map_or_else(held, |stated| stated.chunks))
}

/// Whether other receivers may hold what is missing here.
fn is_share(summary: &TransactionSummary, missing: &RangeSet) -> bool {
    summary.statement.is_some() && summary.info.is_none() && !missing.is_empty()
}

impl Description {
    pub(crate) fn of(held: &Held, summary: &TransactionSummary) -> Result<Self, Failure> {
        let missing = missing(summary);
        let names = held.receivers().map_err(|error| read_failure(summary.tid, &error))?;
        let holding = |share: &mdalp_store::Share| {
            let name = names.get(usize::from(share.receiver.0)).cloned().unwrap_or_default();
            Holding {
                name: name.name,
                address: name.address,
                chunks: share.chunks,
                bytes: share.bytes,
                ranges: pairs(&share.ranges),
            }
        };
        Ok(Self {
            tid: summary.tid.0,
            state: match summary.state {
                State::Open if is_share(summary, &missing) => "share",
                State::Open => "open",
                State::Damaged => "damaged",
                State::Complete => "complete",
                State::Expired => "expired",
                State::Removed => "removed",
            },
            bytes: summary.bytes,
            chunks: summary.chunks,
            blake3: blake3(held, summary, &missing)?,
            missing: pairs(&missing),
            stated: summary.statement.map(|Statement { chunks, bytes, blake3 }| Stated {
                chunks,
                bytes,
                blake3: hex(&blake3),
            }),
            receivers: summary.shares.iter().map(holding).collect(),
            begun: summary.info.as_ref().map(|info| time(info.begun)),
            last_append: summary.last_append.map(time),
            client: summary.client(),
        })
    }

    /// `3-9,14`, or `-`.
    pub(crate) fn missing_text(&self) -> String {
        list(&self.missing)
    }

    fn text(&self) -> String {
        let dash = || "-".to_owned();
        let fields = [
            ("transaction", self.tid.to_string()),
            ("state", self.state.to_owned()),
            ("bytes", self.bytes.to_string()),
            ("chunks", self.chunks.to_string()),
            ("missing", self.missing_text()),
            ("stated", self.stated.as_ref().map_or_else(dash, Stated::text)),
            ("blake3", self.blake3.clone().unwrap_or_else(dash)),
            ("client", self.client.clone().unwrap_or_else(dash)),
            ("begun", self.begun.clone().unwrap_or_else(dash)),
            ("last chunk", self.last_append.clone().unwrap_or_else(dash)),
        ];
        let mut all: String = fields
            .iter()
            .flat_map(|(name, value)| [format!("{name:<12}"), value.clone(), "\n".to_owned()])
            .collect();
        if !self.receivers.is_empty() {
            let heading = ["receiver", "name", "bytes", "chunks", "SEQs"];
            let mut rows = vec![heading.map(str::to_owned).to_vec()];
            rows.extend(self.receivers.iter().map(|r| {
                let (bytes, chunks) = (r.bytes.to_string(), r.chunks.to_string());
                vec![r.address.clone(), r.name.clone(), bytes, chunks, list(&r.ranges)]
            }));
            all += "\n";
            all += &text::table(&rows, 0);
        }
        all
    }
}

/// From the receipt where there is one that holds, else computed now.
fn blake3(
    held: &Held,
    summary: &TransactionSummary,
    missing: &RangeSet,
) -> Result<Option<String>, Failure> {
    if let (State::Complete, Some(stated)) = (summary.state, summary.statement) {
        return Ok(Some(hex(&stated.blake3)));
    }
    if !missing.is_empty() || summary.state != State::Open {
        return Ok(None);
    }
    match assemble(held, summary.tid, &mut io::sink()) {
        Ok(assembled) => Ok(Some(hex(&assembled.blake3))),
        Err(mdalp_store::AssembleError::Read(error)) => Err(read_failure(summary.tid, &error)),
        Err(_) => Ok(None),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|n| char::from_digit(n.into(), 16))
        .collect()
}

fn pairs(ranges: &RangeSet) -> Vec<(u64, u64)> {
    ranges.iter().map(std::ops::RangeInclusive::into_inner).collect()
}

/// `3-9,14`, or `-`. Long lists are cut.
fn list(pairs: &[(u64, u64)]) -> String {
    const MOST: usize = 20;
    let one = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let mut parts: Vec<String> = pairs.iter().take(MOST).map(one).collect();
    if pairs.len() > MOST {
        parts.push(format!("… ({} ranges)", pairs.len()));
    }
    if parts.is_empty() { "-".to_owned() } else { parts.join(",") }
}

fn time(at: UnixMillis) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "-".to_owned(), |at| format!("{at:.3}"))
}
