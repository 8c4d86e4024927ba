//! A real directory: files, locks, other processes, old and new formats.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::conformance::{chunk, read};
use mdalp_store::disk::RealDisk;
use mdalp_store::{
    ChunkLog, Durability, OpenError, Options, Query, Reader, SegmentLog, State, UnixMillis,
};

use crate::support::{Promises, options, payload, workload};

const SMALL: u64 = 16 << 10;
const DIR: &str = "MDALP_STORE_KILL_TEST_DIR";
const TID: TransactionId = TransactionId(1);

fn open_at(path: &Path, options: Options) -> Result<SegmentLog<RealDisk>, OpenError> {
    SegmentLog::open(RealDisk::create(path).unwrap(), options)
}

#[test]
#[ignore = "the victim: run by acknowledged_chunks_survive_kill_9"]
fn victim() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let log = open_at(Path::new(&dir), options(Durability::Process, SMALL)).unwrap();
    let held = log.transaction(TID).unwrap().map_or(0, |summary| summary.chunks);
    let mut results = Vec::new();
    for seq in held.. {
        log.append(UnixMillis(0), &[chunk(TID, seq, &payload(TID, seq))], &mut results);
        assert!(results[0].is_ok());
        std::io::stdout().write_all(b".").unwrap();
    }
}

#[test]
fn acknowledged_chunks_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..6_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "directory::victim", "--ignored", "--nocapture", "--quiet"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut said = vec![0; 997 * round as usize];
        out.read_exact(&mut said).unwrap();
        child.kill().unwrap();
        out.read_to_end(&mut said).unwrap();
        child.wait().unwrap();
        let reader = Reader::open(&RealDisk::open(dir.path()).unwrap()).unwrap();
        let chunks = read(&reader, TID).unwrap();
        // The test runner itself prints a few lines without a dot.
        acknowledged += String::from_utf8_lossy(&said).matches('.').count();
        assert!(chunks.len() >= acknowledged, "{} of {acknowledged}", chunks.len());
        for (at, (seq, data)) in chunks.iter().enumerate() {
            assert_eq!((*seq, data), (at as u64, &payload(TID, *seq)));
        }
        acknowledged = chunks.len();
        assert_eq!(reader.damage(), []);
    }
}

#[test]
fn a_reader_sees_what_is_there_while_a_server_writes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_at(dir.path(), options(Durability::Process, SMALL)).unwrap();
    let mut promises = Promises::default();
    workload(&log, &mut promises);
    let reader = Reader::open(&RealDisk::open(dir.path()).unwrap()).unwrap();
    promises.check(&reader);
    assert_eq!(
        reader.list(),
        log.list().map(|mut list| {
            // The time of the last chunk is recorded by the second.
            for summary in &mut list {
                summary.last_append = reader.transaction(summary.tid).unwrap().unwrap().last_append;
            }
            list
        })
    );
    let before = reader.list();
    promises.append(&log, 0, &[(1, 300), (7, 0)]);
    promises.release(&log, 1);
    assert_eq!(reader.list(), before, "a snapshot");
    assert_eq!(reader.transaction(TID).unwrap().unwrap().state, State::Complete);
    assert!(read(&reader, TID).is_ok());
}

#[test]
fn a_second_writer_is_refused_and_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let log = open_at(&path, options(Durability::Fsync, SMALL)).unwrap();
    let second = open_at(&path, options(Durability::Fsync, SMALL));
    assert!(matches!(second, Err(OpenError::Locked)));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert!(fs::read_dir(&path).unwrap().all(|file| mode(&file.unwrap().path()) == 0o600));
    }
    drop(log);
    open_at(&path, options(Durability::Fsync, SMALL)).unwrap();
}

#[test]
fn a_newer_format_is_refused_with_a_clear_message() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_at(dir.path(), options(Durability::Fsync, SMALL)).unwrap();
    workload(&log, &mut Promises::default());
    drop(log);
    let path = dir.path().join("0000000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[11] = 3;
    let crc = crc32c::crc32c(&bytes[..60]).to_be_bytes();
    bytes[60..64].copy_from_slice(&crc);
    fs::write(&path, bytes).unwrap();
    let refused = open_at(dir.path(), options(Durability::Fsync, SMALL)).unwrap_err();
    assert_eq!(refused.to_string(), "segment 1 has format 3; this release understands up to 2");
}

/// If this fails, either segments change elsewhere than before, or the format changed: that needs a new
/// version number and a reader for the old one (F36).
#[test]
fn the_format_is_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_at(dir.path(), options(Durability::Process, 4 << 10)).unwrap();
    workload(&log, &mut Promises::default());
    log.prepare().unwrap();
    let mut files: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut hash = blake3::Hasher::new();
    for file in files {
        hash.update(file.file_name().unwrap().as_encoded_bytes());
        hash.update(&fs::read(file).unwrap());
    }
    assert_eq!(hash.finalize().to_hex()[..16], *"6ec5e90cecf3bca5");
}

#[test]
fn what_is_not_a_store_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let names = [("0000000003.seg", "not a segment"), ("notes.txt", "mine"), ("notes.new", "mine")];
    for (name, content) in names {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let log = open_at(dir.path(), options(Durability::Fsync, SMALL)).unwrap();
    assert_eq!(log.recovery().damage.len(), 1);
    let mut results = Vec::new();
    log.append(UnixMillis(0), &[chunk(TID, 0, b"data")], &mut results);
    assert!(results[0].is_ok());
    assert_eq!(read(&log, TID), Ok(vec![(SequenceNumber(0).0, b"data".to_vec())]));
    for (name, content) in names {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), content.as_bytes());
    }
}
