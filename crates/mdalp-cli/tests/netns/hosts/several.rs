//! One host for each server, joined by a bridge: `docs/several-machines.md`, line by line.
//!
//! Copying between hosts is played by a stand-in for `scp`: there is one file system for all.

use super::shell;
use crate::support::payload;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

const PAGE: &str = include_str!("../../../../../docs/several-machines.md");

const HOSTS: [(&str, &str); 5] = [
    ("orch", "192.0.2.10"),
    ("a", "192.0.2.21"),
    ("b", "192.0.2.22"),
    ("c", "192.0.2.23"),
    ("client", "192.0.2.30"),
];

/// A shell on one host.
struct Host {
    shell: Child,
    commands: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    /// What its server said and nobody has asked for yet.
    log: Vec<String>,
}

/// Before each line that a command says …
const SAID: &str = "> ";
/// … and before its status, which ends them.
const END: &str = "=== ";

impl Host {
    fn new(name: &str, root: &Path) -> Self {
        let home = root.join(name);
        std::fs::create_dir(&home).unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_mdalp")).parent().unwrap();
        let path = format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", root.display(), binary.display());
        let mut bash = Command::new("ip");
        bash.args(["netns", "exec", name, "bash"]).current_dir(&home);
        bash.env("HOME", &home).env("PATH", path).env_remove("MDALP_PROBE");
        let mut shell = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut host = Self { commands: shell.stdin.take().unwrap(), shell, said, log: Vec::new() };
        host.tell("exec 2>&1; set -o pipefail");
        host
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// The next line that its shell or its server says.
    fn line(&mut self) -> String {
        self.said.next().expect("the shell is there").unwrap()
    }

    /// Starts a server.
    fn start(&mut self, command: &str) {
        assert!(command.ends_with('&'), "{command}");
        self.tell(command);
    }

    /// Reads the log up to a line that `is` holds for; lines before it may be asked for later.
    fn wait_for(&mut self, is: impl Fn(&str) -> bool) {
        if let Some(at) = self.log.iter().position(|line| is(line)) {
            self.log.remove(at);
            return;
        }
        loop {
            let line = self.line();
            println!("{line}");
            if is(&line) {
                return;
            }
            self.log.push(line);
        }
    }

    /// Runs a command to its end: whether it succeeded, and what it said.
    fn run(&mut self, command: &str) -> (bool, String) {
        // What its server says meanwhile comes by the same way.
        self.tell(&format!("{{ {command}\n}} > .said 2>&1 < /dev/null"));
        self.tell(&format!("status=$?; sed 's/^/{SAID}/' .said; echo \"{END}$status\""));
        let mut said = String::new();
        loop {
            let line = self.line();
            if let Some(status) = line.strip_prefix(END) {
                return (status == "0", said);
            }
            match line.strip_prefix(SAID) {
                // The shell's own word on a server that was killed.
                Some(said) if said.starts_with("bash: line ") => {}
                Some(line) => {
                    said += line;
                    said.push('\n');
                }
                None => self.log.push(line),
            }
        }
    }

    /// Runs what must succeed.
    fn succeed(&mut self, command: &str) -> String {
        let (success, said) = self.run(command);
        assert!(success, "{command}: {said}");
        said
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Its own servers alone.
        let _ = writeln!(self.commands, "kill -9 $(jobs -p)\nexit");
        let _ = self.shell.wait();
    }
}

/// All hosts, and the directory that theirs are in.
struct Network {
    hosts: BTreeMap<&'static str, Host>,
    _root: TempDir,
}

impl Network {
    fn new() -> Self {
        shell("mount -t tmpfs none /run; ip link add br0 type bridge; ip link set br0 up");
        let root = tempfile::tempdir().unwrap();
        let scp = "#!/bin/sh\n[ $# = 3 ] && [ $1 = -qr ] && exec cp -r \"${0%/*}/${2%%:*}/${2#*:}\" \"$3\"\nexit 1\n";
        let scp_path = root.path().join("scp");
        std::fs::write(&scp_path, scp).unwrap();
        shell(&format!("chmod +x {}", scp_path.display()));
        let hosts = HOSTS.map(|(name, ip)| {
            shell(&format!(
                "ip netns add {name}
                 ip link add v-{name} type veth peer name eth0 netns {name}
                 ip link set v-{name} master br0
                 ip link set v-{name} up
                 ip -n {name} link set lo up
                 ip -n {name} link set eth0 up
                 ip -n {name} addr add {ip}/24 dev eth0"
            ));
            (name, Host::new(name, root.path()))
        });
        Self { hosts: hosts.into(), _root: root }
    }

    fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.get_mut(name).expect("a host of the page")
    }

    /// Starts everything as the page does.
    fn start(&mut self) {
        for name in ["a", "b", "c", "orch"] {
            self.start_server(name);
        }
        for receiver in ["A", "B", "C"] {
            self.heard("receiver answers", receiver);
        }
    }

    /// Starts the server of a host with the page's own line.
    fn start_server(&mut self, name: &str) {
        let prompt = format!("{name}$ mdalp ");
        let line = PAGE.lines().find(|line| line.starts_with(&prompt)).unwrap();
        let host = self.host(name);
        host.start(&line[prompt.len() - "mdalp ".len()..]);
        host.wait_for(|line| line.starts_with("listening: "));
    }

    /// Waits for what the orchestrator logs of a receiver.
    fn heard(&mut self, what: &str, receiver: &str) {
        let name = format!("name=\"{receiver}\"");
        self.host("orch").wait_for(|line| line.contains(what) && line.contains(&name));
    }

    /// Sends, and reads it back from the directories of all receivers; how many of them got a share.
    fn send(&mut self) -> usize {
        let client = self.host("client");
        let sent = client.succeed(SEND);
        let end: serde_json::Value = serde_json::from_str(&sent).unwrap();
        let dirs: String =
            ["a", "b", "c"].map(|name| format!(" --data ../{name}/mdalp-data")).concat();
        client.succeed(&format!("mdalp get {}{dirs} -o copy && cmp payload copy", end["tid"]));
        end["receivers"].as_array().unwrap().len()
    }
}

/// Says in one line how a send ended.
const SEND: &str =
    "mdalp -a 192.0.2.10 -p 4650 -f payload --require-verified --json 2> /dev/null | tail -n 1";

/// Numbers of transactions: those on the page, and what they are here.
#[derive(Default)]
struct Numbers(BTreeMap<String, String>);

fn is_number(word: &str) -> bool {
    word.len() > 15 && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The runs of digits in a line and what is between them.
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    line.split_inclusive(|c: char| !c.is_ascii_digit()).flat_map(|piece| {
        let digits = piece.trim_end_matches(|c: char| !c.is_ascii_digit());
        [digits, &piece[digits.len()..]]
    })
}

impl Numbers {
    /// A line of the page as it is here.
    fn here(&self, line: &str) -> String {
        pieces(line).map(|piece| self.0.get(piece).map_or(piece, String::as_str)).collect()
    }

    /// Whether `said` is what the page says. A transaction that it has not named before is noted.
    fn matches(&mut self, page: &str, said: &str) -> bool {
        let (page, said) = (words(&self.here(page)), words(said));
        let new = pieces(&page)
            .find(|piece| is_number(piece) && !self.0.values().any(|known| known == piece));
        if let Some(new) = new {
            return pieces(&said).filter(|piece| is_number(piece)).any(|number| {
                let fits = like(&page.replace(new, number), &said);
                if fits {
                    self.0.insert(new.to_owned(), number.to_owned());
                }
                fits
            });
        }
        like(&page, &said)
    }
}

/// A line with single spaces: columns are as wide as what is in them.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is like a pattern in which `…` stands for anything.
fn like(pattern: &str, line: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('…') else { return pattern == line };
    let Some(line) = line.strip_prefix(first) else { return false };
    let starts = line.char_indices().map(|(at, _)| at).chain([line.len()]);
    starts.into_iter().any(|at| like(rest, &line[at..]))
}

pub(super) fn every_line_of_the_page_on_several_machines_does_what_it_says() {
    let mut network = Network::new();
    let mut numbers = Numbers::default();
    let blocks = PAGE.split("```console\n").skip(1);
    let mut lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines()).peekable();
    let mut executed = 0;
    while let Some(line) = lines.next() {
        println!("{line}");
        // What a server of another host logs meanwhile.
        if let Some((host, log)) =
            line.split_once(": ").filter(|(host, _)| network.hosts.contains_key(host))
        {
            let log = log.to_owned();
            let numbers = std::cell::RefCell::new(&mut numbers);
            network.host(host).wait_for(|said| numbers.borrow_mut().matches(&log, said));
            continue;
        }
        let (host, command) = line.split_once("$ ").expect("a prompt");
        let command = numbers.here(command);
        executed += 1;
        let is_said = |line: &&str| {
            let host = line.split(['$', ':']).next().unwrap_or_default();
            HOSTS.iter().all(|(name, _)| host != *name)
        };
        let expected: Vec<&str> = std::iter::from_fn(|| lines.next_if(is_said)).collect();
        if command.ends_with('&') {
            network.host(host).start(&command);
            for page in expected {
                network.host(host).wait_for(|said| numbers_match(page, said));
            }
            continue;
        }
        let (success, said) = network.host(host).run(&command);
        println!("{said}");
        let fails = expected.first().is_some_and(|line| line.starts_with("mdalp: "));
        assert_eq!(success, !fails, "{command}");
        assert_eq!(said.lines().count(), expected.len(), "{command}");
        for (page, said) in expected.iter().zip(said.lines()) {
            assert!(numbers.matches(page, said), "the page says {page}");
        }
    }
    assert!(executed > 15, "{executed} lines");
}

/// As [`Numbers::matches`], where no transaction is named.
fn numbers_match(page: &str, said: &str) -> bool {
    like(&words(page), &words(said))
}

pub(super) fn b_t5_receivers_killed_between_sends_and_one_of_them_for_good() {
    let mut network = Network::new();
    network.start();
    let file = network.host("client").succeed("pwd").trim().to_owned() + "/payload";
    std::fs::write(file, payload(300_000)).unwrap();
    assert_eq!(network.send(), 3);
    for _ in 0..2 {
        for host in ["a", "b", "c"] {
            network.host(host).succeed("kill -9 $!");
            network.start_server(host);
        }
        assert_eq!(network.send(), 3);
    }
    network.host("b").succeed("kill -9 $!");
    network.heard("receiver is gone", "B");
    for _ in 0..3 {
        assert_eq!(network.send(), 2);
    }
    network.start_server("b");
    network.heard("receiver is back", "B");
    assert_eq!(network.send(), 3);
}

pub(super) fn a_hundred_sends_in_a_row_and_24_at_once_from_one_address_are_all_taken() {
    let mut network = Network::new();
    network.start();
    let client = network.host("client");
    client.succeed("head -c 6000 /dev/urandom > payload");
    let row = client.succeed(&format!("for n in $(seq 100); do {SEND}; done"));
    let at_once = client.succeed(&format!("for n in $(seq 24); do {SEND} & done; wait"));
    for (what, said, count) in [("in a row", row, 100), ("at once", at_once, 24)] {
        let mut seconds: Vec<f64> = said
            .lines()
            .map(|line| {
                let end: serde_json::Value = serde_json::from_str(line).expect(line);
                assert_eq!(end["verified"], true, "{line}");
                end["t_ns"].as_f64().unwrap() / 1e9
            })
            .collect();
        assert_eq!(seconds.len(), count);
        seconds.sort_by(f64::total_cmp);
        println!("{what}: median {:.4} s, slowest {:.4} s", seconds[count / 2], seconds[count - 1]);
    }
}
