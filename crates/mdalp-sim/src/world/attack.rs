//! Hostile parties: what they send, and how much they know.
//!
//! They may write any source address. They do not hear what the client and the receivers say, so a
//! forged ack never has transaction, chunk and address right at once; a receiver of the client's own
//! may lie, though.

use super::net::{Net, orchestrator_addr, receiver_addr};
use super::process::Waiting;
use crate::setup::{Attack, Setup};
use mdalp_netem::{Rng, derive_seed};
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::wire::{ChunkCrc, encode_ack, encode_data_header, encode_intent};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// Datagrams that one attacker sends in all, who has only to be there at the wrong moment.
const MOST: u64 = 400;
/// And a flood: enough for every quota that is in its way, where quotas are small or count by address.
const MOST_OF_A_FLOOD: u64 = 200;

#[derive(Debug)]
pub(crate) struct Attacker {
    kind: Attack,
    pub(crate) every: Duration,
    rng: Rng,
    sent: u64,
    most: u64,
    out: Vec<u8>,
}

/// Beginnings and whole messages that are wrong in one way each (H01 to H12).
const JUNK: [&[u8]; 24] = [
    b"",
    b"\0",
    b"A",
    b"Type:",
    b"Type:;",
    b"Type:-1;",
    b"Type: 2;TID:1;SEQ:0;DATA:x",
    b"Type:02;TID:1;SEQ:0;DATA:x",
    b"TYPE:2;TID:1;SEQ:0;DATA:x",
    b"Type:2;TID:\xd9\xa3;SEQ:0;DATA:x",
    b"Type:3;TID:18446744073709551616;SEQ:0;",
    b"Type:3;TID:5;",
    b"Type:3;SEQ:1;TID:2;",
    b"Type:2;TID:1;SEQ:0;",
    b"Type:2;TID:1;SEQ:7;DATA:",
    b"Type:4;",
    b"Type:255;",
    b"Type:1;TID:9;DATA:[0]*(10**7);",
    b"Type:1;TID:9;DATA:[];",
    b"Type:3;TID:1;SEQ:0;Type:3;TID:1;SEQ:1;",
    b"Type:5;TID:1;DATA:complete",
    b"Type:0;",
    b"\xc0\0\0\0\x01\x08abcdefgh",
    b"T\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10",
];

impl Attacker {
    pub(crate) fn new(setup: &Setup, kind: Attack, every: Duration, at: u16) -> Self {
        let rng = Rng::new(derive_seed(setup.seed, 20_000 + u64::from(at)));
        let every = every.max(Duration::from_micros(100));
        let most = match kind {
            Attack::Junk | Attack::Acks | Attack::Lists => MOST,
            Attack::Intents | Attack::Tids => MOST_OF_A_FLOOD,
            // So many ranges may a transaction have (H45), and one number in eight is not new.
            Attack::Seqs => setup.servers.receiver.ranges as u64 * 3 / 2,
        };
        Self { kind, every, rng, sent: 0, most, out: Vec::new() }
    }

    fn stranger(&mut self) -> SocketAddrV4 {
        let [_, b, c, d, ..] = self.rng.next_u64().to_be_bytes();
        let port = 1024 + self.rng.up_to(60_000) as u16;
        SocketAddrV4::new(Ipv4Addr::new(45, b, c, d), port)
    }

    /// Whether another datagram follows the next one.
    pub(crate) fn goes_on(&self) -> bool {
        self.sent + 1 < self.most
    }

    /// One datagram. `secrets`: the client's transaction, its number of chunks, a receiver.
    pub(crate) fn send(
        &mut self,
        net: &mut Net,
        secrets: (u64, u64, Option<SocketAddrV4>),
    ) -> Waiting {
        self.sent += 1;
        self.out.clear();
        let client = net.homes[0];
        let (tid, chunks, receiver) = secrets;
        let some_receiver = receiver_addr(self.rng.up_to(net.receivers() as u64 - 1) as usize);
        let mut from = self.stranger();
        let to = match self.kind {
            Attack::Junk => {
                let which = self.rng.up_to(JUNK.len() as u64 - 1) as usize;
                self.out.extend_from_slice(JUNK[which]);
                if self.rng.up_to(1) == 0 && !self.out.is_empty() {
                    let at = self.rng.up_to(self.out.len() as u64 - 1) as usize;
                    self.out[at] = self.rng.next_u64() as u8;
                }
                match self.rng.up_to(2) {
                    0 => client,
                    1 => orchestrator_addr(),
                    _ => some_receiver,
                }
            }
            Attack::Acks => {
                let seq = self.rng.up_to(chunks + 3);
                let (tid, seq) = match self.rng.up_to(5) {
                    // From nowhere, with everything right.
                    0..=2 => (tid, seq),
                    // From the right place, of another transaction.
                    3 | 4 => {
                        from = receiver.unwrap_or(from);
                        (tid.wrapping_add(1 + self.rng.up_to(9)), seq)
                    }
                    // A receiver's lie about what it cannot have; before there is a plan, there is
                    // nothing of the kind.
                    _ if chunks == 0 => (tid.wrapping_add(1), seq),
                    _ => {
                        from = receiver.unwrap_or(from);
                        (tid, chunks + seq)
                    }
                };
                encode_ack(&mut self.out, TransactionId(tid), SequenceNumber(seq), None);
                client
            }
            Attack::Lists => {
                self.out.extend_from_slice(b"Type:1;TID:66;DATA:[{'ip_address': '45.1.2.3'}]");
                client
            }
            Attack::Intents => {
                if self.rng.up_to(3) == 0 {
                    from = SocketAddrV4::new(Ipv4Addr::new(45, 9, 9, 9), from.port());
                }
                encode_intent(&mut self.out);
                orchestrator_addr()
            }
            Attack::Tids => {
                if self.rng.up_to(1) == 0 {
                    from = SocketAddrV4::new(Ipv4Addr::new(45, 9, 9, 9), 4000);
                }
                let tid = TransactionId(self.rng.next_u64() >> 1);
                self.chunk(tid, self.rng.clone().up_to(3), b"ours");
                some_receiver
            }
            Attack::Seqs => {
                from = SocketAddrV4::new(Ipv4Addr::new(45, 9, 9, 9), 4001);
                let tid = TransactionId(u64::MAX >> 1);
                // Now and then other bytes for a number that was sent before (H48).
                let again = self.rng.up_to(7) == 0;
                let n = if again { self.rng.up_to(self.sent) } else { self.sent };
                self.chunk(tid, 2 * n, if again { b"mine" } else { b"ours" });
                receiver_addr(0)
            }
        };
        if self.rng.up_to(31) == 0 {
            // What no honest datagram can come from (H13).
            let bad = [Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::UNSPECIFIED, *from.ip()];
            from = SocketAddrV4::new(bad[self.rng.up_to(2) as usize], 0);
        }
        (from, to, net.inject(&self.out))
    }

    fn chunk(&mut self, tid: TransactionId, seq: u64, data: &[u8]) {
        let seq = SequenceNumber(seq);
        let crc = (self.rng.up_to(1) == 0).then(|| ChunkCrc::of(tid, seq, data));
        encode_data_header(&mut self.out, tid, seq, crc);
        self.out.extend_from_slice(data);
    }
}
