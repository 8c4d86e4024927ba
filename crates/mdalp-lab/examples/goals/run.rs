//! One client in one lab, and what became of it.

use mdalp_lab::flow::{Flow, PointKind};
use mdalp_lab::relay::{Rebinding, Seen};
use mdalp_lab::{Addresses, Direction, Lab, LabConfig, Place, made_up_text};
use mdalp_netem::Scenario;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::wire::Capabilities;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What to run.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) mdalp: PathBuf,
    pub(super) scenario: Scenario,
    pub(super) seed: u64,
    /// What receivers advertise.
    pub(super) caps: &'static str,
    pub(super) payload: usize,
    /// More options of the client.
    pub(super) options: Vec<String>,
    pub(super) rebinding: Option<Rebinding>,
    /// How many transfers, one after the other.
    pub(super) transfers: usize,
}

/// What went to and from the orchestrator, in bytes.
#[derive(Clone, Default)]
pub(super) struct Questions {
    pub(super) intents: Vec<usize>,
    pub(super) answers: Vec<usize>,
}

/// What became of it.
#[derive(Clone, Default)]
pub(super) struct Ran {
    /// Exit codes of the clients.
    pub(super) exits: Vec<Option<i32>>,
    /// Transfers that are whole in the store, or why it could not be tried.
    pub(super) whole: usize,
    pub(super) failed: Option<String>,
    pub(super) flows: Vec<Flow>,
    pub(super) questions: Questions,
    /// All transfers, from the first process to the end of the last.
    pub(super) took: Duration,
}

impl Ran {
    /// Whether all clients succeeded and the servers hold every byte.
    pub(super) fn complete(&self) -> bool {
        self.whole == self.exits.len()
            && !self.exits.is_empty()
            && self.exits.iter().all(|exit| *exit == Some(0))
    }

    /// From the first chunk to the last ack, of the first transfer.
    pub(super) fn sending(&self) -> Duration {
        let Some(flow) = self.flows.iter().find(|flow| flow.tid.is_some()) else {
            return Duration::ZERO;
        };
        let first = flow.points.iter().find(|point| point.kind == PointKind::Sent);
        let first = first.map(|point| point.at).unwrap_or_default();
        flow.last_ack.unwrap_or_default().saturating_sub(first)
    }

    /// Chunks sent to each receiver, repeated ones too.
    pub(super) fn datagrams(&self) -> Vec<u64> {
        let lanes = self.flows.iter().flat_map(|flow| &flow.lanes);
        lanes.map(|lane| lane.chunks + lane.retransmissions).collect()
    }

    /// For the table, where something went wrong.
    pub(super) fn ends(&self) -> String {
        let codes = |exit: &Option<i32>| exit.map_or("signal".to_owned(), |code| code.to_string());
        let codes: Vec<_> = self.exits.iter().map(codes).collect();
        self.failed.clone().unwrap_or_else(|| format!("exit {}", codes.join(" ")))
    }
}

impl Run {
    pub(super) async fn go(self) -> Ran {
        let mut ran = Ran::default();
        if let Err(error) = self.try_go(&mut ran).await {
            ran.failed = Some(error.to_string());
        }
        ran
    }

    async fn try_go(&self, ran: &mut Ran) -> Result<(), Box<dyn std::error::Error>> {
        let config = LabConfig {
            seed: Some(self.seed),
            addresses: Addresses::Free,
            caps: Capabilities::parse(self.caps),
            rebinding: self.rebinding,
            ..LabConfig::new(self.scenario.clone())
        };
        let questions = Arc::new(Mutex::new(Questions::default()));
        let noted = Arc::clone(&questions);
        let observer = Box::new(move |seen: &Seen<'_>| {
            if seen.place == Place::Orchestrator {
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                match seen.direction {
                    Direction::Up => noted.intents.push(seen.bytes.len()),
                    Direction::Down => noted.answers.push(seen.bytes.len()),
                }
            }
        });
        let lab = Lab::start(config, vec![observer])?;
        let dir = tempfile::tempdir()?;
        let text = made_up_text(self.payload as u64);
        let began = Instant::now();
        for transfer in 0..self.transfers {
            let file = dir.path().join(format!("payload{transfer}"));
            std::fs::write(&file, &text)?;
            ran.exits.push(self.client(&lab, &file).await?);
        }
        ran.took = began.elapsed();
        ran.flows = lab.ledger().flows();
        ran.questions = questions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for tid in ran.flows.iter().filter_map(|flow| flow.tid) {
            let mut held = Vec::new();
            let done = mdalp_store::assemble(lab.store().as_ref(), TransactionId(tid), &mut held);
            ran.whole += usize::from(done.is_ok() && held == text.as_bytes());
        }
        Ok(lab.stop().await?)
    }

    async fn client(&self, lab: &Lab, file: &Path) -> std::io::Result<Option<i32>> {
        let to = lab.orchestrator();
        let mut client = tokio::process::Command::new(&self.mdalp);
        client.args(["send", "--no-journal", "--progress", "none", "-a", &to.ip().to_string()]);
        client.args(["-p", &to.port().to_string(), "-f"]).arg(file).args(&self.options);
        client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(client.kill_on_drop(true).spawn()?.wait().await?.code())
    }
}
