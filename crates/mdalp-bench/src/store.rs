//! The store alone: opening, reading back, space.

use crate::rows::Setup;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::disk::RealDisk;
use mdalp_store::{
    ChunkLog, Durability, Limits, NewChunk, Options, ReceiverId, Release, SegmentLog, StoreError,
    Transactions, UnixMillis, assemble, chunk_crc,
};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

const CHUNKS: u64 = 10_000_000;
const TRANSACTIONS: u64 = 16;
const BATCH: u64 = 256;
const DATA: [u8; 100] = [0x5a; 100];

/// Rows about 10 M chunks of 100 bytes in 16 transactions that were received side by side.
pub(crate) fn print(setup: Setup<'_>) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(setup.dir)?;
    let durability = Durability::Process;
    let options = Options { durability, limits: Limits::NONE, ..Options::new(1) };
    let open = || -> Result<_, Box<dyn Error>> {
        Ok(SegmentLog::open(RealDisk::create(dir.path())?, options)?)
    };
    let log = open()?;
    let start = spent();
    fill(&log)?;
    let rate = CHUNKS as f64 / (spent() - start);
    println!(
        "| store: appends of {BATCH} chunks, `process`, with sealing: chunks/CPU s | {rate:.0} |"
    );
    drop(log);
    let (start, clock) = (spent(), Instant::now());
    let log = open()?;
    let (cpu, wall) = ((spent() - start) * 1e3, clock.elapsed().as_millis());
    println!("| store: opening 10 M chunks: ms (CPU ms) | {wall} ({cpu:.0}) |");

    let payload = (CHUNKS * DATA.len() as u64) as f64;
    let start = spent();
    for tid in 0..TRANSACTIONS {
        assemble(&log, TransactionId(tid), &mut std::io::sink())?;
    }
    let assembled = spent() - start;
    let (bytes, raw) = read_files(dir.path())?;
    println!("| store: space, × payload | {:.2} |", bytes as f64 / payload);
    let rate = |seconds: f64| payload / seconds / 1e6;
    println!(
        "| store: 16 interleaved payloads assembled and hashed: MB/CPU s | {:.0} |",
        rate(assembled)
    );
    println!(
        "| store: its files read once and as much hashed: MB of payload/CPU s | {:.0} |",
        rate(raw)
    );
    print_pruning(&log)?;
    drop((log, dir));
    print_remnants(setup)
}

/// How long appends of 256 chunks wait while space is given back, beside as many that are not
/// disturbed.
struct Pruning<'a> {
    log: &'a SegmentLog<RealDisk>,
    next: u64,
}

impl Pruning<'_> {
    fn append(&mut self) -> f64 {
        let start = Instant::now();
        let seqs = self.next..self.next + BATCH;
        let chunks: Vec<_> = seqs.map(|seq| chunk_of(TRANSACTIONS, seq)).collect();
        self.log.append(UnixMillis(0), &chunks, &mut Vec::new());
        self.next += BATCH;
        start.elapsed().as_secs_f64() * 1e6
    }

    /// Releases these, and says how it went.
    fn release(&mut self, tids: Range<u64>) -> Result<String, Box<dyn Error>> {
        let mut quiet = (0..200).map(|_| self.append()).collect::<Vec<_>>();
        for tid in tids {
            self.log.release(TransactionId(tid), Release::Removed)?;
        }
        let (mut disturbed, mut took) = (Vec::new(), 0.0);
        std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
            let start = Instant::now();
            let log = self.log;
            let pruning = scope.spawn(|| reclaim(log));
            while !pruning.is_finished() {
                disturbed.push(self.append());
            }
            took = start.elapsed().as_secs_f64() * 1e3;
            Ok(pruning.join().map_err(|_| "a panic")??)
        })?;
        let figures = |of: &mut Vec<f64>| {
            of.sort_by(f64::total_cmp);
            let at = |percent: usize| of.get((of.len().max(1) - 1) * percent / 100).copied();
            format!("{:.0} / {:.0}", at(50).unwrap_or(f64::NAN), at(99).unwrap_or(f64::NAN))
        };
        Ok(format!("{took:.0}; {}; {}", figures(&mut disturbed), figures(&mut quiet)))
    }
}

fn print_pruning(log: &SegmentLog<RealDisk>) -> Result<(), Box<dyn Error>> {
    let how = Pruning { log, next: 0 }.release(0..TRANSACTIONS)?;
    println!(
        "| store: removing it all, ms; appends of {BATCH} chunks meanwhile and before, p50 / p99 µs \
         | {how} |"
    );
    Ok(())
}

/// The same for what is left when most of the transactions are removed.
fn print_remnants(setup: Setup<'_>) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(setup.dir)?;
    let durability = Durability::Process;
    let options = Options { durability, limits: Limits::NONE, ..Options::new(1) };
    let log = SegmentLog::open(RealDisk::create(dir.path())?, options)?;
    fill(&log)?;
    let mut pruning = Pruning { log: &log, next: 0 };
    // Until the last one is sealed too. Those that follow have nothing of these payloads.
    let count = sealed(dir.path(), options)?.len();
    while sealed(dir.path(), options)?.len() == count {
        pruning.append();
    }
    let all = sealed(dir.path(), options)?;
    for (from, to) in [(4, 16), (1, 4)] {
        let how = pruning.release(from..to)?;
        let payload = CHUNKS / TRANSACTIONS * from * DATA.len() as u64;
        let left = sealed(dir.path(), options)?.into_iter();
        let bytes: u64 =
            left.filter(|(name, _)| all.contains_key(name)).map(|(_, bytes)| bytes).sum();
        let space = bytes as f64 / payload as f64;
        println!(
            "| store: removing all but {from} of 16 interleaved payloads: space left, × their payload; \
             ms; appends of {BATCH} chunks meanwhile and before, p50 / p99 µs | {space:.2}; {how} |"
        );
    }
    Ok(())
}

/// All segments but those that are allocated as a whole (one is written, one is ready), with their sizes.
fn sealed(dir: &Path, options: Options) -> Result<BTreeMap<OsString, u64>, Box<dyn Error>> {
    use std::os::unix::fs::MetadataExt;
    let mut sealed = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if ![0, options.segment_bytes].contains(&metadata.len()) {
            sealed.insert(entry.file_name(), metadata.blocks() * 512);
        }
    }
    Ok(sealed)
}

fn chunk_of(tid: u64, seq: u64) -> NewChunk<'static> {
    let (tid, seq) = (TransactionId(tid), SequenceNumber(seq));
    let crc = chunk_crc(tid, seq, &DATA);
    NewChunk {
        tid,
        seq,
        receiver: ReceiverId(0),
        from: ([127, 0, 0, 1], 9).into(),
        crc,
        data: &DATA,
    }
}

/// Processor time of this thread, in seconds.
pub(crate) fn spent() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn fill(log: &SegmentLog<RealDisk>) -> Result<(), Box<dyn Error>> {
    let (mut chunks, mut results) = (Vec::new(), Vec::new());
    let mut next = 0;
    while next < CHUNKS {
        chunks.clear();
        for n in next..(next + BATCH).min(CHUNKS) {
            chunks.push(chunk_of(n % TRANSACTIONS, n / TRANSACTIONS));
        }
        next += BATCH;
        log.append(UnixMillis(next), &chunks, &mut results);
        if let Some(Err(error)) = results.iter().find(|result| result.is_err()) {
            return Err((*error).into());
        }
        if log.needs_prepare() {
            log.prepare()?;
        }
    }
    Ok(())
}

/// Reads all files from beginning to end, and hashes what they hold: their bytes and the seconds for
/// as many as the payload has.
fn read_files(dir: &Path) -> Result<(u64, f64), Box<dyn Error>> {
    use std::os::unix::fs::MetadataExt;
    let mut buffer = vec![0; 1 << 20];
    let (mut bytes, mut read) = (0, 0);
    let mut hasher = blake3::Hasher::new();
    let start = spent();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += entry.metadata()?.blocks() * 512;
        let mut file = fs::File::open(entry.path())?;
        while let count @ 1.. = file.read(&mut buffer)? {
            read += count as u64;
            if hasher.count() < CHUNKS * DATA.len() as u64 {
                hasher.update(&buffer[..count]);
            }
        }
    }
    let _ = (read, hasher.finalize());
    Ok((bytes, spent() - start))
}

/// Gives back all the space that can be given back.
fn reclaim(log: &SegmentLog<RealDisk>) -> Result<(), StoreError> {
    while log.reclaim()? {}
    Ok(())
}
