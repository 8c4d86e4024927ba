//! Any bytes as a datagram: reading is total, and what is read is what stands there (invariant 15).

use mdalp_proto::ranges::RangeSet;
use mdalp_proto::wire::{
    Message, Verdict, decode, encode_ack, encode_data_header, encode_intent, encode_nonced_intent,
    encode_probe, encode_probe_reply, encode_queued, encode_seal, encode_seal_reply,
};

/// Reads `bytes` as one datagram.
///
/// # Panics
/// If reading and writing disagree.
pub fn datagram(bytes: &[u8]) {
    let Ok(message) = decode(bytes) else {
        assert!(!is_plain_ack(bytes), "a well-formed ack is read");
        return;
    };
    assert!(bytes.starts_with(b"Type:"));
    let canonical = encode(&message);
    assert_eq!(decode(&canonical).as_ref(), Ok(&message), "what is written is read back");
    let without = |bytes: &[u8]| bytes.strip_suffix(b";").unwrap_or(bytes).to_vec();
    match &message {
        // Anything may follow the type.
        Message::Intent { .. } => assert!(bytes.starts_with(b"Type:0")),
        Message::Data { data, .. } => {
            assert_eq!(bytes, canonical, "there is one spelling");
            assert!(bytes.ends_with(data));
        }
        Message::Assignment { list, .. } => {
            assert_eq!(bytes, canonical);
            assert!(bytes.ends_with(list));
        }
        // Anything may follow the fields that are known.
        Message::Ack { .. } | Message::Probe { .. } => {
            assert!(bytes.starts_with(&without(&canonical)));
        }
        // Tokens that nobody knows are ignored.
        Message::ProbeReply { .. } => assert!(bytes.starts_with(b"Type:8;NONCE:")),
        Message::Seal(_)
        | Message::Queued { .. }
        | Message::SealReply {
            verdict:
                Verdict::Complete | Verdict::Mismatch | Verdict::Recorded(_) | Verdict::Refused(_),
            ..
        } => {
            assert_eq!(without(bytes), without(&canonical));
        }
        Message::SealReply { tid, verdict: Verdict::Missing(gaps) } => {
            assert!(!gaps.is_empty());
            cut_short(*tid, gaps, bytes.len());
        }
    }
}

/// An answer that must be short says the first gaps, and is a message all the same.
fn cut_short(tid: mdalp_proto::ids::TransactionId, gaps: &RangeSet, len: usize) {
    for limit in [0, len / 2, len] {
        let mut out = Vec::new();
        encode_seal_reply(&mut out, tid, &Verdict::Missing(gaps.clone()), limit);
        let Ok(Message::SealReply { verdict: Verdict::Missing(said), .. }) = decode(&out) else {
            panic_now("a list of gaps that is cut short can be read");
        };
        assert!(said.iter().zip(gaps.iter()).all(|(a, b)| a == b));
        assert!(out.len() <= limit || said.range_count() == 1, "as short as was asked");
    }
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match message {
        Message::Intent { nonce: None } => encode_intent(&mut out),
        Message::Intent { nonce: Some(nonce) } => encode_nonced_intent(&mut out, *nonce, 0),
        Message::Queued { nonce, position } => encode_queued(&mut out, *nonce, *position),
        Message::Probe { nonce } => encode_probe(&mut out, *nonce, 0),
        Message::ProbeReply { nonce, caps } => encode_probe_reply(&mut out, *nonce, *caps),
        Message::Assignment { tid, nonce, list } => {
            out.extend_from_slice(format!("Type:1;TID:{tid};").as_bytes());
            if let Some(nonce) = nonce {
                out.extend_from_slice(format!("NONCE:{:016x};", nonce.0).as_bytes());
            }
            out.extend_from_slice(b"DATA:");
            out.extend_from_slice(list);
        }
        Message::Data { tid, seq, crc, data } => {
            encode_data_header(&mut out, *tid, *seq, *crc);
            out.extend_from_slice(data);
        }
        Message::Ack { tid, seq, crc } => encode_ack(&mut out, *tid, *seq, *crc),
        Message::Seal(seal) => encode_seal(&mut out, seal),
        Message::SealReply { tid, verdict } => {
            encode_seal_reply(&mut out, *tid, verdict, usize::MAX);
        }
    }
    out
}

/// A second, simple reader: whether `bytes` is `Type:3;TID:n;SEQ:n;` with numbers as Rust prints
/// them.
fn is_plain_ack(bytes: &[u8]) -> bool {
    let number = |text: &str| text.parse().is_ok_and(|n: u64| n.to_string() == text);
    let fields = || {
        let text = std::str::from_utf8(bytes).ok()?;
        text.strip_prefix("Type:3;TID:")?.strip_suffix(';')?.split_once(";SEQ:")
    };
    fields().is_some_and(|(tid, seq)| number(tid) && number(seq))
}

#[expect(clippy::panic, reason = "a broken promise is what fuzzers look for")]
fn panic_now(what: &str) -> ! {
    panic!("{what}")
}
