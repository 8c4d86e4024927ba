//! What holds whatever happens: invariants 9, 13, 14 and 17.

use super::nonces::nonced;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Intent { host: u8, port: u16, nonce: Option<u64>, len: usize },
    Junk { bytes: Vec<u8> },
    Claim(usize),
    Active(usize),
    End(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (
            1..4u8,
            1..12u16,
            proptest::option::of(0..2u64),
            prop_oneof![Just(7), 12..600usize],
        )
            .prop_map(|(host, port, nonce, len)| Step::Intent { host, port, nonce, len }),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Step::Junk { bytes }),
        1 => "Type:[0-5];(TID:[0-9];)?(SEQ:[0-9];)?(DATA:.{0,9})?"
            .prop_map(|text| Step::Junk { bytes: text.into_bytes() }),
        2 => any::<usize>().prop_map(Step::Claim),
        1 => any::<usize>().prop_map(Step::Active),
        2 => any::<usize>().prop_map(Step::End),
        3 => (0..200_000u64).prop_map(Step::Wait),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let limits = (1..20usize, 1..9usize, 1..20usize, 1..12usize);
    let few = proptest::option::of(1..4usize);
    (few.clone(), few, limits).prop_map(|(concurrency, hand_out, limits)| {
        let (queue, queue_per_source, queue_per_prefix, live) = limits;
        let receivers = entries(4, "R", "crc");
        let config = Config::new(receivers);
        Config { concurrency, hand_out, queue, queue_per_source, queue_per_prefix, live, ..config }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_script_keeps_the_promises(
        config in config(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(config.clone());
        // By asker: the transaction and the datagram it was told, until that may change.
        let mut told: BTreeMap<Asker, (TransactionId, Vec<u8>, Instant)> = BTreeMap::new();
        let mut longest: BTreeMap<Asker, usize> = BTreeMap::new();
        let mut tids: Vec<TransactionId> = vec![];
        let (mut unlimited, mut start) = (0, None);
        for step in steps {
            let pick = |n: usize| tids.get(n % tids.len().max(1)).copied().unwrap_or(TransactionId(77));
            let now = world.now;
            let mut changed = None;
            match step {
                Step::Intent { host, port, nonce, len } => {
                    let addr: SocketAddr = ([198, 51, 100, host], port).into();
                    let nonce = nonce.map(Nonce);
                    let bytes = match nonce {
                        Some(nonce) => nonced(nonce.0, len),
                        None if len > 7 => padded(len),
                        None => b"Type:0;".to_vec(),
                    };
                    let most = longest.entry(Asker { addr, nonce }).or_default();
                    *most = (*most).max(bytes.len());
                    start.get_or_insert(now);
                    world.orchestrator.handle_datagram(now, addr, &bytes);
                }
                Step::Junk { bytes } => {
                    let is_intent = matches!(decode(&bytes), Ok(Message::Intent { .. }));
                    if !is_intent {
                        let queued = world.orchestrator.queued();
                        world.orchestrator.handle_datagram(now, CLIENT.parse().unwrap(), &bytes);
                        prop_assert_eq!(world.sent(), vec![]);
                        prop_assert_eq!(world.orchestrator.queued(), queued);
                    }
                }
                Step::Claim(n) => {
                    changed = Some(pick(n));
                    world.orchestrator.transaction_claimed(now, pick(n));
                }
                Step::Active(n) => world.orchestrator.transaction_active(now, pick(n)),
                Step::End(n) => {
                    changed = Some(pick(n));
                    world.orchestrator.transaction_ended(now, pick(n));
                }
                Step::Wait(ms) => {
                    world.wait(Duration::from_millis(ms));
                }
            }
            told.retain(|_, (tid, ..)| Some(*tid) != changed);
            for event in world.events() {
                if let Event::Assigned { tid, .. } = event {
                    prop_assert!(!tids.contains(&tid), "13: ids are not issued twice");
                    tids.push(tid);
                }
            }
            for Transmit { to, tid, datagram } in world.sent() {
                let (nonce, is_list) = match decode(&datagram) {
                    Ok(Message::Assignment { nonce, .. }) => (nonce, true),
                    Ok(Message::Queued { nonce, .. }) => (Some(nonce), false),
                    other => panic!("{other:?}"),
                };
                let asker = Asker { addr: to, nonce };
                let bound = longest.get(&asker).copied();
                prop_assert!(bound.is_some(), "8: only to those who asked, with their nonce");
                prop_assert!(datagram.len() <= 1024);
                prop_assert_eq!(is_list, tid.is_some());
                if datagram.len() > 3 * bound.unwrap_or(0) {
                    prop_assert!(is_list);
                    unlimited += 1;
                }
                let Some(tid) = tid else { continue };
                let of_others = told.iter().any(|(other, (of, ..))| *other != asker && *of == tid);
                prop_assert!(!of_others, "two askers never get one transaction");
                if let Some((old, bytes, until)) = told.get(&asker)
                    && now < *until
                    && config.live > 11
                {
                    prop_assert_eq!((&tid, &datagram), (old, bytes), "14: the same again");
                    continue;
                }
                told.insert(asker, (tid, datagram, now + 120 * SECOND));
            }
            prop_assert!(world.orchestrator.queued() <= config.queue, "17");
            prop_assert!(world.orchestrator.live() <= config.live, "17");
            if let Some(most) = config.concurrency {
                prop_assert!(world.orchestrator.live() <= most);
            }
        }
        // 9: one prefix, so ten at once and five a second of all that is larger than three
        // times its question.
        let elapsed = world.now.since(start.unwrap_or(world.now)).as_secs_f64();
        prop_assert!(f64::from(unlimited) <= 10.0 + 5.0 * elapsed + 1.0);
    }
}
