//! What a server process does now and then with its store, and tells its receivers of it.
//!
//! What that is, is [`super::keeping`]'s.

use super::checks::Truth;
use super::net::Net;
use super::server::Server;
use crate::setup::Setup;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;

impl Server {
    /// Does what servers do now and then.
    pub(crate) fn look(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup) {
        let lost = self.store.look(net, truth);
        self.lost(lost);
        if self.store.is_poisoned() || self.store.is_dark() {
            self.fail(net, setup);
        }
    }

    /// Scrubs the store; whether that was possible.
    pub(crate) fn scrub(&mut self, truth: &mut Truth) -> bool {
        let lost = self.store.scrub(truth);
        let done = lost.is_some();
        self.lost(lost.unwrap_or_default());
        done
    }

    fn lost(&mut self, all: Vec<Option<TransactionId>>) {
        for tid in all {
            if let Some(taken) = tid.and_then(|tid| self.taken.get_mut(&tid)) {
                *taken = RangeSet::new();
            }
        }
    }
}
