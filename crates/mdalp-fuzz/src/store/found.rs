//! Segments that nobody wrote in this way: records with right checksums in any order, with any
//! bodies, and bytes that are no records at all.

use crate::script::Script;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::disk::{Disk, DiskFile};
use mdalp_store::{
    ChunkLog, Durability, Limits, Options, Query, ReadError, Reader, SegmentLog, State,
    TransactionSummary, UnixMillis, chunk_crc,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

const STORE: u64 = 0x5eed;
const START: usize = 1024;

/// All chunks that stand anywhere on the disk with right checksums.
type Written = BTreeSet<(u64, u64, Vec<u8>)>;

pub(super) fn run(script: &mut Script<'_>) {
    let disk = MemDisk::new();
    let mut written = Written::new();
    let durability = if script.flag() { Durability::Fsync } else { Durability::Process };
    for _ in 0..=script.below(3) {
        let number = u64::from(script.below(4)) + 1;
        let bytes = segment(script, number, &mut written);
        if let Ok(file) = disk.create(number) {
            assert_eq!(file.write_at(&bytes, 0).ok(), Some(bytes.len()));
            assert!(file.sync_data().is_ok());
        }
    }
    assert!(disk.sync_dir().is_ok());
    let read_only = Reader::open(&disk).ok().map(|reader| held(&reader, &written));
    let options =
        Options { durability, segment_bytes: 4 << 10, limits: Limits::NONE, ..Options::new(STORE) };
    let Ok(log) = SegmentLog::open(disk.clone(), options) else {
        assert!(SegmentLog::open(disk, options).is_err(), "6: refused again");
        return;
    };
    let first = held(&log, &written);
    if let Some(mut read_only) = read_only {
        // What was released may be removed by opening.
        let released = |summary: &TransactionSummary| is_released(summary.state);
        read_only.retain(|(summary, _)| !released(summary));
        let kept: Vec<_> =
            first.iter().filter(|(summary, _)| !released(summary)).cloned().collect();
        assert_eq!(read_only, kept, "a reader sees what a server sees");
    }
    drop(log);
    disk.kill();
    let log = SegmentLog::open(disk.clone(), options).expect("6: opened again");
    assert_eq!(held(&log, &written), first, "6: opening twice is opening once");
    assert!(log.recovery().torn.is_empty(), "6: nothing is cut twice");
    // Whatever was found, the store works: a chunk that it takes is there.
    let (tid, seq, data) = (TransactionId(1 << 40), SequenceNumber(0), b"new");
    let crc = chunk_crc(tid, seq, data);
    let new = mdalp_store::NewChunk {
        tid,
        seq,
        receiver: mdalp_store::ReceiverId(0),
        from: ([127, 0, 0, 1], 9).into(),
        crc,
        data,
    };
    let mut results = Vec::new();
    log.append(UnixMillis(1), &[new], &mut results);
    assert_eq!(results.len(), 1);
    if log.verify().is_ok() {
        held(&log, &written);
        held(&Reader::open(&disk).expect("it was just written"), &written);
    }
}

fn is_released(state: State) -> bool {
    matches!(state, State::Expired | State::Removed)
}

/// All that a store says it holds. Every chunk that it gives out was written.
fn held(store: &dyn Query, written: &Written) -> Vec<(TransactionSummary, usize)> {
    let mut all = Vec::new();
    for summary in store.list().expect("nothing fails") {
        let (tid, mut chunks, mut bytes, mut last) = (summary.tid, 0, 0, None);
        let read = store.read(tid, SequenceNumber(0), &mut |seq, data| {
            let known = written.contains(&(tid.0, seq.0, data.to_vec()));
            assert!(
                known || (tid.0 == 1 << 40 && data == b"new"),
                "{tid} {seq}: nobody wrote this"
            );
            assert!(last.is_none_or(|last| last < seq), "ascending, each once");
            last = Some(seq);
            chunks += 1;
            bytes += data.len() as u64;
            ControlFlow::Continue(())
        });
        let gone = is_released(summary.state);
        match read {
            Ok(()) | Err(ReadError::Damaged { .. } | ReadError::Io(_)) => {}
            Err(ReadError::UnknownTransaction) => assert!(gone, "listed, but not known"),
            Err(other) => unreachable!("{other}"),
        }
        all.push((summary, chunks));
    }
    all
}

fn segment(script: &mut Script<'_>, number: u64, written: &mut Written) -> Vec<u8> {
    let shape = script.byte();
    // Mostly its own header; sometimes another store's, another number's, or a damaged one.
    let store = if shape & 7 == 1 { STORE + 1 } else { STORE };
    let says = if shape & 7 == 2 { number + 1 } else { number };
    let version = if shape & 15 == 3 { 2 } else { 1 };
    let mut bytes = header(version, says, store);
    if shape & 7 == 4 {
        bytes[usize::from(script.u16()) % START] ^= script.byte();
    }
    let seed = crc32c::crc32c_append(crc32c::crc32c(&store.to_be_bytes()), &says.to_be_bytes());
    let mut footer_at = 0;
    for _ in 0..40 {
        if script.is_over() {
            break;
        }
        let kind = match script.below(16) {
            n @ 0..=10 => n,
            11..=13 => 1,
            14 => {
                bytes.extend_from_slice(script.short());
                continue;
            }
            _ => {
                bytes.resize(bytes.len() + usize::from(script.byte()) * 4, 0);
                continue;
            }
        };
        if kind == 8 {
            footer_at = bytes.len() as u64;
        }
        let tid = if kind == 9 { footer_at } else { u64::from(script.below(4)) };
        let seq = if kind == 1 { script.number() } else { 0 };
        let body = if kind == 9 { &[] } else { script.short() };
        if kind == 1 {
            written.insert((tid, seq, body.to_vec()));
        }
        record(&mut bytes, seed, kind, tid, seq, body);
    }
    // A fuzzer learns checksums from comparisons: what looks like junk may be a record.
    for at in START..bytes.len() {
        written.extend(chunk_at(&bytes[at..], seed));
    }
    if shape & 64 == 64 && bytes.len() > START {
        let at = START + usize::from(script.u16()) % (bytes.len() - START);
        bytes[at] ^= 1 << script.below(8);
    }
    bytes
}

/// The chunk whose record begins here, if one does.
fn chunk_at(bytes: &[u8], seed: u32) -> Option<(u64, u64, Vec<u8>)> {
    let (head, rest) = bytes.split_at_checked(32)?;
    let number = |at: usize| head[at..at + 4].iter().fold(0_u64, |n, &b| n << 8 | u64::from(b));
    let right = head.starts_with(&[0xD7, 1])
        && number(28) == u64::from(crc32c::crc32c_append(seed, &head[..28]));
    let body = rest.get(..number(4) as usize).filter(|_| right)?;
    let long = |at| number(at) << 32 | number(at + 4);
    Some((long(8), long(16), body.to_vec()))
}

fn header(version: u32, number: u64, store: u64) -> Vec<u8> {
    let mut copy = vec![0; 512];
    copy[..8].copy_from_slice(b"MDALPSEG");
    copy[8..12].copy_from_slice(&version.to_be_bytes());
    copy[16..24].copy_from_slice(&number.to_be_bytes());
    copy[24..32].copy_from_slice(&store.to_be_bytes());
    let crc = crc32c::crc32c(&copy[..60]);
    copy[60..64].copy_from_slice(&crc.to_be_bytes());
    copy.repeat(2)
}

fn record(out: &mut Vec<u8>, seed: u32, kind: u8, tid: u64, seq: u64, body: &[u8]) {
    let at = out.len();
    out.extend_from_slice(&[0xD7, kind, 0, 0]);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&tid.to_be_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
    let crc = chunk_crc(TransactionId(tid), SequenceNumber(seq), body);
    out.extend_from_slice(&crc.to_be_bytes());
    let crc = crc32c::crc32c_append(seed, &out[at..]);
    out.extend_from_slice(&crc.to_be_bytes());
    out.extend_from_slice(body);
}
