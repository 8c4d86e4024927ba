//! What the server commands share: their options, the log, start and stop.

use crate::console;
use crate::exit::{Exit, Failure, Outcome};
use crate::settings::Seconds;
use crate::signals;
use clap::ValueEnum;
use mdalp_proto::wire::caps::MAX_CHUNK;
use mdalp_proto::wire::{Capabilities, PORT};
use mdalp_proto::{orchestrator, receiver};
use mdalp_server::{KeepConfig, ReceiverConfig, ReceiverSpec, ServerError, Summary};
use mdalp_store::{Durability, Store};
use std::io::{IsTerminal, stderr};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tracing::Level;

/// How the orchestrator hands out transactions.
#[derive(clap::Args)]
#[command(next_help_heading = "Orchestrator")]
pub(crate) struct OrchestratorArgs {
    /// Transactions open at a time; more wait in a queue [default: no limit]
    #[arg(long, value_name = "N", value_parser = positive)]
    concurrency: Option<usize>,

    /// Receivers for one transaction, the least loaded first [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    hand_out: Option<usize>,

    /// A client that asks again within S seconds and has sent nothing gets the same assignment again
    /// [default: 120; 10 if the receivers run elsewhere]
    #[arg(long, value_name = "S")]
    repeat_window: Option<Seconds>,

    /// A transaction counts as open for S seconds after it was last heard of
    #[arg(long, value_name = "S", default_value_t = Seconds(orchestrator::Config::new(Vec::new()).hold))]
    hold: Seconds,

    /// An intent waits in the queue for S seconds after it was last repeated
    #[arg(long, value_name = "S", default_value_t = Seconds(orchestrator::Config::new(Vec::new()).patience))]
    patience: Seconds,

    /// Intents in the queue, at most
    #[arg(long, value_name = "N", default_value_t = orchestrator::Config::new(Vec::new()).queue, value_parser = positive)]
    queue: usize,

    /// Of these from one IP address, at most
    #[arg(long, value_name = "N", default_value_t = orchestrator::Config::new(Vec::new()).queue_per_source, value_parser = positive)]
    queue_per_source: usize,
}

impl OrchestratorArgs {
    /// Puts the settings into `rules`.
    pub(crate) fn apply(&self, rules: &mut orchestrator::Config) {
        rules.concurrency = self.concurrency;
        rules.hand_out = self.hand_out;
        rules.hold = self.hold.0;
        rules.patience = self.patience.0;
        rules.queue = self.queue;
        rules.queue_per_source = self.queue_per_source;
        if let Some(window) = self.repeat_window {
            rules.repeat_window = window.0;
        }
    }
}

/// How receivers keep what arrives.
#[derive(clap::Args)]
#[command(next_help_heading = "Receivers")]
pub(crate) struct ReceiverArgs {
    /// Directory for what arrives
    #[arg(long, value_name = "DIR", default_value = "mdalp-data")]
    data: PathBuf,

    /// What an acknowledged chunk survives
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "fsync")]
    durability: DurabilityArg,

    /// A transaction without gaps is complete after S seconds without a new chunk
    #[arg(long, value_name = "S", default_value_t = Seconds(receiver::Config::default().quiet))]
    quiet_time: Seconds,

    /// A transaction with gaps is given up after S seconds without a new chunk, or sooner (180) if there
    /// are too many
    #[arg(long, value_name = "S", default_value_t = Seconds(KeepConfig::default().unfinished))]
    expire: Seconds,

    /// The same for transactions that the orchestrator in this process assigned
    #[arg(long, value_name = "S", default_value_t = Seconds(KeepConfig::default().registered))]
    expire_assigned: Seconds,

    /// A complete transaction is removed S seconds after it was closed, and after the start [default:
    /// never]
    #[arg(long, value_name = "S")]
    expire_complete: Option<Seconds>,

    /// Bytes in a chunk, at most
    #[arg(long, value_name = "N", default_value_t = receiver::Config::default().max_chunk, value_parser = positive)]
    max_chunk: usize,

    /// Chunks in a transaction, at most
    #[arg(long, value_name = "N", default_value_t = receiver::Config::default().max_seq)]
    max_chunks: u64,

    /// Transactions at a time that one IP address may begin
    #[arg(long, value_name = "N", default_value_t = receiver::Config::default().per_source, value_parser = positive)]
    per_source: usize,

    /// Transactions in memory at a time, at most, of about 500 bytes each; one more takes the place of an
    /// idle one, or of that with the least progress
    #[arg(long, value_name = "N", default_value_t = receiver::Config::default().transactions, value_parser = positive)]
    transactions: usize,

    /// Threads that read and answer, each with a part of the transactions: for many clients and several
    /// cores. Limits of one IP address count in each. Linux only
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = shards)]
    shards: usize,

    /// What the receivers advertise beyond the classic protocol [default: "crc seal window=32
    /// chunk=1200"; without seal where no orchestrator is in this process]
    #[arg(long, value_name = "LIST", value_parser = caps)]
    caps: Option<Capabilities>,

    /// Advertise nothing: the classic protocol only
    #[arg(long, conflicts_with = "caps")]
    classic: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DurabilityArg {
    /// Power loss
    Fsync,
    /// The death of the process, such as kill -9, but not that of the machine
    Process,
}

impl ReceiverArgs {
    /// A receiver that advertises what was asked for. `together`: whether all receivers of a
    /// transaction share a store, so that any of them can say whether a payload is whole.
    pub(crate) fn spec(
        &self,
        name: &str,
        addr: SocketAddr,
        together: bool,
    ) -> Result<ReceiverSpec, Failure> {
        let all = Capabilities {
            crc: true,
            seal: together,
            record: false,
            window: Some(32),
            chunk: Some(MAX_CHUNK),
            port: None,
        };
        let default = if self.classic { Capabilities::default() } else { all };
        spec(name, addr, self.caps.unwrap_or(default))
    }

    /// The settings, for these receivers.
    pub(crate) fn config(&self, receivers: Vec<ReceiverSpec>) -> ReceiverConfig {
        let mut config = ReceiverConfig::new(receivers);
        config.rules.quiet = self.quiet_time.0;
        config.rules.max_chunk = self.max_chunk;
        config.rules.max_seq = self.max_chunks;
        config.rules.per_source = self.per_source;
        config.keep.unfinished = self.expire.0;
        config.keep.registered = self.expire_assigned.0;
        config.keep.complete = self.expire_complete.map(|seconds| seconds.0);
        config.rules.transactions = self.transactions;
        config.shards = self.shards;
        config
    }

    pub(crate) fn open_store(&self) -> Result<Arc<dyn Store>, Failure> {
        let durability = match self.durability {
            DurabilityArg::Fsync => Durability::Fsync,
            DurabilityArg::Process => Durability::Process,
        };
        mdalp_server::open_store(&self.data, durability).map_err(failure)
    }
}

/// A receiver that advertises `caps`.
pub(crate) fn spec(
    name: &str,
    addr: SocketAddr,
    caps: Capabilities,
) -> Result<ReceiverSpec, Failure> {
    ReceiverSpec::with_caps(name, addr, caps).map_err(|error| Exit::Usage.because(error))
}

/// `IP` or `IP:PORT`; the port is 4650 unless given.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, String> {
    let ip = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    text.parse()
        .or_else(|_| ip().map(|ip| SocketAddr::new(ip, PORT)))
        .map_err(|_| "give an IP address, or IP:PORT".to_owned())
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "give a number from 1 up".to_owned())
}

fn shards(text: &str) -> Result<usize, String> {
    let most = ReceiverConfig::MOST_SHARDS;
    let number = text.parse().ok().filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("give a number from 1 to {most}"))
}

/// Everything that is advertised must be understood: a client would rely on it.
pub(crate) fn caps(text: &str) -> Result<Capabilities, String> {
    for token in text.split(' ').filter(|token| !token.is_empty()) {
        let known = Capabilities::parse(token);
        if known.is_classic() || known.port.is_some() {
            return Err(format!("{token:?} is none of crc, seal, window=N, chunk=N"));
        }
    }
    Ok(Capabilities::parse(text))
}

/// What went wrong with a server, as an exit code.
pub(crate) fn failure(error: ServerError) -> Failure {
    let exit = match error {
        ServerError::Config(_) => Exit::Usage,
        ServerError::AddressInUse { .. }
        | ServerError::AddressNotAvailable { .. }
        | ServerError::NotPermitted { .. } => Exit::Environment,
        ServerError::Socket { .. } | ServerError::OpenStore { .. } | ServerError::Store { .. } => {
            Exit::LocalIo
        }
        _ => Exit::Internal,
    };
    exit.because(error)
}

/// With fewer file descriptors a server does not start: it would fail in the middle (F31).
#[cfg(unix)]
const LEAST_DESCRIPTORS: u64 = 64;
/// With fewer it may run out of them: each segment of the store is an open file.
#[cfg(unix)]
const ENOUGH_DESCRIPTORS: u64 = 1024;

/// Starts the log, and checks what the system allows.
pub(crate) fn prepare(verbose: u8) -> Result<(), Failure> {
    log(verbose);
    #[cfg(unix)]
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        if limit < LEAST_DESCRIPTORS {
            return Err(Exit::Environment.because(format_args!(
                "this process may have {limit} open files, but a server needs {LEAST_DESCRIPTORS} \
                 or more; raise the limit with: ulimit -n {ENOUGH_DESCRIPTORS}"
            )));
        }
        if limit < ENOUGH_DESCRIPTORS {
            tracing::warn!(limit, "few open files are allowed; raise it with ulimit -n");
        }
    }
    Ok(())
}

/// Sends the servers' log to standard error.
fn log(verbose: u8) {
    let level = match verbose {
        0 => Level::INFO,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(stderr().is_terminal())
        .log_internal_errors(false)
        .with_writer(stderr)
        .init();
}

/// One line for each socket that is open by now.
pub(crate) fn announce(role: &str, addr: SocketAddr) {
    console::note(format_args!("listening: {role} on {addr}"));
}

/// Runs a server until the first signal, or until it cannot go on. `serve` gets what completes at the
/// signal.
pub(crate) fn run<F>(
    serve: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()>>>) -> F,
) -> Outcome
where
    F: Future<Output = Result<Summary, ServerError>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::Internal.because(format_args!("starting the runtime: {error}")))?;
    let summary = runtime.block_on(async {
        let signal = signals::first();
        serve(Box::pin(async {
            signal.await;
            console::note(format_args!("stopping; a second signal ends at once"));
        }))
        .await
    });
    let stats = summary.map_err(failure)?.stats;
    console::note(format_args!("stopped: {} closed, {} expired", stats.closed, stats.expired));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_optional() {
        for (text, addr) in [
            ("127.0.0.2", "127.0.0.2:4650"),
            ("127.0.0.2:5000", "127.0.0.2:5000"),
            ("::1", "[::1]:4650"),
            ("[::1]", "[::1]:4650"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(listen(text).map(|a| a.to_string()).as_deref(), Ok(addr), "{text}");
        }
        assert!(listen("localhost").is_err());
    }

    #[test]
    fn capabilities_that_nobody_understands_are_not_advertised() {
        assert_eq!(caps("crc window=32").map(|c| c.to_string()).as_deref(), Ok("crc window=32"));
        assert!(caps("").is_ok_and(|c| c.is_classic()));
        for text in ["quic", "crc window", "window=x", "port=5000"] {
            assert!(caps(text).is_err(), "{text}");
        }
    }
}
