//! What `mdalp lab` says before and after.

use crate::demo::short;
use crate::text;
use mdalp_lab::Lab;
use mdalp_lab::flow::{Flow, LaneFlow};
use mdalp_proto::ids::TransactionId;
use std::time::Duration;

/// Characters of a list of what is missing.
const MAX_WHY: usize = 100;

/// What the lab is and where clients find it.
pub(super) fn opening(lab: &Lab) -> String {
    let scenario = lab.scenario();
    let to = lab.orchestrator();
    let heading = ["receiver", "name", "ping", "acks after"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (addr, receiver) in lab.receivers().iter().zip(&scenario.receivers) {
        rows.push(vec![
            addr.to_string(),
            receiver.name.clone(),
            receiver.ping.map_or_else(|| "no answer".to_owned(), millis),
            millis(receiver.far_end.current().ack_delay),
        ]);
    }
    let description = Some(&*scenario.description).filter(|text| !text.is_empty());
    format!(
        "lab {}{}{}\norchestrator {to} (clients: -a {} -p {})\n{}",
        scenario.name,
        description.map_or("", |_| ": "),
        description.unwrap_or_default(),
        to.ip(),
        to.port(),
        text::table(&rows, 2).trim_end(),
    )
}

/// What each transfer did, as the network saw it, and what the servers hold of it.
pub(super) fn closing(lab: &Lab) -> String {
    let flows = lab.ledger().flows();
    let mut out = String::new();
    for flow in flows.iter().filter(|flow| flow.tid.is_some()) {
        out += &transfer(lab, flow);
    }
    if out.is_empty() {
        return "lab: no client has got an assignment".to_owned();
    }
    out
}

fn transfer(lab: &Lab, flow: &Flow) -> String {
    let tid = flow.tid.unwrap_or_default();
    let took = flow.elapsed().map_or_else(
        || "nothing acknowledged".to_owned(),
        |took| format!("{} from the assignment to the last ack", text::seconds(took.as_secs_f64())),
    );
    let client = flow.client.map(|client| client.to_string()).unwrap_or_default();
    let heading =
        ["receiver", "chunks", "bytes", "resent", "acked", "lost up", "lost down", "round trip"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let nothing = LaneFlow::default();
    for (index, receiver) in lab.scenario().receivers.iter().enumerate() {
        let lane = flow.lanes.get(index).unwrap_or(&nothing);
        rows.push(vec![
            receiver.name.clone(),
            lane.chunks.to_string(),
            lane.bytes.to_string(),
            lane.retransmissions.to_string(),
            lane.acked.to_string(),
            lane.lost_up.to_string(),
            lane.lost_down.to_string(),
            lane.rtt.map_or_else(|| "-".to_owned(), millis),
        ]);
    }
    format!(
        "\ntransfer {} from {client}, transaction {tid}: {took}\n{}  servers hold {}\n",
        flow.number + 1,
        text::table(&rows, 2),
        held(lab, tid),
    )
}

/// What the servers hold of a transaction.
fn held(lab: &Lab, tid: u64) -> String {
    let store = lab.store().as_ref();
    match mdalp_store::assemble(store, TransactionId(tid), &mut std::io::sink()) {
        Ok(done) => {
            let hash = short(&done.blake3);
            let chunks = text::count(done.chunks, "chunk");
            format!("{chunks}, {}, without a gap, BLAKE3 {hash}", text::count(done.bytes, "byte"))
        }
        Err(error) => {
            let mut why = error.to_string();
            if let Some((cut, _)) = why.char_indices().nth(MAX_WHY) {
                why.truncate(cut);
                why.push('…');
            }
            format!("no whole payload: {why}")
        }
    }
}

pub(super) fn millis(time: Duration) -> String {
    text::millis(Some(time.as_secs_f64() * 1000.0))
}
