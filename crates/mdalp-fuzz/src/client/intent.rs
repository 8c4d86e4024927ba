//! The client's question to the orchestrator.

use crate::script::Script;
use mdalp_proto::ids::OrchestratorAddr;
use mdalp_proto::intent::{Intent, IntentConfig, IntentError};
use mdalp_proto::time::Instant;
use mdalp_proto::wire::{Message, decode, list};
use std::net::SocketAddr;
use std::time::Duration;

/// Asks until there is an answer or the time is over.
pub(super) fn run(script: &mut Script<'_>) {
    let orchestrator: SocketAddr = ([198, 51, 100, 1], 4650).into();
    let config = IntentConfig {
        padding: usize::from(script.u16() % 1300),
        jitter_seed: script.u64(),
        ..IntentConfig::default()
    };
    let mut now = Instant::ZERO;
    let mut intent = Intent::new(now, config, OrchestratorAddr(orchestrator));
    let mut expected = None;
    let mut sent = 0;
    while expected.is_none() {
        sent += transmits(&mut intent, orchestrator);
        // 1, 2, 4, 8, 16, 30, 30, 30 s, each stretched by up to a quarter (F19).
        assert!(sent <= 8, "{sent} intents");
        let due = intent.poll_timeout().expect("a timer is armed");
        assert!(due > now && due <= now + Duration::from_secs(38));
        if script.is_over() || script.flag() {
            let early = Instant::from_nanos(now.as_nanos() + (due - now).as_nanos() as u64 / 2);
            intent.handle_timeout(early);
            assert_eq!(transmits(&mut intent, orchestrator), 0, "early calls do nothing");
            now = due;
            intent.handle_timeout(now);
            if now >= Instant::ZERO + config.timeout {
                break;
            }
            continue;
        }
        let from: SocketAddr = match script.below(4) {
            0 => ([198, 51, 100, 1], 4651).into(),
            1 => ([198, 51, 100, 2], 4650).into(),
            _ => orchestrator,
        };
        let datagram = match script.below(4) {
            0 => script.short().to_vec(),
            1 => [b"Type:1;TID:7;DATA:", script.short()].concat(),
            2 => format!("Type:{};TID:7;SEQ:0;DATA:[]", script.below(6)).into_bytes(),
            _ => format!("Type:1;TID:{};DATA:[{{'ip_address': '192.0.2.1'}}]", script.u64())
                .into_bytes(),
        };
        intent.handle_datagram(now, from, &datagram);
        if let (Ok(Message::Assignment { tid, list: text, .. }), true) =
            (decode(&datagram), from == orchestrator)
        {
            expected = list::parse(text).ok().map(|receivers| (tid, receivers));
        }
    }
    let result = intent.poll_event().expect("it ends");
    match (result, expected) {
        (Ok(given), Some((tid, receivers))) => {
            assert_eq!((given.tid, given.receivers), (tid, receivers));
        }
        (Err(IntentError::NoReceivers), Some((_, receivers))) => assert!(receivers.is_empty()),
        (
            Err(
                IntentError::NoAnswer
                | IntentError::NotUnderstood(_)
                | IntentError::TooManyReceivers(_),
            ),
            None,
        ) => {
            assert_eq!(now, Instant::ZERO + config.timeout, "at its deadline, not before");
        }
        (result, expected) => unreachable!("{result:?} instead of {expected:?}"),
    }
    // Whatever comes now is late.
    intent.handle_datagram(now, orchestrator, b"Type:1;TID:9;DATA:[{'ip_address': '192.0.2.1'}]");
    intent.handle_timeout(now + Duration::from_secs(60));
    assert_eq!((intent.poll_event(), intent.poll_timeout()), (None, None));
    assert_eq!(transmits(&mut intent, orchestrator), 0);
}

fn transmits(intent: &mut Intent, orchestrator: SocketAddr) -> usize {
    let mut count = 0;
    let mut out = Vec::new();
    while let Some(to) = intent.poll_transmit(&mut out) {
        assert_eq!(to, orchestrator, "8: to nobody else");
        assert!(matches!(decode(&out), Ok(Message::Intent { .. })));
        out.clear();
        count += 1;
    }
    count
}
