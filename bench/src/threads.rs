//! What each thread of a system used over a window, where it may run, and how often it left its core.
//!
//! The exact time on a processor is `schedstat`'s; which part of it was the kernel's is told by the clock ticks of `stat`
//! (10 ms each). So the split is the exact time in the proportion of the ticks of the same window.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::{ProcessGroup, colon_value, run_time_ns};

/// Up to so many threads are looked at in every sample; more of them in every [`LOOK_SELDOM`]th only, so that looking
/// stays far below a hundredth of a core.
const THREADS_OFTEN_MAX: usize = 32;
const LOOK_SELDOM: usize = 10;
/// A thread that took this share of the system's time is one of its workers.
const BUSY_SHARE_MIN: f64 = 0.05;

/// Processor time for one request, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuUse {
    pub user_us: f64,
    pub system_us: f64,
}

/// How often a request's threads left their core: because they waited, or because the scheduler took it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Switches {
    pub voluntary: f64,
    pub involuntary: f64,
}

/// A thread, or several of one name and place, and the cores that the kernel says it may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ThreadPlace {
    /// `system`, `origin` or `generator`.
    pub party: String,
    pub thread: String,
    pub cores: String,
}

/// What the threads of a system did between two moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub by_group: BTreeMap<String, GroupUse>,
    pub voluntary: f64,
    pub involuntary: f64,
    /// Threads that did work worth naming.
    pub busy_threads: u32,
}

/// Nanoseconds of a group, split by its ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupUse {
    pub user_ns: f64,
    pub system_ns: f64,
}

impl Usage {
    /// Every group's time for one of so many requests.
    pub fn cpu_by_group(&self, requests: f64) -> BTreeMap<String, CpuUse> {
        let each = |ns: f64| ns / 1e3 / requests.max(1.0);
        let entry = |(name, group): (&String, &GroupUse)| {
            (name.clone(), CpuUse { user_us: each(group.user_ns), system_us: each(group.system_ns) })
        };
        self.by_group.iter().map(entry).collect()
    }

    pub fn switches(&self, requests: f64) -> Switches {
        let requests = requests.max(1.0);
        Switches { voluntary: self.voluntary / requests, involuntary: self.involuntary / requests }
    }
}

/// Counters of a thread: nanoseconds run, ticks in user mode, ticks in the kernel, voluntary and involuntary switches.
type Counters = [u64; 5];

struct Track {
    group: String,
    points: Vec<(u64, Counters)>,
}

/// Looks at the threads of a system again and again.
pub struct Watch {
    group: ProcessGroup,
    tracks: BTreeMap<PathBuf, Track>,
    looks: usize,
}

impl Watch {
    pub fn new(group: &ProcessGroup) -> Self {
        Self { group: group.clone(), tracks: BTreeMap::new(), looks: 0 }
    }

    /// Takes a sample, if one is due.
    pub fn look(&mut self, now_ns: u64) {
        let due = self.tracks.len() <= THREADS_OFTEN_MAX || self.looks.is_multiple_of(LOOK_SELDOM);
        self.looks += 1;
        if !due {
            return;
        }
        for task in self.group.task_folders() {
            let Some(counters) = counters(&task) else { continue };
            let track = self
                .tracks
                .entry(task)
                .or_insert_with_key(|task| Track { group: group_name(task), points: Vec::new() });
            track.points.push((now_ns, counters));
        }
    }

    /// The window's share of everything that was seen.
    pub fn between(&self, from_ns: u64, to_ns: u64) -> Usage {
        let mut usage = Usage::default();
        let mut ticks: BTreeMap<&str, [f64; 3]> = BTreeMap::new();
        let mut runs = Vec::with_capacity(self.tracks.len());
        for track in self.tracks.values() {
            let (begin, end) = (interpolated(&track.points, from_ns), interpolated(&track.points, to_ns));
            let [run_ns, user, system, voluntary, involuntary]: [f64; 5] =
                std::array::from_fn(|index| (end[index] - begin[index]).max(0.0));
            let sums = ticks.entry(&track.group).or_default();
            for (sum, more) in sums.iter_mut().zip([run_ns, user, system]) {
                *sum += more;
            }
            usage.voluntary += voluntary;
            usage.involuntary += involuntary;
            runs.push(run_ns);
        }
        let total = |index: usize| ticks.values().map(|sums| sums[index]).sum::<f64>();
        let (all_user, all_system) = (total(1), total(2));
        for (name, [run_ns, user, system]) in ticks {
            // A group that had no tick of its own has the system's proportion.
            let (user, system) = if user + system > 0.0 { (user, system) } else { (all_user, all_system) };
            let share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
            let split = GroupUse { user_ns: run_ns * share, system_ns: run_ns * (1.0 - share) };
            usage.by_group.insert(name.to_owned(), split);
        }
        let all: f64 = runs.iter().sum();
        let busy = runs.iter().filter(|run| **run > 0.0 && **run >= all * BUSY_SHARE_MIN).count();
        usage.busy_threads = u32::try_from(busy).unwrap_or(u32::MAX);
        usage
    }
}

/// Where the threads of a group may run, each name and place once.
pub fn places(party: &str, group: &ProcessGroup) -> Vec<ThreadPlace> {
    let place = |task: &PathBuf| {
        let status = fs::read_to_string(task.join("status")).ok()?;
        Some(ThreadPlace {
            party: party.to_owned(),
            thread: colon_value(&status, "Name")?,
            cores: colon_value(&status, "Cpus_allowed_list")?,
        })
    };
    let mut places: Vec<ThreadPlace> = group.task_folders().iter().filter_map(place).collect();
    places.sort();
    places.dedup();
    places
}

/// Counters at a moment, by interpolation; before the first and after the last sample theirs.
pub fn interpolated<const N: usize>(points: &[(u64, [u64; N])], at_ns: u64) -> [f64; N] {
    // Nanoseconds, ticks and switches of a trial: far below 2^53.
    let whole = |values: &[u64; N]| values.map(|value| value as f64);
    let after = points.partition_point(|&(time, _)| time < at_ns);
    match (after.checked_sub(1).and_then(|before| points.get(before)), points.get(after)) {
        (Some((t0, before)), Some((t1, then))) => {
            let share = (at_ns - t0) as f64 / (t1 - t0).max(1) as f64;
            std::array::from_fn(|index| before[index] as f64 + share * then[index].saturating_sub(before[index]) as f64)
        }
        (Some((_, only)), None) | (None, Some((_, only))) => whole(only),
        (None, None) => [0.0; N],
    }
}

fn counters(task: &Path) -> Option<Counters> {
    let text = |name: &str| fs::read_to_string(task.join(name)).ok();
    let run_ns = run_time_ns(&text("schedstat")?)?;
    let (user, system) = ticks(&text("stat")?)?;
    let status = text("status")?;
    let number = |name: &str| colon_value(&status, name).and_then(|value| value.parse().ok()).unwrap_or(0);
    Some([run_ns, user, system, number("voluntary_ctxt_switches"), number("nonvoluntary_ctxt_switches")])
}

/// `utime` and `stime` of a `stat` file. The command's name stands in parentheses and may hold anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut words = after_name.split_whitespace().skip(11);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// The group of the thread behind `/proc/PID/task/TID`.
fn group_name(task: &Path) -> String {
    let process = task.parent().and_then(Path::parent).unwrap_or(task);
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let is_first = task.file_name() == process.file_name();
    name_of(&text(process.join("cmdline")), text(process.join("comm")).trim(), text(task.join("comm")).trim(), is_first)
}

/// Threads of `twintier serve` are told apart by their names; its other commands are one group each. Programs of others
/// are a group for each process that says what it is, as nginx does.
fn name_of(command_line: &str, process: &str, thread: &str, is_first: bool) -> String {
    let mut words = command_line.split('\0');
    let title = words.next().unwrap_or_default();
    let command = words.next().unwrap_or_default();
    if title.rsplit('/').next() != Some("twintier") {
        // `nginx: master process /usr/sbin/nginx …` is its first three words.
        let says_what_it_is = title.starts_with(&format!("{process}: "));
        let said = || title.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        return if says_what_it_is { said() } else { process.to_owned() };
    }
    if command != "serve" {
        return command.to_owned();
    }
    if is_first {
        return "main".to_owned();
    }
    let stem = thread.trim_end_matches(|one: char| one.is_ascii_digit()).trim_end_matches('-');
    // A worker carries a front server and a replica on one thread, and does not account for them apart.
    if stem == "worker" { "front+replica".to_owned() } else { stem.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{CpuUse, Watch, interpolated, name_of, places, ticks};
    use crate::machine::ProcessGroup;

    #[test]
    fn counters_are_interpolated() {
        let points = [(100, [0, 7]), (200, [50, 7]), (300, [150, 9])];
        let found = [0, 100, 150, 200, 250, 300, 400].map(|at| interpolated(&points, at)[0]);
        assert_eq!(found, [0.0, 0.0, 25.0, 50.0, 100.0, 150.0, 150.0]);
        assert_eq!(interpolated(&points, 250), [100.0, 8.0]);
        assert_eq!(interpolated::<1>(&[], 5), [0.0]);
    }

    #[test]
    fn ticks_stand_behind_any_name() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 120 45 0 0 20 0";
        assert_eq!(ticks(stat), Some((120, 45)));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn groups_have_names_that_people_know() {
        let ours = |command: &str, thread: &str, is_first| {
            name_of(&format!("/x/twintier\0{command}\0--listen\0"), "twintier", thread, is_first)
        };
        assert_eq!(ours("serve", "twintier", true), "main");
        assert_eq!(ours("serve", "worker-12", false), "front+replica");
        assert_eq!(ours("serve", "database", false), "database");
        assert_eq!(ours("proxy", "signals", false), "proxy");
        assert_eq!(name_of("nginx: worker process\0", "nginx", "nginx", true), "nginx: worker process");
        assert_eq!(name_of("nginx: master process /x/nginx -c y\0", "nginx", "nginx", true), "nginx: master process");
        assert_eq!(name_of("/usr/sbin/haproxy\0-db\0", "haproxy", "haproxy", true), "haproxy");
    }

    fn write_task(root: &Path, thread: &str, run_ns: u64, ticks: (u64, u64), switches: (u64, u64)) {
        let task = root.join("40/task").join(thread);
        fs::create_dir_all(&task).unwrap();
        let write = |name: &str, text: String| fs::write(task.join(name), text).unwrap();
        write("schedstat", format!("{run_ns} 0 0\n"));
        write("stat", format!("{thread} (x) R 1 40 40 0 0 0 0 0 0 0 {} {} 0 0", ticks.0, ticks.1));
        write("comm", if thread == "40" { "twintier" } else { "worker-0" }.into());
        write(
            "status",
            format!(
                "Name:\tworker-0\nCpus_allowed_list:\t0\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t{}\n",
                switches.0, switches.1
            ),
        );
    }

    /// A worker runs 800 µs of a window of 1 ms, three quarters of its ticks in the kernel; the main thread runs 8 µs and
    /// has no tick, so it has the worker's proportion.
    #[test]
    fn exact_time_is_split_by_the_ticks_of_the_window() {
        let root = std::env::temp_dir().join(format!("bench-threads-{}", std::process::id()));
        fs::create_dir_all(root.join("40")).unwrap();
        fs::write(root.join("40/stat"), "40 (twintier) S 1 40 40 0").unwrap();
        fs::write(root.join("40/comm"), "twintier\n").unwrap();
        fs::write(root.join("40/cmdline"), "bin/twintier\0serve\0").unwrap();
        write_task(&root, "40", 1000, (5, 5), (0, 0));
        write_task(&root, "41", 0, (100, 100), (10, 3));
        let group = ProcessGroup::find(&root, &[40]);
        let mut watch = Watch::new(&group);
        watch.look(1_000_000);
        write_task(&root, "40", 9000, (5, 5), (0, 0));
        write_task(&root, "41", 800_000, (110, 130), (30, 4));
        watch.look(2_000_000);
        let usage = watch.between(0, 3_000_000);
        assert_eq!((usage.voluntary, usage.involuntary, usage.busy_threads), (20.0, 1.0, 1));
        let groups = usage.cpu_by_group(100.0);
        assert_eq!(groups["front+replica"], CpuUse { user_us: 2.0, system_us: 6.0 });
        assert_eq!(groups["main"], CpuUse { user_us: 0.02, system_us: 0.06 });
        assert_eq!(usage.switches(100.0).voluntary, 0.2);
        let places = places("system", &group);
        assert_eq!((places.len(), places[0].cores.as_str()), (1, "0"));
        fs::remove_dir_all(root).unwrap();
    }
}
