//! A server in a thread of its own, and a client written by hand.

use mdalp_proto::ids::TransactionId;
use mdalp_proto::wire::{Seal, Statement, encode_seal};
use mdalp_server::{ReceiverSpec, ServeConfig, ServerError, Stats, Summary, bind, bind_receivers};
use mdalp_store::{Query, ReadError, Store, TransactionSummary};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// No answer within this time is none. Generous: nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Several shards, where there can be several.
pub(crate) const SHARDS: usize = if cfg!(target_os = "linux") { 3 } else { 1 };

/// A running server with three receivers on ports that the system chose.
pub(crate) struct Server {
    pub(crate) orchestrator: SocketAddr,
    pub(crate) receivers: Vec<SocketAddr>,
    stats: watch::Receiver<Stats>,
    stop: Option<oneshot::Sender<()>>,
    thread: std::thread::JoinHandle<Result<Summary, ServerError>>,
}

impl Server {
    pub(crate) fn start(store: Arc<dyn Store>, adjust: impl FnOnce(&mut ServeConfig)) -> Self {
        let socket = bind(local(1), "orchestrator").unwrap();
        let specs = [2, 3, 4].map(|n| ReceiverSpec::new(format!("R{n}"), local(n)).unwrap());
        let (sockets, specs) = bind_receivers(&specs).unwrap();
        let orchestrator = socket.local_addr().unwrap();
        let receivers = specs.iter().map(ReceiverSpec::addr).collect();
        let mut config = ServeConfig::new(specs);
        adjust(&mut config);
        let (sender, stats) = mdalp_server::stats::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let shutdown = async { drop(stopped.await) };
            let run = mdalp_server::serve::run(socket, sockets, store, config, sender, shutdown);
            runtime.unwrap().block_on(run)
        });
        Self { orchestrator, receivers, stats, stop: Some(stop), thread }
    }

    /// Waits for a snapshot that satisfies `test`.
    pub(crate) fn wait_for(&mut self, test: impl FnMut(&Stats) -> bool) -> Stats {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let wait = async { tokio::time::timeout(PATIENCE, self.stats.wait_for(test)).await };
        runtime.block_on(wait).expect("it happens in time").expect("the server runs").clone()
    }

    pub(crate) fn shut_down(mut self) -> Result<Summary, ServerError> {
        drop(self.stop.take());
        self.thread.join().unwrap()
    }

    /// Waits until it stops by itself.
    pub(crate) fn ended(self) -> Result<Summary, ServerError> {
        self.thread.join().unwrap()
    }
}

pub(crate) fn local(last: u8) -> SocketAddr {
    ([127, 0, 0, last], 0).into()
}

pub(crate) fn client() -> UdpSocket {
    let socket = UdpSocket::bind(local(1)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends and returns the answer, which must come from the same address.
pub(crate) fn ask(client: &UdpSocket, to: SocketAddr, question: &[u8]) -> String {
    client.send_to(question, to).unwrap();
    answer(client, to)
}

pub(crate) fn answer(client: &UdpSocket, expected: SocketAddr) -> String {
    let mut buffer = [0; 2048];
    let (len, from) = client.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from, expected);
    String::from_utf8(buffer[..len].to_vec()).unwrap()
}

/// Asks for a transaction as a classic client does.
pub(crate) fn transaction(client: &UdpSocket, server: &Server) -> (TransactionId, String) {
    let text = ask(client, server.orchestrator, b"Type:0;");
    let (tid, list) = text.strip_prefix("Type:1;TID:").unwrap().split_once(";DATA:").unwrap();
    (TransactionId(tid.parse().unwrap()), list.to_owned())
}

pub(crate) fn chunk(tid: TransactionId, seq: usize, data: &[u8]) -> Vec<u8> {
    [format!("Type:2;TID:{tid};SEQ:{seq};DATA:").as_bytes(), data].concat()
}

/// Sends each chunk to one receiver after the other, stop-and-wait.
pub(crate) fn send_all(client: &UdpSocket, server: &Server, tid: TransactionId, payload: &[u8]) {
    for (seq, data) in payload.chunks(100).enumerate() {
        let to = server.receivers[seq % server.receivers.len()];
        let ack = ask(client, to, &chunk(tid, seq, data));
        assert_eq!(ack, format!("Type:3;TID:{tid};SEQ:{seq};"));
    }
}

/// The payload as the store gives it back.
pub(crate) fn payload(store: &dyn Query, tid: TransactionId) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    store.read(tid, mdalp_proto::ids::SequenceNumber(0), &mut |_, data| {
        bytes.extend_from_slice(data);
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

pub(crate) fn summary(store: &dyn Query, tid: TransactionId) -> TransactionSummary {
    store.transaction(tid).unwrap().expect("the transaction is known")
}

/// 5,000 bytes with all values in them.
pub(crate) fn bytes() -> Vec<u8> {
    (0..5_000_u32).map(|n| (n * 7 + n / 256) as u8).collect()
}

/// A Type 4 that states so many chunks with this payload.
pub(crate) fn question(tid: TransactionId, chunks: u64, payload: &[u8]) -> Vec<u8> {
    let (bytes, blake3) = (payload.len() as u64, *blake3::hash(payload).as_bytes());
    let mut datagram = Vec::new();
    encode_seal(
        &mut datagram,
        &Seal { tid, statement: Statement { chunks, bytes, blake3 }, checked: false },
    );
    datagram
}
