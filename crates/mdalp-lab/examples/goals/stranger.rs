//! What somebody gets who is on a list and never asked for it: G11, H27.

use super::{Check, Row};
use mdalp_lab::{Addresses, made_up_text};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;

pub(super) fn all(mdalp: &Path) -> Vec<(&'static str, Check)> {
    ["", ", 'caps': 'window=32'"]
        .into_iter()
        .map(|caps| ("G11", Box::pin(row(mdalp.to_owned(), caps)) as Check))
        .collect()
}

async fn row(mdalp: PathBuf, caps: &'static str) -> Row {
    let (measured, met) = match measure(mdalp, caps).await {
        Ok(datagrams) => judge(&datagrams),
        Err(error) => (error.to_string(), false),
    };
    let window = if caps.is_empty() { "classic" } else { "window 32" };
    Row {
        goal: "G11",
        what: format!("a stranger on a list of one, {window}"),
        asked: "≤ 16 datagrams (2.4 kB) in 30 s, ≤ 50 (7 kB) ever, after five none within 3 s"
            .to_owned(),
        measured,
        met,
    }
}

/// When each datagram came, after the first, and how long it was.
async fn measure(mdalp: PathBuf, caps: &str) -> std::io::Result<Vec<(Duration, usize)>> {
    let sockets = Addresses::Free.bind(2).map_err(std::io::Error::other)?;
    let mut sockets = sockets.into_iter().map(UdpSocket::from_std);
    let (Some(orchestrator), Some(victim)) = (sockets.next(), sockets.next()) else {
        return Err(std::io::ErrorKind::NotFound.into());
    };
    let (orchestrator, victim) = (orchestrator?, victim?);
    let (to, ip) = (orchestrator.local_addr()?, victim.local_addr()?.ip());
    let list = format!("Type:1;TID:7;DATA:[{{'ip_address': '{ip}', 'name': 'A'{caps}}}]");
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("payload");
    std::fs::write(&file, made_up_text(50_000))?;
    let mut client = tokio::process::Command::new(mdalp)
        .args(["send", "--no-journal", "--progress", "none", "--latencies", "30", "-f"])
        .arg(file)
        .args(["-a", &to.ip().to_string(), "-p", &to.port().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut datagrams = Vec::new();
    let (mut intent, mut chunk) = ([0; 2048], [0; 2048]);
    let mut began = None;
    loop {
        tokio::select! {
            got = orchestrator.recv_from(&mut intent) => {
                orchestrator.send_to(list.as_bytes(), got?.1).await?;
            }
            got = victim.recv(&mut chunk) => {
                let began = *began.get_or_insert_with(Instant::now);
                datagrams.push((began.elapsed(), got?));
            }
            ended = client.wait() => {
                ended?;
                return Ok(datagrams);
            }
        }
    }
}

fn judge(datagrams: &[(Duration, usize)]) -> (String, bool) {
    let soon = datagrams.iter().filter(|(at, _)| *at <= Duration::from_secs(30));
    let (first, first_bytes) = soon.fold((0, 0), |(n, bytes), (_, len)| (n + 1, bytes + len));
    let (all, bytes) = (datagrams.len(), datagrams.iter().map(|(_, len)| len).sum::<usize>());
    let later = datagrams.get(4..).unwrap_or_default();
    let gaps = later.windows(2).filter_map(|pair| pair.get(1)?.0.checked_sub(pair.first()?.0));
    let least = gaps.min().unwrap_or(Duration::MAX);
    // A twentieth of a second for the clocks of two processes on a busy machine.
    let met = (1..=16).contains(&first)
        && first_bytes <= 2400
        && all <= 50
        && bytes <= 7000
        && least >= Duration::from_millis(2950);
    let least = least.as_secs_f64();
    (
        format!(
            "{first} ({first_bytes} bytes) in 30 s, {all} ({bytes} bytes) in all, {least:.2} s apart"
        ),
        met,
    )
}
