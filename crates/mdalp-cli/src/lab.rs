//! `mdalp lab`: servers behind an emulated network, for any client in any language.
//!
//! Runs until Ctrl-C, or for as long as a command runs, and passes on its exit status. What the
//! network does is [`mdalp_lab`]'s; here are options, the terminal and signals.

mod live;
mod report;

use crate::capture::CaptureArgs;
use crate::console;
use crate::demo::failure;
use crate::exit::{Exit, Outcome};
use crate::server;
use crate::signals;
use mdalp_lab::command::{ClientRoom, exit_code, pings_of};
use mdalp_lab::{Addresses, Lab, LabConfig, load_scenario, made_up_text, ping};
use mdalp_proto::wire::Capabilities;
use std::io::{IsTerminal, stderr, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::ExitCode;

/// Runs servers behind an emulated network, for any client: until Ctrl-C, or while COMMAND runs
///
/// In COMMAND, {addr} and {port} are replaced by those of the orchestrator, {file} by a file of the
/// scenario's payload size. While COMMAND runs, `ping` shows the emulated round trips.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The network: a file, or one of the shipped scenarios, such as seed, p0 or loss-10
    #[arg(long, value_name = "FILE|NAME", default_value = "seed")]
    scenario: String,

    /// Seed of all chance; transfer N draws from it plus N - 1 [default: the scenario's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Address of the orchestrator; the receivers follow on the next ones [default: 127.0.0.1:4650, or
    /// free ones if COMMAND says {addr}]
    #[arg(long, value_name = "IP[:PORT]", value_parser = server::listen)]
    listen: Option<SocketAddr>,

    /// Keep what arrives in DIR [default: nothing is kept]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// What the receivers advertise beyond the classic protocol, such as "crc window=32 chunk=1200"
    /// [default: nothing]
    #[arg(long, value_name = "LIST", default_value = "", hide_default_value = true, value_parser = server::caps)]
    caps: Capabilities,

    #[command(flatten)]
    capture: CaptureArgs,

    /// Stand in for ping, with these figures
    #[arg(long, value_name = "TABLE", hide = true)]
    pings: Option<String>,

    /// A client and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        if let Some(table) = &self.pings {
            let pings = ping::from_text(table).ok_or_else(|| Exit::Usage.because("--pings"))?;
            let status = ping::run(&self.command, &pings, &mut stdout(), std::thread::sleep);
            // Nobody listens any more: real ping ends silently too.
            return Ok(ExitCode::from(status.unwrap_or(1)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(
            |error| Exit::Internal.because(format_args!("starting the runtime: {error}")),
        )?;
        runtime.block_on(self.lab())
    }

    async fn lab(self) -> Outcome {
        let scenario = load_scenario(&self.scenario).map_err(failure)?;
        let payload = scenario.payload_bytes;
        let filled_in = self.command.iter().any(|arg| arg.contains("{addr}"));
        let addresses = match self.listen {
            Some(first) => Addresses::From(first),
            None if filled_in => Addresses::Free,
            None => Addresses::default(),
        };
        let config = LabConfig {
            seed: self.seed,
            addresses,
            data: self.data,
            caps: self.caps,
            ..LabConfig::new(scenario)
        };
        let mut interrupt = pin!(signals::first());
        let capture = self.capture.open()?;
        let observers = capture.iter().cloned().map(mdalp_lab::capture::observer).collect();
        let lab = Lab::start(config, observers).map_err(failure)?;
        console::note(format_args!("{}", report::opening(&lab)));
        let code = if self.command.is_empty() {
            console::note(format_args!("Ctrl-C ends it"));
            watch(&lab, interrupt.as_mut()).await;
            ExitCode::SUCCESS
        } else {
            let mdalp = std::env::current_exe().map_err(|error| Exit::LocalIo.because(error))?;
            let text = made_up_text(payload);
            let room =
                ClientRoom::new(&mdalp, &pings_of(&lab), text.as_bytes()).map_err(failure)?;
            client(&lab, &room, &self.command, interrupt.as_mut()).await?
        };
        console::note(format_args!("{}", report::closing(&lab).trim_end()));
        lab.stop().await.map_err(failure)?;
        self.capture.finish(capture.as_ref());
        Ok(code)
    }
}

/// Shows the live view until a signal comes.
async fn watch<I: Future<Output = mdalp::Interrupt>>(lab: &Lab, interrupt: Pin<&mut I>) {
    if stderr().is_terminal() {
        tokio::select! {
            _ = interrupt => {}
            () = live::show(lab) => {}
        }
    } else {
        interrupt.await;
    }
}

/// Runs the client and returns its exit status. The terminal is its own meanwhile. A Ctrl-C reaches
/// it as well; a SIGTERM is only for us, and ends it.
async fn client<I: Future<Output = mdalp::Interrupt>>(
    lab: &Lab,
    room: &ClientRoom,
    command: &[String],
    interrupt: Pin<&mut I>,
) -> Outcome {
    let mut client = room.command(lab.orchestrator(), command).ok_or_else(|| {
        // The caller has looked, but a name of no characters is none either.
        Exit::Usage.because("the command is empty")
    })?;
    let name = &command[0];
    let failed = |error| Exit::LocalIo.because(format_args!("{name}: {error}"));
    let mut child = client.kill_on_drop(true).spawn().map_err(failed)?;
    let status = tokio::select! {
        status = child.wait() => status,
        signal = interrupt => {
            if signal == mdalp::Interrupt::Terminated {
                let _ = child.start_kill();
            }
            child.wait().await
        }
    };
    status.map(|status| ExitCode::from(exit_code(status))).map_err(failed)
}
