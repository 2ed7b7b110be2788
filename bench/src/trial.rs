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

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::books;
use crate::case::{Case, Load};
use crate::clock::unix_ns;
use crate::counters;
use crate::failure::Failure;
use crate::hold::{Hold, Holding, touched_memory};
use crate::latency::Quantiles;
use crate::machine::{CoreMap, ProcessGroup};
use crate::memory::{Held, Memory};
use crate::opponent::{Kind, Programs, Running, sample_answer};
use crate::process::{Interrupt, Order, Process, ask, find_program};
use crate::threads::{CpuUse, Switches, ThreadPlace, Watch, interpolated, places};

/// Time between two samples of the system's run time.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// What the generator may take beyond warm-up and window: connecting, draining, writing.
const GENERATOR_SLACK: Duration = Duration::from_secs(30);

/// Requests of [`sample_answer`].
const SAMPLE_REQUESTS: u64 = 2;
/// An environment is made longer by less than this: the span over which programs were seen to change their speed.
const ENV_PADDING_BYTES_MAX: u32 = 4096;

/// What every trial of a comparison shares.
#[derive(Clone, Debug)]
pub struct Lab {
    pub programs: Programs,
    pub interrupt: Interrupt,
    pub cores: CoreMap,
    /// The run directory.
    pub folder: PathBuf,
}

impl Lab {
    /// Runs the generator and looks at the system's time meanwhile.
    ///
    /// # Errors
    /// The generator fails or does not end in time; a signal arrives; what `look` says.
    pub fn generate(
        &self,
        load: &GeneratorOrder<'_>,
        look: impl FnMut(u64) -> Result<(), Failure>,
    ) -> Result<Summary, Failure> {
        self.await_generator(load.start(self)?, load.folder, load.length_s(), look)
    }

    /// Waits for the end of a generator that writes into `folder` and takes so long by its order, looking at whatever
    /// `look` looks at meanwhile.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn await_generator(
        &self,
        mut generator: Process,
        folder: &Path,
        length_s: f64,
        mut look: impl FnMut(u64) -> Result<(), Failure>,
    ) -> Result<Summary, Failure> {
        let allowed = Duration::from_secs_f64(length_s) + GENERATOR_SLACK;
        let end = Instant::now() + allowed;
        loop {
            look(unix_ns())?;
            if let Some(status) = generator.ended()? {
                look(unix_ns())?;
                // Exit code 4 is an invalid run, which the summary explains.
                return match status.code() {
                    Some(0 | 4) => Summary::read(folder),
                    Some(_) | None => {
                        let folder = folder.display();
                        Err(Failure::Failed(format!("loadgen in {folder} ended with {status}{}", generator.quote())))
                    }
                };
            }
            self.interrupt.check()?;
            if Instant::now() >= end {
                return Err(Failure::Failed(format!("loadgen did not end within {} s", allowed.as_secs())));
            }
            thread::sleep(SAMPLE_EVERY);
        }
    }
}

/// What the generator does.
#[derive(Clone, Debug)]
pub struct GeneratorOrder<'a> {
    pub url: &'a str,
    /// Requests a second of an open loop; `None` is a closed one.
    pub rate: Option<f64>,
    pub connections: u32,
    /// A new connection for each request.
    pub new_connections: bool,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub seed: u64,
    /// Where its files go.
    pub folder: &'a Path,
    /// Takes every answer's `Server-Timing` apart.
    pub server_timing: bool,
}

impl GeneratorOrder<'_> {
    /// # Errors
    /// The program does not start.
    pub fn start(&self, lab: &Lab) -> Result<Process, Failure> {
        Process::start(&self.order(lab))
    }

    /// Warm-up and window.
    pub fn length_s(&self) -> f64 {
        self.warmup_s + self.duration_s
    }

    fn order(&self, lab: &Lab) -> Order {
        let mut arguments = vec!["run".to_owned(), self.url.to_owned()];
        let mut push = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        push("--connections", self.connections.to_string());
        push("--duration", self.duration_s.to_string());
        push("--warmup", self.warmup_s.to_string());
        push("--seed", self.seed.to_string());
        push("--core", lab.cores.generator.to_string());
        push("--out", self.folder.to_string_lossy().into_owned());
        if let Some(rate) = self.rate {
            push("--rate", format!("{rate:.3}"));
            push("--arrivals", "poisson".to_owned());
            // Polling before each arrival would take the core from the origin that shares it.
            if lab.cores.generator == lab.cores.origin {
                push("--spin-us", "0".to_owned());
            }
        } else {
            arguments.push("--closed".to_owned());
        }
        if self.new_connections {
            arguments.extend(["--connection-requests", "1"].map(str::to_owned));
        }
        if self.server_timing {
            arguments.push("--server-timing".to_owned());
        }
        arguments.push("--quiet".to_owned());
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Order::new("loadgen", &lab.programs.loadgen, &words, self.folder)
    }
}

/// What a system is in a comparison for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// To be compared.
    #[default]
    Measured,
    /// The first own system once more, under another name: whatever differs between the two is noise.
    Null,
    /// The null server on the system's core: what the generator measures when there is next to nothing to measure.
    Floor,
    /// A measured system that also says where the time of each request went; it is compared with nobody.
    Tiers,
}

/// A system under the name that the report gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    pub label: String,
    pub kind: Kind,
    /// Connections that are held beside every load of it.
    pub held: Option<Hold>,
    pub role: Role,
}

impl System {
    /// A system to be compared, under its own name.
    pub fn of(kind: Kind) -> Self {
        Self { label: kind.name(), kind, held: None, role: Role::Measured }
    }
}

/// What a start of a system finds around it.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// For configurations and logs.
    pub folder: &'a Path,
    /// Bytes by which its environment is made longer: the place of its stack, and with it how fast it happens to be,
    /// depends on that.
    pub env_padding_bytes: u32,
}

impl<'a> Setting<'a> {
    /// With the lab's own environment.
    pub fn plain(folder: &'a Path) -> Self {
        Self { folder, env_padding_bytes: 0 }
    }
}

/// How the systems of a job are started, and what they answer.
pub trait Stage {
    /// Starts a system, pinned, so that it can take the load of `case`.
    ///
    /// # Errors
    /// It is not installed or does not get ready.
    fn start(&self, system: &System, case: &Case, setting: &Setting<'_>) -> Result<Running, Failure>;

    /// The path that is asked for.
    fn path(&self) -> &str;

    /// The body that every system must answer.
    ///
    /// # Errors
    /// Nobody is there to be asked.
    fn expected_body(&self, case: &Case) -> Result<Vec<u8>, Failure>;
}

/// The figures of one trial; `trial.json` in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub system: String,
    #[serde(flatten)]
    pub case: Case,
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
    /// Offered in an open loop.
    pub rate_per_s: Option<f64>,
    /// What held connections did to it, where there were some.
    pub held: Option<Held>,
    pub generator_cpu_us_per_request: Option<f64>,
    /// Of the generator: `valid`, `suspect` or `invalid`.
    pub verdict: String,
    pub reasons: Vec<String>,
    /// Cores that the system's threads were allowed, as the kernel says.
    pub affinity: Vec<String>,
    pub processes: u32,
    #[serde(default)]
    pub role: Role,
    /// The system's time by group of threads: what `cpu_us_per_request` is made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_by_group: BTreeMap<String, CpuUse>,
    /// Of all threads of the system, for each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<Switches>,
    /// Hardware counters by perf's names, for each request; absent where the machine has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<BTreeMap<String, f64>>,
    /// Threads that did work worth naming: the worker count, asked of the kernel.
    #[serde(default)]
    pub busy_threads: u32,
    /// Where every thread of the system and of the generator was allowed to run, as the kernel says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ThreadPlace>,
    /// Bytes by which the environment of the system was longer than the lab's own, drawn anew for every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_padding_bytes: Option<u32>,
    /// Of the running program's file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_sha256: String,
    /// Requests that the generator completed, warm-up and samples included, and those that origins answered, where
    /// they could be asked.
    #[serde(default)]
    pub asked_requests: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_requests: Option<u64>,
    /// Bytes that the system wrote to files under the load, as logs are; `None` where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
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
    pub warmup_requests: u64,
    #[serde(default)]
    pub browse: Option<BrowseSummary>,
    /// By the name of a scenario's step.
    #[serde(default)]
    pub tags: BTreeMap<String, TagSummary>,
}

/// The requests of one tag.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct TagSummary {
    pub response_ns: Quantiles,
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
    pub fn window_ns(&self) -> (u64, u64) {
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
    pub case: Case,
    pub block: u32,
    pub turn: u32,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub seed: u64,
    /// Requests a second, for [`Load::Rate`].
    pub rate_per_s: Option<f64>,
}

impl Task<'_> {
    /// Of the run directory.
    fn folder_name(&self) -> String {
        format!("trials/{}-b{:02}-{}", self.case.key(), self.block, self.system.label)
    }

    /// Drawn anew for every start, and the same again from the same seed.
    fn env_padding_bytes(&self) -> u32 {
        let turns = u64::from(self.block) << 32 | u64::from(self.turn);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ turns.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.next_u32() % ENV_PADDING_BYTES_MAX
    }

    fn hold(&self) -> Option<Hold> {
        match self.case.load {
            Load::Idle => Some(Hold::idle(self.case.idle_connections)),
            Load::KeepAlive | Load::NewConnections | Load::Rate => self.system.held,
        }
    }
}

/// Performs a trial; the system is started for it and stopped after it. What goes wrong with the system makes the
/// trial invalid and leaves the others alone.
///
/// # Errors
/// A signal arrives, or the run directory cannot be written.
pub fn perform(lab: &Lab, stage: &dyn Stage, task: &Task<'_>) -> Result<Trial, Failure> {
    let folder = lab.folder.join(task.folder_name());
    let trial = match measure(lab, stage, task, &folder) {
        Ok(trial) => trial,
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(failure) => failed(task, failure.to_string().replace('\n', " ")),
    };
    crate::record::write_json(&folder.join("trial.json"), &trial)?;
    Ok(trial)
}

fn measure(lab: &Lab, stage: &dyn Stage, task: &Task<'_>, folder: &Path) -> Result<Trial, Failure> {
    let base = match task.case.load {
        Load::Idle => Some(memory_without(lab, stage, task, &folder.join("without"))?),
        Load::KeepAlive | Load::NewConnections | Load::Rate => None,
    };
    let env_padding_bytes = task.env_padding_bytes();
    let mut system = stage.start(task.system, &task.case, &Setting { folder, env_padding_bytes })?;
    // A program may listen before its workers are there: the first answer comes from one.
    sample_answer(&system.address, stage.path())?;
    let group = ProcessGroup::find(Path::new("/proc"), &system.groups);
    let url = format!("http://{}{}", system.address, stage.path());
    let holding =
        task.hold().map(|hold| Holding::begin(lab, hold, &task.case, &url, &group, folder, base)).transpose()?;

    let load = GeneratorOrder {
        url: &url,
        rate: task.rate_per_s,
        connections: task.case.connections,
        new_connections: task.case.load == Load::NewConnections,
        warmup_s: task.warmup_s,
        duration_s: task.duration_s,
        seed: task.seed,
        folder,
        server_timing: task.system.role == Role::Tiers,
    };
    let behind = ProcessGroup::find(Path::new("/proc"), &system.behind());
    let written_before = group.written_bytes();
    let (mut samples, mut watch) = (Vec::new(), Watch::new(&group));
    let mut threads = Vec::new();
    let generator = load.start(lab)?;
    let (generator_id, begun) = (generator.id(), Instant::now());
    let perf = lab.programs.counters.as_ref().ok();
    let perf = perf.map(|perf| counters::begin(perf, group.processes(), task.warmup_s, task.duration_s, folder));
    let perf = perf.transpose()?;
    let summary = lab.await_generator(generator, load.folder, load.length_s(), |now_ns| {
        samples.push((now_ns, [group.cpu_ns()]));
        watch.look(now_ns);
        // In the middle of the load every thread is where it will be.
        if threads.is_empty() && begun.elapsed().as_secs_f64() >= task.warmup_s + task.duration_s / 2.0 {
            threads = places("system", &group);
            threads.extend(places("origin", &behind));
            threads.extend(places("generator", &ProcessGroup::find(Path::new("/proc"), &[generator_id])));
        }
        Ok(())
    })?;
    system.still_running()?;
    let held = holding.map(|holding| holding.end(lab, &group)).transpose()?;
    let written_bytes = written_before.zip(group.written_bytes()).map(|(before, after)| after.saturating_sub(before));
    let affinity = group.affinity();
    let members = ProcessGroup::find(Path::new("/proc"), &system.groups);

    let mut reasons = summary.reasons.clone();
    let mut verdict = summary.verdict.clone();
    if members.processes() != group.processes() {
        if verdict == "valid" {
            "suspect".clone_into(&mut verdict);
        }
        reasons.push(format!(
            "its processes changed during the trial: {:?} before, {:?} after",
            group.processes(),
            members.processes()
        ));
    }
    if let (Some(held), Some(hold)) = (held, task.hold())
        && held.held < hold.connections
    {
        "invalid".clone_into(&mut verdict);
        reasons.push(format!("only {} of {} connections could be held", held.held, hold.connections));
    }
    if let Some(wrong) = system.admin.as_deref().map(books::wrong).transpose()?.flatten() {
        "invalid".clone_into(&mut verdict);
        reasons.push(wrong);
    }
    let (from, to) = summary.window_ns();
    // Nanoseconds of a trial: exact in an f64.
    let cpu_ns = (interpolated(&samples, to)[0] - interpolated(&samples, from)[0]).round().max(0.0) as u64;
    let requests = (summary.achieved_rate * summary.duration_s).round();
    let usage = watch.between(from, to);
    let counters = perf.map(|perf| counters::end(perf, &lab.interrupt, folder, requests)).transpose()?.flatten();
    let program_sha256 = sha256(system.groups.first().copied().unwrap_or_default());
    for wrong in misplaced(&threads, lab.cores) {
        if verdict == "valid" {
            "suspect".clone_into(&mut verdict);
        }
        reasons.push(wrong);
    }
    let origin_requests = system.stop()?;
    let asked = SAMPLE_REQUESTS + summary.warmup_requests + summary.completed;
    let in_progress =
        u64::from(task.case.connections) + summary.errors + summary.timed_out + summary.shed + summary.in_flight_at_end;
    // What is held asks as well, and nobody counts that.
    if let Some(wrong) =
        origin_requests.filter(|_| held.is_none()).and_then(|seen| other_work(asked, seen, in_progress))
    {
        "invalid".clone_into(&mut verdict);
        reasons.push(wrong);
    }
    Ok(Trial {
        // A count that was divided by a time and is multiplied by it again: exact below 2^53.
        requests: requests as u64,
        failed: summary.errors + summary.timed_out + summary.shed,
        window_s: summary.duration_s,
        throughput_per_s: summary.achieved_rate,
        cpu_ns,
        cpu_us_per_request: cpu_ns as f64 / 1e3 / requests.max(1.0),
        latency_ns: summary.response_ns,
        held,
        generator_cpu_us_per_request: summary.generator_cpu_us_per_request,
        verdict,
        reasons,
        affinity,
        processes: u32::try_from(group.processes().len()).unwrap_or(u32::MAX),
        cpu_by_group: usage.cpu_by_group(requests),
        switches: Some(usage.switches(requests)),
        counters,
        busy_threads: usage.busy_threads,
        threads,
        env_padding_bytes: Some(env_padding_bytes),
        program_sha256,
        asked_requests: asked,
        origin_requests,
        written_bytes,
        ..failed(task, String::new())
    })
}

/// A sentence if origins answered more or fewer requests than the generator completed, but for those in progress: then the
/// system answers some by itself, or asks twice.
fn other_work(asked: u64, seen: u64, in_progress: u64) -> Option<String> {
    (seen.abs_diff(asked) > in_progress).then(|| {
        format!("other work than asked: origins answered {seen} requests where the generator completed {asked}")
    })
}

/// What the core map says against where threads may run: one sentence for each that may run elsewhere. Of the generator
/// only the thread that keeps time is pinned.
fn misplaced(threads: &[ThreadPlace], cores: CoreMap) -> Vec<String> {
    let wrong = |place: &ThreadPlace| {
        let wanted = match (place.party.as_str(), place.thread.as_str()) {
            ("system", _) => cores.system,
            ("origin", _) => cores.origin,
            ("generator", "timing") => cores.generator,
            _ => return None,
        };
        (place.cores != wanted.to_string()).then(|| {
            format!("thread {} of the {} may run on {} instead of {wanted}", place.thread, place.party, place.cores)
        })
    };
    threads.iter().filter_map(wrong).collect()
}

/// Memory of the system under the load of the case without its idle connections, and not made for them.
fn memory_without(lab: &Lab, stage: &dyn Stage, task: &Task<'_>, folder: &Path) -> Result<Memory, Failure> {
    let case = Case { load: Load::KeepAlive, idle_connections: 0, ..task.case };
    let setting = Setting { folder, env_padding_bytes: task.env_padding_bytes() };
    let system = stage.start(task.system, &case, &setting)?;
    sample_answer(&system.address, stage.path())?;
    let group = ProcessGroup::find(Path::new("/proc"), &system.groups);
    let url = format!("http://{}{}", system.address, stage.path());
    let memory = touched_memory(lab, &case, &url, &group, &folder.join("touch"))?;
    system.stop()?;
    Ok(memory)
}

/// A trial that has no figures.
fn failed(task: &Task<'_>, why: String) -> Trial {
    Trial {
        system: task.system.label.clone(),
        case: task.case,
        block: task.block,
        turn: task.turn,
        folder: task.folder_name(),
        requests: 0,
        failed: 0,
        window_s: 0.0,
        throughput_per_s: 0.0,
        cpu_ns: 0,
        cpu_us_per_request: 0.0,
        latency_ns: Quantiles::default(),
        rate_per_s: task.rate_per_s,
        held: None,
        generator_cpu_us_per_request: None,
        verdict: "invalid".to_owned(),
        reasons: vec![why],
        affinity: Vec::new(),
        processes: 0,
        role: task.system.role,
        cpu_by_group: BTreeMap::new(),
        switches: None,
        counters: None,
        busy_threads: 0,
        threads: Vec::new(),
        env_padding_bytes: None,
        program_sha256: String::new(),
        asked_requests: 0,
        origin_requests: None,
        written_bytes: None,
    }
}

/// Of the file that process `id` runs; empty where `sha256sum` is missing.
pub fn sha256(id: u32) -> String {
    let answer = find_program("sha256sum").and_then(|program| ask(&program, &[&format!("/proc/{id}/exe")]));
    answer.and_then(|text| text.split_whitespace().next().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{ENV_PADDING_BYTES_MAX, System, Task, misplaced, other_work};
    use crate::case::{Case, Work};
    use crate::machine::CoreMap;
    use crate::opponent::Kind;
    use crate::threads::ThreadPlace;

    /// A cache that answers for the origin, and a proxy that asks it twice.
    #[test]
    fn a_system_that_does_other_work_is_told() {
        assert_eq!(other_work(10_000, 10_064, 64), None);
        assert_eq!(other_work(10_000, 9_936, 64), None);
        assert!(other_work(10_000, 12, 64).is_some_and(|text| text.contains("answered 12 requests")));
        assert!(other_work(10_000, 20_000, 64).is_some());
    }

    /// Every start has a length of its own, the same again from the same seed.
    #[test]
    fn the_environment_has_another_length_in_every_start() {
        let system = System::of(Kind::Direct);
        let padding = |seed: u64, block: u32, turn: u32| {
            let case = Case::keep_alive(Work::Proxy, 8, 128);
            let task =
                Task { system: &system, case, block, turn, warmup_s: 0.0, duration_s: 1.0, seed, rate_per_s: None };
            task.env_padding_bytes()
        };
        let all =
            |seed| (0..20).flat_map(|block| (0..5).map(move |turn| padding(seed, block, turn))).collect::<Vec<_>>();
        let found = all(7);
        assert_eq!(found, all(7));
        assert!(found.iter().all(|bytes| *bytes < ENV_PADDING_BYTES_MAX));
        let distinct: std::collections::BTreeSet<u32> = found.iter().copied().collect();
        assert!(distinct.len() > 90, "{} of 100 differ", distinct.len());
        let (low, high) = (found.iter().min().unwrap(), found.iter().max().unwrap());
        assert!(*low < 400 && *high > 3600, "{low} to {high}");
    }

    #[test]
    fn threads_that_may_run_elsewhere_are_named() {
        let place = |party: &str, thread: &str, cores: &str| ThreadPlace {
            party: party.into(),
            thread: thread.into(),
            cores: cores.into(),
        };
        let cores = CoreMap { system: 0, origin: 1, generator: 2 };
        let good = [
            place("system", "nginx", "0"),
            place("origin", "twintier", "1"),
            place("generator", "timing", "2"),
            place("generator", "loadgen", "0-3"),
        ];
        assert!(misplaced(&good, cores).is_empty());
        let bad = [place("system", "nginx", "0-3"), place("generator", "timing", "1")];
        assert_eq!(
            misplaced(&bad, cores),
            [
                "thread nginx of the system may run on 0-3 instead of 0",
                "thread timing of the generator may run on 1 instead of 2"
            ]
        );
    }
}
