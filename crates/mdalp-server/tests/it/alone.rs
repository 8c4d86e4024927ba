//! An orchestrator without receivers, and receivers without an orchestrator.

use crate::support::*;
use mdalp_proto::ids::TransactionId;
use mdalp_server::{
    ConfigError, OrchestratorConfig, ReceiverConfig, ReceiverSpec, ServerError, bind,
    bind_receivers, open_store, orchestrator, receiver, stats,
};
use mdalp_store::Durability;
use tokio::sync::oneshot;

/// Runs `server` in a thread until the sender is dropped.
fn run<T: Send + 'static, F: Future<Output = T>>(
    server: impl FnOnce(oneshot::Receiver<()>) -> F + Send + 'static,
) -> (oneshot::Sender<()>, std::thread::JoinHandle<T>) {
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(server(stopped))
    });
    (stop, thread)
}

#[test]
fn an_orchestrator_alone_hands_out_receivers_elsewhere() {
    let socket = bind(local(1), "orchestrator").unwrap();
    let to = socket.local_addr().unwrap();
    let receivers = ["A=192.0.2.1".parse().unwrap(), "B=192.0.2.2".parse().unwrap()];
    let config = OrchestratorConfig::standalone(&receivers);
    let (stop, thread) = run(|stopped| async move {
        let shutdown = async { drop(stopped.await) };
        orchestrator::run(socket, config, stats::channel().0, shutdown).await
    });
    let text = ask(&client(), to, b"Type:0;");
    let list =
        "DATA:[{'ip_address': '192.0.2.1', 'name': 'A', 'caps': 'crc record window=32 chunk=1200'}";
    assert!(text.contains(list), "{text}");
    drop(stop);
    let summary = thread.join().unwrap().unwrap();
    assert_eq!(summary.stats.orchestrator.unwrap().assigned, 1);
    assert_eq!(summary.stats.receivers, None);
}

#[test]
fn a_receiver_alone_takes_transactions_that_nobody_announced() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Process).unwrap();
    let specs = [ReceiverSpec::new("A", local(2)).unwrap()];
    let (sockets, specs) = bind_receivers(&specs).unwrap();
    let to = specs[0].addr();
    let held = store.clone();
    let (stop, thread) = run(|stopped| async move {
        let shutdown = async { drop(stopped.await) };
        let config = ReceiverConfig::new(specs);
        receiver::run(sockets, store, config, stats::channel().0, shutdown).await
    });
    let ack = ask(&client(), to, &chunk(TransactionId(3740), 31, b"abc"));
    assert_eq!(ack, "Type:3;TID:3740;SEQ:31;");
    drop(stop);
    thread.join().unwrap().unwrap();
    let summary = summary(&*held, TransactionId(3740));
    assert_eq!((summary.info, summary.ranges.to_string()), (None, "31".to_owned()));
}

#[test]
fn a_server_without_receivers_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Process).unwrap();
    let (_stop, thread) = run(|_| async move {
        let config = ReceiverConfig::new(vec![]);
        receiver::run(vec![], store, config, stats::channel().0, std::future::pending()).await
    });
    let error = thread.join().unwrap().unwrap_err();
    assert!(matches!(error, ServerError::Config(ConfigError::NoReceivers)), "{error}");
}
