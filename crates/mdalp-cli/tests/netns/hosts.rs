//! What loopback cannot show, between two hosts of our own: network namespaces joined by a cable.
//!
//! Each test runs itself once more inside `unshare`, as root of a namespace that nobody else sees and
//! that ends with it. Where the system permits none, the tests are reported as ignored.

mod answers;
mod flood;
mod full_disk;
mod icmp;

mod several;
mod size;

use crate::support::{Net, choices, peak_memory};
use libtest_mimic::{Arguments, Failed, Trial};
use quinn_udp::{Transmit, UdpSocketState};
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

/// All tests, by name.
const TESTS: &[(&str, fn())] = &[
    (
        "answers::s16_h44_g10_strangers_get_few_answers_and_honest_clients_theirs",
        answers::s16_h44_g10_strangers_get_few_answers_and_honest_clients_theirs,
    ),
    (
        "flood::h45_numbers_with_gaps_between_them_take_bounded_memory",
        flood::h45_numbers_with_gaps_between_them_take_bounded_memory,
    ),
    (
        "flood::h46_h49_f25_ids_from_everywhere_take_bounded_memory",
        flood::h46_h49_f25_ids_from_everywhere_take_bounded_memory,
    ),
    (
        "full_disk::f28_on_a_full_disk_nothing_is_taken_until_there_is_room_again",
        full_disk::f28_on_a_full_disk_nothing_is_taken_until_there_is_room_again,
    ),
    (
        "full_disk::f28_on_a_disk_of_a_mebibyte_a_server_ends_with_a_clear_error",
        full_disk::f28_on_a_disk_of_a_mebibyte_a_server_ends_with_a_clear_error,
    ),
    (
        "icmp::f24_hosts_that_answer_no_echo_get_equal_shares_and_everything",
        icmp::f24_hosts_that_answer_no_echo_get_equal_shares_and_everything,
    ),
    (
        "several::every_line_of_the_page_on_several_machines_does_what_it_says",
        several::every_line_of_the_page_on_several_machines_does_what_it_says,
    ),
    (
        "several::b_t5_receivers_killed_between_sends_and_one_of_them_for_good",
        several::b_t5_receivers_killed_between_sends_and_one_of_them_for_good,
    ),
    (
        "several::a_hundred_sends_in_a_row_and_24_at_once_from_one_address_are_all_taken",
        several::a_hundred_sends_in_a_row_and_24_at_once_from_one_address_are_all_taken,
    ),
    (
        "size::f26_classic_datagrams_fit_everywhere_and_long_chunks_arrive",
        size::f26_classic_datagrams_fit_everywhere_and_long_chunks_arrive,
    ),
    (
        "size::f26_a_list_longer_than_the_cable_takes_arrives",
        size::f26_a_list_longer_than_the_cable_takes_arrives,
    ),
];

pub(crate) fn main() {
    if let Ok(name) = std::env::var(INSIDE) {
        let (_, test) = TESTS.iter().find(|(known, _)| *known == name).unwrap();
        return test();
    }
    let refusal = refusal();
    if let Some(why) = &refusal {
        eprintln!("no network namespaces here, tests are ignored: {why}");
    }
    let trial = |&(name, _): &(&'static str, fn())| {
        Trial::test(name, move || inside(name)).with_ignored_flag(refusal.is_some())
    };
    let trials = TESTS.iter().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// A command as root of a network of its own.
fn unshare(command: &[&str]) -> Command {
    let isolation = if rustix::process::geteuid().is_root() { "-mn" } else { "-Urmn" };
    let mut unshare = Command::new("unshare");
    unshare.arg(isolation).args(command);
    unshare
}

/// Why the system permits no namespaces, if it does not.
fn refusal() -> Option<String> {
    let probe = "mount -t tmpfs none /run && ip netns add far && ip link add type veth";
    match unshare(&["sh", "-c", probe]).output() {
        Ok(probe) if probe.status.success() => None,
        Ok(probe) => Some(String::from_utf8_lossy(&probe.stderr).into_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Runs one test in namespaces of its own.
fn inside(name: &str) -> Result<(), Failed> {
    let this = std::env::current_exe().unwrap();
    let ran = unshare(&[this.to_str().unwrap()]).env(INSIDE, name).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    if !ran.status.success() {
        return Err(said.into_owned().into());
    }
    print!("{said}");
    Ok(())
}

/// The two hosts.
fn hosts() -> Net {
    shell(CABLE);
    Net::in_namespace(FAR, "10.77.0", "/run")
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
