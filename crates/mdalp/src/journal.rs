//! What a send has achieved, on disk beside the payload, so that it can go on after any end.
//!
//! Text lines, each with a CRC-32C of its own: a torn or damaged line is a line that is not there,
//! and at worst a chunk is sent twice. Acks are written before the next chunk leaves, so that
//! kill -9 loses none; power loss may lose the last second's. A journal that holds no more than that
//! is not flushed at all: a small payload would wait longer for the disk than for the network. Does
//! not decide whether to resume.

use mdalp_proto::ids::SequenceNumber;
use mdalp_proto::ranges::RangeSet;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The first line of every journal; the number is that of the format.
const MAGIC: &str = "mdalp-journal 1";
/// A journal that has grown by this much is written anew, with its acks in ranges.
const COMPACT_AFTER: usize = 256 << 10;
/// How much may be lost in a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What a transfer is, fixed when it was planned.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) tid: u64,
    /// As it was named on the command line.
    pub(crate) orchestrator: String,
    pub(crate) payload_bytes: u64,
    /// The payload's modification time, in nanoseconds since 1970, if the system tells.
    pub(crate) payload_modified: Option<u64>,
    pub(crate) chunk: u16,
    pub(crate) copies: usize,
    /// When it began, in seconds since 1970.
    pub(crate) began: u64,
    pub(crate) receivers: Vec<SavedReceiver>,
}

/// A receiver and its share.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct SavedReceiver {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) name: String,
    pub(crate) caps: String,
    pub(crate) latency_ms: Option<f64>,
    pub(crate) bytes: u64,
}

/// What a journal says.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Saved {
    pub(crate) header: Header,
    /// The chunks that each receiver acknowledged.
    pub(crate) acked: Vec<RangeSet>,
    /// Whether it was complete, and then whether it was verified.
    pub(crate) finished: Option<bool>,
}

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    saved: Saved,
    lines: String,
    grown: usize,
    /// Since when there is something to lose; `None` if there was from the beginning.
    young_since: Option<Instant>,
    synced: Instant,
}

/// Where the journal of a payload is kept by default: a hidden file beside it. `None` if the path has
/// no name of its own.
pub fn path_beside(payload: &Path) -> Option<PathBuf> {
    let name = payload.file_name()?.to_str()?;
    Some(payload.with_file_name(format!(".{name}.mdalp-journal")))
}

/// Reads a journal; `None` if there is none, or no more of it than a power cut leaves of one that was
/// not flushed: nothing, a part of its head, or zeros.
///
/// # Errors
/// If it cannot be read, or its head is damaged or of another version.
pub(crate) fn load(path: &Path) -> io::Result<Option<Saved>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if is_torn(&text) {
        return Ok(None);
    }
    let mut lines = text.split(|&byte| byte == b'\n').filter_map(checked);
    if lines.next() != Some(MAGIC) {
        return Err(bad("it is not a journal of this version"));
    }
    let header = lines.next().and_then(|line| serde_json::from_str(line).ok());
    let header: Header = header.ok_or_else(|| bad("its head is damaged"))?;
    let mut acked = vec![RangeSet::new(); header.receivers.len()];
    let mut finished = None;
    for line in lines {
        match line {
            "verified" => finished = Some(true),
            "complete" => finished = Some(false),
            line => {
                if let Some((lane, first, last)) = parse_ack(line)
                    && let Some(set) = acked.get_mut(lane)
                {
                    set.insert_range(first..=last);
                }
            }
        }
    }
    Ok(Some(Saved { header, acked, finished }))
}

fn is_torn(text: &[u8]) -> bool {
    let head: Vec<_> = text.split_inclusive(|&byte| byte == b'\n').take(2).collect();
    head.len() < 2 || !head[1].ends_with(b"\n") || head.iter().any(|line| line.contains(&0))
}

/// The text of a line whose CRC is right.
fn checked(line: &[u8]) -> Option<&str> {
    let (text, crc) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    (format!("{:08x}", crc32c::crc32c(text.as_bytes())) == crc).then_some(text)
}

/// `ack LANE FIRST-LAST`
fn parse_ack(line: &str) -> Option<(usize, u64, u64)> {
    let (receiver, range) = line.strip_prefix("ack ")?.split_once(' ')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    Some((receiver.parse().ok()?, first, last)).filter(|_| first <= last)
}

fn push_line(lines: &mut String, text: &str) {
    let crc = crc32c::crc32c(text.as_bytes());
    // Writing to a string cannot fail.
    let _ = writeln!(lines, "{text} {crc:08x}");
}

impl Journal {
    /// Begins a journal at `path`, in place of any that is there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn create(path: PathBuf, saved: Saved) -> io::Result<Self> {
        let now = Instant::now();
        let fresh = saved.acked.iter().all(RangeSet::is_empty);
        let file = write_whole(&path, &saved, !fresh)?;
        let young_since = fresh.then_some(now);
        Ok(Self { path, file, saved, lines: String::new(), grown: 0, young_since, synced: now })
    }

    /// Whether it holds more at `now` than a power cut may cost.
    fn is_precious(&self, now: Instant) -> bool {
        self.young_since.is_none_or(|since| now - since >= SYNC_EVERY)
    }

    /// Writes all of it anew.
    fn rewrite(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let flush = self.is_precious(now);
        self.file = write_whole(&self.path, &self.saved, flush)?;
        self.grown = 0;
        if flush {
            self.synced = now;
        }
        Ok(())
    }

    /// Notes an ack; [`Journal::flush`] writes it.
    pub(crate) fn note(&mut self, lane: usize, seq: SequenceNumber) {
        if let Some(acked) = self.saved.acked.get_mut(lane) {
            acked.insert(seq.0);
            push_line(&mut self.lines, &format!("ack {lane} {seq}-{seq}"));
        }
    }

    /// Writes what was noted.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        self.file.write_all(self.lines.as_bytes())?;
        self.grown += self.lines.len();
        self.lines.clear();
        if self.grown > COMPACT_AFTER {
            self.rewrite()?;
        } else if self.synced.elapsed() >= SYNC_EVERY {
            self.synced = Instant::now();
            let file = self.file.try_clone()?;
            // On a thread of its own: a slow disk must not delay acks. A failure shows in the next
            // write at the latest, and costs at worst chunks that are sent again.
            drop(tokio::task::spawn_blocking(move || file.sync_data()));
        }
        Ok(())
    }

    /// Notes that all is acknowledged.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn finish(&mut self, verified: bool) -> io::Result<()> {
        self.saved.finished = Some(verified);
        self.rewrite()
    }
}

/// Writes a journal to a temporary file and puts it in place, so that there is always a whole one; after
/// a power cut only if it was flushed.
fn write_whole(path: &Path, saved: &Saved, flush: bool) -> io::Result<File> {
    let mut lines = String::new();
    push_line(&mut lines, MAGIC);
    push_line(&mut lines, &serde_json::to_string(&saved.header)?);
    for (lane, acked) in saved.acked.iter().enumerate() {
        for range in acked.iter() {
            push_line(&mut lines, &format!("ack {lane} {}-{}", range.start(), range.end()));
        }
    }
    match saved.finished {
        Some(true) => push_line(&mut lines, "verified"),
        Some(false) => push_line(&mut lines, "complete"),
        None => {}
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(lines.as_bytes())?;
    if flush {
        file.sync_data()?;
    }
    std::fs::rename(&temporary, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn saved() -> Saved {
        let receiver = SavedReceiver {
            address: "127.0.0.2:4650".parse().unwrap(),
            name: "A".into(),
            caps: "crc".into(),
            latency_ms: None,
            bytes: 5000,
        };
        let header = Header {
            tid: 7,
            orchestrator: "localhost:4650".into(),
            payload_bytes: 10_000,
            payload_modified: Some(5),
            chunk: 100,
            copies: 1,
            began: 1,
            receivers: vec![receiver.clone(), receiver],
        };
        Saved { header, acked: vec![RangeSet::new(); 2], finished: None }
    }

    /// A journal of a few acks, and its bytes.
    fn written() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::create(path.clone(), saved()).unwrap();
        for seq in [0, 1, 2, 60, 61] {
            journal.note(usize::from(seq > 50), SequenceNumber(seq));
        }
        journal.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (dir, path, bytes)
    }

    #[test]
    fn what_was_noted_and_flushed_is_read_back() {
        let (_dir, path, _) = written();
        let loaded = load(&path).unwrap().unwrap();
        assert_eq!(loaded.header, saved().header);
        let acked: Vec<String> = loaded.acked.iter().map(ToString::to_string).collect();
        assert_eq!((acked, loaded.finished), (vec!["0-2".into(), "60-61".into()], None));
        assert!(load(&path.with_file_name("none")).unwrap().is_none());
    }

    #[test]
    fn a_finished_journal_says_so_and_is_one_range_long() {
        let (_dir, path, _) = written();
        let mut journal = Journal::create(path.clone(), load(&path).unwrap().unwrap()).unwrap();
        journal.finish(true).unwrap();
        assert_eq!(load(&path).unwrap().unwrap().finished, Some(true));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 5);
    }

    #[test]
    fn f21_a_journal_cut_anywhere_claims_nothing_that_was_not_acknowledged() {
        let (_dir, path, bytes) = written();
        let whole = load(&path).unwrap().unwrap();
        let newlines = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let head = newlines.map(|(at, _)| at + 1).nth(1).unwrap();
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            // A head that is cut is no journal; after it, there is what whole lines say.
            let loaded = load(&path).unwrap();
            assert_eq!(loaded.is_some(), cut >= head);
            for (some, all) in loaded.iter().flat_map(|l| &l.acked).zip(&whole.acked) {
                assert!(some.iter().flatten().all(|seq| all.contains(seq)));
            }
        }
    }

    #[test]
    fn f21_what_a_power_cut_leaves_of_a_new_journal_counts_as_none() {
        let (_dir, path, bytes) = written();
        let blank = |range: std::ops::Range<usize>| {
            let mut bytes = bytes.clone();
            bytes[range].fill(0);
            bytes
        };
        for left in [vec![], blank(0..bytes.len()), blank(0..20), blank(30..bytes.len())] {
            std::fs::write(&path, left).unwrap();
            assert_eq!(load(&path).unwrap(), None);
        }
        let mut damaged = bytes.clone();
        damaged[0] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(load(&path).is_err(), "damage is not what a power cut leaves");
        std::fs::write(&path, blank(bytes.len() - 5..bytes.len())).unwrap();
        assert_eq!(
            load(&path).unwrap().unwrap().acked[1].to_string(),
            "60",
            "its end alone is lost"
        );
    }

    #[test]
    fn only_a_journal_that_holds_more_than_a_second_is_flushed_when_it_is_written_whole() {
        let (_dir, path, _) = written();
        let new = Journal::create(path.clone(), saved()).unwrap();
        let began = new.young_since.unwrap();
        assert!(!new.is_precious(began) && new.is_precious(began + SYNC_EVERY));
        let mut acked = vec![RangeSet::new(); 2];
        acked[1].insert(60);
        let resumed = Journal::create(path, Saved { acked, ..saved() }).unwrap();
        assert!(resumed.is_precious(resumed.synced), "what an earlier send achieved is not risked");
    }

    proptest! {
        #[test]
        fn a_flipped_bit_claims_nothing_that_was_not_acknowledged(at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let (_dir, path, mut bytes) = written();
            let whole = load(&path).unwrap().unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(Some(loaded)) = load(&path) {
                for (some, all) in loaded.acked.iter().zip(&whole.acked) {
                    prop_assert!(some.iter().flatten().all(|seq| all.contains(seq)));
                }
            }
        }
    }
}
