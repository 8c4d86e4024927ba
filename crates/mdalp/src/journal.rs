//! What a send has achieved, on disk beside the payload, so that it can go on after any end.
//!
//! Text lines, each with a CRC-32C of its own: a torn or damaged line is a line that is not there,
//! and at worst a chunk is sent twice. Acks are written before the next chunk leaves, so that
//! kill -9 loses none; power loss may lose the last second's. A journal that holds no more than that
//! is not flushed at all, and none is flushed by the thread that sends: acks and timers would wait for
//! the disk. A journal goes when its send is done. Does not decide whether to resume.

use mdalp_proto::ids::SequenceNumber;
use mdalp_proto::ranges::RangeSet;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
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
}

/// A journal that is being written. What is dropped without [`Journal::remove`] stays on disk.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    saved: Saved,
    lines: String,
    grown: usize,
    rewriting: Option<Rewriting>,
    syncing: Option<JoinHandle<io::Result<()>>>,
    synced: Instant,
}

/// The same journal, with its acks in ranges, on its way to the disk.
#[derive(Debug)]
struct Rewriting {
    done: JoinHandle<io::Result<File>>,
    /// What was noted meanwhile.
    since: String,
}

/// Where the journal of a payload is kept by default: a hidden file beside it. `None` if the path has
/// no name of its own.
pub fn path_beside(payload: &Path) -> Option<PathBuf> {
    let name = payload.file_name()?.to_str()?;
    Some(payload.with_file_name(format!(".{name}.mdalp-journal")))
}

/// Reads a journal; `None` if there is none, or no more of it than a power cut leaves of one that was
/// not flushed: nothing, a part of its head, or zeros. One that says that its send was done counts as
/// none too: earlier versions left such behind.
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
    for line in lines {
        if matches!(line, "verified" | "complete") {
            return Ok(None);
        }
        if let Some((lane, first, last)) = parse_ack(line)
            && let Some(set) = acked.get_mut(lane)
        {
            set.insert_range(first..=last);
        }
    }
    Ok(Some(Saved { header, acked }))
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
    /// Begins a journal of `header` at `path`, in place of any that is there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn create(path: PathBuf, header: Header) -> io::Result<Self> {
        let acked = vec![RangeSet::new(); header.receivers.len()];
        let saved = Saved { header, acked };
        let mut file = open_new(&path)?;
        file.write_all(whole(&saved)?.as_bytes())?;
        std::fs::rename(new_name(&path), &path)?;
        Ok(Self::over(path, file, saved))
    }

    /// Goes on with the journal at `path`, which says `saved`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn go_on(path: PathBuf, saved: Saved) -> io::Result<Self> {
        let mut file = OpenOptions::new().append(true).open(&path)?;
        // A last line that was cut must not spoil the next one.
        file.write_all(b"\n")?;
        let grown = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let mut journal = Self::over(path, file, saved);
        journal.grown = grown;
        Ok(journal)
    }

    fn over(path: PathBuf, file: File, saved: Saved) -> Self {
        let (lines, synced) = (String::new(), Instant::now());
        Self { path, file, saved, lines, grown: 0, rewriting: None, syncing: None, synced }
    }

    /// Notes an ack; [`Journal::flush`] writes it.
    pub(crate) fn note(&mut self, lane: usize, seq: SequenceNumber) {
        if let Some(acked) = self.saved.acked.get_mut(lane) {
            acked.insert(seq.0);
            push_line(&mut self.lines, &format!("ack {lane} {seq}-{seq}"));
        }
    }

    /// Writes what was noted, without waiting for the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        self.file.write_all(self.lines.as_bytes())?;
        self.grown = self.grown.saturating_add(self.lines.len());
        if let Some(rewriting) = &mut self.rewriting {
            rewriting.since.push_str(&self.lines);
        }
        self.lines.clear();
        if let Some(rewriting) = self.rewriting.take_if(|rewriting| rewriting.done.is_finished()) {
            self.put_in_place(rewriting)?;
        } else if self.grown > COMPACT_AFTER && self.rewriting.is_none() {
            self.rewriting = Some(self.rewrite()?);
        }
        let idle = self.syncing.as_ref().is_none_or(JoinHandle::is_finished);
        if idle && self.synced.elapsed() >= SYNC_EVERY {
            self.synced = Instant::now();
            let file = self.file.try_clone()?;
            // A failure shows in the next write at the latest, and costs at worst chunks that are sent
            // again.
            self.syncing = Some(in_background(move || file.sync_data())?);
        }
        Ok(())
    }

    /// Writes all of it anew beside it, on a thread of its own, durably: only then may it take the place
    /// of what is there.
    fn rewrite(&self) -> io::Result<Rewriting> {
        let (mut file, saved) = (open_new(&self.path)?, self.saved.clone());
        let done = in_background(move || {
            file.write_all(whole(&saved)?.as_bytes())?;
            file.sync_data()?;
            Ok(file)
        })?;
        Ok(Rewriting { done, since: String::new() })
    }

    fn put_in_place(&mut self, rewriting: Rewriting) -> io::Result<()> {
        let panicked = |_| io::Error::other("writing it anew failed");
        let mut file = rewriting.done.join().map_err(panicked)??;
        file.write_all(rewriting.since.as_bytes())?;
        std::fs::rename(new_name(&self.path), &self.path)?;
        (self.file, self.grown) = (file, rewriting.since.len());
        Ok(())
    }

    /// Removes it: there is nothing left to go on with.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if self.rewriting.is_some() {
            // Whatever becomes of it, the one in place says the same.
            let _ = std::fs::remove_file(new_name(&self.path));
        }
    }
}

fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<JoinHandle<io::Result<T>>> {
    std::thread::Builder::new().name("journal".to_owned()).spawn(work)
}

/// The text of a journal that says `saved`.
fn whole(saved: &Saved) -> io::Result<String> {
    let mut lines = String::new();
    push_line(&mut lines, MAGIC);
    push_line(&mut lines, &serde_json::to_string(&saved.header)?);
    for (lane, acked) in saved.acked.iter().enumerate() {
        for range in acked.iter() {
            push_line(&mut lines, &format!("ack {lane} {}-{}", range.start(), range.end()));
        }
    }
    Ok(lines)
}

/// Where a journal is written before it is put in place, so that there is always a whole one; after a
/// power cut only if it was flushed. Two sends of one file at once must not write into each other's.
fn new_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    PathBuf::from(name)
}

fn open_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(new_name(path))
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
        Saved { header, acked: vec![RangeSet::new(); 2] }
    }

    /// A journal of a few acks, and its bytes.
    fn written() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::create(path.clone(), saved().header).unwrap();
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
        assert_eq!(acked, ["0-2", "60-61"]);
        assert!(load(&path.with_file_name("none")).unwrap().is_none());
    }

    #[test]
    fn t9_a_journal_goes_when_its_send_is_done_and_one_of_an_earlier_version_counts_as_none() {
        let (dir, path, bytes) = written();
        Journal::go_on(path.clone(), load(&path).unwrap().unwrap()).unwrap().remove().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        for word in ["verified", "complete"] {
            let mut text = String::from_utf8(bytes.clone()).unwrap();
            push_line(&mut text, word);
            std::fs::write(&path, text).unwrap();
            assert_eq!(load(&path).unwrap(), None);
        }
    }

    #[test]
    fn a_journal_that_was_cut_in_a_line_is_gone_on_with_and_loses_no_later_one() {
        let (_dir, path, bytes) = written();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let mut journal = Journal::go_on(path.clone(), load(&path).unwrap().unwrap()).unwrap();
        journal.note(1, SequenceNumber(70));
        journal.flush().unwrap();
        assert_eq!(load(&path).unwrap().unwrap().acked[1].to_string(), "60,70");
    }

    #[test]
    fn b12_a_long_journal_is_written_anew_beside_the_loop_and_loses_nothing_on_the_way() {
        let (dir, path, _) = written();
        let mut journal = Journal::go_on(path.clone(), load(&path).unwrap().unwrap()).unwrap();
        let mut seq = 100;
        let mut grow = |journal: &mut Journal| {
            journal.note(0, SequenceNumber(seq));
            journal.flush().unwrap();
            let loaded = load(&path).unwrap().unwrap();
            assert_eq!((loaded.acked[0].len(), loaded.acked[0].contains(seq)), (seq - 96, true));
            seq += 1;
        };
        journal.grown = COMPACT_AFTER;
        grow(&mut journal);
        assert!(journal.rewriting.is_some(), "it is written by somebody else");
        grow(&mut journal);
        while journal.rewriting.is_some() {
            grow(&mut journal);
        }
        grow(&mut journal);
        assert!(journal.grown < COMPACT_AFTER);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("ack 0 0-2 "), "in ranges: {text}");
        journal.grown = COMPACT_AFTER;
        grow(&mut journal);
        drop(journal);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
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
