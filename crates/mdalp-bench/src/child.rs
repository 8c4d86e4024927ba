//! A server in a process of its own, so that its processor time can be told apart.

use crate::bare;
use mdalp_proto::wire::Capabilities;
use mdalp_server::{ReceiverConfig, ReceiverSpec, ServeConfig, open_store};
use mdalp_store::{Durability, Store};
use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Room for all transactions that are measured; by default there is room for 4,096.
const TRANSACTIONS: usize = 16_384;

/// What to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Server {
    /// Reads, acknowledges and forgets; with segmentation offload or without.
    Bare { offload: bool },
    /// The receiver of `mdalp receiver`.
    Receiver { durability: Durability, shards: usize },
    /// An orchestrator and three receivers with all extensions, as `mdalp serve`.
    Whole,
}

impl Server {
    fn words(self) -> [String; 3] {
        let (what, how, shards) = match self {
            Self::Bare { offload: false } => ("bare", "mmsg", 1),
            Self::Bare { offload: true } => ("bare", "gso", 1),
            Self::Whole => ("whole", "process", 1),
            Self::Receiver { durability: Durability::Process, shards } => {
                ("receiver", "process", shards)
            }
            Self::Receiver { durability: Durability::Fsync, shards } => {
                ("receiver", "fsync", shards)
            }
        };
        [what.to_owned(), how.to_owned(), shards.to_string()]
    }

    /// The other side of [`Running::start`]: serves until standard input ends.
    pub(crate) fn serve(words: &[String]) -> Result<(), Box<dyn Error>> {
        let [what, how, shards, dir] = words else { return Err("expected four words".into()) };
        let socket = mdalp_server::bind(([127, 0, 0, 1], 0).into(), "benchmark")?;
        println!("{}", socket.local_addr()?);
        if what == "bare" {
            return Ok(bare::run(socket, how == "gso")?);
        }
        let durability = if how == "fsync" { Durability::Fsync } else { Durability::Process };
        let store = open_store(Path::new(dir), durability)?;
        if what == "whole" {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return runtime.block_on(whole(socket, store));
        }
        let spec = ReceiverSpec::new("R", socket.local_addr()?)?;
        let mut config = ReceiverConfig::new(vec![spec]);
        config.shards = shards.parse()?;
        config.rules.transactions = TRANSACTIONS;
        let (stats, _keep) = mdalp_server::stats::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read(&mut [0]);
            drop(ended);
        });
        let shutdown = async { drop(end.await) };
        let summary = runtime.block_on(mdalp_server::receiver::run(
            vec![socket],
            store,
            config,
            stats,
            shutdown,
        ))?;
        eprintln!("{:?}", summary.stats);
        Ok(())
    }
}

/// Serves until the process ends.
async fn whole(socket: UdpSocket, store: Arc<dyn Store>) -> Result<(), Box<dyn Error>> {
    let mut receivers = (Vec::new(), Vec::new());
    for n in 1..=3 {
        let socket = mdalp_server::bind(([127, 0, 0, 1], 0).into(), "benchmark")?;
        let addr = socket.local_addr()?;
        let caps = Capabilities {
            port: Some(addr.port()),
            crc: true,
            seal: true,
            record: false,
            window: Some(256),
            chunk: Some(1200),
        };
        receivers.0.push(socket);
        receivers.1.push(ReceiverSpec::with_caps(format!("R{n}"), addr, caps)?);
    }
    let config = ServeConfig::new(receivers.1);
    let (stats, _keep) = mdalp_server::stats::channel();
    let never = std::future::pending();
    mdalp_server::serve::run(socket, receivers.0, store, config, stats, never).await?;
    Ok(())
}

/// A running child.
pub(crate) struct Running {
    child: Child,
    pub(crate) addr: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Running {
    /// Starts a server with its data in a new directory in `dir`, on these processors.
    pub(crate) fn start(
        server: Server,
        dir: &Path,
        cores: &[usize],
    ) -> Result<Self, Box<dyn Error>> {
        let dir = tempfile::tempdir_in(dir)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["child", &cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")])
            .args(server.words())
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { child, addr: line.trim().parse()?, _dir: dir })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of all its threads so far.
    pub(crate) fn processor_time(&self) -> Result<Duration, Box<dyn Error>> {
        let mut nanos = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> Result<u64, Box<dyn Error>> {
        memory_of(&self.id().to_string(), "VmRSS:")
    }
}

/// Memory of a process in bytes, as `/proc` calls it.
pub(crate) fn memory_of(process: &str, what: &str) -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(what)).ok_or("no such line")?;
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>()?;
    Ok(kib * 1024)
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left to ask it for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
