//! Room for one batch of datagrams, as the kernel hands them over: several in one piece where it
//! joined equal ones (GRO).

use quinn_udp::{BATCH_SIZE, RecvMeta};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

/// Room for one piece, in bytes. Longer than any, so that none is cut (H09); and not a power of two,
/// or the starts of all pieces would share few lines of the processor's cache.
const PLACE: usize = 65_536 + 192;

pub(crate) struct Inbox {
    bytes: Vec<u8>,
    meta: Vec<RecvMeta>,
    count: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let bytes = vec![0; BATCH_SIZE * PLACE];
        Self { bytes, meta: vec![RecvMeta::default(); BATCH_SIZE], count: 0 }
    }

    /// Replaces the content by what `receive` finds.
    pub(crate) fn fill(
        &mut self,
        receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.count = 0;
        let mut rest = self.bytes.chunks_exact_mut(PLACE);
        let mut places: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
        self.count = receive(&mut places, &mut self.meta)?;
        Ok(())
    }

    /// The datagrams, each with its sender.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let pieces = self.bytes.chunks_exact(PLACE).zip(&self.meta[..self.count]);
        pieces.flat_map(|(piece, meta)| {
            let piece = piece.get(..meta.len).unwrap_or_default();
            // An empty datagram is one too: it counts as noise.
            let empty = piece.is_empty().then_some(piece);
            let datagrams = piece.chunks(meta.stride.max(1)).chain(empty);
            datagrams.map(|datagram| (meta.addr, datagram))
        })
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("count", &self.count).finish_non_exhaustive()
    }
}
