//! What becomes of what was stored, when all transfers are over: logs are opened again, disks rot and
//! are scrubbed, every retention passes, and somebody reads the payloads.
//!
//! Not here: what stores do ([`super::keeping`]).

use super::keeping::Seen;
use super::store::Store;
use super::{End, World};
use mdalp_proto::ids::TransactionId;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Beyond every patience that a case may have.
const WAITS: [Duration; 4] =
    [Duration::from_secs(601), Duration::from_secs(3601), DAY, DAY.saturating_mul(8)];
/// Each opening may be cut short by a fault that was still to come.
const OPENINGS: usize = 4;

impl World {
    /// See the module.
    pub(crate) fn afterwards(&mut self) {
        if !self.setup.afterwards || self.truth.violation.is_some() {
            return;
        }
        self.is_afterwards = true;
        self.heal();
        self.rot();
        let mended = self.mend();
        self.wait();
        self.open_again();
        self.read_all(&mended);
    }

    /// Every server crashes and starts from its disk.
    fn open_again(&mut self) {
        let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
        for server in self.servers.iter_mut().filter(|server| !server.receivers.is_empty()) {
            if server.up {
                let power = net.rng.up_to(1) == 0;
                server.stop(net, power);
            }
            for _ in 0..OPENINGS {
                server.start(net, truth, setup);
            }
            truth.check(server.up || server.store.is_rotten(), 6, || {
                "a log cannot be opened again".to_owned()
            });
        }
    }

    /// Bits flip under the logs, which may be open or shut meanwhile.
    fn rot(&mut self) {
        if self.setup.rot == 0 {
            return;
        }
        for server in &mut self.servers {
            // Whatever is wrong now is not for the bits that flip.
            server.store.check_recovery(&mut self.truth);
            let mut rng = self.net.rng.clone();
            self.rotted += u64::from(server.store.rot(self.setup.rot, &mut rng));
            self.net.rng = rng;
            server.store.check_rotten(&mut self.truth);
        }
        if self.net.rng.up_to(1) == 0 {
            self.open_again();
        }
        for _ in 0..OPENINGS {
            let truth = &mut self.truth;
            let logs = self.servers.iter_mut().filter(|server| !server.receivers.is_empty());
            // A fault of the disk that was still to come ends the process.
            let failed = logs.filter_map(|server| (!server.scrub(truth)).then_some(())).count();
            if failed == 0 {
                break;
            }
            self.open_again();
        }
    }

    /// Those whose chunks were struck out send again. Returns how many chunks were lost of each that has
    /// sent all of it again.
    fn mend(&mut self) -> Vec<Option<usize>> {
        let mut mended = vec![None; self.clients.len()];
        self.max_steps = self.max_steps.saturating_mul(2);
        for (client, mended) in mended.iter_mut().enumerate() {
            let Some(tid) = self.clients[client].tid else { continue };
            let lost: usize = self.servers.iter().map(|server| server.store.lost_of(tid.0)).sum();
            if lost == 0 || self.clients[client].end != Some(End::Complete) {
                continue;
            }
            // Servers that see all of it say what is missing; nobody else can.
            let stores = || self.servers.iter().map(|server| &server.store);
            let known = stores().all(Store::knows_its_losses);
            let by_journal = known && self.setup.servers.together && self.setup.servers.caps.seal;
            let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
            self.clients[client].send_again(net, truth, setup, by_journal);
            self.run();
            let lost: usize = self.servers.iter().map(|server| server.store.lost_of(tid.0)).sum();
            let end = self.clients[client].end;
            let well = end == Some(End::Complete);
            let excused = self.truth.crowded || self.truth.tainted;
            self.truth.check(well || excused, 31, || format!("{end:?} after sending {tid} again"));
            let all = !by_journal || self.truth.clients[client].verified;
            *mended = (well && all).then_some(lost);
        }
        mended
    }

    /// Time passes, and servers look.
    fn wait(&mut self) {
        // A calendar that is set forward makes nothing old.
        self.look(DAY * 100);
        self.look(Duration::ZERO);
        for wait in WAITS {
            self.net.now = self.net.now + wait;
            self.truth.now = self.net.now;
            let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
            for server in self.servers.iter_mut().filter(|server| server.up) {
                server.wake(net, truth, setup);
            }
            self.look(Duration::ZERO);
        }
    }

    /// Every server looks through its store, with its calendar ahead by `leap`.
    pub(super) fn look(&mut self, leap: Duration) {
        let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
        for server in self.servers.iter_mut().filter(|server| server.up) {
            if !server.process.is_paused() {
                server.store.set_calendar(leap);
                server.look(net, truth, setup);
            }
        }
    }

    /// All directories together are the payload, or say what is missing.
    fn read_all(&mut self, mended: &[Option<usize>]) {
        for (client, mended) in mended.iter().enumerate() {
            let Some(tid) = self.clients[client].tid else { continue };
            let mut seen = Seen::default();
            let stores = || self.servers.iter().map(|server| &server.store);
            stores().for_each(|store| store.seen_from_outside(TransactionId(tid.0), &mut seen));
            // What was mended is not lost, unless more rotted than was named then.
            let lost: usize = stores().map(|store| store.lost_of(tid.0)).sum();
            let lost = mended.map_or(lost, |then| lost.saturating_sub(then));
            let complete = self.clients[client].end == Some(End::Complete);
            let excused = lost > 0 || seen.is_released || !complete;
            let released = stores().any(|store| store.released(tid.0));
            self.truth.i32_i33_reading(client, &seen, excused || released);
        }
    }
}
