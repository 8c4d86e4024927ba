//! What a server logs, and how often: a flood must not become a flood of lines (H54).
//!
//! Nothing here prints text from the network; addresses and ids are numbers.

use crate::stats::Stats;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::orchestrator;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::wire::Statement;
use mdalp_store::ReceiverName;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Lines about transactions in one second; the others are only counted.
const LINES: u32 = 50;
/// A list of gaps is cut at this length, in bytes.
const GAPS: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: u32,
    untold: u64,
    before: BTreeMap<(&'static str, &'static str), u64>,
}

impl Log {
    fn may_speak(&mut self) -> bool {
        self.lines += 1;
        let may = self.lines <= LINES;
        self.untold += u64::from(!may);
        may
    }

    /// `receivers`: who is meant by their indices.
    pub(crate) fn orchestrator(&mut self, event: &orchestrator::Event, receivers: &[ReceiverName]) {
        use orchestrator::Event;
        if receiver_health(event, receivers) || !self.may_speak() {
            return;
        }
        match event {
            Event::Queued { from, position } => tracing::debug!(%from, position, "intent"),
            Event::Assigned { tid, to, receivers } => {
                tracing::info!(%tid, %to, receivers = receivers.len(), "transaction assigned");
            }
            Event::Evicted { tid, to } => {
                tracing::info!(%tid, %to, "assignment that nobody has used is forgotten to make room");
            }
            Event::IntentExpired { from } => tracing::info!(%from, "intent waited too long"),
            Event::Expired { tid, claimed } => tracing::debug!(%tid, claimed, "slot lapsed"),
            other => tracing::debug!(?other, "orchestrator"),
        }
    }

    pub(crate) fn claimed(&mut self, tid: TransactionId) {
        if self.may_speak() {
            tracing::debug!(%tid, "first chunk");
        }
    }

    pub(crate) fn closed(
        &mut self,
        tid: TransactionId,
        from: SocketAddr,
        whole: &Statement,
        revision: u32,
    ) {
        if self.may_speak() {
            let Statement { bytes, chunks, .. } = whole;
            tracing::info!(%tid, %from, bytes, chunks, revision, "payload is whole and compared");
        }
    }

    pub(crate) fn recorded(&mut self, tid: TransactionId, from: SocketAddr, whole: &Statement) {
        if self.may_speak() {
            let Statement { bytes, chunks, .. } = whole;
            tracing::info!(%tid, %from, bytes, chunks, "recorded what the sender states of the whole");
        }
    }

    pub(crate) fn gaps(&mut self, tid: TransactionId, gaps: &RangeSet) {
        if self.may_speak() {
            let mut missing = gaps.to_string();
            if missing.len() > GAPS {
                missing.truncate(GAPS);
                missing.push('…');
            }
            tracing::info!(%tid, missing, "transaction is quiet and has gaps");
        }
    }

    pub(crate) fn released(&mut self, tid: TransactionId) {
        if self.may_speak() {
            tracing::info!(%tid, "expired incomplete transaction");
        }
    }

    pub(crate) fn removed(&mut self, tid: TransactionId) {
        if self.may_speak() {
            tracing::info!(%tid, "transaction removed, it was complete for long enough");
        }
    }

    pub(crate) fn failed(&mut self, tid: TransactionId, why: &str) {
        if self.may_speak() {
            tracing::warn!(%tid, why, "transaction cannot be closed");
        }
    }

    /// Once a second: one line for each reason to drop something that came up since.
    pub(crate) fn second(&mut self, stats: &Stats) {
        for (at, reason, total) in stats.counters().filter(|(_, name, _)| name.starts_with("drop_"))
        {
            let count = total - self.before.insert((at, reason), total).unwrap_or(0);
            if count > 0 {
                tracing::debug!(at, reason, count, total, "dropped");
            }
        }
        if self.untold > 0 {
            tracing::info!(lines = self.untold, "more happened than is logged");
        }
        (self.lines, self.untold) = (0, 0);
    }
}

/// What probes of receivers found: never left out, for there are few. `false` if it is something else.
fn receiver_health(event: &orchestrator::Event, receivers: &[ReceiverName]) -> bool {
    use orchestrator::Event;
    let who = |index: u16| receivers.get(usize::from(index)).map(|who| (&*who.name, &*who.address));
    match *event {
        Event::ReceiverAnswers { index, caps, back } => {
            let Some((name, address)) = who(index) else { return true };
            let speaks = caps.to_string();
            if back {
                tracing::warn!(name, address, speaks, "receiver is back and handed out again");
            } else {
                tracing::info!(name, address, speaks, "receiver answers");
            }
        }
        Event::ReceiverGone { index } => {
            let Some((name, address)) = who(index) else { return true };
            tracing::warn!(name, address, "receiver is gone and not handed out");
        }
        Event::ReceiverSilent { index, handed_out } => {
            let Some((name, address)) = who(index) else { return true };
            if handed_out {
                tracing::warn!(
                    name,
                    address,
                    "receiver never answered; handed out all the same, because of --caps"
                );
            } else {
                tracing::warn!(name, address, "receiver never answered and is not handed out");
            }
        }
        Event::NoReceiverAnswers => {
            tracing::warn!(
                receivers = receivers.len(),
                "no receiver answers; all are handed out as typed. They may be classic, or not running"
            );
        }
        _ => return false,
    }
    true
}
