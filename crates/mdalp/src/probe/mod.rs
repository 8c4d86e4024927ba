//! How far each receiver is: three echoes to every host at once.
//!
//! Ends within the budget whatever hosts do, and a silent host is a host without a figure, never
//! an error. Does not decide what becomes of the figures.

mod command;
#[cfg(feature = "icmp")]
mod icmp;

use std::net::IpAddr;
use std::time::Duration;

/// How latencies are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Method {
    /// Native ICMP; where the system does not permit it, the `ping` command.
    #[default]
    Auto,
    /// Native ICMP alone.
    Icmp,
    /// The system's `ping` alone.
    Command,
    /// Nothing is measured: equal shares.
    None,
}

/// The whole phase ends within this time. The figure is the original's three echoes a second apart.
pub const BUDGET: Duration = Duration::from_millis(2900);

/// Echoes to each host.
const ECHOES: u16 = 3;

/// What one host answered: its mean round trip, or why there is none.
pub type Answer = Result<Duration, String>;

/// What was measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measured {
    /// How: `icmp`, `command` or `none`.
    pub method: &'static str,
    /// In the order of the hosts.
    pub answers: Vec<Answer>,
    /// Why the preferred method was not used, if so.
    pub note: Option<String>,
}

/// Measures all `hosts` at once.
pub async fn measure(hosts: &[IpAddr], method: Method) -> Measured {
    let nothing = |why: &str| vec![Err(why.to_owned()); hosts.len()];
    let mut note = None;
    #[cfg(feature = "icmp")]
    if matches!(method, Method::Auto | Method::Icmp) {
        match icmp::measure(hosts, BUDGET).await {
            Ok(answers) => return Measured { method: "icmp", answers, note },
            Err(error) => note = Some(format!("ICMP sockets: {error}")),
        }
    }
    #[cfg(not(feature = "icmp"))]
    if method == Method::Icmp {
        note = Some("built without native ICMP".to_owned());
    }
    if matches!(method, Method::Auto | Method::Command) {
        let answers = command::measure(hosts, BUDGET).await;
        return Measured { method: "command", answers, note };
    }
    let why = note.clone().unwrap_or_else(|| "not measured".to_owned());
    Measured { method: "none", answers: nothing(&why), note }
}
