//! The datagrams of `vectors/messages.json`, which an implementation in any language can read too.
//!
//! Their checksums come from a second implementation. Does not test encoding.

use super::*;
use serde_json::{Value, json};

/// What a datagram means, in the words of the vectors.
fn described(message: &Message<'_>) -> Value {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let hex = |nonce: Nonce| format!("{:016x}", nonce.0);
    let crc = |crc: ChunkCrc| format!("{:08x}", crc.0);
    match message {
        Message::Intent { nonce } => json!({"means": "intent", "nonce": nonce.map(hex)}),
        Message::Assignment { tid, nonce, list } => json!({
            "means": "assignment", "tid": tid.to_string(), "nonce": nonce.map(hex),
            "list": text(list),
        }),
        Message::Data { tid, seq, crc: sum, data } => json!({
            "means": "chunk", "tid": tid.to_string(), "seq": seq.to_string(),
            "crc": sum.map(crc), "data": text(data),
        }),
        Message::Ack { tid, seq, crc: sum } => json!({
            "means": "ack", "tid": tid.to_string(), "seq": seq.to_string(), "crc": sum.map(crc),
        }),
        Message::Seal(seal) => json!({
            "means": "statement", "tid": seal.tid.to_string(),
            "chunks": seal.statement.chunks.to_string(), "bytes": seal.statement.bytes.to_string(),
            "blake3": seal.statement.blake3.map(|byte| format!("{byte:02x}")).concat(),
            "checked": seal.checked, "crc": crc(seal.crc()),
        }),
        Message::SealReply { tid, verdict } => {
            let tid = tid.to_string();
            match verdict {
                Verdict::Recorded(sum) => {
                    json!({"means": "verdict", "tid": tid, "verdict": "recorded", "crc": crc(*sum)})
                }
                Verdict::Refused(why) => {
                    json!({"means": "verdict", "tid": tid, "verdict": "refused", "why": why.word()})
                }
                other => panic!("{other:?} is not among the vectors"),
            }
        }
        Message::Queued { nonce, position } => {
            json!({"means": "queued", "nonce": hex(*nonce), "position": position.to_string()})
        }
        Message::Probe { nonce } => json!({"means": "probe", "nonce": hex(*nonce)}),
        Message::ProbeReply { nonce, caps } => {
            json!({"means": "probe reply", "nonce": hex(*nonce), "caps": caps.to_string()})
        }
    }
}

#[test]
fn the_published_datagrams_mean_what_the_vectors_say() {
    let text = include_str!("../../../../../vectors/messages.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 41);
    for case in cases {
        let datagram = case["datagram"].as_str().unwrap();
        let decoded = decode(datagram.as_bytes());
        let Value::Object(mut expected) = case.clone() else { panic!("{case}") };
        expected.remove("datagram");
        expected.remove("rule");
        match decoded {
            Ok(message) => assert_eq!(described(&message), Value::Object(expected), "{case}"),
            Err(error) => assert!(expected["means"].is_null(), "{case}: {error}"),
        }
    }
}
