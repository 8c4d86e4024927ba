//! Lists, settings and plans as rules: no sockets, no time. How a whole transfer goes is tested in `transfer`.

use super::*;
use crate::address::Refusal;
use crate::transfer::Outcome;
use crate::wire::Capabilities;
use crate::wire::list::Entry;
use std::net::SocketAddr;
use std::time::Duration;

fn entry(ip: &str, caps: &str) -> Entry {
    Entry { ip: ip.parse().unwrap(), name: ip.to_owned(), caps: Capabilities::parse(caps) }
}

fn rules(orchestrator: &str, mode: Mode) -> Rules {
    let orchestrator = orchestrator.parse().unwrap();
    Rules { orchestrator, allow_private: false, extensions: true, mode }
}

fn receivers(caps: &[&str]) -> Vec<Candidate> {
    let entries: Vec<Entry> =
        caps.iter().zip(2..).map(|(caps, n)| entry(&format!("127.0.0.{n}"), caps)).collect();
    judge(&entries, &rules("127.0.0.1", Mode::Auto), |_| false).candidates.unwrap()
}

#[test]
fn h24_who_may_not_be_sent_to_or_stands_there_twice_is_not_used_and_it_is_said_why() {
    let list = ["10.0.0.2", "203.0.113.5", "203.0.113.5", "169.254.169.254", "203.0.113.9"];
    let entries = list.map(|ip| entry(ip, "crc"));
    let own = SocketAddr::from(([203, 0, 113, 9], 4650));
    let judged = judge(&entries, &rules("198.51.100.7", Mode::Auto), |addr| addr == own);
    let unused: Vec<_> = judged.listed.iter().map(|listed| listed.unused).collect();
    let address = |why| Some(Unused::Address(why));
    let link_local = address(Refusal::LinkLocal);
    let expected =
        [address(Refusal::Private), None, Some(Unused::Twice), link_local, address(Refusal::Own)];
    assert_eq!(unused, expected);
    let places: Vec<usize> = judged.candidates.unwrap().iter().map(|used| used.place).collect();
    assert_eq!(places, [1]);
}

#[test]
fn one_host_with_two_ports_is_two_receivers() {
    let entries = [entry("127.0.0.2", ""), entry("127.0.0.2", "port=4651")];
    let judged = judge(&entries, &rules("127.0.0.1", Mode::Auto), |_| false);
    let ports: Vec<u16> = judged.candidates.unwrap().iter().map(|used| used.addr.port()).collect();
    assert_eq!(ports, [4650, 4651]);
}

#[test]
fn a_single_receiver_is_chosen_by_its_place_among_all_that_are_listed() {
    let entries = [entry("169.254.0.1", ""), entry("127.0.0.2", "")];
    let chosen = |n| judge(&entries, &rules("127.0.0.1", Mode::Single(n)), |_| false).candidates;
    assert_eq!(chosen(2).unwrap()[0].place, 1);
    for n in [0, 3] {
        assert_eq!(chosen(n), Err(Problem::NoSuchPlace));
    }
    let why = Unused::Address(Refusal::LinkLocal);
    assert_eq!(chosen(1), Err(Problem::AllUnused { first: 0, why }));
}

#[test]
fn the_classic_protocol_uses_nothing_but_the_port_of_what_is_advertised() {
    let entries = [entry("127.0.0.2", "crc seal window=32 chunk=1200 port=4651")];
    let classic = Rules { extensions: false, ..rules("127.0.0.1", Mode::Auto) };
    let used = judge(&entries, &classic, |_| false).candidates.unwrap();
    assert_eq!((used[0].addr.port(), used[0].caps), (4651, Capabilities::default()));
}

#[test]
fn r30_auto_is_adaptive_where_all_are_extended_and_no_latencies_are_given() {
    let (all, some) = (receivers(&["crc", "window=2"]), receivers(&["crc", ""]));
    let auto = Settings::default();
    let given = Settings { given: true, ..auto };
    assert_eq!((auto.resolve(&all), auto.resolve(&some)), (Mode::Adaptive, Mode::Latency));
    assert_eq!(given.resolve(&all), Mode::Latency);
    let predicts = Settings { predicts: true, ..auto };
    let single = Settings { mode: Mode::Single(1), ..auto };
    let measured = [auto, given, predicts, single].map(|settings| settings.measure(&all));
    assert_eq!(measured, [Measure::ByAcks, Measure::Given, Measure::Echoes, Measure::One]);
    assert_eq!(auto.measure(&some), Measure::Echoes);
}

#[test]
fn r34_chunks_are_as_large_as_the_smallest_that_anybody_takes_and_never_more_than_asked_for() {
    let auto = Settings::default();
    let all = receivers(&["crc chunk=1200", "crc chunk=900"]);
    let some = receivers(&["crc chunk=1200", "crc"]);
    assert_eq!((auto.chunk_bytes(&all, false), auto.chunk_bytes(&some, false)), (900, 100));
    assert_eq!(auto.chunk_bytes(&all, true), 100);
    assert_eq!(Settings { chunk: Some(500), ..auto }.chunk_bytes(&all, false), 500);
    // The classic modes plan as they always did, unless larger chunks are asked for.
    let classic = Settings { mode: Mode::Latency, ..auto };
    assert_eq!(classic.chunk_bytes(&all, false), 100);
    assert_eq!(Settings { chunk: Some(1200), ..classic }.chunk_bytes(&all, false), 900);
}

#[test]
fn r12_silent_hosts_count_as_the_slowest_and_a_window_is_used_as_far_as_both_want_it() {
    let mut all = receivers(&["window=300", "window=4", ""]);
    all[1].latency = Some(Duration::from_micros(7500));
    let settings = Settings { window: 16, ..Settings::default() };
    let targets = settings.targets(&all);
    assert_eq!(targets.iter().map(|t| t.window).collect::<Vec<_>>(), [16, 4, 1]);
    assert!(targets.iter().all(|target| target.latency.to_bits() == 7.5_f64.to_bits()));
}

#[test]
fn only_a_path_that_takes_no_large_chunks_is_tried_again_with_small_ones() {
    assert!(falls_back(Outcome::NothingArrives));
    let others = [Outcome::NoProgress, Outcome::Deadline, Outcome::Mismatch];
    assert!(!others.into_iter().any(falls_back));
}
