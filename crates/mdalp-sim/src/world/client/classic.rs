//! What the model of the published client wants sent.
//!
//! The model itself is [`super::super::original`]'s.

use super::super::net::Net;
use super::{Brain, Client, End};
use crate::payload;
use crate::report::SampleKind;
use crate::setup::Setup;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::wire::encode_data_header;

impl Client {
    pub(super) fn drain_original(&mut self, net: &mut Net, setup: &Setup) {
        let Brain::Original(original) = &mut self.brain else { return };
        let mut sent = Vec::new();
        while let Some((peer, seq)) = original.outbox.pop_front() {
            sent.push((peer, seq));
        }
        let tid = self.tid.unwrap_or(TransactionId(0));
        for (peer, seq) in sent {
            let seq = mdalp_proto::ids::SequenceNumber(seq);
            let range = self.layout.range(seq);
            self.data.resize((range.end - range.start) as usize, 0);
            payload::fill(self.payload_seed, range.start, &mut self.data);
            self.out.clear();
            encode_data_header(&mut self.out, tid, seq, None);
            self.out.extend_from_slice(&self.data);
            net.send_up(self.index, self.chosen[peer].addr, &self.out);
            let again = !self.lanes[peer].note_sent(seq.0);
            let kind = if again { SampleKind::Resent } else { SampleKind::Sent };
            self.sample(net.now, setup, peer, seq.0, kind);
        }
        let Brain::Original(original) = &self.brain else { return };
        if original.is_done() {
            let end = if original.crashed { End::Crashed } else { End::Complete };
            self.finish(net.now, end);
        }
    }
}
