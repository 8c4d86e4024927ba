//! Stopping, failing and starting again.

use crate::support::*;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_server::{ServerError, open_store};
use mdalp_store::{
    AppendError, AppendResult, ChunkLog, Durability, NewChunk, Query, ReadError, Receipt,
    ReceiverId, ReceiverName, Release, Store, StoreError, TransactionInfo, TransactionSummary,
    Transactions, UnixMillis,
};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

#[test]
fn f16_a_transfer_goes_on_after_a_restart_and_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(open_store(dir.path(), Durability::Fsync).unwrap(), |_| {});
    let client = client();
    let (tid, _) = transaction(&client, &server);
    send_all(&client, &server, tid, &bytes()[..2_500]);
    server.shut_down().unwrap();

    let store = open_store(dir.path(), Durability::Fsync).expect("the store was let go");
    let mut server = Server::start(store.clone(), |config| {
        config.receivers.rules.seals = true;
        // Transactions belong to nobody on the disk.
        config.receivers.shards = SHARDS;
    });
    // All of it again: what was acknowledged before is a duplicate now.
    send_all(&client, &server, tid, &bytes());
    let answer = ask(&client, server.receivers[0], &question(tid, 50, &bytes()));
    assert_eq!(answer, format!("Type:5;TID:{tid};DATA:complete"));
    server.wait_for(|stats| stats.closed >= 1);
    server.shut_down().unwrap();
    assert_eq!(payload(&*store, tid).unwrap(), bytes());
}

/// A store whose appends wait for a word from the test, or fail.
struct Gate {
    inner: Arc<dyn Store>,
    /// Says that an append has begun.
    begun: Mutex<Sender<()>>,
    /// Appends wait for this one.
    go: Mutex<Receiver<()>>,
    poisoned: AtomicBool,
}

impl Gate {
    fn new(inner: Arc<dyn Store>) -> (Arc<Self>, Receiver<()>, Sender<()>) {
        let ((begun, wait), (open, go)) = (channel(), channel());
        let (begun, go) = (Mutex::new(begun), Mutex::new(go));
        (Arc::new(Self { inner, begun, go, poisoned: AtomicBool::new(false) }), wait, open)
    }
}

impl ChunkLog for Gate {
    fn append_with(
        &self,
        now: UnixMillis,
        begun: &[(TransactionId, TransactionInfo)],
        batch: &[NewChunk<'_>],
        results: &mut Vec<AppendResult>,
    ) {
        if self.poisoned.load(Ordering::Relaxed) {
            *results = vec![Err(AppendError::Poisoned); batch.len()];
            return;
        }
        let _ = self.begun.lock().unwrap().send(());
        let _ = self.go.lock().unwrap().recv();
        self.inner.append_with(now, begun, batch, results);
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }
}

impl Transactions for Gate {
    fn begin(&self, tid: TransactionId, info: &TransactionInfo) -> Result<(), StoreError> {
        self.inner.begin(tid, info)
    }
    fn declare_receiver(&self, receiver: &ReceiverName) -> Result<ReceiverId, StoreError> {
        self.inner.declare_receiver(receiver)
    }
    fn record_statement(
        &self,
        tid: TransactionId,
        now: UnixMillis,
        statement: &mdalp_store::Statement,
    ) -> Result<(), StoreError> {
        self.inner.record_statement(tid, now, statement)
    }
    fn close(&self, tid: TransactionId, receipt: &Receipt) -> Result<(), StoreError> {
        self.inner.close(tid, receipt)
    }
    fn release(&self, tid: TransactionId, why: Release) -> Result<(), StoreError> {
        self.inner.release(tid, why)
    }
    fn reclaim(&self) -> Result<bool, StoreError> {
        self.inner.reclaim()
    }
}

impl Query for Gate {
    fn list(&self) -> Result<Vec<TransactionSummary>, ReadError> {
        self.inner.list()
    }
    fn transaction(&self, tid: TransactionId) -> Result<Option<TransactionSummary>, ReadError> {
        self.inner.transaction(tid)
    }
    fn receivers(&self) -> Result<Vec<ReceiverName>, ReadError> {
        self.inner.receivers()
    }
    fn read(
        &self,
        tid: TransactionId,
        from: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.inner.read(tid, from, visit)
    }
}

#[test]
fn f17_shutting_down_commits_and_acknowledges_what_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, begun, go) = Gate::new(open_store(dir.path(), Durability::Process).unwrap());
    let mut server = Server::start(store.clone(), |_| {});
    let client = client();
    let (tid, _) = transaction(&client, &server);
    let to = server.receivers[0];
    client.send_to(&chunk(tid, 0, b"first"), to).unwrap();
    begun.recv().unwrap();
    // The disk hangs; one more is read and waits.
    client.send_to(&chunk(tid, 1, b"second"), to).unwrap();
    server.wait_for(|stats| stats.receivers.is_some_and(|counters| counters.chunks == 2));
    let stopping = std::thread::spawn(move || server.shut_down());
    go.send(()).unwrap();
    go.send(()).unwrap();
    stopping.join().unwrap().unwrap();
    for seq in 0..2 {
        assert_eq!(answer(&client, to), format!("Type:3;TID:{tid};SEQ:{seq};"));
    }
    assert_eq!(payload(&*store, tid).unwrap(), b"firstsecond");
}

#[test]
fn f29_the_network_goes_on_while_the_disk_hangs_and_pending_chunks_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (store, begun, go) = Gate::new(open_store(dir.path(), Durability::Process).unwrap());
    let mut server = Server::start(store, |_| {});
    let client = client();
    let (tid, _) = transaction(&client, &server);
    let other = crate::support::client();
    let assigned = transaction(&other, &server);
    client.send_to(&chunk(tid, 0, b"x"), server.receivers[0]).unwrap();
    begun.recv().unwrap();
    // Datagrams may be lost on the way, so many more than fit are sent.
    for seq in 1..100_000 {
        client.send_to(&chunk(tid, seq, &[7; 1000]), server.receivers[0]).unwrap();
        if seq % 1_000 == 0 {
            assert_eq!(transaction(&other, &server), assigned, "the loop is alive");
        }
        if seq % 10_000 == 0 {
            let mut next = false;
            let stats = server.wait_for(|_| std::mem::replace(&mut next, true));
            assert!(stats.pending_bytes <= (8 << 20) + 2_000);
            if stats.receivers.is_some_and(|counters| counters.drop_not_stored > 0) {
                drop(go);
                server.shut_down().unwrap();
                return;
            }
        }
    }
    panic!("nothing was dropped");
}

#[test]
fn f30_a_store_that_failed_ends_the_server_without_an_ack() {
    for shards in [1, SHARDS] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _begun, _go) = Gate::new(open_store(dir.path(), Durability::Process).unwrap());
        let server = Server::start(store.clone(), |config| config.receivers.shards = shards);
        let client = client();
        let (tid, _) = transaction(&client, &server);
        let receivers = server.receivers.clone();
        store.poisoned.store(true, Ordering::Relaxed);
        client.send_to(&chunk(tid, 0, b"x"), server.receivers[0]).unwrap();
        let error = server.ended().unwrap_err();
        assert!(matches!(error, ServerError::Store { .. }), "{error}");
        assert!(error.to_string().contains("restart to recover"));
        for addr in receivers {
            mdalp_server::bind(addr, "the next server").expect("the address is free");
        }
        client.set_nonblocking(true).unwrap();
        let mut buffer = [0; 100];
        let nothing = client.recv_from(&mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    }
}
