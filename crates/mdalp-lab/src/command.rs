//! Runs somebody's client inside a lab.
//!
//! Fills in where the servers are, and puts a stand-in for `ping` first in its PATH. Does not look
//! at what the client prints.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tokio::process::Command;

use crate::lab::{Lab, LabError};
use crate::ping::{self, Pings};

/// The environment of clients: a directory with the stand-in for `ping`, and the payload. Gone when
/// dropped.
#[derive(Debug)]
pub struct ClientRoom {
    dir: tempfile::TempDir,
    payload: PathBuf,
}

impl ClientRoom {
    /// Makes the directory. `mdalp` is the program that stands in: run as `mdalp lab --pings TABLE --
    /// ARGS…` it does what [`ping::run`] does.
    ///
    /// # Errors
    /// If the directory or a file in it cannot be written.
    pub fn new(mdalp: &Path, pings: &Pings, payload: &[u8]) -> Result<Self, LabError> {
        let made = || -> io::Result<Self> {
            let dir = tempfile::Builder::new().prefix("mdalp-lab-").tempdir()?;
            let path = dir.path().join("payload.txt");
            fs::write(&path, payload)?;
            write_stand_in(dir.path(), mdalp, pings)?;
            Ok(Self { dir, payload: path })
        };
        made().map_err(LabError::io("preparing the client's directory"))
    }

    /// `command` with `{addr}`, `{port}` and `{file}` filled in, ready to be started.
    pub fn command(&self, orchestrator: SocketAddr, command: &[String]) -> Option<Command> {
        let payload = self.payload.to_string_lossy();
        let fill = |arg: &String| {
            arg.replace("{addr}", &orchestrator.ip().to_string())
                .replace("{port}", &orchestrator.port().to_string())
                .replace("{file}", &payload)
        };
        let (program, args) = command.split_first()?;
        let mut client = Command::new(fill(program));
        client.args(args.iter().map(fill)).env("PATH", self.path()).env("MDALP_PROBE", "command");
        Some(client)
    }

    /// PATH with the stand-in before all others.
    fn path(&self) -> OsString {
        let mut path = self.dir.path().as_os_str().to_owned();
        if let Some(others) = std::env::var_os("PATH").filter(|others| !others.is_empty()) {
            path.push(":");
            path.push(others);
        }
        path
    }
}

/// What ping shows in `lab` for each address of it.
pub fn pings_of(lab: &Lab) -> Pings {
    let receivers = lab.scenario().receivers.iter().map(|receiver| receiver.ping);
    let addrs = lab.receivers().iter().map(SocketAddr::ip);
    let paths = &lab.scenario().orchestrator;
    let orchestrator = Some(paths.up.delay.saturating_add(paths.down.delay));
    addrs.zip(receivers).chain([(lab.orchestrator().ip(), orchestrator)]).collect()
}

/// The exit code that a shell shows for `status`: its own, or 128 and the number of the signal.
pub fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return 128_u8.wrapping_add(signal as u8);
    }
    status.code().map_or(1, |code| code as u8)
}

#[cfg(unix)]
fn write_stand_in(dir: &Path, mdalp: &Path, pings: &Pings) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // In single quotes nothing but a single quote has a meaning to a shell.
    let mdalp = mdalp.to_string_lossy().replace('\'', r"'\''");
    let table = ping::to_text(pings);
    let script = format!("#!/bin/sh\nexec '{mdalp}' lab --pings '{table}' -- \"$@\"\n");
    let path = dir.join("ping");
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
}

/// Only where a script without an extension can be run.
#[cfg(not(unix))]
fn write_stand_in(_: &Path, _: &Path, _: &Pings) -> io::Result<()> {
    Ok(())
}
