//! Servers and clients as processes, and peers that misbehave.

use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Lines, Read, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use tempfile::TempDir;

/// Addresses of 127.0.0.0/8 that no other test uses, and a directory.
pub(crate) struct Net {
    prefix: String,
    /// The network namespace that servers run in, if it is not the test's.
    namespace: Option<&'static str>,
    pub(crate) dir: TempDir,
}

impl Net {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // By process for tests that run in one each, by number for those that share one.
        let at =
            std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("127.{}.{}", 10 + (at >> 8) % 240, at % 256);
        Self { prefix, namespace: None, dir: tempfile::tempdir().unwrap() }
    }

    /// Servers in another network namespace, at addresses that begin with `prefix`; files in `dir`.
    pub(crate) fn in_namespace(namespace: &'static str, prefix: &str, dir: &str) -> Self {
        let dir = tempfile::tempdir_in(dir).unwrap();
        Self { prefix: prefix.to_owned(), namespace: Some(namespace), dir }
    }

    /// 1 is the orchestrator, the receivers are 2 and up.
    pub(crate) fn ip(&self, host: u8) -> String {
        format!("{}.{host}", self.prefix)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn data(&self) -> String {
        self.path("data").to_str().unwrap().to_owned()
    }

    /// `mdalp serve` with receivers A, B and C.
    pub(crate) fn serve(&self, extra: &[&str]) -> Server {
        let receivers =
            ["A", "B", "C"].iter().zip(2..).map(|(name, host)| format!("{name}={}", self.ip(host)));
        let mut args = vec![
            "serve".to_owned(),
            "--listen".to_owned(),
            self.ip(1),
            "--data".to_owned(),
            self.data(),
        ];
        for receiver in receivers {
            args.extend(["--receiver".to_owned(), receiver]);
        }
        args.extend(extra.iter().map(ToString::to_string));
        let Some(namespace) = self.namespace else { return Server::start(&args) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_mdalp")]).args(args);
        Server::listening(&mut command, Server::TOGETHER)
    }

    /// The classic command line for this orchestrator.
    pub(crate) fn client(&self, file: &str, extra: &[&str]) -> Command {
        let mut command = mdalp(&["-a", &self.ip(1), "-p", "4650", "-f", file]);
        command.args(extra);
        command
    }

    /// The transaction ids that the servers hold.
    pub(crate) fn tids(&self) -> Vec<u64> {
        let listed = run(&mut mdalp(&["ls", "--json", "--data", &self.data()]));
        json_lines(&listed.stdout).iter().map(|line| line["tid"].as_u64().unwrap()).collect()
    }

    /// What `mdalp get` gives: the whole payload, or all that came from a sender who never said what the
    /// whole is.
    pub(crate) fn get(&self, tid: u64) -> Vec<u8> {
        let output = self.path("got");
        let get = |extra: &[&str]| {
            let tid = tid.to_string();
            let mut get = mdalp(&["get", &tid, "--data", &self.data(), "-o"]);
            get.arg(&output).args(extra).output().unwrap()
        };
        let got = get(&[]);
        if !got.status.success() {
            assert!(text(&got.stderr).contains("nobody knows whether"), "{}", text(&got.stderr));
            assert_eq!(got.status.code(), Some(6));
            assert_eq!(get(&["--partial"]).status.code(), Some(6));
        }
        std::fs::read(output).unwrap()
    }

    /// An orchestrator that answers each datagram with all of `replies`.
    pub(crate) fn fake_orchestrator(&self, replies: impl IntoIterator<Item = Vec<u8>>) {
        let replies: Vec<_> = replies.into_iter().collect();
        let socket = UdpSocket::bind((self.ip(1), 4650)).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                for reply in &replies {
                    socket.send_to(reply, from).unwrap();
                }
            }
        });
    }

    /// An orchestrator that assigns receivers 2, 3, … under transaction 3740.
    pub(crate) fn assigning_orchestrator(&self, receivers: u8) {
        let mut list = String::new();
        for host in 2..2 + receivers {
            let comma = if host == 2 { "" } else { ", " };
            let _ = write!(list, "{comma}{{'ip_address': '{}', 'name': 'R{host}'}}", self.ip(host));
        }
        self.fake_orchestrator(Some(format!("Type:1;TID:3740;DATA:[{list}]").into_bytes()));
    }

    /// A receiver that acknowledges SEQs below `stop_at`, and keeps nothing.
    pub(crate) fn fake_receiver(&self, host: u8, stop_at: u64) {
        let socket = UdpSocket::bind((self.ip(host), 4650)).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                acknowledge(&socket, from, &buffer[..len], stop_at);
            }
        });
    }
}

fn acknowledge(socket: &UdpSocket, from: SocketAddr, datagram: &[u8], stop_at: u64) {
    let header = String::from_utf8_lossy(datagram);
    let mut fields = header.split(';');
    let (Some("Type:2"), Some(tid), Some(seq)) = (fields.next(), fields.next(), fields.next())
    else {
        return;
    };
    let number: u64 = seq.trim_start_matches("SEQ:").parse().unwrap();
    if number < stop_at {
        socket.send_to(format!("Type:3;{tid};{seq};").as_bytes(), from).unwrap();
    }
}

/// A server process; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// What it says on standard error.
    said: mpsc::Receiver<String>,
}

impl Server {
    /// What a server with an orchestrator says when all sockets are open.
    pub(crate) const TOGETHER: &str = "send with: ";

    /// Returns when it listens.
    pub(crate) fn start(args: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mdalp"));
        let last = if args[0] == "receiver" { "listening: " } else { Self::TOGETHER };
        Self::listening(command.args(args), last)
    }

    /// Runs `command`, and returns when it says `last`.
    pub(crate) fn listening(command: &mut Command, last: &str) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (tell, said) = mpsc::channel();
        thread::spawn(move || {
            // Read to the end even if nobody listens: a full pipe would stop the server.
            lines.map_while(Result::ok).for_each(|line| drop(tell.send(line)));
        });
        let server = Self { child, said };
        server.wait_for(|line| line.starts_with(last));
        server
    }

    /// Reads what it says up to the first line that `is` holds for.
    pub(crate) fn wait_for(&self, is: impl Fn(&str) -> bool) {
        let mut said = String::new();
        for line in &self.said {
            if is(&line) {
                return;
            }
            said += &line;
            said.push('\n');
        }
        panic!("the server has ended: {said}");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send_signal(&self.child, signal);
    }

    /// Ends it without a warning, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(mut self, signal: Signal) -> ExitStatus {
        send_signal(&self.child, signal);
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn send_signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The binary; latencies are not measured unless a test asks for it.
pub(crate) fn mdalp(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mdalp"));
    command.args(args).env("MDALP_PROBE", "none").stdin(Stdio::null());
    // What whoever runs the tests has learned of orchestrators is theirs.
    for name in ["MDALP_HOME", "XDG_STATE_HOME", "HOME"] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Runs with `input` on standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// A client whose events are read while it runs.
pub(crate) struct Watched {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) seen: Vec<serde_json::Value>,
}

impl Watched {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// As by `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Reads up to the first event that `is` holds for.
    pub(crate) fn wait_for(&mut self, is: impl Fn(&serde_json::Value) -> bool) {
        loop {
            let line = self.lines.next().expect("the event comes before the end").unwrap();
            let event = serde_json::from_str(&line).unwrap();
            let found = is(&event);
            self.seen.push(event);
            if found {
                return;
            }
        }
    }

    /// Reads to the end: status, all events, standard error.
    pub(crate) fn finish(mut self) -> (ExitStatus, Vec<serde_json::Value>, String) {
        for line in self.lines {
            self.seen.push(serde_json::from_str(&line.unwrap()).unwrap());
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap(), self.seen, stderr)
    }
}

pub(crate) fn json_lines(stdout: &[u8]) -> Vec<serde_json::Value> {
    text(stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes of all values, with line breaks and what looks like a header among them.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    let mut bytes = b"DATA:Type:3;TID:1;SEQ:0;\r\n\0;".to_vec();
    bytes.extend((0..len).map(|i| (i * 7 % 256) as u8));
    bytes.truncate(len);
    bytes
}

/// The project's papers for interop tests, if they are here.
pub(crate) fn shared() -> Option<PathBuf> {
    let place = std::env::var_os("MDALP_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    place.join("peer/README.md").exists().then_some(place)
}
