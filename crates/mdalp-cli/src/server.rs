//! What the server commands share: their options, the log, start and stop.

use crate::console;
use crate::directory;
use crate::exit::{Exit, Failure, Outcome};
use crate::settings::Seconds;
use crate::signals;
use clap::ValueEnum;
use mdalp_proto::wire::caps::MAX_CHUNK;
use mdalp_proto::wire::{Capabilities, PORT};
use mdalp_proto::{orchestrator, receiver};
use mdalp_server::{ReceiverConfig, ReceiverSpec, ServerError, Summary};
use mdalp_store::{Durability, Store};
use std::io::{IsTerminal, stderr};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
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

    /// A classic client is taken to be done S seconds after its last new chunk, if what came has no gap
    #[arg(long, value_name = "S", default_value_t = Seconds(receiver::Config::default().quiet))]
    quiet_time: Seconds,

    /// A share whose sender has not stated what the whole payload is goes S seconds after its last new
    /// chunk [default: never]
    #[arg(long, value_name = "S")]
    expire: Option<Seconds>,

    /// A transaction that the orchestrator in this process assigned, and that has gaps, goes S seconds
    /// after its last new chunk
    #[arg(long, value_name = "S", default_value_t = Seconds(Duration::from_secs(7 * 24 * 3600)))]
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
    /// chunk=1200"; record instead of seal where no orchestrator is in this process]
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
            record: !together,
            window: Some(32),
            chunk: Some(MAX_CHUNK),
            port: None,
        };
        let default = if self.classic { Capabilities::default() } else { all };
        if !together && self.caps.is_some_and(|caps| caps.seal) {
            return Err(Exit::Usage.because(format_args!(
                "--caps: a receiver that runs alone sees only its share and cannot confirm the whole; \
                 use record instead of seal"
            )));
        }
        spec(name, addr, self.caps.unwrap_or(default))
    }

    /// The settings, for these receivers.
    pub(crate) fn config(&self, receivers: Vec<ReceiverSpec>) -> ReceiverConfig {
        let mut config = ReceiverConfig::new(receivers);
        config.rules.quiet = self.quiet_time.0;
        config.rules.max_chunk = self.max_chunk;
        config.rules.max_seq = self.max_chunks;
        config.rules.per_source = self.per_source;
        config.keep.unannounced = self.expire.map(|seconds| seconds.0);
        config.keep.assigned = Some(self.expire_assigned.0);
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
        if let Some(problem) = directory::unwritable(&self.data) {
            let dir = self.data.display();
            return Err(Exit::LocalIo.because(format_args!("data directory {dir}: {problem}")));
        }
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
            return Err(format!("{token:?} is none of crc, seal, record, window=N, chunk=N"));
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

/// The command line of a client of this orchestrator. Where it listens on all addresses, one that a client can
/// send to: that by which this machine reaches `to`, its first receiver.
pub(crate) fn announce_client(orchestrator: SocketAddr, to: Option<SocketAddr>) {
    let (ip, port) = (orchestrator.ip(), orchestrator.port());
    if !ip.is_unspecified() {
        console::note(format_args!("send with: mdalp -a {ip} -p {port} -f FILE"));
        return;
    }
    match to.and_then(|to| address_towards(ip, to)) {
        Some(ip) => console::note(format_args!(
            "send with: mdalp -a {ip} -p {port} -f FILE (or another address of this machine)"
        )),
        None => console::note(format_args!(
            "send with: mdalp -a ADDRESS-OF-THIS-MACHINE -p {port} -f FILE"
        )),
    }
}

/// The address that this machine has for what it sends to `to`. Nothing is sent.
fn address_towards(family: IpAddr, to: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((family, 0)).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified())
}

/// The receivers that were typed, with names looked up; each address once.
pub(crate) fn receivers(typed: &[Typed]) -> Result<Vec<ReceiverSpec>, Failure> {
    let mut specs: Vec<ReceiverSpec> = Vec::new();
    for Typed { name, host, port } in typed {
        let spec = ReceiverSpec::new(name, look_up(host, *port)?)
            .map_err(|error| Exit::Usage.because(error))?;
        if spec.addr().port() != 0
            && let Some(other) = specs.iter().find(|other| other.addr() == spec.addr())
        {
            return Err(Exit::Usage.because(format_args!(
                "receivers {:?} and {name:?} have the same address {}; give each one of its own",
                other.name(),
                spec.addr()
            )));
        }
        if let Some(other) = specs.iter().find(|other| other.name() == name) {
            return Err(Exit::Usage.because(format_args!(
                "two receivers are called {name:?}: {} and {}; give each a name of its own",
                other.addr(),
                spec.addr()
            )));
        }
        specs.push(spec);
    }
    Ok(specs)
}

/// A host's address; IPv4 where it has both, as the client looks up an orchestrator's.
fn look_up(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let because = |why: String| {
        Exit::Usage.because(format_args!(
            "receiver {host}: the name has no address ({why}); check it, or give an IP address"
        ))
    };
    let found: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|error| because(error.to_string()))?.collect();
    let v4 = found.iter().find(|addr| addr.is_ipv4());
    v4.or(found.first()).copied().ok_or_else(|| because("nothing found".to_owned()))
}

/// `NAME=HOST` or `NAME=HOST:PORT`, as typed. The name is looked up when a server starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Typed {
    name: String,
    host: String,
    port: u16,
}

impl FromStr for Typed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let syntax = || "write NAME=IP, NAME=HOST, or either with :PORT behind it".to_owned();
        let (name, place) = text.split_once('=').ok_or_else(syntax)?;
        let (host, port) = if let Ok(addr) = listen(place) {
            // What needs no look-up is checked at once.
            ReceiverSpec::new(name, addr).map_err(|error| error.to_string())?;
            (addr.ip().to_string(), addr.port())
        } else {
            let (host, port) = match place.split_once(':') {
                Some((host, port)) => (host, port.parse().map_err(|_| syntax())?),
                None => (place, PORT),
            };
            let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            // Nothing but digits and dots is an address with a typing error, not a name.
            if !host.contains(|c: char| c.is_ascii_alphabetic()) || !host.chars().all(fits) {
                return Err(syntax());
            }
            (host.to_owned(), port)
        };
        Ok(Self { name: name.to_owned(), host, port })
    }
}

/// One line for each socket that is open by now.
pub(crate) fn announce(role: &str, addr: SocketAddr) {
    console::note(format_args!("listening: {role} on {addr}"));
}

/// Runs a server until the first signal, or until it cannot go on. `serve` gets what completes at the
/// signal; what it prints, whoever starts servers may answer with a signal.
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
        signals::ignore_hangups();
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
