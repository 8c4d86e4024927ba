//! Draws a case from a seed: each fault is on or off, and if on, more or less strong.
//!
//! Few at a time: with everything on at once nothing ever gets far enough to go wrong.

use crate::case::{Case, Spread};
use crate::fault::{DiskFailure, Fault, Hostile, Way};
use mdalp_netem::{Rng, derive_seed};
use mdalp_proto::wire::CLASSIC_CHUNK;

struct Draw(Rng);

impl Draw {
    fn one_in(&mut self, n: u64) -> bool {
        self.0.up_to(n - 1) == 0
    }

    fn within(&mut self, least: u64, most: u64) -> u64 {
        least + self.0.up_to(most - least)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.up_to(choices.len() as u64 - 1) as usize]
    }

    fn way(&mut self) -> Way {
        self.of(&[Way::Up, Way::Down, Way::Both, Way::Both])
    }

    fn lane(&mut self, lanes: usize) -> Option<u8> {
        (!self.one_in(3)).then(|| self.0.up_to(lanes as u64 - 1) as u8)
    }
}

/// The case of `seed`.
pub fn draw(seed: u64) -> Case {
    let mut draw = Draw(Rng::new(derive_seed(seed, 77)));
    let d = &mut draw;
    let lanes = d.of(&[1, 2, 3, 3, 3, 3, 4, 6]);
    let wan = d.one_in(2);
    let round_trips_ms = match (lanes, wan) {
        (3, true) => vec![335, 163, 157],
        _ => (0..lanes).map(|_| d.within(2, 400)).collect(),
    };
    let mut case = Case {
        seed,
        about: String::new(),
        payload: d.of(&[5000, 5000, 5000, 5000, 0, 1, 100, 101, 1999, 12_345]),
        chunk: CLASSIC_CHUNK,
        spread: d.of(&[Spread::Latency, Spread::Latency, Spread::Adaptive, Spread::Single]),
        window: d.of(&[1, 1, 2, 8, 32]),
        crc: d.one_in(2),
        seal: d.one_in(2),
        copies: d.of(&[1, 1, 1, 1, 1, 1, 1, 2]),
        clients: d.of(&[1, 1, 1, 1, 1, 2]),
        round_trips_ms,
        together: !d.one_in(3),
        log: d.one_in(3),
        churn: false,
        tight: d.one_in(2),
        keep_s: None,
        crowd: false,
        rot: 0,
        afterwards: false,
        icmp: d.one_in(3),
        linger_ms: d.of(&[0, 0, 0, 0, 12_000]),
        heal_ms: Some(match d.within(0, 9) {
            0..=5 => d.within(1000, 20_000),
            6..=8 => d.within(20_000, 60_000),
            _ => d.within(60_000, 200_000),
        }),
        faults: Vec::new(),
    };
    for _ in 0..d.of(&[0, 1, 1, 2, 2, 3, 3, 4, 6]) {
        let fault = match d.within(0, 9) {
            // What a log is for happens to servers.
            0..=1 if case.log => server_fault(d, true),
            0..=4 => path_fault(d, lanes, case.crc),
            5..=6 => server_fault(d, case.log),
            7 => client_fault(d),
            _ => hostile(d),
        };
        case.faults.push(fault);
    }
    // Now and then nothing ever heals: then the end must come by itself.
    let doomed = Fault::Outage { lane: None, way: d.way(), at_ms: d.within(0, 3000), for_ms: None };
    if d.one_in(50) {
        case.heal_ms = None;
        case.faults.retain(|fault| !matches!(fault, Fault::Attack { .. }));
        case.faults.push(doomed);
    }
    case.churn = case.log && d.one_in(2);
    if case.log {
        keeping(d, &mut case);
    }
    if d.one_in(12) {
        let (down_ms, lost) = (d.of(&[0, 500, 10_000]), d.of(&[0, 0, 1, 7]));
        case.faults.push(Fault::CrashClient { at_ms: d.within(0, 6000), down_ms, lost });
    }
    if d.one_in(16) {
        (case.chunk, case.payload) = (1200, d.of(&[1300, 5000, 30_000]));
        if d.one_in(2) {
            case.faults.push(Fault::SmallPackets { bytes: 576 });
        }
    }
    case
}

/// What becomes of what is stored.
fn keeping(d: &mut Draw, case: &mut Case) {
    case.afterwards = d.one_in(2);
    case.keep_s = case.afterwards.then(|| d.of(&[None, Some(3600)])).flatten();
    case.rot = if case.afterwards { d.of(&[0, 0, 1, 3]) } else { 0 };
    case.crowd = d.one_in(6);
    if case.crowd && case.heal_ms.is_some() {
        case.faults.push(Fault::Attack { what: Hostile::Tids, every_ms: d.of(&[10.0, 50.0]) });
    }
}

fn path_fault(d: &mut Draw, lanes: usize, crc: bool) -> Fault {
    let some = d.of(&[0.01, 0.02, 0.05, 0.1, 0.3]);
    match d.within(0, 15) {
        0..=2 => {
            let rate = d.of(&[0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5]);
            Fault::Loss { lane: d.lane(lanes), way: d.way(), rate }
        }
        3 => Fault::CappedLoss { rate: d.of(&[0.02, 0.3, 0.333]), run: d.of(&[3, 10]) },
        4 => Fault::Bursts { rate: some, length: d.of(&[3.0, 10.0]) },
        5 => {
            let n = (0..d.within(1, 5)).map(|_| d.within(1, 30)).collect();
            Fault::Nth { lane: d.within(0, lanes as u64 - 1) as u8, way: d.way(), n }
        }
        6 | 7 => {
            let after_ms = d.of(&[0, 0, 20, 1000, 60_000, 247_000]);
            Fault::Duplicate { way: d.way(), rate: d.of(&[0.01, 0.05, 0.5, 1.0]), after_ms }
        }
        8 => Fault::Reorder { rate: d.of(&[0.1, 0.5]), window: d.of(&[3, 16, 64]) },
        9 => Fault::Jitter { ms: d.of(&[1, 10, 40, 160, 1000]) },
        10 => Fault::LateAcks { rate: 0.1, by_ms: d.of(&[100, 500, 1500, 4500]) },
        // Without CRCs damage passes unnoticed, and little can be checked: rarely.
        11 if crc || d.one_in(8) => match d.within(0, 2) {
            0 => Fault::Corrupt { rate: d.of(&[0.02, 0.3]), within: 50 },
            1 => Fault::FlipBit { rate: 0.15 },
            _ => Fault::Truncate { rate: 0.1 },
        },
        12 => {
            let up_ms = d.of(&[100, 500, 1000, 5000]);
            Fault::Flap { up_ms, down_ms: d.of(&[100, 500, 1000, 2000]) }
        }
        13 => Fault::OrchestratorLoss { rate: d.of(&[0.1, 0.3, 0.5, 0.8]) },
        _ => {
            let for_ms = (!d.one_in(3)).then(|| d.within(50, 45_000));
            Fault::Outage { lane: d.lane(lanes), way: d.way(), at_ms: d.within(0, 4000), for_ms }
        }
    }
}

fn server_fault(d: &mut Draw, log: bool) -> Fault {
    let (server, at_ms) = (d.within(0, 6) as u8, d.within(0, 4000));
    match d.within(0, 7) {
        0..=2 => {
            let down_ms = (!d.one_in(4)).then(|| d.of(&[0, 0, 1000, 10_000]));
            Fault::Kill { server, power: d.one_in(2), at_ms, down_ms }
        }
        3 => Fault::PauseServer { server, at_ms, for_ms: d.of(&[100, 1000, 10_000, 45_000]) },
        4 | 5 => {
            let (from_ms, to_ms) = d.of(&[(0, 2), (0, 10), (10, 100), (100, 1000), (1000, 5000)]);
            Fault::SlowDisk { from_ms, to_ms }
        }
        6 if log => {
            let bytes = d.within(0, 80_000);
            Fault::FullDisk { server, bytes, at_ms, for_ms: d.within(100, 20_000) }
        }
        _ => {
            let what = d.of(&[
                DiskFailure::Write,
                DiskFailure::Sync,
                DiskFailure::Sync,
                DiskFailure::Directory,
                DiskFailure::Short,
                DiskFailure::NoSpace,
                DiskFailure::PowerCut,
            ]);
            let nth = if what == DiskFailure::Directory { 0 } else { d.within(0, 8) };
            Fault::BadDisk { server, what, at_ms, nth }
        }
    }
}

fn client_fault(d: &mut Draw) -> Fault {
    let at_ms = d.within(0, 4000);
    match d.within(0, 3) {
        0 => {
            let for_ms = d.of(&[100, 1000, 10_000, 45_000]);
            Fault::PauseClient { clock: d.one_in(3), at_ms, for_ms }
        }
        1 => Fault::LateTimers { ms: d.of(&[10, 100, 1000]) },
        _ => Fault::Rebind { at_ms, every_ms: d.of(&[500, 5000]), times: d.within(1, 5) as u32 },
    }
}

fn hostile(d: &mut Draw) -> Fault {
    let (what, every_ms) = if d.one_in(2) {
        // One is enough, at the wrong moment: they only have to be there all the time.
        (d.of(&[Hostile::Junk, Hostile::Acks, Hostile::Lists]), d.of(&[10.0, 50.0, 250.0]))
    } else {
        // Floods, which are to reach the quotas.
        (d.of(&[Hostile::Intents, Hostile::Tids, Hostile::Seqs]), d.of(&[3.0, 10.0, 50.0]))
    };
    Fault::Attack { what, every_ms }
}
