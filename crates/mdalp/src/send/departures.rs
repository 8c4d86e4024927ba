//! Datagrams on their way out: chunks in a row are read from the payload at once, and datagrams of one
//! length that leave one after the other to one receiver leave in one call.
//!
//! Changes neither which datagrams are sent nor their order.

use super::Session;
use crate::error::SendError;
use crate::event::Event;
use crate::offload;
use crate::sockets::Sockets;
use mdalp_proto::transfer::{Transfer, Transmit};
use std::net::SocketAddr;

/// The longest that leaves at once, in bytes: with its headers it must fit into an IP packet.
const ROW_BYTES: usize = 65_000;

/// Room that is used again. No transfer keeps any while it waits: there may be many.
#[derive(Debug, Default)]
struct Room {
    /// What leaves next, all of it to one receiver.
    group: Vec<Transmit>,
    /// The payload of some of them.
    data: Vec<u8>,
    datagram: Vec<u8>,
    row: Row,
}

/// Datagrams of one length.
#[derive(Debug, Default)]
struct Row {
    bytes: Vec<u8>,
    len: usize,
}

impl Row {
    fn takes(&self, datagram: &[u8]) -> bool {
        self.bytes.is_empty()
            || self.len == datagram.len()
                && self.bytes.len() + self.len <= ROW_BYTES.min(self.len * offload::MOST)
    }

    fn push(&mut self, datagram: &[u8]) {
        self.len = datagram.len();
        self.bytes.extend_from_slice(datagram);
    }

    async fn send(&mut self, sockets: &Sockets, to: SocketAddr) -> Result<(), SendError> {
        if !self.bytes.is_empty() {
            sockets.send(&self.bytes, self.len, to).await?;
            self.bytes.clear();
        }
        Ok(())
    }
}

impl<F: FnMut(&Event)> Session<'_, F> {
    /// Sends all that the transfer wants to send.
    pub(super) async fn send_all(
        &mut self,
        transfer: &mut Transfer,
        sockets: &Sockets,
    ) -> Result<(), SendError> {
        let mut room = Room::default();
        let mut next = transfer.poll_transmit();
        while let Some(first) = next.take() {
            let to = first.to;
            room.group.push(first);
            while room.group.len() < offload::MOST {
                next = transfer.poll_transmit();
                match next.take_if(|next| next.to == to) {
                    Some(next) => room.group.push(next),
                    None => break,
                }
            }
            self.send_group(transfer, sockets, &mut room, to).await?;
            next = next.or_else(|| transfer.poll_transmit());
        }
        Ok(())
    }

    async fn send_group(
        &mut self,
        transfer: &mut Transfer,
        sockets: &Sockets,
        room: &mut Room,
        to: SocketAddr,
    ) -> Result<(), SendError> {
        let Room { group, data, datagram, row } = room;
        for run in group.chunk_by(|a, b| a.range.end == b.range.start) {
            let start = run[0].range.start;
            let place = |offset| usize::try_from(offset - start).unwrap_or(usize::MAX);
            data.resize(run.last().map_or(0, |last| place(last.range.end)), 0);
            self.payload.fill(start, data).await.map_err(|source| SendError::Payload {
                name: self.payload.name().to_owned(),
                offset: start,
                source,
            })?;
            for transmit in run {
                let bytes = &data[place(transmit.range.start)..place(transmit.range.end)];
                datagram.clear();
                transfer.encode(transmit, bytes, datagram);
                self.trace("sent", to, datagram);
                if !row.takes(datagram) {
                    row.send(sockets, to).await?;
                }
                row.push(datagram);
            }
        }
        group.clear();
        row.send(sockets, to).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::payload::Payload;
    use mdalp_proto::ids::{ReceiverAddr, TransactionId};
    use mdalp_proto::time::Instant;
    use mdalp_proto::transfer::{Latency, Plan, Target, TransferConfig};
    use mdalp_proto::wire::{Message, decode, encode_ack};
    use std::net::UdpSocket;

    fn transfer(payload: &Payload, receivers: &[UdpSocket]) -> Transfer {
        let target = |receiver: &UdpSocket| Target {
            addr: ReceiverAddr(receiver.local_addr().unwrap()),
            latency: 1.0,
            window: 64,
            crc: false,
            seal: false,
            record: false,
        };
        let targets: Vec<_> = receivers.iter().map(target).collect();
        let plan = Plan::new(TransactionId(7), payload.len(), 100, &targets, &Latency);
        let config = TransferConfig::default();
        Transfer::new(Instant::ZERO, config, &plan, &targets, Box::new(Latency))
    }

    /// All that it sends now, one by one.
    fn drain(transfer: &mut Transfer, payload: &Payload) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(transmit) = transfer.poll_transmit() {
            let mut data = vec![0; (transmit.range.end - transmit.range.start) as usize];
            payload.read_at(transmit.range.start, &mut data).unwrap();
            let mut datagram = Vec::new();
            transfer.encode(&transmit, &data, &mut datagram);
            sent.push((transmit.to, datagram));
        }
        sent
    }

    #[tokio::test]
    async fn what_leaves_together_is_what_would_have_left_one_by_one() {
        let bind = |_| UdpSocket::bind("127.0.0.1:0").unwrap();
        let receivers: Vec<_> = (0..3).map(bind).collect();
        // Numbers of one to four digits, and short chunks at the ends of shares.
        let payload: Vec<u8> = (0..120_050_u32).map(|n| (n * 31 % 251) as u8).collect();
        let payload = Payload::from(payload);
        let (mut single, mut together) =
            (transfer(&payload, &receivers), transfer(&payload, &receivers));
        let options = Options::default();
        let mut session = Session::new(&payload, &options, |_: &Event| (), String::new());
        let sockets = Sockets::for_peer(receivers[0].local_addr().unwrap(), None).unwrap();
        let (mut now, mut most) = (Instant::ZERO, 0);
        while single.outcome().is_none() {
            let expected = drain(&mut single, &payload);
            session.send_all(&mut together, &sockets).await.unwrap();
            now = now + std::time::Duration::from_millis(1);
            for receiver in &receivers {
                let to = receiver.local_addr().unwrap();
                let expected = expected.iter().filter(|(peer, _)| *peer == to);
                most = most.max(expected.clone().count());
                for (_, datagram) in expected {
                    let mut got = [0; 2048];
                    let len = receiver.recv(&mut got).unwrap();
                    assert_eq!(
                        got[..len].escape_ascii().to_string(),
                        datagram.escape_ascii().to_string()
                    );
                    let Ok(Message::Data { tid, seq, .. }) = decode(datagram) else { panic!() };
                    let mut ack = Vec::new();
                    encode_ack(&mut ack, tid, seq, None);
                    single.handle_datagram(now, to, &ack);
                    together.handle_datagram(now, to, &ack);
                }
            }
            assert!(!expected.is_empty());
        }
        assert!(most > 50, "there was much to send at once: {most}");
        assert_eq!(single.outcome(), together.outcome());
        for receiver in &receivers {
            receiver.set_nonblocking(true).unwrap();
            assert!(receiver.recv(&mut [0]).is_err(), "nothing else was sent");
        }
    }
}
