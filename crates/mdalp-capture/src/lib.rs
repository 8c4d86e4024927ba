//! Captures of MDALP datagrams as pcapng files that Wireshark opens, without privileges.
//!
//! What a program sends and receives is written with the IP and UDP headers that it has on the wire,
//! with stamps in nanoseconds, and with a comment where a datagram was seen before or never
//! arrived. Nothing is captured from the network itself: whoever owns a socket shows what goes
//! through it.
//!
//! A crate of its own, because client, servers and lab are all to be captured and must not depend on
//! each other for it; they show their datagrams to an
//! [`Observer`] and do not know this crate.
//!
//! ```
//! use mdalp_capture::{Capture, Interface, Packet};
//! use std::time::SystemTime;
//!
//! let mut capture = Capture::new(Vec::new(), "an example")?;
//! let (from, to) = ("192.0.2.1:1025".parse().unwrap(), "192.0.2.2:4650".parse().unwrap());
//! let interface = Interface::Seen;
//! let packet = Packet { at: SystemTime::now(), from, to, bytes: b"Type:0;", interface };
//! capture.write(&packet, None)?;
//! # Ok::<(), mdalp_capture::CaptureError>(())
//! ```

mod notes;
mod pcapng;

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mdalp_proto::observe::{Direction, Observer};

use notes::Notes;

/// Where in the capture a datagram belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Interface {
    /// It was sent or received here: interface `mdalp`.
    Seen = 0,
    /// It was lost on the way and never came here: interface `mdalp-lost`. For emulated networks,
    /// which know such things.
    Lost = 1,
}

/// A datagram to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// When it was sent or received.
    pub at: SystemTime,
    /// Who sent it.
    pub from: SocketAddr,
    /// Whom it was sent to.
    pub to: SocketAddr,
    /// Its content.
    pub bytes: &'a [u8],
    /// Whether it was seen or lost.
    pub interface: Interface,
}

/// Why something is not in the capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The file cannot be written.
    #[error("the capture cannot be written: {0}")]
    Io(#[from] io::Error),
    /// No datagram has such addresses or such a length.
    #[error("from {from} to {to}: no datagram of {length} bytes is sent so")]
    Impossible {
        /// Where it is said to come from.
        from: SocketAddr,
        /// Where it is said to go.
        to: SocketAddr,
        /// Its length.
        length: usize,
    },
}

/// A capture that is being written. Each datagram is one write, so that what is written before the
/// program dies can be read.
#[derive(Debug)]
pub struct Capture<W> {
    out: W,
    notes: Notes,
    block: Vec<u8>,
}

impl<W: Write> Capture<W> {
    /// Begins a capture; `application` is the program that the file says wrote it.
    ///
    /// # Errors
    /// If `out` cannot be written to.
    pub fn new(mut out: W, application: &str) -> Result<Self, CaptureError> {
        let mut block = Vec::new();
        pcapng::section(&mut block, application);
        pcapng::interface(&mut block, "mdalp");
        pcapng::interface(&mut block, "mdalp-lost");
        out.write_all(&block)?;
        Ok(Self { out, notes: Notes::default(), block })
    }

    /// Writes a datagram, with `comment` and with what the capture itself has noticed: a
    /// retransmission, a duplicate.
    ///
    /// # Errors
    /// If it cannot be written, or cannot be a datagram.
    pub fn write(
        &mut self,
        packet: &Packet<'_>,
        comment: Option<&str>,
    ) -> Result<(), CaptureError> {
        let noticed = self.notes.notice(packet);
        let comments: Vec<&str> = comment.into_iter().chain(noticed.as_deref()).collect();
        self.block.clear();
        pcapng::packet(&mut self.block, packet, &comments.join("; "))?;
        self.out.write_all(&self.block)?;
        Ok(())
    }
}

/// A capture to a file that several parts of a program write to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CaptureFile(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    capture: Capture<File>,
    /// The first write that failed; after it nothing more is written.
    failed: Option<CaptureError>,
}

impl CaptureFile {
    /// Makes the file anew.
    ///
    /// # Errors
    /// If it cannot be made or written to.
    pub fn create(path: &Path, application: &str) -> Result<Self, CaptureError> {
        let capture = Capture::new(File::create(path)?, application)?;
        Ok(Self(Arc::new(Mutex::new(Inner { capture, failed: None }))))
    }

    /// Writes a datagram. What goes wrong does not disturb the program that is watched: it is kept for
    /// [`CaptureFile::finish`].
    pub fn write(&self, packet: &Packet<'_>, comment: Option<&str>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.failed.is_none()
            && let Err(error @ CaptureError::Io(_)) = inner.capture.write(packet, comment)
        {
            inner.failed = Some(error);
        }
    }

    /// What to hand to a client or a server.
    pub fn observer(&self) -> Observer {
        let file = self.clone();
        Observer::new(move |datagram| {
            let (from, to) = match datagram.direction {
                Direction::Sent => (datagram.local, datagram.peer),
                Direction::Received => (datagram.peer, datagram.local),
            };
            let (at, bytes, interface) = (SystemTime::now(), datagram.bytes, Interface::Seen);
            file.write(&Packet { at, from, to, bytes, interface }, None);
        })
    }

    /// Says whether everything was written.
    ///
    /// # Errors
    /// The first write that failed.
    pub fn finish(&self) -> Result<(), CaptureError> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.failed.take().map_or(Ok(()), Err)
    }
}
