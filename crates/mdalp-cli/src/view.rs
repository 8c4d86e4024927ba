//! What a user sees of a send: views of the one event model of [`mdalp::event`].
//!
//! JSON lines go to standard output, all else to standard error. Nothing here changes how a send
//! goes or ends.

mod json;
mod log;
mod progress;
mod summary;

use crate::exit::Failure;
use clap::ValueEnum;
use mdalp::event::{Event, Kind, Report};
use std::io::{IsTerminal, stderr};
use std::time::Duration;

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Progress {
    Auto,
    Bar,
    Plain,
    None,
}

/// All views that were asked for.
pub(crate) struct Views {
    json: Option<json::Json>,
    log: log::Log,
    progress: Box<dyn progress::Show>,
}

impl Views {
    pub(crate) fn new(verbose: u8, progress: Progress, json: bool) -> Self {
        let how = match progress {
            Progress::Auto if stderr().is_terminal() && verbose == 0 && !json => Progress::Bar,
            Progress::Auto => Progress::None,
            asked => asked,
        };
        Self {
            json: json.then(json::Json::begin),
            log: log::Log::new(verbose, stderr().is_terminal()),
            progress: progress::view(how),
        }
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &Event) {
        if let Some(json) = &mut self.json {
            json.show(event);
        }
        if let Some(line) = self.log.line(event) {
            self.progress.above(&line);
        }
        self.progress.show(event);
    }

    /// Shows the end of a send that never began.
    pub(crate) fn end(&mut self, report: Report) -> Report {
        self.show(&Event { at: Duration::ZERO, kind: Kind::End(Box::new(report.clone())) });
        report
    }

    /// The last words: summary, and why it failed.
    pub(crate) fn finish(self, report: &Report) -> Result<(), Failure> {
        summary::note(report);
        self.json.map_or(Ok(()), json::Json::finish)
    }
}
