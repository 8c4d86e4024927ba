//! The peer to compare with: a receiver that reads a chunk's numbers, acknowledges it, and forgets it.

use crate::socket::{Fast, wait};
use mdalp_proto::wire::{Message, decode, encode_ack};
use std::io;
use std::net::UdpSocket;
use std::time::Duration;

/// Runs until the process ends.
pub(crate) fn run(socket: UdpSocket, offload: bool) -> io::Result<()> {
    let mut sockets = [Fast::new(socket, offload)?];
    loop {
        let count = sockets[0].receive(|_, datagram, answer| {
            if let Ok(Message::Data { tid, seq, .. }) = decode(datagram) {
                encode_ack(answer, tid, seq, None);
            }
        })?;
        sockets[0].flush()?;
        if count == 0 {
            wait(&sockets, Duration::from_secs(3600))?;
        }
    }
}
