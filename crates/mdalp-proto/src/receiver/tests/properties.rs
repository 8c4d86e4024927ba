//! What holds whatever happens: invariants 4, 8, 9 and 17.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// A chunk; `crc` 0: none, 1: right, 2: wrong.
    Chunk {
        local: u16,
        host: u8,
        port: u16,
        tid: u64,
        seq: u64,
        len: usize,
        crc: u8,
        byte: u8,
    },
    Bytes(Vec<u8>),
    /// The store answers for what waits.
    Answer {
        fails: bool,
    },
    Wait(u64),
    Adopt(u64),
}

fn tid() -> impl Strategy<Value = u64> {
    prop_oneof![3740..3743u64, (0..8u64).prop_map(|n| TID + n)]
}

fn step() -> impl Strategy<Value = Step> {
    let numbers = (0..3u16, 0..6u8, 1..4u16, tid(), prop_oneof![0..9u64, 95..105u64, any::<u64>()]);
    let chunk = (numbers, 0..30usize, 0..3u8, 0..2u8);
    prop_oneof![
        10 => chunk.prop_map(|((local, host, port, tid, seq), len, crc, byte)| {
            Step::Chunk { local, host, port, tid, seq, len, crc, byte }
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..60).prop_map(Step::Bytes),
        1 => "Type:[0-5];(TID:[0-9];)?(SEQ:[0-9];)?(DATA:.{0,9})?"
            .prop_map(|text| Step::Bytes(text.into_bytes())),
        4 => any::<bool>().prop_map(|fails| Step::Answer { fails }),
        2 => (0..100_000u64).prop_map(Step::Wait),
        1 => tid().prop_map(Step::Adopt),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_script_keeps_the_promises(steps in proptest::collection::vec(step(), 1..120)) {
        let config = Config {
            transactions: 6,
            per_source: 2,
            per_prefix: 5,
            ranges: 4,
            max_seq: 100,
            max_chunk: 20,
            ..Config::default()
        };
        let mut world = World::new(config);
        let mut waiting: Vec<(Append, Vec<u8>)> = vec![];
        for step in steps {
            let mut datagram = None;
            match step {
                Step::Chunk { local, host, port, tid, seq, len, crc, byte } => {
                    let body = vec![byte; len];
                    let bytes = match crc {
                        0 => data(tid, seq, &body),
                        1 => data_with_crc(tid, seq, &body),
                        _ => {
                            let mut bytes = data_with_crc(tid, seq, &[&body[..], b"x"].concat());
                            bytes.pop();
                            bytes
                        }
                    };
                    let ip = if host == 0 { [127, 0, 0, 1] } else { [198, 51, 100, host] };
                    datagram = Some((local, SocketAddr::from((ip, port)), bytes));
                }
                Step::Bytes(bytes) => datagram = Some((0, CLIENT.parse().unwrap(), bytes)),
                Step::Answer { fails } => {
                    world.refusal = fails.then_some(Stored::Failed);
                    for (append, bytes) in waiting.drain(..) {
                        let stored = world.store(&append, &bytes);
                        world.receiver.handle_appended(world.now, &append, stored);
                        let ack = world.receiver.poll_transmit();
                        prop_assert_eq!(ack.is_some(), !fails, "4: acked if and only if durable");
                        if let Some(ack) = ack {
                            let (tid, seq) = (append.tid, append.seq);
                            prop_assert_eq!((ack.to, ack.tid, ack.seq), (append.from, tid, seq));
                            let held = &world.stored[&(tid.0, seq.0)];
                            let held = append.wants_crc.then(|| ChunkCrc::of(tid, seq, held));
                            prop_assert_eq!(ack.crc, held);
                            prop_assert!(text(Some(ack)).len() <= bytes.len(), "9");
                        }
                    }
                }
                Step::Wait(ms) => {
                    world.wait(Duration::from_millis(ms));
                }
                Step::Adopt(tid) => world.receiver.adopt(world.now, TransactionId(tid)),
            }
            if let Some((local, from, bytes)) = datagram {
                world.receiver.handle_datagram(world.now, Local(local), from, &bytes);
                if let Some(append) = world.receiver.poll_append() {
                    prop_assert!(append.seq.0 < 100 && append.data.len() <= 20);
                    prop_assert!(decode(&bytes).is_ok());
                    waiting.push((append, bytes.clone()));
                }
                if let Some(ack) = world.receiver.poll_transmit() {
                    prop_assert_eq!(ack.to, from, "8: only to who just sent");
                    prop_assert!(world.stored.contains_key(&(ack.tid.0, ack.seq.0)), "4");
                    prop_assert!(text(Some(ack)).len() <= bytes.len(), "9");
                }
            }
            prop_assert_eq!(world.receiver.poll_transmit(), None);
            prop_assert!(world.receiver.transactions() <= 6, "17");
            prop_assert!(world.receiver.ranges() <= 6 * 4, "17");
            world.events();
        }
    }
}
