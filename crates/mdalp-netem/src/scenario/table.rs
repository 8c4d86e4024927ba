//! The tables of a scenario file as written, and how they become a [`Scenario`].
//!
//! Layers of tables are merged key by key first (the file's defaults, the direction, each change in
//! turn) and become configurations last, so that a change may name one of several keys that belong
//! together.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::{OrchestratorEnd, ReceiverEnd, Scenario, ScenarioError};
use crate::config::PathConfig;
use crate::far_end::FarEndConfig;

/// Declares a table of optional keys that can be laid over another one.
macro_rules! layer {
    ($(#[$meta:meta])* struct $name:ident { $($key:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(serde::Deserialize, Clone, Default)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name { $($key: Option<$type>),* }

        impl $name {
            /// These keys, and for those not set the ones of `base`.
            pub(super) fn over(self, base: &Self) -> Self {
                Self { $($key: self.$key.or_else(|| base.$key.clone())),* }
            }
        }
    };
}

mod acks;
mod path;
mod units;

use acks::AcksTable;
use path::PathTable;
use units::{Millis, Seconds};

const DEFAULT_SEED: u64 = 1;
const DEFAULT_PAYLOAD_BYTES: u64 = 5000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    #[serde(default)]
    description: String,
    seed: Option<u64>,
    payload_bytes: Option<u64>,
    #[serde(default)]
    paths: PathTable,
    orchestrator: Option<Spanned<OrchestratorTable>>,
    receiver: Vec<Spanned<ReceiverTable>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct OrchestratorTable {
    rtt_ms: Option<Millis>,
    up: Option<PathTable>,
    down: Option<PathTable>,
    queue_delay_ms: Option<Millis>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiverTable {
    name: String,
    ping_ms: Option<Millis>,
    answers_ping: Option<bool>,
    rtt_ms: Option<Millis>,
    dead: Option<bool>,
    up: Option<PathTable>,
    down: Option<PathTable>,
    acks: Option<AcksTable>,
    #[serde(default)]
    at: Vec<Spanned<ChangeTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeTable {
    s: Seconds,
    rtt_ms: Option<Millis>,
    dead: Option<bool>,
    up: Option<PathTable>,
    down: Option<PathTable>,
    acks: Option<AcksTable>,
}

/// What is wrong, and the bytes of the file that say it.
struct Wrong {
    span: Range<usize>,
    message: String,
}

pub(super) fn read(text: &str, source: &str) -> Result<Scenario, ScenarioError> {
    let file = toml::from_str::<File>(text).map_err(|error| Wrong {
        span: error.span().unwrap_or_default(),
        message: error.message().to_owned(),
    });
    file.and_then(|file| build(file, source)).map_err(|wrong| locate(wrong, text, source))
}

fn build(file: File, source: &str) -> Result<Scenario, Wrong> {
    let orchestrator = match file.orchestrator {
        Some(table) => {
            let span = table.span();
            build_orchestrator(table.into_inner(), &file.paths)
                .map_err(|message| Wrong { span, message: format!("orchestrator: {message}") })?
        }
        None => build_orchestrator(OrchestratorTable::default(), &file.paths)
            .map_err(|message| Wrong { span: 0..0, message: format!("paths: {message}") })?,
    };
    let mut names = BTreeSet::new();
    let mut receivers = Vec::with_capacity(file.receiver.len());
    for table in file.receiver {
        let span = table.span();
        let table = table.into_inner();
        let name = table.name.clone();
        if !names.insert(name.clone()) {
            return Err(Wrong { span, message: format!("two receivers are named `{name}`") });
        }
        let receiver = build_receiver(table, &file.paths, span).map_err(|wrong| Wrong {
            message: format!("receiver `{name}`: {}", wrong.message),
            ..wrong
        })?;
        receivers.push(receiver);
    }
    if receivers.is_empty() {
        return Err(Wrong { span: 0..0, message: "there is no receiver".into() });
    }
    Ok(Scenario {
        name: file.name.unwrap_or_else(|| source.to_owned()),
        description: file.description,
        seed: file.seed.unwrap_or(DEFAULT_SEED),
        payload_bytes: file.payload_bytes.unwrap_or(DEFAULT_PAYLOAD_BYTES),
        orchestrator,
        receivers,
    })
}

fn build_orchestrator(
    table: OrchestratorTable,
    paths: &PathTable,
) -> Result<OrchestratorEnd, String> {
    let layer = EndLayer::base(paths).then(table.rtt_ms, None, table.up, table.down, None);
    let (up, down, _) = layer.build()?;
    let queue_delay = table.queue_delay_ms.unwrap_or_default().0;
    Ok(OrchestratorEnd { up, down, queue_delay })
}

fn build_receiver(
    table: ReceiverTable,
    paths: &PathTable,
    span: Range<usize>,
) -> Result<ReceiverEnd, Wrong> {
    let mut layer =
        EndLayer::base(paths).then(table.rtt_ms, table.dead, table.up, table.down, table.acks);
    let (up, down, far_end) = layer.build().map_err(|message| Wrong { span, message })?;
    let ping = table.ping_ms.map_or_else(
        || {
            let mean = |path: &PathConfig| path.delay.saturating_add(path.jitter.max / 2);
            mean(&up).saturating_add(mean(&down))
        },
        |ping| ping.0,
    );
    let answers_ping = table.answers_ping.unwrap_or(true) && !up.cut && !down.cut;
    let mut receiver = ReceiverEnd {
        name: table.name,
        ping: answers_ping.then_some(ping),
        up: up.into(),
        down: down.into(),
        far_end: far_end.into(),
    };
    let mut last = None;
    for change in table.at {
        let span = change.span();
        let change = change.into_inner();
        let at = change.s.0;
        let wrong = |message: String| Wrong { span, message: format!("at {at:?}: {message}") };
        if last.is_some_and(|last| at <= last) {
            return Err(wrong("changes must be in the order of their time".into()));
        }
        last = Some(at);
        layer = layer.then(change.rtt_ms, change.dead, change.up, change.down, change.acks);
        let (up, down, far_end) = layer.build().map_err(wrong)?;
        receiver.up = receiver.up.then(at, up);
        receiver.down = receiver.down.then(at, down);
        receiver.far_end = receiver.far_end.then(at, far_end);
    }
    Ok(receiver)
}

/// One end of the network with all layers merged so far.
struct EndLayer {
    up: PathTable,
    down: PathTable,
    acks: AcksTable,
    dead: bool,
}

impl EndLayer {
    fn base(paths: &PathTable) -> Self {
        Self { up: paths.clone(), down: paths.clone(), acks: AcksTable::default(), dead: false }
    }

    fn then(
        self,
        rtt: Option<Millis>,
        dead: Option<bool>,
        up: Option<PathTable>,
        down: Option<PathTable>,
        acks: Option<AcksTable>,
    ) -> Self {
        let one_way = PathTable::with_delay(rtt.map(|rtt| Millis(rtt.0 / 2)));
        let path = |table: Option<PathTable>, base: &PathTable| {
            table.unwrap_or_default().over(&one_way).over(base)
        };
        Self {
            up: path(up, &self.up),
            down: path(down, &self.down),
            acks: acks.unwrap_or_default().over(&self.acks),
            dead: dead.unwrap_or(self.dead),
        }
    }

    fn build(&self) -> Result<(PathConfig, PathConfig, FarEndConfig), String> {
        let path = |direction: &str, table: &PathTable| {
            let mut config = table.build().map_err(|error| format!("{direction}: {error}"))?;
            config.cut |= self.dead;
            Ok::<_, String>(config)
        };
        Ok((path("up", &self.up)?, path("down", &self.down)?, self.acks.build()))
    }
}

fn locate(wrong: Wrong, text: &str, source: &str) -> ScenarioError {
    let before = text.get(..wrong.span.start).unwrap_or_default();
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    ScenarioError {
        file: source.to_owned(),
        line: before.matches('\n').count() + 1,
        column: last_line.chars().count() + 1,
        message: wrong.message,
    }
}
