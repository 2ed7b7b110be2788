//! The machine card: what a reader must know about the box before believing a number, and the CPU time of processes.
//!
//! Everything comes from `/proc` and `/sys` below a root that tests replace.

mod noise;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use noise::{Look, Noise};
pub use settings::Settings;

/// For how long a machine is watched before a run.
const WATCH: Duration = Duration::from_millis(500);

/// The machine as it was when the run began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub kernel: String,
    pub cpu_model: String,
    /// Cores that this process may run on.
    pub cores: Vec<usize>,
    /// Hardware threads of each physical core that has more than one.
    pub siblings: Vec<Vec<usize>>,
    pub virtualised: bool,
    pub memory_kib: u64,
    /// `None` where the kernel shows no frequency scaling, as in most virtual machines.
    pub governor: Option<String>,
    /// Whether the clock may rise above its base; `None` where the kernel does not say.
    pub turbo: Option<bool>,
    pub clock_source: String,
    /// What the kernel does about each known weakness of the processor.
    pub mitigations: BTreeMap<String, String>,
    /// `None` is unlimited.
    pub memlock_bytes: Option<u64>,
    pub descriptors: Option<u64>,
    pub listen_backlog_max: u64,
    /// 0 everybody may use io_uring, 1 a group, 2 nobody; `None` on kernels without the switch.
    pub io_uring_disabled: Option<u64>,
    pub load_average_1m: f64,
    /// Share of processor time since boot that the hypervisor gave to others, and the same while the run lasted.
    pub steal_share_since_boot: f64,
    pub steal_share_in_run: Option<f64>,
    /// Of the kernel.
    #[serde(default)]
    pub settings: Settings,
    /// Throttles while the run lasted: by a quota of time, or for heat.
    #[serde(default)]
    pub throttles_in_run: Option<u64>,
    /// What disturbed the cores just before the run; `null` where nobody watched.
    #[serde(default)]
    pub noise: Option<Noise>,
}

impl Machine {
    /// Reads the card below `root`, which is `/` but in tests.
    pub fn read(root: &Path) -> Self {
        let text =
            |path: &str| fs::read_to_string(root.join(path)).map(|text| text.trim().to_owned()).unwrap_or_default();
        let number = |path: &str| text(path).parse::<u64>().ok();
        let cpu_info = text("proc/cpuinfo");
        let limits = text("proc/self/limits");
        let cores = allowed_cores(&text("proc/self/status"));
        Self {
            kernel: text("proc/sys/kernel/osrelease"),
            cpu_model: colon_value(&cpu_info, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            siblings: siblings(root, &cores),
            virtualised: colon_value(&cpu_info, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            memory_kib: colon_value(&text("proc/meminfo"), "MemTotal")
                .and_then(|value| value.split(' ').next()?.parse().ok())
                .unwrap_or(0),
            governor: cores
                .first()
                .map(|core| text(&format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")))
                .filter(|word| !word.is_empty()),
            turbo: turbo(
                number("sys/devices/system/cpu/intel_pstate/no_turbo"),
                number("sys/devices/system/cpu/cpufreq/boost"),
            ),
            clock_source: text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            mitigations: folder_texts(&root.join("sys/devices/system/cpu/vulnerabilities")),
            memlock_bytes: limit(&limits, "Max locked memory"),
            descriptors: limit(&limits, "Max open files"),
            listen_backlog_max: number("proc/sys/net/core/somaxconn").unwrap_or(0),
            io_uring_disabled: number("proc/sys/kernel/io_uring_disabled"),
            load_average_1m: text("proc/loadavg").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
            steal_share_since_boot: Jiffies::read(root).unwrap_or_default().steal_share_since(Jiffies::default()),
            steal_share_in_run: None,
            settings: Settings::default(),
            throttles_in_run: None,
            noise: None,
            cores,
        }
        .with_settings(root)
    }

    /// Reads the card and watches for half a second.
    pub fn watch(root: &Path) -> Self {
        let before = Look::take(root);
        thread::sleep(WATCH);
        let noise = Look::take(root).since(&before, WATCH.as_secs_f64(), root);
        Self { noise: Some(noise), ..Self::read(root) }
    }

    fn with_settings(mut self, root: &Path) -> Self {
        self.settings = Settings::read(root, &self.core_map());
        self
    }

    /// Pairs of parties of the core map that run on two hardware threads of one physical core.
    pub fn parties_on_one_core(&self) -> Vec<String> {
        let cores = self.core_map();
        let parties = [("system", cores.system), ("origin", cores.origin), ("generator", cores.generator)];
        let mut pairs = Vec::new();
        for (index, (name, core)) in parties.iter().enumerate() {
            for (other, other_core) in &parties[index + 1..] {
                let shared = |group: &&Vec<usize>| group.contains(core) && group.contains(other_core);
                if core != other_core && self.siblings.iter().any(|group| shared(&group)) {
                    pairs.push(format!("{name} ({core}) and {other} ({other_core})"));
                }
            }
        }
        pairs
    }

    /// Which core does what in a comparison.
    pub fn core_map(&self) -> CoreMap {
        // One hardware thread of each physical core first; the others only when these run out.
        let second_threads: Vec<usize> = self.siblings.iter().flat_map(|group| group.iter().skip(1).copied()).collect();
        let firsts = self.cores.iter().filter(|core| !second_threads.contains(core));
        let ordered: Vec<usize> =
            firsts.chain(self.cores.iter().filter(|core| second_threads.contains(core))).copied().collect();
        let at = |index: usize| ordered.get(index).or(ordered.last()).copied().unwrap_or(0);
        CoreMap { system: at(0), origin: at(1), generator: at(2) }
    }
}

/// The cores of the three parties of the proxy job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreMap {
    /// Of the proxy that is measured.
    pub system: usize,
    pub origin: usize,
    pub generator: usize,
}

impl CoreMap {
    /// Each core once.
    pub fn distinct(&self) -> Vec<usize> {
        let mut cores = vec![self.system, self.origin, self.generator];
        cores.sort_unstable();
        cores.dedup();
        cores
    }

    /// One line for people.
    pub fn text(&self) -> String {
        let Self { system, origin, generator } = self;
        if origin == generator && system == origin {
            format!(
                "core {system}: proxy, origin and generator together (one core: nothing but plumbing can be checked here)"
            )
        } else if origin == generator {
            format!("core {system}: proxy · core {origin}: origin and generator")
        } else {
            format!("core {system}: proxy · core {origin}: origin · core {generator}: generator")
        }
    }
}

/// Processor time since boot in clock ticks, over all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jiffies {
    total: u64,
    idle: u64,
    steal: u64,
}

impl Jiffies {
    /// From `/proc/stat`; `None` where it cannot be read.
    pub fn read(root: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(root.join("proc/stat")).ok()?)
    }

    /// `cpu  user nice system idle iowait irq softirq steal guest guest_nice`; guest time is part of user time.
    fn parse(text: &str) -> Option<Self> {
        let fields = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let numbers: Vec<u64> = fields.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        Some(Self { total: numbers.iter().sum(), idle: at(3) + at(4), steal: at(7) })
    }

    /// The share of the time since `earlier` in which somebody used a core.
    pub fn busy_share_since(self, earlier: Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        total.saturating_sub(self.idle.saturating_sub(earlier.idle)) as f64 / total as f64
    }

    /// The share of the time since `earlier` that was stolen.
    pub fn steal_share_since(self, earlier: Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        self.steal.saturating_sub(earlier.steal) as f64 / total as f64
    }
}

/// The processes of some groups: programs, their workers and helpers.
#[derive(Clone, Debug)]
pub struct ProcessGroup {
    proc_folder: PathBuf,
    processes: Vec<u32>,
}

impl ProcessGroup {
    /// All processes whose group is among `groups`, and their children whatever their group: PostgreSQL's processes lead
    /// groups of their own.
    pub fn find(proc_folder: &Path, groups: &[u32]) -> Self {
        let entries =
            fs::read_dir(proc_folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut others: Vec<(u32, Family)> = numbers
            .filter_map(|id| Some((id, family_of(&fs::read_to_string(proc_folder.join(format!("{id}/stat"))).ok()?)?)))
            .collect();
        let mut processes: Vec<u32> = Vec::new();
        loop {
            let before = processes.len();
            others.retain(|(id, family)| {
                let member = groups.contains(&family.group) || processes.contains(&family.parent);
                if member {
                    processes.push(*id);
                }
                !member
            });
            if processes.len() == before {
                break;
            }
        }
        processes.sort_unstable();
        Self { proc_folder: proc_folder.to_owned(), processes }
    }

    /// The members' numbers.
    pub fn processes(&self) -> &[u32] {
        &self.processes
    }

    /// Nanoseconds for which the threads of all members have run.
    pub fn cpu_ns(&self) -> u64 {
        self.task_folders()
            .iter()
            .filter_map(|task| run_time_ns(&fs::read_to_string(task.join("schedstat")).ok()?))
            .sum()
    }

    /// Bytes that the members made the kernel write to storage; `None` where it does not say.
    pub fn written_bytes(&self) -> Option<u64> {
        let of = |id: &u32| {
            let text = fs::read_to_string(self.proc_folder.join(id.to_string()).join("io")).ok()?;
            colon_value(&text, "write_bytes")?.parse::<u64>().ok()
        };
        self.processes.iter().map(of).sum()
    }

    /// The cores that threads of the members may use, each list once: what the pinning came to.
    pub fn affinity(&self) -> Vec<String> {
        let status = |task: &PathBuf| colon_value(&fs::read_to_string(task.join("status")).ok()?, "Cpus_allowed_list");
        let mut lists: Vec<String> = self.task_folders().iter().filter_map(status).collect();
        lists.sort();
        lists.dedup();
        lists
    }

    /// `/proc/PID/task/TID` of every thread of the members.
    pub fn task_folders(&self) -> Vec<PathBuf> {
        let tasks = self.processes.iter().map(|id| self.proc_folder.join(id.to_string()).join("task"));
        tasks
            .flat_map(|folder| {
                fs::read_dir(folder)
                    .map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>())
                    .unwrap_or_default()
            })
            .collect()
    }
}

/// The first of the three numbers of a `schedstat` file: nanoseconds on a processor.
pub fn run_time_ns(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Family {
    parent: u32,
    group: u32,
}

/// Parent and process group in a `stat` file. The command's name stands in parentheses and may hold anything.
fn family_of(stat: &str) -> Option<Family> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut words = after_name.split_whitespace().skip(1);
    Some(Family { parent: words.next()?.parse().ok()?, group: words.next()?.parse().ok()? })
}

/// The value of `name : value` in a file of such lines.
pub fn colon_value(text: &str, name: &str) -> Option<String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).next()
}

/// The cores in `Cpus_allowed_list` of a `status` file.
fn allowed_cores(status: &str) -> Vec<usize> {
    colon_value(status, "Cpus_allowed_list").map(|list| parse_core_list(&list)).unwrap_or_default()
}

/// `0-3,8` as its members.
fn parse_core_list(list: &str) -> Vec<usize> {
    let range = |part: &str| -> Option<Vec<usize>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?..=last.trim().parse().ok()?).collect())
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Groups of allowed hardware threads that share a physical core.
fn siblings(root: &Path, cores: &[usize]) -> Vec<Vec<usize>> {
    let list = |core: &usize| {
        fs::read_to_string(root.join(format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"))).ok()
    };
    let allowed =
        |text: String| parse_core_list(&text).into_iter().filter(|core| cores.contains(core)).collect::<Vec<_>>();
    let mut groups: Vec<Vec<usize>> =
        cores.iter().filter_map(list).map(allowed).filter(|group| group.len() > 1).collect();
    groups.sort();
    groups.dedup();
    groups
}

fn turbo(intel_no_turbo: Option<u64>, boost: Option<u64>) -> Option<bool> {
    intel_no_turbo.map(|off| off == 0).or(boost.map(|on| on == 1))
}

/// Name and text of each file of a folder.
fn folder_texts(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let pair = |entry: &fs::DirEntry| {
        Some((entry.file_name().into_string().ok()?, fs::read_to_string(entry.path()).ok()?.trim().to_owned()))
    };
    entries.iter().filter_map(pair).collect()
}

/// The soft limit in a line of `/proc/self/limits`; `None` is unlimited.
fn limit(limits: &str, name: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{CoreMap, Family, Jiffies, Machine, ProcessGroup, family_of, parse_core_list, run_time_ns};

    fn root(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("bench-machine-{name}-{}", std::process::id()))
    }

    fn write(root: &Path, path: &str, text: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn run_time_is_the_first_number_of_schedstat() {
        assert_eq!(run_time_ns("1234567 89 10\n"), Some(1_234_567));
        assert_eq!(run_time_ns(""), None);
    }

    #[test]
    fn the_group_stands_behind_any_name() {
        assert_eq!(family_of("42 (nginx: a) b) S 1 40 40 0"), Some(Family { parent: 1, group: 40 }));
        assert_eq!(family_of("42"), None);
    }

    /// A master with two threads and a worker of its group count, a stranger does not.
    #[test]
    fn cpu_time_is_that_of_all_threads_of_the_group() {
        let root = root("group");
        for (id, group, tasks) in
            [(40, 40, vec![(40, 5), (41, 7)]), (50, 40, vec![(50, 100)]), (60, 60, vec![(60, 1000)])]
        {
            write(&root, &format!("{id}/stat"), &format!("{id} (x) S 1 {group} {group} 0"));
            for (task, ns) in tasks {
                write(&root, &format!("{id}/task/{task}/schedstat"), &format!("{ns} 0 0\n"));
                write(&root, &format!("{id}/task/{task}/status"), "Name:\tx\nCpus_allowed_list:\t0\n");
            }
        }
        let group = ProcessGroup::find(&root, &[40]);
        assert_eq!(group.processes(), [40, 50]);
        assert_eq!(group.cpu_ns(), 112);
        assert_eq!(group.affinity(), ["0"]);
        assert_eq!(ProcessGroup::find(&root, &[40, 60]).cpu_ns(), 1112);
        fs::remove_dir_all(root).unwrap();
    }

    /// PostgreSQL's processes leave the group of their parent; a stranger with the number of a group is none of them.
    #[test]
    fn children_count_whatever_their_group() {
        let root = root("children");
        for (id, parent, group) in [(40, 1, 40), (30, 50, 30), (50, 40, 50), (60, 1, 60)] {
            write(&root, &format!("{id}/stat"), &format!("{id} (postgres) S {parent} {group} {group} 0"));
        }
        assert_eq!(ProcessGroup::find(&root, &[40]).processes(), [30, 40, 50]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_card_reads_proc_and_sys() {
        let root = root("card");
        write(&root, "proc/cpuinfo", "model name\t: EPYC\nflags\t\t: fpu hypervisor sse\n");
        write(&root, "proc/self/status", "Cpus_allowed_list:\t0-3\n");
        write(
            &root,
            "proc/self/limits",
            "Max open files            20000                20000                files     \nMax locked memory         unlimited            unlimited            bytes\n",
        );
        write(&root, "proc/stat", "cpu  60 0 20 10 0 0 0 10 0 0\n");
        write(&root, "proc/meminfo", "MemTotal:       1024 kB\n");
        write(&root, "sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,2\n");
        write(&root, "sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0,2\n");
        let machine = Machine::read(&root);
        assert_eq!((machine.cpu_model.as_str(), machine.virtualised, machine.memory_kib), ("EPYC", true, 1024));
        assert_eq!((machine.descriptors, machine.memlock_bytes), (Some(20_000), None));
        assert!((machine.steal_share_since_boot - 0.1).abs() < 1e-12);
        assert_eq!(machine.core_map(), CoreMap { system: 0, origin: 1, generator: 3 });
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn small_machines_share_cores() {
        let map = |cores: &[usize]| Machine { cores: cores.to_vec(), ..Machine::default() }.core_map();
        assert_eq!(map(&[0, 1]), CoreMap { system: 0, origin: 1, generator: 1 });
        assert_eq!(map(&[5]), CoreMap { system: 5, origin: 5, generator: 5 });
        assert_eq!(map(&[2, 3, 4, 5]), CoreMap { system: 2, origin: 3, generator: 4 });
    }

    /// Cores 0 and 2 are two threads of one physical core: with three cores usable the generator gets the second thread.
    #[test]
    fn parties_that_share_a_physical_core_are_named() {
        let with =
            |cores: &[usize]| Machine { cores: cores.to_vec(), siblings: vec![vec![0, 2]], ..Machine::default() };
        assert_eq!(with(&[0, 1, 2]).parties_on_one_core(), ["system (0) and generator (2)"]);
        assert!(with(&[0, 1, 2, 3]).parties_on_one_core().is_empty());
    }

    #[test]
    fn steal_is_counted_between_two_looks() {
        let earlier = Jiffies::parse("cpu  10 0 0 90 0 0 0 0 0 0\n").unwrap();
        let later = Jiffies::parse("cpu  20 0 0 100 0 0 0 5 0 0\n").unwrap();
        assert!((later.steal_share_since(earlier) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn core_lists_have_ranges() {
        assert_eq!(parse_core_list("0-2,7"), [0, 1, 2, 7]);
        assert_eq!(parse_core_list(""), [] as [usize; 0]);
    }
}
