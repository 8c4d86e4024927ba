//! A stand-in for `ping` that shows the emulated round trip.
//!
//! Real echoes see only loopback. Whatever a client runs as `ping`, in whatever order of arguments,
//! gets output in the format of iputils, and it takes as long. Sends nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

/// What ping shows for each address; `None` if it does not answer.
pub type Pings = BTreeMap<IpAddr, Option<Duration>>;

/// How iputils ends when an answer came, when none came, and when it was asked wrongly.
const ANSWERED: u8 = 0;
const SILENT: u8 = 1;
const WRONG: u8 = 2;

/// What was asked for.
#[derive(Clone, PartialEq, Debug)]
struct Asked {
    host: String,
    /// `None` is until the end of time.
    count: Option<u64>,
    interval: Duration,
    /// How long to wait for an answer, if there is none at all.
    patience: Duration,
    deadline: Option<Duration>,
    size: u64,
    quiet: bool,
}

/// Options that have a value, attached or as the next argument.
const WITH_VALUE: &str = "cilmpstwCFIMQSTWN";

fn parse(args: &[String]) -> Result<Asked, String> {
    let mut asked = Asked {
        host: String::new(),
        count: None,
        interval: Duration::from_secs(1),
        patience: Duration::from_secs(10),
        deadline: None,
        size: 56,
        quiet: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(letters) = arg.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            asked.host.clone_from(arg);
            continue;
        };
        for (at, letter) in letters.char_indices() {
            if letter == 'q' {
                asked.quiet = true;
            }
            if !WITH_VALUE.contains(letter) {
                continue;
            }
            let attached = letters.get(at + letter.len_utf8()..).filter(|rest| !rest.is_empty());
            let value = attached.or_else(|| args.next().map(String::as_str));
            let value =
                value.ok_or_else(|| format!("option requires an argument -- '{letter}'"))?;
            asked.set(letter, value).ok_or_else(|| format!("invalid argument: '{value}'"))?;
            break;
        }
    }
    if asked.host.is_empty() {
        return Err("usage error: Destination address required".to_owned());
    }
    Ok(asked)
}

impl Asked {
    /// Options without a meaning here are taken as they come.
    fn set(&mut self, letter: char, value: &str) -> Option<()> {
        let seconds = || value.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
        match letter {
            'c' => self.count = Some(value.parse().ok().filter(|n| *n > 0)?),
            'i' => self.interval = seconds()?,
            'W' => self.patience = seconds()?,
            'w' => self.deadline = Some(seconds()?),
            's' => self.size = value.parse().ok().filter(|n| *n <= 65_507)?,
            _ => {}
        }
        Some(())
    }
}

/// Does what `ping ARGS` would do in the emulated network, and returns its exit status. `sleep` lets
/// time pass.
///
/// # Errors
/// If `out` cannot be written to.
pub fn run(
    args: &[String],
    pings: &Pings,
    out: &mut impl Write,
    mut sleep: impl FnMut(Duration),
) -> io::Result<u8> {
    let asked = match parse(args) {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("ping: {problem}");
            return Ok(WRONG);
        }
    };
    let host = &asked.host;
    let Some((ip, answer)) = find(host, pings) else {
        eprintln!("ping: {host}: not an address of this lab, where ping is a stand-in");
        return Ok(WRONG);
    };
    if ip.is_ipv4() {
        writeln!(out, "PING {host} ({ip}) {}({}) bytes of data.", asked.size, asked.size + 28)?;
    } else {
        writeln!(out, "PING {host}({ip}) {} data bytes", asked.size)?;
    }
    out.flush()?;
    // Every answer is there before the next echo, or it would not be told apart from a lost one.
    let step = asked.interval.max(answer.unwrap_or_default());
    let mut took = Duration::ZERO;
    let (mut sent, mut received) = (0_u64, 0_u64);
    loop {
        sent += 1;
        let left = asked.deadline.map(|deadline| deadline.saturating_sub(took));
        let last = asked.count.is_some_and(|count| sent >= count);
        let wait = if last { answer.unwrap_or(asked.patience) } else { step };
        let now = wait.min(left.unwrap_or(wait));
        let arrives = answer.filter(|rtt| left.is_none_or(|left| *rtt <= left));
        sleep(arrives.unwrap_or_default());
        if let Some(rtt) = arrives {
            received += 1;
            if !asked.quiet {
                let size = asked.size + 8;
                writeln!(
                    out,
                    "{size} bytes from {ip}: icmp_seq={sent} ttl=64 time={} ms",
                    time(rtt)
                )?;
                out.flush()?;
            }
        }
        sleep(now.saturating_sub(arrives.unwrap_or_default()));
        took += now;
        if last || left.is_some_and(|left| left <= now) {
            break;
        }
    }
    let lost = (sent - received) * 100 / sent;
    let millis = took.as_millis();
    writeln!(out, "\n--- {host} ping statistics ---")?;
    writeln!(
        out,
        "{sent} packets transmitted, {received} received, {lost}% packet loss, time {millis}ms"
    )?;
    match answer.filter(|_| received > 0) {
        Some(rtt) => {
            let rtt = rtt.as_secs_f64() * 1000.0;
            writeln!(out, "rtt min/avg/max/mdev = {rtt:.3}/{rtt:.3}/{rtt:.3}/0.000 ms")?;
        }
        None => writeln!(out)?,
    }
    out.flush()?;
    Ok(if received > 0 { ANSWERED } else { SILENT })
}

/// The address that is meant and what ping shows for it.
fn find(host: &str, pings: &Pings) -> Option<(IpAddr, Option<Duration>)> {
    let known = |ip: IpAddr| Some((ip, *pings.get(&ip)?));
    match host.parse() {
        Ok(ip) => known(ip),
        Err(_) => (host, 0).to_socket_addrs().ok()?.find_map(|addr| known(addr.ip())),
    }
}

/// Milliseconds with the digits that iputils shows.
fn time(rtt: Duration) -> String {
    let ms = rtt.as_secs_f64() * 1000.0;
    let digits = match ms {
        ms if ms >= 100.0 => 0,
        ms if ms >= 10.0 => 1,
        ms if ms >= 1.0 => 2,
        _ => 3,
    };
    format!("{ms:.digits$}")
}

/// Writes `pings` so that [`from_text`] reads them.
pub fn to_text(pings: &Pings) -> String {
    let one = |(ip, ping): (&IpAddr, &Option<Duration>)| match ping {
        Some(ping) => format!("{ip}={}", ping.as_nanos()),
        None => format!("{ip}="),
    };
    pings.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Reads what [`to_text`] has written: `IP=NANOSECONDS,…`, without a number for a silent host.
pub fn from_text(text: &str) -> Option<Pings> {
    let one = |part: &str| {
        let (ip, nanos) = part.split_once('=')?;
        let ping =
            if nanos.is_empty() { None } else { Some(Duration::from_nanos(nanos.parse().ok()?)) };
        Some((ip.parse().ok()?, ping))
    };
    text.split(',').filter(|part| !part.is_empty()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pings() -> Pings {
        let ip = |text: &str| text.parse().expect("an address");
        BTreeMap::from([
            (ip("127.0.0.2"), Some(Duration::from_micros(335_148))),
            (ip("127.0.0.3"), None),
            (ip("::1"), Some(Duration::from_micros(1500))),
        ])
    }

    /// Status, output and how long it took.
    fn ping(line: &str) -> (u8, String, Duration) {
        let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let (mut out, mut slept) = (Vec::new(), Duration::ZERO);
        let status = run(&args, &pings(), &mut out, |time| slept += time).expect("written");
        (status, String::from_utf8(out).expect("text"), slept)
    }

    #[test]
    fn three_echoes_look_and_last_as_those_of_iputils() {
        let (status, out, took) = ping("-c 3 127.0.0.2");
        assert_eq!((status, took), (0, Duration::from_micros(2_335_148)));
        assert_eq!(
            out,
            "PING 127.0.0.2 (127.0.0.2) 56(84) bytes of data.\n\
             64 bytes from 127.0.0.2: icmp_seq=1 ttl=64 time=335 ms\n\
             64 bytes from 127.0.0.2: icmp_seq=2 ttl=64 time=335 ms\n\
             64 bytes from 127.0.0.2: icmp_seq=3 ttl=64 time=335 ms\n\
             \n--- 127.0.0.2 ping statistics ---\n\
             3 packets transmitted, 3 received, 0% packet loss, time 2335ms\n\
             rtt min/avg/max/mdev = 335.148/335.148/335.148/0.000 ms\n"
        );
    }

    #[test]
    fn the_order_of_arguments_does_not_matter() {
        let expected = ping("-c 3 127.0.0.2");
        for line in
            ["127.0.0.2 -c3", "-n -c 3 127.0.0.2", "-nc3 -W 5 127.0.0.2 -4", "-i 1 127.0.0.2 -c 3"]
        {
            assert_eq!(ping(line), expected, "{line}");
        }
        let (_, quiet, _) = ping("-qc 3 127.0.0.2");
        assert_eq!(quiet.lines().filter(|line| line.contains("icmp_seq")).count(), 0);
    }

    #[test]
    fn a_silent_host_takes_the_patience_of_the_last_echo_and_fails() {
        let (status, out, took) = ping("-c 3 127.0.0.3");
        assert_eq!((status, took.as_secs()), (1, 12));
        assert!(out.contains("3 packets transmitted, 0 received, 100% packet loss"), "{out}");
        assert!(!out.contains("rtt"));
        assert_eq!(ping("-c 3 -W 1 127.0.0.3").2.as_secs(), 3);
    }

    #[test]
    fn a_deadline_ends_it() {
        let (status, out, took) = ping("-w 2 127.0.0.2");
        assert_eq!((status, took.as_secs()), (0, 2));
        assert!(out.contains("2 packets transmitted, 2 received"), "{out}");
        assert_eq!(ping("-w 0.2 127.0.0.2").0, 1);
    }

    #[test]
    fn digits_and_ipv6_are_those_of_iputils() {
        let (_, out, _) = ping("-c 1 ::1");
        assert!(out.starts_with("PING ::1(::1) 56 data bytes\n"), "{out}");
        assert!(out.contains("time=1.50 ms"));
        assert_eq!(time(Duration::from_micros(62_849)), "62.8");
        assert_eq!(time(Duration::from_micros(31)), "0.031");
    }

    #[test]
    fn what_cannot_be_pinged_is_an_error() {
        for line in ["", "-c", "-c 0 127.0.0.2", "-c x 127.0.0.2", "-c 3 192.0.2.1", "-i -1 ::1"] {
            assert_eq!(ping(line).0, 2, "{line}");
        }
    }

    #[test]
    fn the_table_survives_being_text() {
        assert_eq!(from_text(&to_text(&pings())), Some(pings()));
        assert_eq!(from_text(""), Some(Pings::new()));
        assert_eq!(from_text("127.0.0.2=x"), None);
    }
}
