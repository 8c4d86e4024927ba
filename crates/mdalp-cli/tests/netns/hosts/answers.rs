//! How much an orchestrator says to strangers (S16, H44, G10).

use super::{Strangers, choices, far, hosts};
use crate::support::{assert_small, json_lines, payload, run, text};
use std::time::{Duration, Instant};

const WHILE: Duration = Duration::from_secs(2);

/// Sends bare intents for a while; time taken, and lengths of all answers.
fn ask(strangers: &Strangers, mut who: impl FnMut() -> u32) -> (f64, Vec<usize>) {
    let began = Instant::now();
    let mut answers = Vec::new();
    while began.elapsed() < WHILE {
        for _ in 0..20 {
            strangers.send(who(), b"Type:0;", far(1));
        }
        answers.extend(strangers.answers());
    }
    (began.elapsed().as_secs_f64(), answers)
}

pub(super) fn s16_h44_g10_strangers_get_few_answers_and_honest_clients_theirs() {
    let net = hosts();
    let server = net.serve(&[]);
    let mut choose = choices(1);

    // One network of 256 hosts.
    let strangers = Strangers::new();
    let (seconds, answers) = ask(&strangers, || (choose() % 256) as u32);
    println!("one prefix: {} answers in {seconds:.1} s", answers.len());
    let most = 10 + (5.0 * seconds) as usize + 1;
    assert!((10..=most).contains(&answers.len()), "{} answers in {seconds} s", answers.len());

    // Everybody: 512 such networks.
    let strangers = Strangers::new();
    let (seconds, answers) = ask(&strangers, || choose() as u32);
    let bytes: usize = answers.iter().sum();
    println!("all: {} answers, {bytes} bytes in {seconds:.1} s", answers.len());
    let most = 12_500 + (125_000.0 * seconds) as usize + 1024;
    assert!(answers.len() > 100 && bytes <= most, "{bytes} bytes in {seconds} s");
    assert_small(server.id());

    // A padded intent is answered with no more than three times as much, and so without delay.
    let mut padded = b"Type:0;PAD:".to_vec();
    padded.resize(399, b'x');
    padded.push(b';');
    let honest = std::net::UdpSocket::bind("10.77.1.1:0").unwrap();
    honest.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // The flood may still fill the server's socket.
    let answer = std::iter::repeat_with(|| {
        honest.send_to(&padded, far(1)).unwrap();
        honest.recv(&mut [0; 2048])
    });
    let len = answer.flatten().next().unwrap();
    assert!(len <= 3 * padded.len());

    let bytes = payload(3000);
    let sent = run(&mut net.client(&net.file("payload", &bytes), &["--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let tid = json_lines(&sent.stdout).pop().unwrap()["tid"].as_u64().unwrap();
    assert!(net.get(tid) == bytes);
}
