//! The functions that run for every datagram, one by one.
//!
//! `cargo bench -p mdalp-bench` times them. `cargo bench -p mdalp-bench -- --instructions` counts their
//! instructions with callgrind instead, which no other load disturbs, and fails if one needs a tenth
//! more than is written here. Needs valgrind; the numbers are those of x86-64.

use criterion::Criterion;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::receiver::{Config, Local, Receiver, Stored};
use mdalp_proto::split::{byte_shares, number_chunks};
use mdalp_proto::time::Instant;
use mdalp_proto::wire::{decode, encode_ack, encode_data_header};
use mdalp_store::disk::RealDisk;
use mdalp_store::{
    ChunkLog, Durability, Limits, NewChunk, Options, ReceiverId, SegmentLog, UnixMillis, chunk_crc,
};
use std::hint::black_box;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

const TID: TransactionId = TransactionId(8_412_345_678_901_234_567);
const DATA: [u8; 100] = [0x5a; 100];

type Function = Box<dyn FnMut()>;

fn chunk(seq: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_data_header(&mut bytes, TID, SequenceNumber(seq), None);
    bytes.extend_from_slice(&DATA);
    bytes
}

fn decode_chunk() -> Function {
    let bytes = chunk(1234);
    Box::new(move || _ = black_box(decode(black_box(&bytes))))
}

fn encode_one_ack() -> Function {
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        encode_ack(&mut out, black_box(TID), SequenceNumber(1234), None);
        black_box(&out);
    })
}

fn split_1000() -> Function {
    let latencies: Vec<f64> = (0..1000).map(|n| f64::from(n) / 10.0 + 1.0).collect();
    Box::new(move || {
        _ = black_box(number_chunks(&byte_shares(black_box(100_000_000), &latencies), 100));
    })
}

/// All that the receivers' rules do for one chunk: taken, stored, acknowledged.
fn receiver_chunk() -> Function {
    let mut machine = Receiver::new(Config { max_seq: u64::MAX, ..Config::default() });
    let from = SocketAddr::from(([127, 0, 0, 1], 5000));
    let mut seq = 0;
    let mut bytes = Vec::new();
    Box::new(move || {
        bytes.clear();
        encode_data_header(&mut bytes, TID, SequenceNumber(seq), None);
        bytes.extend_from_slice(&DATA);
        seq += 1;
        machine.handle_datagram(Instant::ZERO, Local(0), from, &bytes);
        let append = machine.poll_append().expect("it is new");
        machine.handle_appended(Instant::ZERO, &append, Stored::New);
        black_box(machine.poll_transmit());
        while machine.poll_event().is_some() {}
    })
}

/// The segment log in the temporary directory: 256 chunks of 16 transactions.
fn append_256() -> Function {
    let options =
        Options { durability: Durability::Process, limits: Limits::NONE, ..Options::new(1) };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let disk = RealDisk::create(dir.path()).expect("a directory");
    let log = SegmentLog::open(disk, options).expect("an empty log");
    let mut next = 0;
    let mut results = Vec::new();
    Box::new(move || {
        let chunks: Vec<_> = (next..next + 256)
            .map(|n| {
                let (tid, seq) =
                    (TransactionId(n / 16 % 16), SequenceNumber(n / 256 * 16 + n % 16));
                let crc = chunk_crc(tid, seq, &DATA);
                NewChunk {
                    tid,
                    seq,
                    receiver: ReceiverId(0),
                    from: ([127, 0, 0, 1], 9).into(),
                    crc,
                    data: &DATA,
                }
            })
            .collect();
        next += 256;
        log.append(UnixMillis(0), &chunks, &mut results);
        black_box((&results, &dir));
    })
}

/// A name, what makes the function with all that it works on, and the instructions of one call.
type Named = (&'static str, fn() -> Function, u64);

const FUNCTIONS: [Named; 5] = [
    ("decode_chunk", decode_chunk, 476),
    ("encode_ack", encode_one_ack, 291),
    ("split_1000_receivers", split_1000, 262_491),
    ("receiver_chunk", receiver_chunk, 1_662),
    ("store_append_256", append_256, 260_869),
];

/// Runs this program under callgrind, with so many calls of a function.
fn instructions(name: &str, calls: u64) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--calls", name, &calls.to_string()])
        .output()
        .expect("valgrind");
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split("Collected :").nth(1));
    count.and_then(|count| count.trim().parse().ok()).expect("callgrind's count")
}

/// What each function needs, without what starting costs.
fn guard() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    println!("| function | instructions | limit |\n|---|---|---|");
    for (name, _, limit) in FUNCTIONS {
        let each = (instructions(name, 600) - instructions(name, 200)) / 400;
        println!("| {name} | {each} | {limit} and a tenth |");
        if each * 10 > limit * 11 {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if words.contains(&"--instructions") {
        return guard();
    }
    if let [_, "--calls", name, calls] = words[..] {
        let named = FUNCTIONS.iter().find(|(known, ..)| *known == name);
        let mut function = named.expect("one of the functions of this file").1();
        (0..calls.parse::<u64>().expect("a number")).for_each(|_| function());
        return ExitCode::SUCCESS;
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for (name, make, _) in FUNCTIONS {
        let mut function = make();
        criterion.bench_function(name, |bencher| bencher.iter(&mut function));
    }
    criterion.final_summary();
    ExitCode::SUCCESS
}
