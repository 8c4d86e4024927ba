//! Receipts on disk: who took which chunks of a payload, and what the servers said of it.
//!
//! One JSON object. Says what was acknowledged; only with `verified` have the servers compared the
//! whole. `mdalp verify` reads it back.

use mdalp::Payload;
use mdalp::event::Report;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The version of the format.
const VERSION: u32 = 1;

/// What was achieved.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Receipt {
    v: u32,
    pub(crate) tid: u64,
    payload: String,
    pub(crate) bytes: u64,
    chunks: u64,
    /// BLAKE3 of the payload, in hexadecimal.
    pub(crate) blake3: Option<String>,
    /// Whether the servers confirmed length and hash.
    pub(crate) verified: bool,
    /// When this was written, RFC 3339.
    written: String,
    receivers: Vec<Holder>,
}

/// A receiver and the chunks it acknowledged.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    address: String,
    name: String,
    bytes: u64,
    chunks: u64,
    /// As in `0-9,12`.
    ranges: String,
}

impl Receipt {
    /// The receipt of a send that is complete.
    pub(crate) fn of(payload: &Payload, report: &Report) -> Self {
        let hash = || Some(blake3::Hash::from_bytes(payload.blake3().ok()?).to_hex().to_string());
        let holders = report.receivers.iter().map(|receiver| Holder {
            address: receiver.address.clone(),
            name: receiver.name.clone(),
            bytes: receiver.bytes,
            chunks: receiver.chunks,
            ranges: receiver.ranges.clone(),
        });
        Self {
            v: VERSION,
            tid: report.tid.unwrap_or_default(),
            payload: payload.name().to_owned(),
            bytes: report.bytes,
            chunks: report.chunks,
            blake3: report.blake3.clone().or_else(hash),
            verified: report.verified,
            written: format!("{:.3}", jiff::Timestamp::now()),
            receivers: holders.collect(),
        }
    }

    /// Reads a receipt back.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let problem = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let text = std::fs::read(path).map_err(|error| problem(&error))?;
        let receipt: Self = serde_json::from_slice(&text)
            .map_err(|error| problem(&format_args!("not a receipt: {error}")))?;
        if receipt.v == VERSION {
            Ok(receipt)
        } else {
            Err(problem(&format_args!("a receipt of version {}, not {VERSION}", receipt.v)))
        }
    }
}

/// A place for a receipt that is known to be writable.
pub(crate) struct Pending {
    path: PathBuf,
    file: tempfile::NamedTempFile,
}

impl Pending {
    pub(crate) fn prepare(path: &Path) -> Result<Self, String> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new(".")));
        let file =
            file.map_err(|error| format!("receipt {}: {error}; nothing was sent", path.display()))?;
        if path.is_dir() {
            return Err(format!("receipt {}: is a directory; nothing was sent", path.display()));
        }
        Ok(Self { path: path.to_owned(), file })
    }

    pub(crate) fn write(mut self, receipt: &Receipt) -> Result<(), String> {
        let problem = |error: std::io::Error| format!("receipt {}: {error}", self.path.display());
        let text = serde_json::to_string_pretty(receipt).map_err(|error| error.to_string())?;
        writeln!(self.file, "{text}").map_err(problem)?;
        self.file.as_file().sync_all().map_err(problem)?;
        self.file.persist(&self.path).map_err(|error| problem(error.error))?;
        Ok(())
    }
}
