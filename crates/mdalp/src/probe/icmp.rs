//! Latency by native ICMP echo: a datagram socket where the system permits it, else a raw one.
//!
//! All echoes to all hosts leave within a few milliseconds of each other, so that a measurement
//! takes little longer than the slowest round trip.

use super::{Answer, ECHOES};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two echoes to one host: enough that one dropped burst does not take all three.
const SPACING: Duration = Duration::from_millis(5);
/// Hosts that are still silent when all others have answered get at least this long.
const LEAST_WAIT: Duration = Duration::from_millis(500);

/// # Errors
/// If neither kind of socket can be opened. Hosts that do not answer are no error.
pub(super) async fn measure(hosts: &[IpAddr], budget: Duration) -> io::Result<Vec<Answer>> {
    let v4 = client_for(hosts, ICMP::V4)?;
    let v6 = client_for(hosts, ICMP::V6)?;
    let deadline = Instant::now() + budget;
    let mut running = JoinSet::new();
    for (at, &host) in hosts.iter().enumerate() {
        let Some(client) = (if host.is_ipv4() { &v4 } else { &v6 }) else { continue };
        for echo in 0..ECHOES {
            let client = client.clone();
            running.spawn(async move {
                sleep(SPACING * u32::from(echo)).await;
                (at, echo_once(&client, host, at, echo, deadline).await)
            });
        }
    }
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); hosts.len()];
    let started = Instant::now();
    let mut give_up = deadline;
    while let Ok(Some(finished)) = timeout_at(give_up, running.join_next()).await {
        if let Ok((at, Ok(rtt))) = finished {
            times[at].push(rtt);
        }
        // Once somebody has answered, the silent ones get three times as long as the slowest of
        // those who did.
        if let Some(slowest) = times.iter().flatten().max() {
            give_up = deadline.min(started + (*slowest * 3).max(LEAST_WAIT));
        }
    }
    let mean = |times: &Vec<Duration>| {
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        let sum: Duration = times.iter().sum();
        sum.checked_div(count).ok_or_else(|| "no answer to ICMP echo".to_owned())
    };
    Ok(times.iter().map(mean).collect())
}

async fn echo_once(
    client: &Client,
    host: IpAddr,
    at: usize,
    echo: u16,
    deadline: Instant,
) -> Result<Duration, SurgeError> {
    // The sequence tells the echoes of one host apart, the identifier those of different hosts.
    let mut pinger =
        client.pinger(host, PingIdentifier(at as u16 ^ std::process::id() as u16)).await;
    pinger.timeout(deadline.saturating_duration_since(Instant::now()));
    pinger.ping(PingSequence(echo), &[0; 24]).await.map(|(_, rtt)| rtt)
}

/// A client for this version of IP, if any host needs one.
fn client_for(hosts: &[IpAddr], kind: ICMP) -> io::Result<Option<Client>> {
    let is_v6 = matches!(kind, ICMP::V6);
    if !hosts.iter().any(|host| host.is_ipv6() == is_v6) {
        return Ok(None);
    }
    let open = |socket| Client::new(&Config::builder().kind(kind).sock_type_hint(socket).build());
    open(socket2::Type::DGRAM).or_else(|_| open(socket2::Type::RAW)).map(Some)
}
