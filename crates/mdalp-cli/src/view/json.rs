//! Events as lines of JSON on standard output (`docs/events.schema.json`).

use crate::console;
use crate::exit::{Exit, Failure};
use mdalp::event::Event;

pub(super) struct Json {
    /// Wall-clock time at which the send began.
    began: jiff::Timestamp,
    /// The first failure to write; nothing is written after it. The send goes on.
    failure: Option<Failure>,
}

impl Json {
    pub(super) fn begin() -> Self {
        Self { began: jiff::Timestamp::now(), failure: None }
    }

    pub(super) fn show(&mut self, event: &Event) {
        if self.failure.is_none() {
            let line = event.to_json(self.began).map_err(|error| Exit::Internal.because(error));
            self.failure = line.and_then(|line| console::print(&format!("{line}\n"))).err();
        }
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        self.failure.map_or(Ok(()), Err)
    }
}
