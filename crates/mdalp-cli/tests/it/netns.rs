//! What loopback cannot show, between two hosts of our own: network namespaces joined by a cable.
//!
//! Each test runs itself once more inside `unshare`, as root of a namespace that nobody else sees and
//! that ends with it. Where the system permits none, the test says so and passes.

mod answers;
mod flood;
mod full_disk;
mod icmp;
mod size;

use crate::hostile::{choices, peak_memory};
use crate::support::Net;
use quinn_udp::{Transmit, UdpSocketState};
use std::any::type_name_of_val;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// The servers' host; the test is on the other one.
const FAR: &str = "far";
const INSIDE: &str = "MDALP_TEST_INSIDE";
/// 198.18.0.0/15, all of it the test's host.
const STRANGERS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// The test's host is 10.77.1.1 and all strangers, the other one has 10.77.0.1 to .40.
const CABLE: &str = "
    mount -t tmpfs none /run
    ip netns add far
    ip link add home type veth peer name far netns far
    ip addr add 10.77.1.1/16 dev home
    for host in $(seq 40); do ip -n far addr add 10.77.0.$host/16 dev far; done
    for link in lo home; do ip link set $link up; done
    for link in lo far; do ip -n far link set $link up; done
    ip route add local 198.18.0.0/15 dev lo
    ip -n far route add 198.18.0.0/15 via 10.77.1.1
";

/// The two hosts, or nothing, for the test to end: it has run inside, or it cannot run here.
fn hosts<T>(test: &T) -> Option<Net> {
    if std::env::var_os(INSIDE).is_some() {
        shell(CABLE);
        return Some(Net::in_namespace(FAR, "10.77.0", "/run"));
    }
    let name = type_name_of_val(test).split_once("::").unwrap().1;
    let isolation: &[&str] =
        if rustix::process::geteuid().is_root() { &["-mn"] } else { &["-Urmn"] };
    let unshare = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(isolation).args(command).env(INSIDE, "1").output()
    };
    let probe = "mount -t tmpfs none /run && ip netns add far && ip link add type veth";
    match unshare(&["sh", "-c", probe]) {
        Ok(probe) if probe.status.success() => {}
        Ok(probe) => {
            println!("skipped: no namespaces here: {}", String::from_utf8_lossy(&probe.stderr));
            return None;
        }
        Err(error) => {
            println!("skipped: unshare: {error}");
            return None;
        }
    }
    let this = std::env::current_exe().unwrap();
    let inside = unshare(&[this.to_str().unwrap(), "--exact", name, "--nocapture"]).unwrap();
    let said = String::from_utf8_lossy(&inside.stdout).into_owned()
        + &String::from_utf8_lossy(&inside.stderr);
    print!("{said}");
    assert!(inside.status.success() && said.contains("1 passed"), "see above");
    None
}

fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A number of `table` and `column` in a host's `/proc/net/snmp`.
fn counter(host: &str, table: &str, column: &str) -> u64 {
    let all = shell(&format!("{host} cat /proc/net/snmp"));
    let mut rows = all.lines().filter_map(|line| line.strip_prefix(table)?.strip_prefix(": "));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let at = names.split(' ').position(|name| name == column).unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// A socket that sends from any of 131,072 addresses and hears what is answered to each.
struct Strangers {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Strangers {
    fn new() -> Self {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        // Another one's, or this one would hear several answers as one.
        let state = UdpSocketState::new((&UdpSocket::bind("0.0.0.0:0").unwrap()).into()).unwrap();
        Self { socket, state }
    }

    /// From the stranger with that number.
    fn send(&self, stranger: u32, contents: &[u8], destination: SocketAddr) {
        let src_ip = Some(Ipv4Addr::from_bits(STRANGERS.to_bits() + stranger % (1 << 17)).into());
        let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip };
        // A full buffer is a network that drops.
        let _ = self.state.try_send((&self.socket).into(), &transmit);
    }

    /// Sends all of `questions` and hears as many answers, or as many as come.
    fn ask(&self, stranger: u32, questions: &[Vec<u8>], to: SocketAddr) -> usize {
        for question in questions {
            self.send(stranger, question, to);
        }
        self.socket.set_nonblocking(false).unwrap();
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let answers = (0..questions.len()).take_while(|_| self.socket.recv(&mut [0; 64]).is_ok());
        let count = answers.count();
        self.socket.set_nonblocking(true).unwrap();
        count
    }

    /// Lengths of the answers that are there by now.
    fn answers(&self) -> Vec<usize> {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| self.socket.recv(&mut buffer).ok()).collect()
    }
}

fn far(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 77, 0, host], 4650))
}
