//! `mdalp send`, and the classic form: sends a file or standard input.
//!
//! Turns options into [`mdalp::Options`], and events into what the user asked to see. The sending
//! itself is the library's.

mod going_on;

use crate::capture::CaptureArgs;
use crate::console;
use crate::exit::{Exit, Outcome};
use crate::receipt::{Pending, Receipt};
use crate::settings::{Millis, Seconds};
use crate::signals;
use crate::view::{Progress, Views};
use clap::ValueEnum;
use mdalp::event::{Reason, Report};
use mdalp::{Interrupt, Mode, Options, Payload, probe};
use mdalp_capture::CaptureFile;
use mdalp_proto::intent::IntentConfig;
use mdalp_proto::rtt::RtoConfig;
use mdalp_proto::transfer::TransferConfig;
use mdalp_proto::wire::caps::{MAX_CHUNK, MAX_WINDOW};
use mdalp_proto::wire::list::{MAX_ENTRIES, MOST_ENTRIES};
use mdalp_proto::wire::{CLASSIC_CHUNK, PORT};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::process::ExitCode;

/// Sends a file or standard input; `mdalp -a …` without a subcommand is the same
#[derive(clap::Args)]
#[command(infer_long_args = true)]
pub(crate) struct Args {
    /// Orchestrator: IPv4 address, IPv6 address or name
    #[arg(short, long, value_name = "ADDR")]
    addr: String,

    /// UDP port of the orchestrator
    #[arg(short, long, value_name = "PORT", default_value_t = PORT,
        value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// File to send; - is standard input
    #[arg(short, long)]
    file: PathBuf,

    /// How the payload is spread
    #[arg(short, long, value_enum, default_value = "auto")]
    mode: ModeArg,

    /// Receiver for mode 2: its place in the orchestrator's list, from 1
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    server: usize,

    /// Show what happens; twice: each datagram too
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(flatten)]
    spreading: Spreading,

    #[command(flatten)]
    patience: Patience,

    #[command(flatten)]
    proof: Proof,

    /// Progress on standard error; auto: a bar on a terminal, unless -v or --json
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto", help_heading = "Output")]
    progress: Progress,

    /// Print events to standard output, one JSON object a line
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    capture: CaptureArgs,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Spreading")]
struct Spreading {
    /// Latencies in milliseconds, in list order; nothing is measured
    #[arg(long, value_name = "MS,MS,…", value_delimiter = ',')]
    latencies: Option<Vec<Millis>>,

    /// How latencies are measured
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value = "auto",
        env = "MDALP_PROBE",
        hide_env_values = true
    )]
    probe: ProbeArg,

    /// Unacknowledged chunks per receiver, at most; needs receivers that advertise a window
    #[arg(long, value_name = "N", default_value_t = MAX_WINDOW,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_WINDOW)))]
    window: u16,

    /// Bytes in a chunk, at most; more than 100 needs receivers that advertise it [default: 1200 in
    /// mode 3, else 100]
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u16).range(i64::from(CLASSIC_CHUNK)..=i64::from(MAX_CHUNK)))]
    chunk: Option<u16>,

    /// Receivers that the orchestrator may list, at most
    #[arg(long, value_name = "N", default_value_t = MAX_ENTRIES as u16,
        value_parser = clap::value_parser!(u16).range(1..=MOST_ENTRIES as i64))]
    max_receivers: u16,

    /// Send each chunk to N receivers, so that N − 1 of them may be lost afterwards
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=64))]
    copies: u8,

    /// Speak the classic protocol only, whatever receivers advertise
    #[arg(long)]
    classic: bool,

    /// Never give one receiver's chunks to another
    #[arg(long)]
    no_reassign: bool,

    /// Send to private addresses that a public orchestrator lists
    #[arg(long)]
    allow_private: bool,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Proof and going on")]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
struct Proof {
    /// Write who took what to FILE when everything is acknowledged
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,

    /// Fail unless the servers confirm that they hold the whole payload
    #[arg(long, conflicts_with = "classic")]
    require_verified: bool,

    /// Take no assignment without an echo of this send's nonce, not even on first contact
    #[arg(long, conflicts_with = "classic")]
    require_echo: bool,

    /// Go on where an earlier send of the same file was cut off
    #[arg(long, conflicts_with_all = ["no_journal", "dry_run"])]
    resume: bool,

    /// Keep no journal beside the file; the send cannot be resumed then
    #[arg(long)]
    no_journal: bool,

    /// Show receivers, latencies, shares and predicted times, and send nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Patience (in seconds)")]
struct Patience {
    /// Give up unless the transfer is complete this long after the assignment
    #[arg(long, value_name = "S")]
    deadline: Option<Seconds>,

    /// Give up if the orchestrator has not answered by then
    #[arg(long, value_name = "S", default_value_t = Seconds(IntentConfig::default().timeout))]
    intent_timeout: Seconds,

    /// A receiver silent for so long loses its chunks to the others
    #[arg(long, value_name = "S", default_value_t = Seconds(TransferConfig::default().suspect_after))]
    suspect_after: Seconds,

    /// How often such a receiver is asked again while others answer
    #[arg(long, value_name = "S", default_value_t = Seconds(TransferConfig::default().suspect_probe))]
    suspect_probe: Seconds,

    /// Give up when nobody has acknowledged anything for so long
    #[arg(long, value_name = "S", default_value_t = Seconds(TransferConfig::default().fail_after))]
    fail_after: Seconds,

    /// Retransmission timeout before the first measurement
    #[arg(long, value_name = "S", default_value_t = Seconds(RtoConfig::default().initial))]
    rto_initial: Seconds,

    /// Shortest retransmission timeout
    #[arg(long, value_name = "S", default_value_t = Seconds(RtoConfig::default().min))]
    rto_min: Seconds,

    /// Longest retransmission timeout
    #[arg(long, value_name = "S", default_value_t = Seconds(RtoConfig::default().max))]
    rto_max: Seconds,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArg {
    /// Mode 3 where every receiver advertises extensions and no latencies are given, else mode 1
    Auto,
    /// Over all receivers, in proportion to 1/latency
    #[value(name = "1")]
    Latency,
    /// All to one receiver, see --server
    #[value(name = "2")]
    Single,
    /// Over all receivers, by the measured rate of their acks
    #[value(name = "3")]
    Adaptive,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProbeArg {
    /// ICMP; where that is not permitted, the ping command
    Auto,
    /// ICMP echo requests of our own
    Icmp,
    /// The system's ping command
    Command,
    /// Measure nothing: equal shares
    None,
}

/// Whether both names are of one file, be it there or not.
fn is_same_file(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(one), Ok(other)) = (std::fs::metadata(one), std::fs::metadata(other)) {
        use std::os::unix::fs::MetadataExt as _;
        return (one.dev(), one.ino()) == (other.dev(), other.ino());
    }
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    whole(one).is_ok_and(|one| whole(other).is_ok_and(|other| one == other))
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        // A dry run is all about what it says.
        let verbose = self.verbose.max(u8::from(self.proof.dry_run));
        let mut views = Views::new(verbose, self.progress, self.json);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(
            |error| Exit::Internal.because(format_args!("starting the runtime: {error}")),
        )?;
        let report = runtime.block_on(self.send(&mut views));
        // A read of standard input or a name look-up that was interrupted is not waited for.
        runtime.shutdown_background();
        views.finish(&report)?;
        going_on::note(
            &report,
            std::env::args_os(),
            !self.proof.no_journal && self.file != Path::new("-"),
        );
        Ok(ExitCode::from(report.exit_code))
    }

    async fn send(&self, views: &mut Views) -> Report {
        let mut interrupt = pin!(signals::first());
        let mut options = match self.check_files().and_then(|()| self.options()) {
            Ok(options) => options,
            Err(problem) => return views.end(Report::failed(Reason::Usage, problem)),
        };
        let capture = match self.capture.open() {
            Ok(capture) => capture,
            Err(failure) => return views.end(Report::failed(Reason::LocalIo, failure.message)),
        };
        options.observer = capture.as_ref().map(CaptureFile::observer);
        // A bad path is found out now, not when all is sent.
        let receipt = match self.proof.receipt.as_deref().map(Pending::prepare).transpose() {
            Ok(receipt) => receipt,
            Err(problem) => return views.end(Report::failed(Reason::LocalIo, problem)),
        };
        let payload = match open(&self.file, interrupt.as_mut()).await {
            Ok(payload) => payload,
            Err(report) => return views.end(report),
        };
        if payload.modified().is_some() && !self.proof.no_journal {
            options.journal = mdalp::journal_beside(&self.file);
        }
        let show = |event: &_| views.show(event);
        let report = mdalp::send(&self.addr, self.port, &payload, &options, interrupt, show).await;
        self.capture.finish(capture.as_ref());
        if let Some(receipt) = receipt.filter(|_| report.reason == Reason::Complete)
            && let Err(problem) = receipt.write(&Receipt::of(&payload, &report))
        {
            console::note(format_args!("mdalp: {problem}"));
            return Report {
                reason: Reason::LocalIo,
                exit_code: Reason::LocalIo.exit_code(),
                ..report
            };
        }
        report
    }

    /// What is written must be no other file of this send.
    fn check_files(&self) -> Result<(), String> {
        let journal = mdalp::journal_beside(&self.file);
        let (receipt, capture) = (self.proof.receipt.as_deref(), self.capture.path());
        let written = [("--receipt", receipt), ("--capture", capture)];
        let written = || written.iter().filter_map(|&(option, path)| Some((option, path?)));
        for (option, path) in written() {
            let name = path.display();
            if is_same_file(path, &self.file) {
                return Err(format!("{option} {name} is the file that is sent; name another one"));
            }
            if journal.as_deref().is_some_and(|journal| is_same_file(path, journal)) {
                return Err(format!(
                    "{option} {name} is the journal of this send; name another one"
                ));
            }
        }
        if receipt.zip(capture).is_some_and(|(receipt, capture)| is_same_file(receipt, capture)) {
            return Err("--receipt and --capture name one file; name two".to_owned());
        }
        Ok(())
    }

    fn options(&self) -> Result<Options, String> {
        let (spreading, patience) = (&self.spreading, &self.patience);
        let mut options = Options {
            mode: match self.mode {
                ModeArg::Auto => Mode::Auto,
                ModeArg::Latency => Mode::Latency,
                ModeArg::Single => Mode::Single(self.server),
                ModeArg::Adaptive => Mode::Adaptive,
            },
            probe: match spreading.probe {
                ProbeArg::Auto => probe::Method::Auto,
                ProbeArg::Icmp => probe::Method::Icmp,
                ProbeArg::Command => probe::Method::Command,
                ProbeArg::None => probe::Method::None,
            },
            latencies: spreading
                .latencies
                .as_ref()
                .map(|list| list.iter().map(|ms| ms.0).collect()),
            extensions: !spreading.classic,
            window: spreading.window,
            chunk: spreading.chunk,
            allow_private: spreading.allow_private,
            deadline: patience.deadline.map(|s| s.0),
            require_verified: self.proof.require_verified,
            resume: self.proof.resume,
            dry_run: self.proof.dry_run,
            datagrams: self.verbose >= 2,
            ..Options::default()
        };
        options.intent.timeout = patience.intent_timeout.0;
        options.intent.require_echo = self.proof.require_echo;
        options.orchestrators = crate::state::orchestrators();
        options.intent.max_receivers = usize::from(spreading.max_receivers);
        options.transfer.suspect_after = patience.suspect_after.0;
        options.transfer.suspect_probe = patience.suspect_probe.0;
        options.transfer.fail_after = patience.fail_after.0;
        options.transfer.reassign = !spreading.no_reassign;
        options.transfer.copies = usize::from(spreading.copies);
        options.transfer.rto = RtoConfig {
            initial: patience.rto_initial.0,
            min: patience.rto_min.0,
            max: patience.rto_max.0,
        };
        if options.transfer.rto.min > options.transfer.rto.max {
            return Err(format!(
                "--rto-min {} is more than --rto-max {}",
                patience.rto_min, patience.rto_max
            ));
        }
        Ok(options)
    }
}

/// Opens the payload, before anything is sent. Standard input is read to its end, and a pipe waits for
/// its writer, unless a signal comes first.
async fn open<I: Future<Output = Interrupt>>(
    file: &Path,
    interrupt: Pin<&mut I>,
) -> Result<Payload, Report> {
    let (name, path) = (file.display().to_string(), file.to_owned());
    let read = if path.as_os_str() != "-" && path.is_file() {
        // At once: a thread for it would take longer than a small transfer.
        Payload::open(&path)
    } else {
        let reading = tokio::task::spawn_blocking(move || {
            if path.as_os_str() == "-" {
                Payload::spool("standard input", io::stdin())
            } else {
                Payload::open(&path)
            }
        });
        tokio::select! {
            signal = interrupt => return Err(Report::failed(
                mdalp::SendError::Interrupt(signal).reason(),
                format!("stopped while reading {name}; nothing was sent"),
            )),
            read = reading => read.map_err(|_| {
                Report::failed(Reason::Internal, format!("reading {name} failed"))
            })?,
        }
    };
    read.map_err(|error| {
        Report::failed(Reason::LocalIo, format!("{name}: {error}; nothing was sent"))
    })
}

/// The `end` event of a send whose command line cannot be understood.
pub(crate) fn end_for_usage_error(error: &clap::Error) {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let mut views = Views::new(0, Progress::None, true);
    views.end(Report::failed(Reason::Usage, line));
}
