//! A seed replays the same run in every version. If a change here is meant, say so in the changelog:
//! seeds that people have noted down then show something else. (A shipped scenario that says something new changes the second.)

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use mdalp_netem::{
    Burst, Corruption, Duplication, FarEnd, Jitter, Late, Loss, Mangle, Path, PathConfig,
    Probability, Rate, Reordering, Scenario,
};

/// FNV-1a over 64-bit words.
struct Hash(u64);

impl Hash {
    fn add(&mut self, word: u64) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn add_time(&mut self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).expect("short"));
    }

    fn add_path(&mut self, path: &mut Path, datagrams: u32) {
        for n in 0..datagrams {
            for delivery in path.admit(Duration::from_micros(u64::from(n) * 700), 146) {
                self.add_time(delivery.at);
                match delivery.mangle {
                    Some(Mangle::Xor { offset, mask }) => {
                        self.add(offset as u64);
                        self.add(u64::from(mask));
                    }
                    Some(Mangle::Truncate { len }) => self.add(len as u64),
                    None => {}
                }
            }
            self.add(u64::from(n));
        }
    }
}

const PATH: &str = "c6dafff38e858bb6 sent 5000, delivered 3901, lost 1441, lost_random 70, \
    lost_burst 165, lost_nth 2, lost_queue 1204, duplicated 342, reordered 610, late 378, \
    corrupted 763, truncated 338";
const SCENARIOS: &str = "a96358388ffdc1d8";

fn everything() -> PathConfig {
    let tenth = Probability::new(0.1);
    PathConfig {
        delay: Duration::from_millis(15),
        jitter: Jitter { max: Duration::from_millis(2), reorders: true },
        loss: Loss {
            random: Probability::new(0.02),
            burst: Burst::new(Probability::new(0.05), 3.0).ok(),
            nth: vec![10, 20],
            max_run: NonZeroU32::new(4),
        },
        duplication: Duplication { probability: tenth, after: Duration::from_millis(1) },
        reordering: NonZeroU32::new(3).map(|window| Reordering { probability: tenth, window }),
        late: Late { probability: tenth, by: Duration::from_millis(50) },
        corruption: Corruption {
            byte: tenth,
            byte_within: NonZeroU32::new(50),
            bit: tenth,
            truncate: tenth,
        },
        rate: NonZeroU64::new(1_500_000)
            .map(|bits| Rate { queue_packets: Some(25), ..Rate::new(bits) }),
        ..PathConfig::default()
    }
}

#[test]
fn a_path_replays_the_same_run_in_every_version() {
    let mut hash = Hash(0);
    let mut path = Path::new(everything(), 2026);
    hash.add_path(&mut path, 5000);
    assert_eq!(format!("{:016x} {}", hash.0, path.counters()), PATH);
}

#[test]
fn a_scenario_replays_the_same_run_in_every_version() {
    let mut hash = Hash(0);
    for name in ["loss-10", "burst", "corrupt", "seed"] {
        let scenario = Scenario::builtin(name).expect("shipped");
        for (index, receiver) in scenario.receivers.iter().enumerate() {
            let (mut up, mut down, mut far_end) = receiver.parts(scenario.seed, index);
            hash.add_path(&mut up, 200);
            hash.add_path(&mut down, 200);
            add_far_end(&mut hash, &mut far_end);
        }
    }
    assert_eq!(format!("{:016x}", hash.0), SCENARIOS);
}

fn add_far_end(hash: &mut Hash, far_end: &mut FarEnd) {
    for seq in 0..50 {
        hash.add_time(far_end.admit(Duration::ZERO, 1, seq).unwrap_or(Duration::from_secs(1000)));
    }
}
