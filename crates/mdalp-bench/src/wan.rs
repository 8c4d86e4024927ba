//! A wide-area network for any program: two network namespaces, and between them a process that hands
//! on each packet after a fixed time. All peers of a table go through it, the kernel's TCP too.
//!
//! Needs root, `unshare` and `ip`, and `/dev/net/tun`. Neither loses nor reorders nor limits anything.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tun_rs::{DeviceBuilder, SyncDevice};

type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Which way to the far end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Loopback,
    /// Each packet takes half of this time.
    RoundTrip(Duration),
}

impl Way {
    /// The n-th address of the far end.
    pub(crate) fn addr(self, n: u8) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::new(127, 77, 0, n).into(),
            Self::RoundTrip(_) => Ipv4Addr::new(10, 77, 0, n).into(),
        }
    }

    /// `loopback`, or the round trip in milliseconds.
    fn word(self) -> String {
        match self {
            Self::Loopback => "loopback".to_owned(),
            Self::RoundTrip(time) => time.as_millis().to_string(),
        }
    }

    /// The reverse of [`word`](Self::word).
    pub(crate) fn of(word: &str) -> Self {
        word.parse().map_or(Self::Loopback, |ms| Self::RoundTrip(Duration::from_millis(ms)))
    }
}

/// Addresses of the far end that are in use: from 2 on.
pub(crate) const ADDRESSES: u8 = 13;

/// Runs `ip`.
pub(crate) fn ip(words: &str) -> Done {
    let status = Command::new("ip").args(words.split(' ')).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {words} failed").into()) }
}

/// This program once more, in a network namespace of its own.
pub(crate) fn unshared() -> Done<Command> {
    let mut command = Command::new("unshare");
    command.args(["-n", "--"]).arg(std::env::current_exe()?);
    Ok(command)
}

/// The far end: a process that serves until its standard input ends.
pub(crate) struct Far {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Far {
    /// To be called in a namespace that may be changed.
    pub(crate) fn start(way: Way, dir: &Path) -> Done<Self> {
        ip("link set lo up")?;
        let mut command = match way {
            Way::Loopback => Command::new(std::env::current_exe()?),
            Way::RoundTrip(_) => unshared()?,
        };
        let mut child = command
            .args(["far", &*way.word()])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut far = Self { child, lines };
        // It is in its namespace when it speaks.
        far.hear("here")?;
        if let Way::RoundTrip(time) = way {
            let near = Arc::new(DeviceBuilder::new().name("near0").build_sync()?);
            let other = Arc::new(DeviceBuilder::new().name("far0").build_sync()?);
            ip(&format!("link set far0 netns {}", far.child.id()))?;
            ip("addr add 10.77.0.1/24 dev near0")?;
            ip("link set near0 up mtu 1500 txqueuelen 10000")?;
            carry(Arc::clone(&near), Arc::clone(&other), time / 2);
            carry(other, near, time / 2);
        }
        far.child.stdin.as_mut().ok_or("no input")?.write_all(b"go\n")?;
        far.hear("ready")?;
        Ok(far)
    }

    fn hear(&mut self, word: &str) -> Done {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        if line.trim() == word { Ok(()) } else { Err(format!("expected {word}: {line}").into()) }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // It ends, and what it started, when nobody can speak to it any more.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Hands packets on, each after `delay`. One thread waits for packets and one for time.
fn carry(from: Arc<SyncDevice>, to: Arc<SyncDevice>, delay: Duration) {
    let (push, pull) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(len) = from.recv(&mut buffer) {
            if push.send((Instant::now() + delay, buffer[..len].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        while let Ok((due, packet)) = pull.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // A packet for an interface that is not up yet is lost, as it would be elsewhere.
            let _ = to.send(&packet);
        }
    });
}
