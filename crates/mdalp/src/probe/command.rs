//! Latency by the system's `ping`, in the formats of Linux, macOS, `BusyBox` and Windows.
//!
//! The arguments are fixed and the host is a parsed IP address, so that nothing from the network
//! can become an option or a command (S9, H25).

use super::{Answer, ECHOES};
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// The most `ping` processes at a time: each takes descriptors and memory, and a list may have a
/// thousand hosts.
const AT_ONCE: usize = 16;

/// Each echo is a process of its own: one process would send them a second apart, and that is longer
/// than a short transfer takes.
pub(super) async fn measure(hosts: &[IpAddr], budget: Duration) -> Vec<Answer> {
    measure_by(hosts, budget, ping).await
}

/// The first echoes go to all hosts before the second ones, and with more than [`AT_ONCE`] hosts each
/// has a part of the budget, so that silent hosts do not keep the others from being asked.
async fn measure_by<P>(
    hosts: &[IpAddr],
    budget: Duration,
    ping: impl Fn(IpAddr, Instant) -> P,
) -> Vec<Answer>
where
    P: Future<Output = Answer> + Send + 'static,
{
    let deadline = Instant::now() + budget;
    let rounds = u32::try_from(hosts.len().div_ceil(AT_ONCE).max(1)).unwrap_or(u32::MAX);
    let mut waiting =
        (0..ECHOES).flat_map(|_| hosts.iter().enumerate()).collect::<Vec<_>>().into_iter();
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); hosts.len()];
    let mut problems = vec!["no answer to ping".to_owned(); hosts.len()];
    let mut running = JoinSet::new();
    loop {
        while running.len() < AT_ONCE
            && Instant::now() < deadline
            && let Some((at, &host)) = waiting.next()
        {
            let answer = ping(host, deadline.min(Instant::now() + budget / rounds));
            running.spawn(async move { (at, answer.await) });
        }
        match running.join_next().await {
            Some(Ok((at, Ok(rtt)))) => times[at].push(rtt),
            Some(Ok((at, Err(problem)))) => problems[at] = problem,
            Some(Err(_)) => {}
            None => break,
        }
    }
    let mean = |(times, problem): (Vec<Duration>, String)| {
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX);
        times.iter().sum::<Duration>().checked_div(count).ok_or(problem)
    };
    times.into_iter().zip(problems).map(mean).collect()
}

async fn ping(host: IpAddr, deadline: Instant) -> Answer {
    let count = if cfg!(windows) { "-n" } else { "-c" };
    let mut child = Command::new("ping")
        .args([count, "1", &host.to_string()])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("the ping command: {error}"))?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // What has come by the deadline counts, even if ping has not finished.
        let mut stdout = stdout.take(64 * 1024);
        let _ = timeout_at(deadline, stdout.read_to_end(&mut output)).await;
    }
    mean_rtt(&String::from_utf8_lossy(&output)).ok_or_else(|| "no answer to ping".to_owned())
}

/// The mean round trip in ping's output: from its summary, else from its lines.
fn mean_rtt(output: &str) -> Option<Duration> {
    summary(output)
        .or_else(|| {
            let times: Vec<f64> = output.lines().filter_map(line_time).collect();
            let mean = times.iter().sum::<f64>() / times.len() as f64;
            (!times.is_empty()).then_some(mean)
        })
        .filter(|ms| ms.is_finite() && *ms >= 0.0 && *ms < 3_600_000.0)
        .map(|ms| Duration::from_secs_f64(ms / 1000.0))
}

/// `… min/avg/max/mdev = 1.0/2.0/3.0/0.1 ms`, `… min/avg/max = 1.0/2.0/3.0 ms`, `Average = 2ms`.
fn summary(output: &str) -> Option<f64> {
    for line in output.lines() {
        if let Some((_, figure)) = line.split_once("Average = ") {
            return figure.trim().strip_suffix("ms")?.trim().parse().ok();
        }
        if let Some((names, figures)) = line.split_once('=')
            && names.contains("min/avg/max")
        {
            return figures.trim().split('/').nth(1)?.trim().parse().ok();
        }
    }
    None
}

/// `64 bytes from …: icmp_seq=1 ttl=64 time=0.031 ms`; Windows also writes `time<1ms`.
fn line_time(line: &str) -> Option<f64> {
    let (_, after) = line.split_once("time")?;
    let figure = after.strip_prefix(['=', '<'])?;
    let end = figure.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(figure.len());
    figure[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(output: &str) -> Option<u128> {
        mean_rtt(output).map(|rtt| rtt.as_micros())
    }

    #[test]
    fn outputs_of_the_common_pings_are_read() {
        let linux = "PING 127.0.0.1 (127.0.0.1) 56(84) bytes of data.\n\
            64 bytes from 127.0.0.1: icmp_seq=1 ttl=64 time=0.031 ms\n\n--- 127.0.0.1 ping ---\n\
            3 packets transmitted, 3 received, 0% packet loss, time 2003ms\n\
            rtt min/avg/max/mdev = 335.001/335.148/335.9/0.4 ms\n";
        assert_eq!(micros(linux), Some(335_148));
        let mac = "round-trip min/avg/max/stddev = 11.5/12.25/13.0/0.5 ms";
        assert_eq!(micros(mac), Some(12_250));
        assert_eq!(micros("round-trip min/avg/max = 0.1/0.2/0.3 ms"), Some(200));
        assert_eq!(micros("    Minimum = 9ms, Maximum = 12ms, Average = 10ms\r\n"), Some(10_000));
    }

    #[test]
    fn without_a_summary_the_lines_count() {
        let cut = "64 bytes from 1: icmp_seq=1 ttl=64 time=10.0 ms\n\
            64 bytes from 1: icmp_seq=2 ttl=64 time=20.0 ms\n";
        assert_eq!(micros(cut), Some(15_000));
        assert_eq!(micros("Reply from 1: bytes=32 time<1ms TTL=128"), Some(1000));
    }

    #[test]
    fn s9_a_host_that_does_not_answer_has_no_figure() {
        for output in [
            "",
            "3 packets transmitted, 0 received, 100% packet loss, time 2040ms",
            "rtt min/avg/max/mdev = a/b/c/d ms",
            "time=inf",
            "rtt min/avg/max = 1/-5/1 ms",
        ] {
            assert_eq!(micros(output), None, "{output}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn b13_at_most_sixteen_pings_run_at_once_and_silent_hosts_leave_time_for_the_others() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
        let hosts: Vec<IpAddr> = (0..64_u8).map(|n| [10, 0, 0, n].into()).collect();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ping = |host: IpAddr, deadline: Instant| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                let rtt = Duration::from_millis(40);
                // Three in ten answer.
                let silent = !host.to_string().ends_with(['0', '4', '8']);
                let until = if silent { deadline } else { Instant::now() + rtt };
                tokio::time::sleep_until(until).await;
                now.fetch_sub(1, Relaxed);
                if silent { Err("no answer to ping".to_owned()) } else { Ok(rtt) }
            }
        };
        let (began, budget) = (Instant::now(), Duration::from_millis(2900));
        let answers = measure_by(&hosts, budget, ping).await;
        assert!(Instant::now() - began <= budget + Duration::from_millis(50));
        assert_eq!(most.load(Relaxed), AT_ONCE);
        for (host, answer) in hosts.iter().zip(answers) {
            let silent = !host.to_string().ends_with(['0', '4', '8']);
            assert_eq!(answer.is_err(), silent, "{host}");
        }
    }
}
