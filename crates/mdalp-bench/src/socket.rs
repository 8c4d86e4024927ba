//! Sockets of the load generator and of the bare peers: batches in, batches out, nothing else.

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// The longest that the kernel joins for one read, and some bytes more: places that lie a power of
/// two apart would share few lines of the cache.
const STRIDE: usize = 65_536 + 192;

/// A socket that reads and writes as cheaply as the kernel lets it.
pub(crate) struct Fast {
    socket: UdpSocket,
    state: UdpSocketState,
    buffer: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    /// Datagrams to send: destination, end in `bytes`.
    queue: Vec<(SocketAddr, usize)>,
    bytes: Vec<u8>,
    offload: bool,
}

impl Fast {
    /// With `offload`, what goes to one destination in datagrams of one size goes in one piece
    /// (GSO), and what came that way is read in one piece (GRO). Else `recvmmsg` and `sendmmsg`.
    pub(crate) fn new(socket: UdpSocket, offload: bool) -> io::Result<Self> {
        use nix::sys::socket::{setsockopt, sockopt};
        for set in [socket2::Socket::set_recv_buffer_size, socket2::Socket::set_send_buffer_size] {
            set(&socket2::SockRef::from(&socket), 4 << 20)?;
        }
        let state = UdpSocketState::new((&socket).into())?;
        // What nobody asks for here costs time for each datagram.
        setsockopt(&socket, sockopt::ReceiveTimestampns, &false)?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &false)?;
        setsockopt(&socket, sockopt::IpRecvTos, &false)?;
        if !offload {
            setsockopt(&socket, sockopt::UdpGroSegment, &false)?;
        }
        Ok(Self {
            socket,
            state,
            buffer: vec![0; BATCH_SIZE * STRIDE],
            meta: [RecvMeta::default(); BATCH_SIZE],
            queue: Vec::new(),
            bytes: Vec::new(),
            offload,
        })
    }

    /// Shows what waits to `visit`, which may answer; at most one batch. How many there were.
    pub(crate) fn receive(
        &mut self,
        mut visit: impl FnMut(SocketAddr, &[u8], &mut Vec<u8>),
    ) -> io::Result<usize> {
        let mut places: Vec<_> =
            self.buffer.chunks_exact_mut(STRIDE).map(IoSliceMut::new).collect();
        let count = match self.state.recv((&self.socket).into(), &mut places, &mut self.meta) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut datagrams = 0;
        for (meta, place) in self.meta[..count].iter().zip(&places) {
            for datagram in place[..meta.len].chunks(meta.stride.max(1)) {
                datagrams += 1;
                visit(meta.addr, datagram, &mut self.bytes);
                if self.queue.last().map_or(0, |last| last.1) < self.bytes.len() {
                    self.queue.push((meta.addr, self.bytes.len()));
                }
            }
        }
        Ok(datagrams)
    }

    /// Adds a datagram to what [`flush`](Self::flush) sends.
    pub(crate) fn push(&mut self, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.queue.push((to, self.bytes.len()));
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let done = if self.offload { self.flush_segments() } else { self.flush_each() };
        self.queue.clear();
        self.bytes.clear();
        done
    }

    fn flush_segments(&self) -> io::Result<()> {
        let mut start = 0;
        let mut rest = &self.queue[..];
        while let Some(&(destination, first_end)) = rest.first() {
            let size = first_end - start;
            let mut count = 1;
            let mut end = first_end;
            while let Some(&(to, next)) = rest.get(count)
                && (to, next - end) == (destination, size)
                && count < self.state.max_gso_segments()
                && next - start < 65_000
            {
                end = next;
                count += 1;
            }
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: &self.bytes[start..end],
                segment_size: (count > 1).then_some(size),
                src_ip: None,
            };
            self.again(|| self.state.try_send((&self.socket).into(), &transmit))?;
            (start, rest) = (end, &rest[count..]);
        }
        Ok(())
    }

    fn flush_each(&self) -> io::Result<()> {
        let mut start = 0;
        let pieces: Vec<_> = self
            .queue
            .iter()
            .map(|&(to, end)| {
                let piece = [IoSlice::new(&self.bytes[start..end])];
                start = end;
                (rustix::net::addr::SocketAddrArg::as_any(&to), piece)
            })
            .collect();
        let mut controls: Vec<_> = pieces.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut messages: Vec<_> = pieces
            .iter()
            .zip(&mut controls)
            .map(|((to, piece), control)| MMsgHdr::new_with_addr(to, piece, control))
            .collect();
        let mut rest = &mut messages[..];
        while !rest.is_empty() {
            let sent = self.again(|| {
                sendmmsg(&self.socket, rest, SendFlags::empty()).map_err(io::Error::from)
            })?;
            rest = &mut rest[sent..];
        }
        Ok(())
    }

    /// Until the system takes it.
    fn again<T>(&self, mut send: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match send() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
                    poll(&mut fds, None)?;
                }
                done => return done,
            }
        }
    }
}

/// Waits until one of the sockets can be read; `false` if none could in time.
pub(crate) fn wait(sockets: &[Fast], time: Duration) -> io::Result<bool> {
    let mut fds: Vec<_> =
        sockets.iter().map(|fast| PollFd::new(&fast.socket, PollFlags::IN)).collect();
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&time)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
