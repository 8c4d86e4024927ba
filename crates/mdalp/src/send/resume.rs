//! Going on with an earlier send, from its journal.

use super::Session;
use super::choose::Receiver;
use crate::error::SendError;
use crate::event::{Event, Kind};
use crate::journal::{self, Header, Journal, Saved};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::split::{Share, number_chunks};
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{Plan, Transfer};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Servers keep a transaction with gaps for seven days after its last new chunk; a little less is safe
/// to go on after.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 86_400 - 3600);

impl<F: FnMut(&Event)> Session<'_, F> {
    /// The earlier send to go on with, if that is asked for and there is one.
    pub(super) fn saved(&mut self, orchestrator: &str) -> Result<Option<Saved>, SendError> {
        let Some(path) = &self.options.journal else {
            if self.options.resume {
                let name = self.payload.name();
                self.begin_anew(&format!("no journal is kept of {name}"));
            }
            return Ok(None);
        };
        let loaded = journal::load(path);
        let name = path.display();
        if !self.options.resume {
            if matches!(&loaded, Ok(Some(_))) {
                let text = format!("{name}: an earlier send is unfinished and is started anew");
                self.emit(Kind::Warning { text: format!("{text}; --resume goes on with it") });
            }
            return Ok(None);
        }
        let refuse = |why: String| SendError::Resume { journal: path.display().to_string(), why };
        let Some(saved) = loaded.map_err(|error| refuse(error.to_string()))? else {
            self.begin_anew(&format!("there is no journal at {name}"));
            return Ok(None);
        };
        let header = &saved.header;
        if header.payload_bytes != self.payload.len()
            || header.payload_modified != self.payload.modified()
        {
            return Err(refuse("the payload has changed since".to_owned()));
        }
        if header.orchestrator != orchestrator {
            return Err(refuse(format!("it is of a send through {}", header.orchestrator)));
        }
        if saved.acked.iter().all(RangeSet::is_empty) {
            self.begin_anew(&format!("{name}: nothing was acknowledged"));
            return Ok(None);
        }
        if last_written(path, header.began).elapsed().is_ok_and(|age| age > FORGOTTEN_AFTER) {
            self.begin_anew(&format!(
                "{name}: too old, the servers may have deleted what they hold"
            ));
            return Ok(None);
        }
        Ok(Some(saved))
    }

    /// Says that there is nothing to go on with, although that was asked for.
    fn begin_anew(&mut self, why: &str) {
        let text = format!("{why}: the payload is sent from its beginning");
        self.emit(Kind::Warning { text });
    }

    /// Goes on with `saved` at `now`: with its receivers, its chunks and its number of copies.
    pub(super) fn resume(&mut self, now: Instant, saved: Saved) -> Transfer {
        let shares = shares_of(&saved);
        let (header, acked) = (&saved.header, saved.acked.clone());
        let tid = TransactionId(header.tid);
        self.tid = Some(tid);
        self.copies = header.copies;
        let typed = self.options.transfer.copies;
        if typed != 1 && typed != header.copies {
            let copies = header.copies;
            let text = format!("the earlier send goes on with its own number of copies: {copies}");
            self.emit(Kind::Warning { text });
        }
        self.receivers = header.receivers.iter().enumerate().map(Receiver::saved).collect();
        let chunk = header.chunk;
        let layout = mdalp_proto::layout::Layout::new(&shares, chunk);
        let plan = Plan { tid, shares, layout };
        if let Some(path) = self.options.journal.clone() {
            match Journal::go_on(path, saved) {
                Ok(journal) => self.journal = Some(journal),
                Err(error) => self.lose_journal(&error),
            }
        }
        let transfer = self.begin(now, "as planned before", chunk, &plan, &acked);
        let (bytes, total_bytes) = (transfer.acked_bytes(), self.payload.len());
        self.emit(Kind::Resume { tid: tid.0, bytes, total_bytes });
        transfer
    }

    /// Begins a journal of this transfer. Without one the send goes on, but cannot be resumed.
    pub(super) fn start_journal(&mut self, chunk: u16) {
        let Some(path) = self.options.journal.clone() else { return };
        let header = Header {
            tid: self.tid.map_or(0, |tid| tid.0),
            orchestrator: self.named.clone(),
            payload_bytes: self.payload.len(),
            payload_modified: self.payload.modified(),
            chunk,
            copies: self.copies,
            began: unix_seconds(),
            receivers: self.receivers.iter().map(Receiver::save).collect(),
        };
        match Journal::create(path, header) {
            Ok(journal) => self.journal = Some(journal),
            Err(error) => self.lose_journal(&error),
        }
    }

    /// Keeps the journal if it is worth going on with, else removes it.
    pub(super) fn close_journal(&mut self, result: &Result<(), SendError>) {
        let nobody_to_ask = || self.transfer.as_ref().is_none_or(|t| t.unconfirmed().is_empty());
        let done = match result {
            Ok(()) | Err(SendError::Mismatch { .. }) => true,
            Err(SendError::Unverified { .. }) => nobody_to_ask(),
            Err(_) => false,
        };
        let kept = if done {
            self.journal.take().map(Journal::remove)
        } else {
            self.journal.as_mut().map(Journal::flush)
        };
        if let Some(Err(error)) = kept {
            self.lose_journal(&error);
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

/// When something was last noted in the journal that began at `began`.
fn last_written(path: &Path, began: u64) -> SystemTime {
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(began);
    let written = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    written.map_or(began, |written| written.max(began))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::payload::Payload;
    use mdalp_proto::ids::SequenceNumber;
    use std::cell::RefCell;
    use std::net::SocketAddr;

    const ORCHESTRATOR: &str = "localhost:4650";

    /// A journal of a send with two copies of which `acks` chunks are acknowledged, last written so many
    /// days ago; whether a send goes on with it, and what it says.
    fn goes_on(acks: u64, days: u64) -> (bool, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let payload = Payload::from(vec![7; 1000]);
        let receiver = |n: u8| crate::journal::SavedReceiver {
            address: SocketAddr::from(([127, 0, 0, n], 4650)),
            name: n.to_string(),
            caps: String::new(),
            latency_ms: None,
            bytes: 500,
        };
        let header = Header {
            tid: 7,
            orchestrator: ORCHESTRATOR.to_owned(),
            payload_bytes: 1000,
            payload_modified: None,
            chunk: 100,
            copies: 2,
            began: 1,
            receivers: vec![receiver(2), receiver(3)],
        };
        let mut journal = Journal::create(path.clone(), header).unwrap();
        (0..acks).for_each(|seq| journal.note(0, SequenceNumber(seq)));
        journal.flush().unwrap();
        let written = SystemTime::now() - Duration::from_secs(days * 86_400);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(written).unwrap();
        let said = RefCell::new(Vec::new());
        let on_event = |event: &Event| {
            if let Kind::Warning { text } = &event.kind {
                said.borrow_mut().push(text.clone());
            }
        };
        let options = Options { journal: Some(path), resume: true, ..Options::default() };
        let mut session = Session::new(&payload, &options, on_event, ORCHESTRATOR.to_owned());
        let saved = session.saved(ORCHESTRATOR).unwrap();
        let found = saved.is_some();
        if let Some(saved) = saved {
            let transfer = session.resume(Instant::ZERO, saved);
            assert_eq!(session.copies, 2, "B10: as the journal says");
            // One of two copies is not enough.
            assert_eq!(transfer.acked().len(), 0);
            assert_eq!(transfer.acked_by(0).len(), acks);
        }
        drop(session);
        (found, said.into_inner())
    }

    #[test]
    fn t9_b10_a_send_goes_on_for_as_long_as_servers_keep_what_is_unfinished() {
        for days in [0, 1, 6] {
            assert_eq!(goes_on(3, days), (true, Vec::new()), "{days}");
        }
        let (found, said) = goes_on(3, 7);
        assert!(!found && said[0].contains("too old"), "{said:?}");
    }

    #[test]
    fn t29_where_nothing_was_acknowledged_there_is_nothing_to_go_on_with_and_it_is_said() {
        let (found, said) = goes_on(0, 0);
        assert!(!found && said[0].contains("nothing was acknowledged"), "{said:?}");
    }
}
