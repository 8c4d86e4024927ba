//! The relay between a plain UDP client and plain UDP servers that answer whatever they hear.
//!
//! The client shares no code with what it measures. Delays are only held against their lower
//! bound: a loaded machine may be late, but nothing may arrive too early.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mdalp_lab::relay::{Relay, RelayConfig};
use mdalp_lab::{Addresses, Direction};
use mdalp_netem::Scenario;

/// Far longer than anything here takes: whoever waits for it is waiting for something lost.
const PATIENCE: Duration = Duration::from_secs(30);

struct Outside {
    relay: Relay,
    fronts: Vec<SocketAddr>,
    client: UdpSocket,
    /// Direction, datagram and why it was lost, of all that the relay saw.
    seen: mpsc::Receiver<(Direction, Vec<u8>, Option<&'static str>)>,
}

/// A relay in front of servers that answer each datagram with what `answer` makes of it.
fn outside(text: &str, answer: fn(&[u8]) -> Vec<u8>) -> Outside {
    let scenario = Scenario::parse(text, "test").expect("a good scenario");
    let fronts = Addresses::Free.bind(1 + scenario.receivers.len()).expect("free addresses");
    let addrs: Vec<_> = fronts.iter().map(|s| s.local_addr().expect("bound")).collect();
    let mut servers = Vec::new();
    for _ in &fronts {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        servers.push(socket.local_addr().expect("bound"));
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&answer(&buffer[..len]), from);
            }
        });
    }
    let (tell, seen) = mpsc::channel();
    let observer = Box::new(move |seen: &mdalp_lab::relay::Seen<'_>| {
        let _ = tell.send((seen.direction, seen.bytes.to_vec(), seen.fate.lost));
    });
    let config = RelayConfig { fronts, servers, scenario, seed: 1, rebinding: None };
    let relay = Relay::start(config, vec![observer]).expect("a relay");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Outside { relay, fronts: addrs, client, seen }
}

fn echo(datagram: &[u8]) -> Vec<u8> {
    datagram.to_vec()
}

fn recv(client: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (len, from) = client.recv_from(&mut buffer).expect("an answer");
    (buffer[..len].to_vec(), from)
}

#[test]
fn no_round_trip_is_shorter_than_its_path_and_answers_come_from_where_they_were_asked() {
    let text = "[orchestrator]\nrtt_ms = 20\n[[receiver]]\nname = 'a'\nrtt_ms = 60\n\
                [[receiver]]\nname = 'b'\nup = { delay_ms = 5 }\ndown = { delay_ms = 30 }\n";
    let lab = outside(text, echo);
    let least = [20, 60, 35].map(Duration::from_millis);
    for round in 0..5 {
        let sent = Instant::now();
        for front in &lab.fronts {
            lab.client.send_to(&[round], front).expect("sent");
        }
        for _ in &lab.fronts {
            let (bytes, from) = recv(&lab.client);
            let took = sent.elapsed();
            assert_eq!(bytes, [round]);
            let index = lab.fronts.iter().position(|front| *front == from).expect("a front");
            assert!(took >= least[index], "{took:?} from {from}");
        }
    }
}

#[test]
fn an_ack_is_held_back_and_other_answers_are_not() {
    let text = "[[receiver]]\nname = 'a'\nacks = { delay_ms = 150, drop = [3] }\n";
    let lab = outside(text, |datagram| {
        let text = String::from_utf8_lossy(datagram);
        let ack = text.replace("Type:2", "Type:3");
        ack.split("DATA").next().unwrap_or_default().as_bytes().to_vec()
    });
    let sent = Instant::now();
    for seq in [3, 4] {
        let chunk = format!("Type:2;TID:1;SEQ:{seq};DATA:x");
        lab.client.send_to(chunk.as_bytes(), lab.fronts[1]).expect("sent");
    }
    lab.client.send_to(b"hello", lab.fronts[1]).expect("sent");
    assert_eq!(recv(&lab.client).0, b"hello");
    assert_eq!(recv(&lab.client).0, b"Type:3;TID:1;SEQ:4;");
    assert!(sent.elapsed() >= Duration::from_millis(150));
    let lost: Vec<_> = lab.seen.try_iter().filter_map(|(.., lost)| lost).collect();
    assert_eq!(lost, ["withheld by the receiver"]);
}

#[test]
fn losses_seen_from_outside_are_those_that_the_relay_reports() {
    let text = "[[receiver]]\nname = 'a'\nup = { loss = 0.2 }\ndown = { loss = 0.2 }\n";
    let lab = outside(text, echo);
    let (mut lost, mut arrived) = (0, 0);
    for n in 0..500_u16 {
        lab.client.send_to(&n.to_be_bytes(), lab.fronts[1]).expect("sent");
        // One at a time, so that no buffer on the way can lose anything.
        let end = lab
            .seen
            .iter()
            .find(|(direction, _, why)| why.is_some() || *direction == Direction::Down);
        let (_, bytes, why) = end.expect("a relay that runs");
        assert_eq!(bytes, n.to_be_bytes());
        if why.is_some() {
            lost += 1;
        } else {
            assert_eq!(recv(&lab.client).0, bytes);
            arrived += 1;
        }
    }
    lab.client.set_nonblocking(true).expect("no waiting");
    assert!(lab.client.recv_from(&mut [0]).is_err(), "nothing that was reported lost is here");
    assert_eq!(lost + arrived, 500);
    // 36 % of 500 are lost: 180, give or take five standard deviations of 10.7.
    assert!((126..234).contains(&lost), "{lost}");
}

#[test]
fn a_bottleneck_lets_no_more_through_than_its_rate() {
    let text = "[[receiver]]\nname = 'a'\nup = { rate_mbit = 4, overhead_bytes = 28 }\n";
    let lab = outside(text, echo);
    let count = 50_u32;
    let sent = Instant::now();
    for _ in 0..count {
        lab.client.send_to(&[0; 972], lab.fronts[1]).expect("sent");
    }
    for n in 1..=count {
        recv(&lab.client);
        assert!(sent.elapsed() >= Duration::from_millis(2) * n, "datagram {n}");
    }
}

#[test]
fn duplicates_and_damage_reach_the_other_end() {
    let text = "[[receiver]]\nname = 'a'\ndown = { duplicate = 1, corrupt_byte = 1 }\n";
    let lab = outside(text, echo);
    lab.client.send_to(b"hello", lab.fronts[1]).expect("sent");
    for _ in 0..2 {
        let (bytes, _) = recv(&lab.client);
        assert_eq!(bytes.iter().zip(b"hello").filter(|(a, b)| a != b).count(), 1);
    }
}

#[test]
fn each_client_meets_the_scenario_from_its_beginning() {
    let text = "[[receiver]]\nname = 'a'\nup = { lose = [1] }\n";
    let lab = outside(text, echo);
    let other = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    other.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for client in [&lab.client, &other] {
        client.send_to(b"first", lab.fronts[1]).expect("sent");
        client.send_to(b"second", lab.fronts[1]).expect("sent");
        assert_eq!(recv(client).0, b"second");
    }
}

#[test]
fn an_intent_after_data_begins_another_transfer_from_the_beginning() {
    let text = "[[receiver]]\nname = 'a'\nup = { lose = [1] }\n";
    let lab = outside(text, echo);
    for _ in 0..2 {
        lab.client.send_to(b"Type:0;", lab.fronts[0]).expect("sent");
        assert_eq!(recv(&lab.client).0, b"Type:0;");
        for seq in 0..2 {
            let chunk = format!("Type:2;TID:1;SEQ:{seq};DATA:");
            lab.client.send_to(chunk.as_bytes(), lab.fronts[1]).expect("sent");
        }
        assert_eq!(recv(&lab.client).0, b"Type:2;TID:1;SEQ:1;DATA:");
    }
    drop(lab.relay);
}
