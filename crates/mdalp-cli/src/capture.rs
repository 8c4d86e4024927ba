//! `--capture FILE`: a pcapng file of every datagram, without privileges.

use crate::console;
use crate::exit::{Exit, Failure};
use mdalp_capture::CaptureFile;
use std::path::{Path, PathBuf};

/// Where to write a capture, if anywhere.
#[derive(clap::Args)]
pub(crate) struct CaptureArgs {
    /// Write every datagram to FILE, as pcapng for Wireshark
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    capture: Option<PathBuf>,
}

impl CaptureArgs {
    /// The file that is written, if one is.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.capture.as_deref()
    }

    /// Begins the capture that was asked for.
    pub(crate) fn open(&self) -> Result<Option<CaptureFile>, Failure> {
        let create = |path: &PathBuf| {
            CaptureFile::create(path, concat!("mdalp ", env!("CARGO_PKG_VERSION")))
                .map_err(|error| failed(path, &error))
        };
        self.capture.as_ref().map(create).transpose()
    }

    /// Says so if not all of it could be written. What was captured has not suffered from that, so
    /// it is no failure.
    pub(crate) fn finish(&self, file: Option<&CaptureFile>) {
        if let (Some(path), Some(Err(error))) = (&self.capture, file.map(CaptureFile::finish)) {
            console::note(format_args!("mdalp: {}", failed(path, &error).message));
        }
    }
}

fn failed(path: &Path, error: &mdalp_capture::CaptureError) -> Failure {
    Exit::LocalIo.because(format_args!("{}: {error}", path.display()))
}
