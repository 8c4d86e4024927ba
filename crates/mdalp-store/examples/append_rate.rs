//! Prints how many chunks of 100 bytes a segment log takes in a second, by batch size and durability.
//!
//! Not a benchmark to compare versions with: one run, wall clock, on whatever disk `DIR` is on.
//! `cargo run --release --example append_rate -- DIR [SECONDS]`

use std::time::{Duration, Instant};

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::disk::RealDisk;
use mdalp_store::{
    Appended, ChunkLog, Durability, Limits, NewChunk, Options, ReceiverId, SegmentLog, UnixMillis,
    chunk_crc,
};

/// Chunks take turns over so many transactions.
const TRANSACTIONS: u64 = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: append_rate DIR [SECONDS]")?;
    let seconds = args.next().map_or(Ok(2), |seconds| seconds.parse())?;
    println!("           batch     chunks/s    p50 us    p99 us    max us   open ms");
    for durability in [Durability::Process, Durability::Fsync] {
        for batch in [1, 16, 256] {
            let dir = tempfile::tempdir_in(&dir)?;
            let options = Options { durability, limits: Limits::NONE, ..Options::new(1) };
            let log = SegmentLog::open(RealDisk::create(dir.path())?, options)?;
            print!("{:8}", format!("{durability:?}"));
            run(&log, batch, Duration::from_secs(seconds));
            drop(log);
            let start = Instant::now();
            SegmentLog::open(RealDisk::create(dir.path())?, options)?;
            println!(" {:>9}", start.elapsed().as_millis());
        }
    }
    Ok(())
}

fn run(log: &SegmentLog<RealDisk>, batch: u64, time: Duration) {
    let data = [0x5a; 100];
    let mut chunks = Vec::new();
    let mut results = Vec::new();
    let mut took = Vec::new();
    let start = Instant::now();
    let mut next = 0;
    while start.elapsed() < time {
        chunks.clear();
        for n in next..next + batch {
            let (tid, seq) = (TransactionId(n % TRANSACTIONS), SequenceNumber(n / TRANSACTIONS));
            let crc = chunk_crc(tid, seq, &data);
            chunks.push(NewChunk {
                tid,
                seq,
                receiver: ReceiverId(0),
                from: ([127, 0, 0, 1], 9).into(),
                crc,
                data: &data,
            });
        }
        next += batch;
        let before = Instant::now();
        log.append(UnixMillis(next), &chunks, &mut results);
        took.push(before.elapsed());
        assert!(results.iter().all(|result| *result == Ok(Appended::New)));
    }
    let rate = next as f64 / start.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_micros();
    print!(" {batch:>7} {rate:>12.0} {:>9} {:>9} {:>9}", at(50), at(99), at(100));
}
