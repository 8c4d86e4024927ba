//! How a send ended, from whatever is known at its end.

use super::Session;
use crate::error::SendError;
use crate::event::{IgnoredReport, Reason, ReceiverReport, Report, millis};
use mdalp_proto::transfer::{Outcome, Transfer};

const VERIFIED: Outcome = Outcome::Complete { verified: true };

impl<F> Session<'_, F> {
    /// The report; `error` is why the send did not complete.
    pub(super) fn report(&self, error: Option<&SendError>) -> Report {
        let transfer = self.transfer.as_ref();
        let success = if self.options.dry_run { Reason::DryRun } else { Reason::Complete };
        let reason = error.map_or(success, SendError::reason);
        let mut ignored = IgnoredReport::default();
        if let Some(transfer) = transfer {
            let counted = transfer.ignored();
            ignored.strangers = counted.strangers;
            ignored.undecodable = counted.undecodable;
            ignored.unexpected = counted.not_an_ack + counted.wrong_tid;
        }
        let mut receivers = Vec::new();
        for (lane, receiver) in self.receivers.iter().enumerate() {
            let stats = transfer.map(|t| t.stats(lane)).unwrap_or_default();
            ignored.duplicate_acks += stats.duplicate_acks;
            ignored.optimistic_acks += stats.optimistic_acks;
            ignored.crc_mismatches += stats.crc_mismatches;
            receivers.push(ReceiverReport {
                address: receiver.addr.to_string(),
                name: receiver.name.clone(),
                latency_ms: receiver.latency.map(millis),
                bytes: stats.bytes,
                chunks: stats.chunks,
                first_seq: receiver.share.first_seq,
                datagrams: stats.datagrams,
                retransmissions: stats.retransmissions,
                timeouts: stats.timeouts,
                srtt_ms: transfer.and_then(|t| t.srtt(lane)).map(millis),
                state: transfer.map_or("probing", |t| t.state(lane).name()),
                ranges: transfer.map(|t| t.acked_by(lane).to_string()).unwrap_or_default(),
            });
        }
        let elapsed = self.assigned_at.map(|from| {
            // To the last ack; without one, to now.
            self.last_ack_at.unwrap_or_else(|| self.clock.now()) - from
        });
        let planned_chunks =
            self.receivers.iter().map(|receiver| receiver.share.chunks).sum::<u64>();
        let begun = transfer.is_some_and(|transfer| transfer.acked_bytes() > 0);
        let journal = self.journal.as_ref().filter(|_| begun && error.is_some());
        Report {
            reason,
            exit_code: reason.exit_code(),
            error: error.map(ToString::to_string),
            tid: self.tid.map(|tid| tid.0),
            bytes: transfer.map_or(0, Transfer::acked_bytes),
            total_bytes: self.payload.len(),
            chunks: transfer.map_or(0, |t| t.acked().len()),
            total_chunks: planned_chunks,
            verified: transfer.is_some_and(|t| t.outcome() == Some(VERIFIED)) && !self.changed,
            blake3: self.digest.map(|digest| blake3::Hash::from_bytes(digest).to_hex().to_string()),
            elapsed_s: elapsed.unwrap_or_default().as_secs_f64(),
            receivers,
            ignored,
            journal: journal.map(|journal| journal.path().display().to_string()),
        }
    }
}
