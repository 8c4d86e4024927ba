//! `--json` against its schema.

use crate::support::{Net, json_lines, payload, run, text};
use serde_json::{Value, json};

/// Panics unless the events are as documented: each one by the schema, without fields that are not in
/// it; `end` once, at the end; times that do not go back.
pub(crate) fn check(events: &[Value]) {
    let mut schema: Value =
        serde_json::from_str(include_str!("../../../../docs/events.schema.json")).unwrap();
    // Readers ignore what they do not know, but what is printed here has to be documented.
    schema["unevaluatedProperties"] = json!(false);
    for part in schema["$defs"].as_object_mut().unwrap().values_mut() {
        if part.get("properties").is_some() && part["properties"].get("type").is_none() {
            part["additionalProperties"] = json!(false);
        }
    }
    let validator = jsonschema::validator_for(&schema).unwrap();
    for event in events {
        let errors: Vec<String> =
            validator.iter_errors(event).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{event}\n{errors:#?}");
    }
    let ends = events.iter().filter(|event| event["type"] == "end").count();
    assert_eq!((ends, &events.last().unwrap()["type"]), (1, &json!("end")));
    assert!(events.is_sorted_by_key(|event| event["t_ns"].as_u64()));
    assert!(events.len() == 1 || events[0]["type"] == "start");
}

#[test]
fn the_events_of_a_transfer_are_as_documented() {
    let net = Net::new();
    let _server = net.serve(&["--classic"]);
    let file = net.file("payload", &payload(5000));
    let sent = run(&mut net.client(&file, &["--json", "-vv", "--probe", "auto"]));
    let events = json_lines(&sent.stdout);
    check(&events);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    for kind in
        ["start", "receivers", "probe", "plan", "receiver_state", "datagram", "progress", "end"]
    {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    let end = events.last().unwrap();
    assert_eq!(
        (&end["reason"], &end["bytes"], &end["error"]),
        (&json!("complete"), &json!(5000), &Value::Null)
    );
    let bytes: u64 =
        end["receivers"].as_array().unwrap().iter().map(|r| r["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes, 5000);
}

#[test]
fn a_schema_that_knows_nothing_else_is_what_the_test_checks_against() {
    // Were the schema loose, the other tests would prove nothing.
    let event = json!({"v": 1, "ts": "2026-01-01T00:00:00.000000Z", "t_ns": 0, "type": "end", "surprise": 1});
    assert!(std::panic::catch_unwind(|| check(&[event])).is_err());
    let event = json!({"v": 1, "ts": "2026-01-01T00:00:00.000000Z", "t_ns": 0, "type": "unknown"});
    assert!(std::panic::catch_unwind(|| check(&[event])).is_err());
}

#[test]
fn the_log_tells_the_same_in_words() {
    let net = Net::new();
    let _server = net.serve(&["--classic"]);
    let file = net.file("payload", &payload(1000));
    let sent = run(&mut net.client(&file, &["-vv", "--latencies", "3,2,1"]));
    let log = text(&sent.stderr);
    for words in [
        "transaction ",
        &format!("{}:4650 (A): latency 3.000 ms, 182 bytes, 2 chunks from SEQ 0", net.ip(2)),
        &format!("-> {}:4650 Type:2;TID:", net.ip(3)),
        &format!("<- {}:4650 Type:3;TID:", net.ip(3)),
        "s from the assignment to the last ack",
        "acknowledged: 1000 of 1000 bytes",
        "complete, unverified (transaction ",
    ] {
        assert!(log.contains(words), "{words:?} in\n{log}");
    }
    assert!(sent.stdout.is_empty());
}
