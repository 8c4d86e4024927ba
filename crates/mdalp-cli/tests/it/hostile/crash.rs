//! `kill -9` of each program at any moment: what was acknowledged is there (F16, F19, F21).
//!
//! `MDALP_KILL_CYCLES=450 cargo test -p mdalp-cli --release kill_9` is the long run.

use super::{choices, setting};
use crate::support::{Net, Server, Watched, payload, run, text};
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::disk::RealDisk;
use mdalp_store::{Query, Reader};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

const CHUNKS: u64 = 120;
const RECEIVERS: u8 = 3;

/// An orchestrator and three receivers, each a process of its own.
struct Site {
    net: Net,
    orchestrator: Server,
    receivers: Vec<Server>,
}

impl Site {
    fn new() -> Self {
        let net = Net::new();
        let orchestrator = start_orchestrator(&net);
        let receivers = (0..RECEIVERS).map(|at| start_receiver(&net, at)).collect();
        Self { net, orchestrator, receivers }
    }

    fn data(&self, at: u8) -> String {
        data(&self.net, at)
    }

    /// The chunks of `tid` that a receiver holds, as another process reads them.
    fn held(&self, at: u8, tid: u64) -> BTreeMap<u64, Vec<u8>> {
        let reader = Reader::open(&RealDisk::open(self.data(at)).unwrap()).unwrap();
        assert_eq!(reader.damage(), []);
        let mut held = BTreeMap::new();
        // A receiver that has nothing of it does not know it.
        let _ = reader.read(TransactionId(tid), SequenceNumber(0), &mut |seq, data| {
            held.insert(seq.0, data.to_vec());
            ControlFlow::Continue(())
        });
        held
    }
}

fn data(net: &Net, at: u8) -> String {
    net.path(&format!("data{at}")).to_str().unwrap().to_owned()
}

fn start_orchestrator(net: &Net) -> Server {
    let mut args = vec!["orchestrator".to_owned(), "--listen".to_owned(), net.ip(1)];
    for at in 0..RECEIVERS {
        args.extend(["--receiver".to_owned(), format!("R{at}={}", net.ip(2 + at))]);
    }
    Server::start(&args)
}

fn start_receiver(net: &Net, at: u8) -> Server {
    let args = ["receiver", "--listen", &net.ip(2 + at), "--data", &data(net, at)];
    Server::start(&args.map(str::to_owned))
}

/// Which chunk an event says that a receiver has acknowledged.
fn acked(event: &Value) -> Option<(String, u64)> {
    if event["type"] != "datagram" || event["direction"] != "received" {
        return None;
    }
    let seq = event["text"].as_str()?.split("SEQ:").nth(1)?.split(';').next()?.parse().ok()?;
    Some((event["address"].as_str()?.to_owned(), seq))
}

#[test]
fn f16_f19_f21_kill_9_of_anybody_at_any_moment_loses_no_acknowledged_chunk() {
    let cycles = setting("MDALP_KILL_CYCLES", 6);
    let mut choose = choices(setting("MDALP_KILL_SEED", 1));
    let mut site = Site::new();
    let mut counted = 0;
    for cycle in 0..cycles {
        counted += one_cycle(&mut site, cycle, &mut choose);
    }
    println!("{cycles} cycles, {counted} acknowledged chunks, none missing");
}

/// One transfer with one death in it; says how many acknowledged chunks were checked.
fn one_cycle(site: &mut Site, cycle: u64, choose: &mut impl FnMut() -> u64) -> usize {
    let mut bytes = cycle.to_be_bytes().to_vec();
    bytes.extend(payload(CHUNKS as usize * 100 - 8));
    // Another file each time: a client that died at once has not replaced the journal of the one before.
    let file = site.net.file(&format!("payload{cycle}"), &bytes);
    let options = ["-vv", "--latencies", "1,1,1", "--rto-max", "0.2", "--fail-after", "20"];
    let mut client = Watched::start(&mut site.net.client(&file, &options));
    for _ in 0..choose() % (CHUNKS - 1) {
        client.wait_for(|event| acked(event).is_some());
    }
    let victim = choose() % 5;
    let mut events = Vec::new();
    if victim == 0 {
        events = std::mem::take(&mut client.seen);
        client.kill();
        let mut resume = site.net.client(&file, &options);
        client = Watched::start(resume.arg("--resume"));
    } else if victim == 1 {
        site.orchestrator.kill();
        site.orchestrator = start_orchestrator(&site.net);
    } else {
        let at = victim as u8 - 2;
        site.receivers[usize::from(at)].kill();
        site.receivers[usize::from(at)] = start_receiver(&site.net, at);
    }
    let (status, rest, stderr) = client.finish();
    assert_eq!(status.code(), Some(0), "cycle {cycle}, victim {victim}: {stderr}");
    events.extend(rest);
    check(site, &events, &bytes)
}

fn check(site: &Site, events: &[Value], bytes: &[u8]) -> usize {
    let tid = events.last().unwrap()["tid"].as_u64().unwrap();
    let acked: BTreeSet<_> = events.iter().filter_map(acked).collect();
    let mut all = BTreeMap::new();
    for at in 0..RECEIVERS {
        let held = site.held(at, tid);
        let address = format!("{}:4650", site.net.ip(2 + at));
        let missing: Vec<_> = acked
            .iter()
            .filter(|(from, seq)| *from == address && !held.contains_key(seq))
            .collect();
        assert!(missing.is_empty(), "acknowledged and missing: {missing:?}");
        all.extend(held);
    }
    let whole: Vec<u8> = all.into_values().flatten().collect();
    assert!(whole == bytes, "the payload is whole");
    acked.len()
}

#[test]
fn f17_a_second_signal_ends_a_server_at_once_and_nothing_is_lost() {
    let mut site = Site::new();
    let bytes = payload(2000);
    let file = site.net.file("payload", &bytes);
    let sent = run(&mut site.net.client(&file, &["--json"]));
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let end = crate::support::json_lines(&sent.stdout).pop().unwrap();
    let receiver = site.receivers.remove(0);
    receiver.signal(rustix::process::Signal::TERM);
    receiver.terminate(rustix::process::Signal::TERM);
    let tid = end["tid"].as_u64().unwrap();
    let held: BTreeMap<_, _> = (0..RECEIVERS).flat_map(|at| site.held(at, tid)).collect();
    assert!(held.into_values().flatten().collect::<Vec<u8>>() == bytes);
}
