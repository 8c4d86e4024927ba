//! How far a send is: a bar for each receiver on a terminal, or a line a second.

use crate::console;
use crate::view::Progress;
use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use mdalp::event::{Event, Kind, PlannedShare, Reason, ReceiverProgress};
use std::time::Duration;

/// One way to show progress.
pub(super) trait Show {
    fn show(&mut self, event: &Event);

    /// Writes lines that stay, above whatever moves.
    fn above(&mut self, lines: &str) {
        console::note(format_args!("{lines}"));
    }
}

pub(super) fn view(how: Progress) -> Box<dyn Show> {
    match how {
        Progress::Bar => Box::new(Bars::default()),
        Progress::Plain => Box::new(Plain { next: Plain::EVERY }),
        Progress::Auto | Progress::None => Box::new(Nothing),
    }
}

struct Nothing;

impl Show for Nothing {
    fn show(&mut self, _: &Event) {}
}

/// A line a second.
struct Plain {
    next: Duration,
}

impl Plain {
    const EVERY: Duration = Duration::from_secs(1);
}

impl Show for Plain {
    fn show(&mut self, event: &Event) {
        let Kind::Progress { bytes, total_bytes, receivers } = &event.kind else { return };
        if event.at < self.next {
            return;
        }
        self.next = event.at + Self::EVERY;
        let resent: u64 = receivers.iter().map(|r| r.retransmissions).sum();
        let percent = bytes * 100 / (*total_bytes).max(1);
        let at = event.at.as_secs_f64();
        self.above(&format!(
            "{at:7.1} s  {bytes} of {total_bytes} bytes ({percent} %), {resent} resent"
        ));
    }
}

/// A bar for each receiver, and one for all.
#[derive(Default)]
struct Bars {
    lines: Option<MultiProgress>,
    receivers: Vec<ProgressBar>,
    total: Option<ProgressBar>,
}

impl Bars {
    /// With more receivers only the sum is shown, for it would not fit the screen.
    const MOST: usize = 16;
    /// Columns for a receiver's address and name, at most.
    const NAME: usize = 28;

    fn begin(&mut self, shares: &[PlannedShare]) {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let mut names: Vec<String> =
            shares.iter().map(|share| format!("{} {}", share.address, share.name)).collect();
        if names.len() > Self::MOST || names.len() < 2 {
            names = Vec::new();
        }
        let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(3);
        let bar = |name: &str, bytes: u64| {
            let name: String = name.chars().take(Self::NAME).collect();
            let prefix = format!("{name:width$}", width = widest.min(Self::NAME));
            // Nothing is drawn before the bar belongs to the others.
            lines.add(ProgressBar::new(bytes).with_style(style()).with_prefix(prefix))
        };
        self.receivers =
            names.iter().zip(shares).map(|(name, share)| bar(name, share.bytes)).collect();
        self.total = Some(bar("all", shares.iter().map(|share| share.bytes).sum()));
        self.lines = Some(lines);
    }

    /// Takes the bars away. After Ctrl-C they stay: the terminal's echo of it has moved the cursor.
    fn end(&self, interrupted: bool) {
        let Some(lines) = &self.lines else { return };
        if interrupted {
            lines.set_draw_target(ProgressDrawTarget::hidden());
            console::note(format_args!(""));
        } else {
            let _ = lines.clear();
        }
    }

    fn update(&self, at: Duration, bytes: u64, total_bytes: u64, receivers: &[ReceiverProgress]) {
        for (bar, receiver) in self.receivers.iter().zip(receivers) {
            // What others left undone comes on top of the share.
            bar.set_length(receiver.planned_bytes.max(receiver.bytes));
            let resent = match receiver.retransmissions {
                0 => String::new(),
                n => format!(", {n} resent"),
            };
            bar.set_message(format!("{}{resent}", receiver.state));
            bar.set_position(receiver.bytes);
        }
        if let Some(total) = &self.total {
            let (done, all) = (BinaryBytes(bytes), BinaryBytes(total_bytes));
            total.set_message(format!("{done} of {all}, {:.0} s", at.as_secs_f64()));
            total.set_position(bytes);
        }
    }
}

impl Show for Bars {
    fn show(&mut self, event: &Event) {
        match &event.kind {
            Kind::Plan { shares, .. } => self.begin(shares),
            Kind::Progress { bytes, total_bytes, receivers } => {
                self.update(event.at, *bytes, *total_bytes, receivers);
            }
            Kind::End(report) => self.end(report.reason == Reason::Interrupted),
            _ => {}
        }
    }

    fn above(&mut self, lines: &str) {
        match &self.lines {
            Some(bars) => bars.suspend(|| console::note(format_args!("{lines}"))),
            None => console::note(format_args!("{lines}")),
        }
    }
}

fn style() -> ProgressStyle {
    // Fits 80 columns.
    ProgressStyle::with_template("{prefix} {bar:16} {percent:>3} %  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}
