//! One trial: one system, loaded once, with the processor time that it took over the measured window.
//!
//! ```text
//!   start system (pinned) ── generator: connect │ warm-up │ measured window │ end ── stop system
//!   samples of the system's run time every 50 ms  ·  ·  · ┊ ·  ·  ·  ·  ·  ┊ ·
//!                                                     from┘                └to, by interpolation
//! ```
//! The generator says in its summary when the window was; the system's run time at both ends is interpolated between
//! the two nearest samples.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::unix_ns;
use crate::failure::Failure;
use crate::latency::Quantiles;
use crate::machine::{CoreMap, ProcessGroup};
use crate::opponent::{self, Kind, Programs};
use crate::process::{Interrupt, Order, Process};

/// Time between two samples of the system's run time.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// What the generator may take beyond warm-up and window: connecting, draining, writing.
const GENERATOR_SLACK: Duration = Duration::from_secs(30);

/// What every trial of a comparison shares.
#[derive(Debug)]
pub struct Lab {
    pub programs: Programs,
    pub interrupt: Interrupt,
    pub cores: CoreMap,
    /// The run directory.
    pub folder: PathBuf,
}

/// A system under the name that the report gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    pub label: String,
    pub kind: Kind,
}

/// The figures of one trial; `trial.json` in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub system: String,
    pub connections: u32,
    pub block: u32,
    /// The turn that the system had within its block.
    pub turn: u32,
    /// Folder of the generator's files, relative to the run directory.
    pub folder: String,
    /// Completed within the measured window.
    pub requests: u64,
    /// Errors, timeouts and shed requests.
    pub failed: u64,
    pub window_s: f64,
    pub throughput_per_s: f64,
    /// Run time of all threads of the system over the window.
    pub cpu_ns: u64,
    pub cpu_us_per_request: f64,
    pub latency_ns: Quantiles,
    pub generator_cpu_us_per_request: Option<f64>,
    /// Of the generator: `valid`, `suspect` or `invalid`.
    pub verdict: String,
    pub reasons: Vec<String>,
    /// Cores that the system's threads were allowed, as the kernel says.
    pub affinity: Vec<String>,
    pub processes: u32,
}

/// What the lab reads of the generator's `summary.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    pub verdict: String,
    pub reasons: Vec<String>,
    pub planned: u64,
    pub completed: u64,
    pub errors: u64,
    pub timed_out: u64,
    #[serde(default)]
    pub shed: u64,
    pub in_flight_at_end: u64,
    pub achieved_rate: f64,
    pub response_ns: Quantiles,
    pub generator_cpu_us_per_request: Option<f64>,
    pub duration_s: f64,
    pub warmup_s: f64,
    pub started_unix_ms: u64,
    #[serde(default)]
    pub browse: Option<BrowseSummary>,
}

/// The part of a browser run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrowseSummary {
    pub sessions_started: u64,
    pub sessions_completed: u64,
    pub sessions_failed: u64,
    #[serde(default)]
    pub sessions_shed: u64,
    pub pages: u64,
    pub page_load_ns: Quantiles,
    /// Failures by the name of the scenario's step.
    #[serde(default)]
    pub failed_steps: BTreeMap<String, u64>,
}

impl Summary {
    /// # Errors
    /// The file is missing or is no summary.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("summary.json");
        let bytes = fs::read(&path).map_err(|error| Failure::file(&path, &error))?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
    }

    /// Start and end of the measured window in nanoseconds since 1970.
    fn window_ns(&self) -> (u64, u64) {
        // Seconds of a run as nanoseconds: far below 2^53.
        let ns = |seconds: f64| (seconds * 1e9).round() as u64;
        let start = self.started_unix_ms * 1_000_000 + ns(self.warmup_s);
        (start, start + ns(self.duration_s))
    }
}

/// What is measured in one trial.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    pub system: &'a System,
    pub connections: u32,
    pub block: u32,
    pub turn: u32,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub seed: u64,
    /// The origin's address and process.
    pub origin: &'a str,
    pub origin_id: u32,
}

/// Performs a trial; the system is started for it and stopped after it.
///
/// # Errors
/// System or generator fail, a deadline passes, or a signal arrives.
pub fn perform(lab: &Lab, task: &Task<'_>) -> Result<Trial, Failure> {
    let name = format!("trials/c{}-b{:02}-{}", task.connections, task.block, task.system.label);
    let folder = lab.folder.join(&name);
    let mut system =
        opponent::start(task.system.kind, &lab.programs, task.origin, lab.cores.system, &folder, &lab.interrupt)?;
    let id = system.process.as_ref().map_or(task.origin_id, Process::id);
    let group = ProcessGroup::find(Path::new("/proc"), id);

    let mut generator = Process::start(&generator_order(lab, task, &system.address, &folder))?;
    let samples = sample_until_end(lab, task, &group, &mut generator)?;
    if let Some(process) = &mut system.process {
        process.still_running()?;
    }
    let affinity = group.affinity();
    let members = ProcessGroup::find(Path::new("/proc"), id);

    let summary = Summary::read(&folder)?;
    if summary.completed == 0 {
        return Err(Failure::Invalid(format!(
            "{}: {}; see {}",
            task.system.label,
            summary.reasons.join("; "),
            folder.display()
        )));
    }
    let mut reasons = summary.reasons.clone();
    if members.processes() != group.processes() {
        reasons.push(format!(
            "its processes changed during the trial: {:?} before, {:?} after",
            group.processes(),
            members.processes()
        ));
    }
    let (from, to) = summary.window_ns();
    let cpu_ns = run_time_at(&samples, to).saturating_sub(run_time_at(&samples, from));
    let requests = (summary.achieved_rate * summary.duration_s).round();
    if let Some(process) = system.process {
        process.stop()?;
    }
    let trial = Trial {
        system: task.system.label.clone(),
        connections: task.connections,
        block: task.block,
        turn: task.turn,
        folder: name,
        // A count that was divided by a time and is multiplied by it again: exact below 2^53.
        requests: requests as u64,
        failed: summary.errors + summary.timed_out + summary.shed,
        window_s: summary.duration_s,
        throughput_per_s: summary.achieved_rate,
        cpu_ns,
        cpu_us_per_request: cpu_ns as f64 / 1e3 / requests.max(1.0),
        latency_ns: summary.response_ns,
        generator_cpu_us_per_request: summary.generator_cpu_us_per_request,
        verdict: summary.verdict,
        reasons,
        affinity,
        processes: u32::try_from(group.processes().len()).unwrap_or(u32::MAX),
    };
    crate::record::write_json(&folder.join("trial.json"), &trial)?;
    Ok(trial)
}

fn generator_order(lab: &Lab, task: &Task<'_>, address: &str, folder: &Path) -> Order {
    let (url, connections, seed) = (format!("http://{address}/"), task.connections.to_string(), task.seed.to_string());
    let (duration, warmup, core) =
        (task.duration_s.to_string(), task.warmup_s.to_string(), lab.cores.generator.to_string());
    let out = folder.to_string_lossy().into_owned();
    let arguments = [
        "run",
        &url,
        "--closed",
        "--connections",
        &connections,
        "--duration",
        &duration,
        "--warmup",
        &warmup,
        "--seed",
        &seed,
        "--core",
        &core,
        "--out",
        &out,
        "--quiet",
    ];
    Order::new("loadgen", &lab.programs.loadgen, &arguments, folder)
}

/// Time and run time of the system, from before the generator connects until after its window.
type Samples = Vec<(u64, u64)>;

fn sample_until_end(
    lab: &Lab,
    task: &Task<'_>,
    group: &ProcessGroup,
    generator: &mut Process,
) -> Result<Samples, Failure> {
    let allowed = Duration::from_secs_f64(task.warmup_s + task.duration_s) + GENERATOR_SLACK;
    let end = Instant::now() + allowed;
    let mut samples = Vec::new();
    loop {
        samples.push((unix_ns(), group.cpu_ns()));
        if let Some(status) = generator.ended()? {
            samples.push((unix_ns(), group.cpu_ns()));
            // Exit code 4 is an invalid run, which the summary explains.
            return match status.code() {
                Some(0 | 4) => Ok(samples),
                Some(_) | None => Err(Failure::Failed(format!(
                    "loadgen against {} ended with {status}{}",
                    task.system.label,
                    generator.quote()
                ))),
            };
        }
        lab.interrupt.check()?;
        if Instant::now() >= end {
            return Err(Failure::Failed(format!(
                "loadgen against {} did not end within {} s",
                task.system.label,
                allowed.as_secs()
            )));
        }
        thread::sleep(SAMPLE_EVERY);
    }
}

/// Run time at a moment, by interpolation; before the first and after the last sample theirs.
fn run_time_at(samples: &[(u64, u64)], at_ns: u64) -> u64 {
    let after = samples.partition_point(|&(time, _)| time < at_ns);
    match (after.checked_sub(1).and_then(|before| samples.get(before)), samples.get(after)) {
        (Some(&(t0, c0)), Some(&(t1, c1))) => {
            let share = (at_ns - t0) as f64 / (t1 - t0).max(1) as f64;
            // Within two samples 50 ms apart: exact in an f64.
            c0 + (share * c1.saturating_sub(c0) as f64).round() as u64
        }
        (Some(&(_, only)), None) | (None, Some(&(_, only))) => only,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::run_time_at;

    #[test]
    fn run_time_is_interpolated() {
        let samples = [(100, 0), (200, 50), (300, 150)];
        let found = [0, 100, 150, 200, 250, 300, 400].map(|at| run_time_at(&samples, at));
        assert_eq!(found, [0, 0, 25, 50, 100, 150, 150]);
        assert_eq!(run_time_at(&[], 5), 0);
    }
}
