//! What a client's transfer came to, in the words of reports.
//!
//! Judges nothing ([`crate::run`]).

use super::client::Client;
use super::{End, World};
use crate::report::{ReceiverRun, RunReport};
use mdalp_proto::transfer::LaneState;
use std::collections::BTreeMap;
use std::time::Duration;

impl World {
    /// What a client's transfer came to.
    pub fn report(&self, client: usize) -> RunReport {
        let c = &self.clients[client];
        let end = c.end.unwrap_or(End::Running);
        let (assigned, ended) = (c.assigned_at, c.ended_at.unwrap_or(self.net.now));
        let last = c.last_ack_at.unwrap_or(ended);
        let mut held = BTreeMap::new();
        if let Some(tid) = c.tid {
            self.servers.iter().for_each(|server| {
                server.held(tid.0, &mut held);
            });
        }
        let receivers: Vec<_> = (0..c.chosen.len()).map(|at| self.receiver_run(c, at)).collect();
        let sum = |f: fn(&ReceiverRun) -> u64| receivers.iter().map(f).sum::<u64>();
        RunReport {
            end,
            tid: c.tid.map(|tid| tid.0),
            elapsed: assigned.map_or(Duration::ZERO, |from| last - from),
            waited: assigned.unwrap_or(ended) - c.setup.start,
            measuring: c.sending_since.zip(assigned).map_or(Duration::ZERO, |(to, from)| to - from),
            total: ended - c.setup.start,
            silent: c.last_ack_at.or(c.sending_since).map_or(Duration::ZERO, |from| ended - from),
            bytes: sum(|r| r.bytes),
            total_bytes: c.setup.payload,
            chunks: sum(|r| r.chunks),
            total_chunks: sum(|r| r.planned_chunks),
            stored: held.len() as u64,
            intents: c.intents,
            datagrams: sum(|r| r.datagrams),
            retransmissions: sum(|r| r.retransmissions),
            timeouts: sum(|r| r.timeouts),
            samples: c.samples.clone(),
            violation: self.truth.violation.clone(),
            hash: self.hash(),
            receivers,
        }
    }

    fn receiver_run(&self, client: &Client, at: usize) -> ReceiverRun {
        let chosen = &client.chosen[at];
        let name = self.net.host(chosen.addr).and_then(|host| self.setup.receivers.get(host));
        let mut run = ReceiverRun {
            name: name.map(|end| end.name.clone()).unwrap_or_default(),
            latency: chosen.latency,
            planned_bytes: chosen.share.bytes,
            planned_chunks: chosen.share.chunks,
            first_seq: chosen.share.first_seq,
            bytes: 0,
            chunks: 0,
            datagrams: 0,
            retransmissions: 0,
            timeouts: 0,
            srtt: None,
            state: LaneState::Probing.name(),
        };
        if let Some(transfer) = &client.transfer {
            let stats = transfer.stats(at);
            (run.bytes, run.chunks) = (stats.bytes, stats.chunks);
            (run.datagrams, run.retransmissions) = (stats.datagrams, stats.retransmissions);
            run.timeouts = stats.timeouts;
            run.srtt = transfer.srtt(at);
            run.state = transfer.state(at).name();
        } else if let Some(peer) = client.original.as_ref().map(|original| &original.peers[at]) {
            run.chunks = peer.counted;
            run.bytes = (peer.counted * u64::from(client.setup.chunk)).min(chosen.share.bytes);
            (run.datagrams, run.retransmissions) = (peer.datagrams, peer.retransmissions);
            run.timeouts = peer.timeouts;
        }
        run
    }
}
