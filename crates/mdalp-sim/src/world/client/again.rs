//! A client that dies and comes back: with the journal of its send, or from the beginning.
//!
//! What is in a journal is what the real one has: the plan, and which receiver acknowledged what.

use super::super::checks::Truth;
use super::super::lane::LaneCheck;
use super::super::net::Net;
use super::{Brain, Client};
use crate::setup::Setup;
use mdalp_proto::client;
use mdalp_proto::layout::Layout;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::transfer::{Outcome, Plan, Target, Transfer};
use std::net::SocketAddrV4;
use std::time::Duration;

/// What each receiver acknowledged.
fn journal(transfer: &Transfer) -> Vec<RangeSet> {
    (0..transfer.lanes()).map(|lane| transfer.acked_by(lane).clone()).collect()
}

impl Client {
    /// The process dies; the power may go too, and take the `lost` last acks of the journal.
    pub(crate) fn die(&mut self, net: &mut Net, lost: u64) {
        if matches!(self.brain, Brain::Over | Brain::Dead) {
            return;
        }
        self.saved = None;
        if let Brain::Sending(transfer) = std::mem::replace(&mut self.brain, Brain::Dead) {
            let mut held = journal(&transfer);
            for _ in 0..lost {
                let longest = held.iter_mut().max_by_key(|held| held.len());
                if let Some((held, last)) = longest.and_then(|held| held.last().map(|l| (held, l)))
                {
                    held.remove(last);
                }
            }
            self.saved = Some(held);
        }
        self.process.resume(net.now);
        self.process.inbox.drain(..).for_each(|(_, _, bytes)| net.release(bytes));
        self.process.set_timer(None, Duration::ZERO);
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.brain, Brain::Dead)
    }

    /// Is started again: a send with a journal goes on, from another port.
    pub(crate) fn come_back(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup) {
        if !matches!(self.brain, Brain::Dead) {
            return;
        }
        if let Some(held) = self.saved.take() {
            self.resumed += 1;
            self.other_port(net);
            self.go_on(net, &held);
        } else {
            self.start_over(net, truth);
        }
        self.turn(net, truth, setup, &mut std::iter::empty());
    }

    /// A send that is over is made again, by its journal or, if that is gone, all of it.
    pub(crate) fn send_again(
        &mut self,
        net: &mut Net,
        truth: &mut Truth,
        setup: &Setup,
        by_journal: bool,
    ) {
        let Some(transfer) = self.transfer.take() else { return };
        let none = || vec![RangeSet::new(); transfer.lanes()];
        self.saved = Some(if by_journal { journal(&transfer) } else { none() });
        (self.end, self.ended_at, self.brain) = (None, None, Brain::Dead);
        self.come_back(net, truth, setup);
    }

    /// As if nothing had been.
    pub(super) fn start_over(&mut self, net: &mut Net, truth: &mut Truth) {
        self.other_port(net);
        self.setup.start = self.process.local(net.now);
        self.brain = Brain::Waiting;
        self.layout = Layout::new(&[], 1);
        self.chosen.clear();
        self.lanes.clear();
        self.tid = None;
        (self.assigned_at, self.sending_since, self.last_ack_at) = (None, None, None);
        (self.intents, self.reported) = (0, 0);
        truth.clients[self.index].starts_over();
    }

    fn other_port(&self, net: &mut Net) {
        let home = &mut net.homes[self.index];
        *home = SocketAddrV4::new(*home.ip(), home.port().wrapping_add(1).max(1024));
    }

    fn go_on(&mut self, net: &Net, held: &[RangeSet]) {
        let (Some(tid), now) = (self.tid, self.process.local(net.now)) else { return };
        let (settings, candidates) = (self.settings(), self.candidates());
        let (targets, policy) = (settings.targets(&candidates), settings.policy(&candidates));
        let shares = self.chosen.iter().map(|chosen| chosen.share).collect();
        let plan = Plan { tid, shares, layout: self.layout.clone() };
        let transfer = Transfer::resume(now, self.setup.transfer, &plan, &targets, policy, held);
        let check = |(target, held): (&Target, &RangeSet)| {
            LaneCheck::after(LaneCheck::new(tid, target.window), held, now)
        };
        self.lanes = targets.iter().zip(held).map(check).collect();
        self.reported = transfer.acked_bytes();
        (self.sending_since, self.last_ack_at) = (Some(net.now), None);
        self.brain = Brain::Sending(Box::new(transfer));
    }

    /// Whether large chunks got nowhere, and small ones are tried.
    pub(super) fn falls_back(&mut self, net: &mut Net, truth: &mut Truth, how: Outcome) -> bool {
        let small = mdalp_proto::wire::CLASSIC_CHUNK;
        if !client::falls_back(how) || !self.setup.falls_back || self.setup.chunk <= small {
            return false;
        }
        self.setup.chunk = small;
        self.fallbacks += 1;
        self.start_over(net, truth);
        true
    }
}
