//! What a lane makes of acks and of their absence: round trips, losses, retransmissions (R-16, R-17,
//!
//!
//! Does not choose what is sent for the first time.

use super::{AckOutcome, Lane, LaneState, Send};
use crate::ids::SequenceNumber;
use crate::time::Instant;
use crate::wire::ChunkCrc;

impl Lane {
    /// Sends a chunk that is in flight once more.
    fn resend(&mut self, now: Instant, at: usize) -> Option<Send> {
        let mut flight = self.flights.remove(at)?;
        self.stats.datagrams += 1;
        self.transmissions += 1;
        flight.last_sent = now;
        flight.order = self.transmissions;
        flight.sends += 1;
        self.flights.push_back(flight);
        self.stats.retransmissions += 1;
        Some(Send { seq: SequenceNumber(flight.seq), attempt: flight.sends })
    }

    /// Lost chunks go back to the queue. If the retransmission timer has fired, the chunk sent longest
    /// ago goes out once more and the timeout doubles. One chunk only: while nothing comes back, more
    /// would be no wiser.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Send> {
        if self.loss_at.is_some_and(|at| at <= now) {
            self.detect_losses(now);
        }
        if self.rto_at.is_none_or(|at| now < at) {
            return None;
        }
        self.stats.timeouts += 1;
        self.rtt.back_off();
        self.rto_at = Some(now + self.rtt.rto());
        self.reduce_window(now);
        self.resend(now, 0)
    }

    /// A second datagram at the first two timeouts in a row, as RFC 9002 §6.2.4 permits, so that one
    /// more loss does not cost a timeout twice as long: the next chunk in flight, or the same one
    /// again. Only where more than one may be in flight and the receiver has answered before; when
    /// the silence lasts, one datagram is enough.
    pub(crate) fn second_probe(&mut self, now: Instant) -> Option<Send> {
        let permitted = self.state == LaneState::Active && self.window > 1;
        (permitted && self.rtt.backoff() <= 2).then(|| self.resend(now, 0))?
    }

    /// An ack from this lane's receiver.
    pub(crate) fn handle_ack(
        &mut self,
        now: Instant,
        seq: SequenceNumber,
        crc: Option<ChunkCrc>,
    ) -> AckOutcome {
        if let Some(at) = self.flights.iter().position(|f| f.seq == seq.0) {
            let flight = self.flights[at];
            if !self.proves(crc, flight.crc) {
                self.stats.crc_mismatches += 1;
                return AckOutcome::Ignored;
            }
            self.flights.remove(at);
            let rtt = now.since(flight.last_sent);
            let clean = flight.sends == 1;
            if clean {
                self.rtt.sample(rtt);
            } else {
                self.rtt.ambiguous_sample(now.since(flight.first_sent));
            }
            self.note_progress(now, seq, flight.bytes);
            self.newest_acked = self.newest_acked.max(flight.order);
            self.detect_losses(now);
            AckOutcome::New { rtt: clean.then_some(rtt) }
        } else if let Some(&sent_crc) = self.given_away.get(&seq.0) {
            if !self.proves(crc, sent_crc) {
                self.stats.crc_mismatches += 1;
                return AckOutcome::Ignored;
            }
            self.given_away.remove(&seq.0);
            self.note_progress(now, seq, 0);
            AckOutcome::New { rtt: None }
        } else if self.acked.contains(seq.0) {
            self.stats.duplicate_acks += 1;
            self.rtt.note_duplicate();
            AckOutcome::Ignored
        } else {
            self.stats.optimistic_acks += 1;
            AckOutcome::Ignored
        }
    }

    fn note_progress(&mut self, now: Instant, seq: SequenceNumber, in_flight_bytes: u64) {
        self.acked.insert(seq.0);
        let cost = now.since(self.owed_since.unwrap_or(self.busy_since));
        self.service = match (self.state, self.service) {
            // What it cost while it was silent says nothing about what it will cost.
            (LaneState::Suspect, _) => None,
            (_, None) => Some(cost),
            (_, Some(service)) => Some((service * 3 + cost) / 4),
        };
        self.state = LaneState::Active;
        self.busy_since = now;
        self.owed_since = None;
        let outstanding = !self.flights.is_empty();
        self.waiting_since = outstanding.then_some(now);
        self.rto_at = outstanding.then(|| now + self.rtt.rto());
        self.bytes.grow(now, in_flight_bytes);
    }

    /// Time-threshold loss detection (RFC 9002 §6.1.2): what was sent before a chunk that is now
    /// acknowledged, and longer ago than any ack takes, is lost. Lost chunks go back to the queue, to
    /// be sent as the window allows; for those not yet that old there is a timer, because there
    /// may be no further ack. With a window of one nothing is ever overtaken.
    fn detect_losses(&mut self, now: Instant) {
        self.loss_at = None;
        let Some(threshold) = self.rtt.loss_delay() else { return };
        let mut lost = false;
        while let Some(flight) = self.flights.front() {
            if flight.order >= self.newest_acked {
                break;
            }
            if now.since(flight.last_sent) < threshold {
                self.loss_at = Some(flight.last_sent + threshold);
                break;
            }
            self.queue.insert(flight.seq);
            self.given_away.insert(flight.seq, flight.crc);
            self.flights.pop_front();
            lost = true;
        }
        if lost {
            self.reduce_window(now);
        }
        self.rest_if_idle();
    }

    fn reduce_window(&mut self, now: Instant) {
        self.bytes.reduce(now, self.rtt.srtt().unwrap_or(self.rtt.rto()));
    }
}
