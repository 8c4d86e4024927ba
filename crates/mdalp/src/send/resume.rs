//! Going on with an earlier send, from its journal.

use super::Session;
use super::choose::Receiver;
use crate::error::SendError;
use crate::event::{Event, Kind};
use crate::journal::{self, Header, Journal, Saved, SavedReceiver};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::split::{Share, number_chunks};
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{Plan, Transfer};
use std::time::{Duration, SystemTime};

/// Servers forget an unfinished transaction after an hour; a little less is safe to go on after.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(55 * 60);

/// What was achieved before, when there is nothing left to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Achieved {
    pub(super) chunks: u64,
    pub(super) verified: bool,
}

impl<F: FnMut(&Event)> Session<'_, F> {
    /// The earlier send to go on with, if that is asked for and there is one.
    pub(super) fn saved(&mut self, orchestrator: &str) -> Result<Option<Saved>, SendError> {
        let Some(path) = &self.options.journal else { return Ok(None) };
        let loaded = journal::load(path);
        let name = path.display();
        if !self.options.resume {
            if matches!(&loaded, Ok(Some(saved)) if saved.finished.is_none()) {
                let text = format!("{name}: an earlier send is unfinished and is started anew");
                self.emit(Kind::Warning { text: format!("{text}; --resume goes on with it") });
            }
            return Ok(None);
        }
        let refuse = |why: String| SendError::Resume { journal: path.display().to_string(), why };
        let Some(saved) = loaded.map_err(|error| refuse(error.to_string()))? else {
            return Ok(None);
        };
        let header = &saved.header;
        if header.payload_bytes != self.payload.len()
            || header.payload_modified != self.payload.modified()
        {
            if saved.finished.is_none() {
                return Err(refuse("the payload has changed since".to_owned()));
            }
            let text =
                format!("{name}: the payload has changed since it was sent, and is sent anew");
            self.emit(Kind::Warning { text });
            return Ok(None);
        }
        if header.orchestrator != orchestrator {
            return Err(refuse(format!("it is of a send through {}", header.orchestrator)));
        }
        let age = Duration::from_secs(unix_seconds().saturating_sub(header.began));
        if saved.finished.is_none() && age > FORGOTTEN_AFTER {
            let text = format!("{name}: too old to go on with; the servers have forgotten it");
            self.emit(Kind::Warning { text });
            return Ok(None);
        }
        Ok(Some(saved))
    }

    /// Nothing is left to do: what was achieved.
    pub(super) fn note_achieved(&mut self, saved: &Saved, verified: bool) {
        self.tid = Some(TransactionId(saved.header.tid));
        let shares = shares_of(saved);
        let chunks = shares.iter().map(|share| share.chunks).sum();
        self.achieved = Some(Achieved { chunks, verified });
        let (tid, bytes) = (saved.header.tid, saved.header.payload_bytes);
        self.emit(Kind::Resume { tid, bytes, total_bytes: bytes });
    }

    /// Goes on with `saved` at `now`.
    pub(super) fn resume(&mut self, now: Instant, saved: Saved) -> Transfer {
        let shares = shares_of(&saved);
        let Saved { header, acked, .. } = saved;
        let tid = TransactionId(header.tid);
        self.tid = Some(tid);
        self.receivers = header.receivers.iter().enumerate().map(Receiver::saved).collect();
        let layout = mdalp_proto::layout::Layout::new(&shares, header.chunk);
        let held = acked.iter().fold(RangeSet::new(), |mut all, some| {
            all.union_with(some);
            all
        });
        let (bytes, total_bytes) = (layout.bytes_of(&held), self.payload.len());
        self.emit(Kind::Resume { tid: tid.0, bytes, total_bytes });
        let plan = Plan { tid, shares, layout };
        self.begin(now, "as planned before", header.chunk, &plan, &acked)
    }

    /// Begins a journal of this transfer. Without one the send goes on, but cannot be resumed.
    pub(super) fn start_journal(&mut self, chunk: u16, acked: &[RangeSet]) {
        let Some(path) = self.options.journal.clone() else { return };
        let receivers: Vec<SavedReceiver> = self.receivers.iter().map(Receiver::save).collect();
        let mut acked = acked.to_vec();
        acked.resize(receivers.len(), RangeSet::new());
        let header = Header {
            tid: self.tid.map_or(0, |tid| tid.0),
            orchestrator: self.named.clone(),
            payload_bytes: self.payload.len(),
            payload_modified: self.payload.modified(),
            chunk,
            copies: self.options.transfer.copies,
            began: unix_seconds(),
            receivers,
        };
        match Journal::create(path.clone(), Saved { header, acked, finished: None }) {
            Ok(journal) => self.journal = Some(journal),
            Err(error) => self.lose_journal(&error),
        }
    }

    pub(super) fn lose_journal(&mut self, error: &std::io::Error) {
        let path = self.options.journal.as_deref().unwrap_or("".as_ref()).display();
        let text = format!("{path}: {error}; this send cannot be resumed (--no-journal is quiet)");
        self.journal = None;
        self.emit(Kind::Warning { text });
    }
}

fn shares_of(saved: &Saved) -> Vec<Share> {
    let bytes: Vec<u64> = saved.header.receivers.iter().map(|receiver| receiver.bytes).collect();
    number_chunks(&bytes, saved.header.chunk)
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
