//! `mdalp compare`: balanced against single-server sending, in any network, by any client.
//!
//! Options and files; what is measured and how it is shown is [`mdalp_lab::compare`]'s.

use crate::console;
use crate::demo::failure;
use crate::exit::{Exit, Failure, Outcome};
use crate::settings::Seconds;
use crate::signals;
use mdalp_lab::compare::{self, Comparison, Plan, RealTime, Way};
use mdalp_lab::load_scenario;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Compares ways to send: balanced, one server alone, adaptive, and other clients
///
/// In real time each client is a process inside a lab of its own and is measured from outside; with
/// --simulated, time is virtual. All ways meet the same networks with the same seeds.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The networks: files, or names of shipped scenarios
    #[arg(long, value_name = "FILE|NAME,…", value_delimiter = ',', default_value = "seed")]
    scenario: Vec<String>,

    /// The ways of ours: balanced, single (each server), single-N, adaptive; with --simulated also
    /// original, original-single and original-single-N, models of the original client
    #[arg(long, value_name = "WAY,…", value_delimiter = ',', default_values = ["balanced", "single", "adaptive"])]
    modes: Vec<String>,

    /// Another client: a name, and a command for the shell in which {addr}, {port} and {file} are
    /// filled in; repeat it for each
    #[arg(long, value_name = "NAME=COMMAND", value_parser = client, conflicts_with = "simulated")]
    client: Vec<Way>,

    /// Runs of each way in each network
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,

    /// Seed of the first run; the next has one more [default: the scenario's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Run in virtual time
    #[arg(long)]
    simulated: bool,

    /// A run that takes longer has failed, in seconds
    #[arg(long, value_name = "S", default_value = "120")]
    deadline: Seconds,

    /// Runs at a time [default: 8 for each core, or one with --simulated]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,

    /// The way that the others are compared with
    #[arg(long, value_name = "WAY", default_value = "balanced")]
    reference: String,

    /// End with exit code 12 if WAY takes more than RATIO of the reference's time in any network
    #[arg(long, value_name = "WAY=RATIO", value_parser = at_most)]
    at_most: Vec<(String, f64)>,

    /// Write comparison.md, .csv, .json and .html to DIR [default: Markdown to standard output]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Exit code of a comparison that missed its threshold.
const MISSED: u8 = 12;

fn client(text: &str) -> Result<Way, String> {
    match text.split_once('=') {
        Some((name, command)) if !name.is_empty() && !command.is_empty() => {
            Ok(Way::Client { name: name.to_owned(), command: command.to_owned() })
        }
        _ => Err("give NAME=COMMAND".to_owned()),
    }
}

fn at_most(text: &str) -> Result<(String, f64), String> {
    let (way, ratio) = text.split_once('=').ok_or("give WAY=RATIO, such as adaptive=0.9")?;
    let ratio: f64 = ratio.parse().map_err(|_| format!("{ratio:?} is no number"))?;
    if !(ratio > 0.0 && ratio.is_finite()) {
        return Err("a ratio is more than 0".to_owned());
    }
    Ok((way.to_owned(), ratio))
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        let plan = self.plan()?;
        let mut report =
            Comparison::new(&plan, self.simulated, self.reference.clone(), command_line());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.simulated {
            compare::simulate(&plan, self.jobs.unwrap_or(cores), &mut report);
        } else {
            let mdalp = std::env::current_exe().map_err(|error| Exit::LocalIo.because(error))?;
            let how = RealTime { mdalp, jobs: self.jobs.unwrap_or(8 * cores) };
            if let Some(code) = measure(&plan, &how, &mut report)? {
                return Ok(code);
            }
        }
        self.write(&report)?;
        Ok(self.judge(&report))
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let load = |name: &String| load_scenario(name).map_err(failure);
        let scenarios = self.scenario.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let most = scenarios.iter().map(|scenario| scenario.receivers.len()).max().unwrap_or(0);
        let mut ways = Vec::new();
        for mode in &self.modes {
            ways.extend(self.ways(mode, most).ok_or_else(|| {
                Exit::Usage.because(format_args!("--modes {mode}: there is no such way here"))
            })?);
        }
        ways.extend(self.client.iter().cloned());
        let names: Vec<String> = ways.iter().map(Way::name).collect();
        let mentioned = self.at_most.iter().map(|(way, _)| way).chain([&self.reference]);
        if let Some(unknown) = mentioned.into_iter().find(|way| !names.contains(way)) {
            let names = names.join(", ");
            return Err(
                Exit::Usage.because(format_args!("{unknown}: not compared; choose one of {names}"))
            );
        }
        let (runs, seed, deadline) = (self.runs, self.seed, self.deadline.0);
        Ok(Plan { scenarios, ways, runs, seed, deadline })
    }

    /// The ways that `mode` names; `None` if there are no such.
    fn ways(&self, mode: &str, most: usize) -> Option<Vec<Way>> {
        let place = |text: &str| text.parse().ok().filter(|place| (1..=most).contains(place));
        let each = |way: fn(usize) -> Way| (1..=most).map(way).collect();
        match mode {
            "balanced" => return Some(vec![Way::Balanced]),
            "adaptive" => return Some(vec![Way::Adaptive]),
            "single" => return Some(each(Way::Single)),
            "original" if self.simulated => return Some(vec![Way::Original(None)]),
            "original-single" if self.simulated => {
                return Some(each(|place| Way::Original(Some(place))));
            }
            _ => {}
        }
        if let Some(text) = mode.strip_prefix("original-single-").filter(|_| self.simulated) {
            return place(text).map(|place| vec![Way::Original(Some(place))]);
        }
        place(mode.strip_prefix("single-")?).map(|place| vec![Way::Single(place)])
    }

    fn write(&self, report: &Comparison) -> Result<(), Failure> {
        let Some(dir) = &self.out else { return console::print(&compare::markdown(report)) };
        let json = serde_json::to_string_pretty(report);
        let json = json.map_err(|error| Exit::Internal.because(error))? + "\n";
        let html = compare::html(report).map_err(|error| Exit::Internal.because(error))?;
        fs::create_dir_all(dir).map_err(|error| unwritable(dir, &error))?;
        let files = [
            ("comparison.md", compare::markdown(report)),
            ("comparison.csv", compare::csv(report)),
            ("comparison.json", json),
            ("comparison.html", html),
        ];
        for (name, text) in files {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
            console::note(format_args!("{}", path.display()));
        }
        Ok(())
    }

    /// Whether all thresholds were met.
    fn judge(&self, report: &Comparison) -> ExitCode {
        let mut missed = false;
        for (way, most) in &self.at_most {
            for network in &report.networks {
                let ratio = report.ratio(&network.name, way).map(|ratio| ratio.value);
                let failed =
                    report.samples_of(&network.name, way).iter().any(|s| s.failed.is_some());
                if failed || ratio.is_none_or(|ratio| ratio > *most) {
                    missed = true;
                    let ratio = ratio.map_or_else(|| "no ratio".to_owned(), |r| format!("{r:.3}"));
                    let failures = if failed { ", with failures" } else { "" };
                    console::note(format_args!(
                        "mdalp: {way} in {}: {ratio}{failures}, allowed is {most}",
                        network.name
                    ));
                }
            }
        }
        if missed { ExitCode::from(MISSED) } else { ExitCode::SUCCESS }
    }
}

/// Runs everything in real time. A code, if a signal ended it before.
fn measure(
    plan: &Plan,
    how: &RealTime,
    report: &mut Comparison,
) -> Result<Option<ExitCode>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::Internal.because(format_args!("starting the runtime: {error}")))?;
    runtime.block_on(async {
        let interrupt = signals::first();
        let tell = |sample: &compare::Sample| {
            let end = match &sample.failed {
                Some(why) => format!("failed: {why}"),
                None => format!("{:.3} s", sample.elapsed_s),
            };
            let (scenario, way, seed) = (&sample.scenario, &sample.way, sample.seed);
            console::note(format_args!("{scenario}, {way}, seed {seed}: {end}"));
        };
        tokio::select! {
            done = compare::measure(plan, how, report, tell) => done.map(|()| None).map_err(failure),
            signal = interrupt => {
                let code = mdalp::SendError::Interrupt(signal).reason().exit_code();
                Ok(Some(ExitCode::from(code)))
            }
        }
    })
}

/// How this program was called, so that a report can be made again.
fn command_line() -> String {
    let quoted = |arg: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.,/:@%+".contains(c);
        if !arg.is_empty() && arg.chars().all(plain) {
            arg
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    };
    let args = std::env::args_os().skip(1).map(|arg| quoted(arg.to_string_lossy().into_owned()));
    std::iter::once("mdalp".to_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Exit::LocalIo.because(format_args!("{}: {error}", path.display()))
}
