//! What is wrong with a machine for measuring, each finding with its cure, and what all of them come to.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// How much a finding hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// As it should be.
    Fine,
    /// Figures scatter or shift; ratios of one run still compare.
    Mind,
    /// Programs may not start or numbers mislead.
    Wrong,
}

impl Weight {
    fn mark(self) -> &'static str {
        match self {
            Self::Fine => "ok  ",
            Self::Mind => "mind",
            Self::Wrong => "BAD ",
        }
    }
}

/// One line of the doctor's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub weight: Weight,
    pub subject: String,
    pub found: String,
    /// Empty where nothing needs to be done.
    pub cure: String,
    /// What it takes from the score; 0 where nothing is wrong.
    pub points: u32,
}

/// What the doctor found before a run; a part of `run.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkup {
    /// 100 less the points of all findings, and not below 0: how far figures of this machine can be trusted.
    pub score: u32,
    pub findings: Vec<Finding>,
}

impl Checkup {
    pub fn of(findings: Vec<Finding>) -> Self {
        let points: u32 = findings.iter().map(|finding| finding.points).sum();
        Self { score: SCORE_MAX.saturating_sub(points), findings }
    }
}

/// The score of a machine without a fault.
const SCORE_MAX: u32 = 100;

/// The memory that rings and buffers of a worker may have to lock.
const MEMLOCK_BYTES_MIN: u64 = 8 * 1024 * 1024;
const DESCRIPTORS_MIN: u64 = 4096;
const BACKLOG_MIN: u64 = 4096;
/// Steal above which the hypervisor visibly takes time away.
const STEAL_SHARE_MAX: f64 = 0.005;

/// Device interrupts a second on a measured core that a tail of latencies shows.
const INTERRUPTS_PER_S_MAX: f64 = 1000.0;
/// Share of all cores that others may use while nobody measures.
const BUSY_SHARE_MAX: f64 = 0.1;
/// Ports for connections of a load that opens a new one for each request.
const PORTS_MIN: u32 = 28_000;

/// Examines a machine that was watched.
pub fn examine(machine: &Machine) -> Vec<Finding> {
    let steal_share = machine.noise.as_ref().map_or(machine.steal_share_since_boot, |noise| noise.steal_share);
    let busy_share = machine.noise.as_ref().map_or(0.0, |noise| noise.busy_share);
    let judge = |bad: bool, weight: Weight, points: u32, subject: &str, found: String, cure: &str| {
        let (weight, points, cure) = if bad { (weight, points, cure) } else { (Weight::Fine, 0, "") };
        Finding { weight, subject: subject.to_owned(), found, cure: cure.to_owned(), points }
    };
    let cores = machine.cores.len();
    let bytes = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    let mitigated = machine.mitigations.values().filter(|text| text.starts_with("Mitigation")).count();
    let governor = machine.governor.clone();
    let clock = &machine.clock_source;
    let uring = machine.io_uring_disabled;
    let mut findings = vec![
        judge(
            cores < 4,
            Weight::Mind,
            15,
            "cores",
            format!("{cores} usable"),
            "proxy, origin and generator need a core each, and the rest of the system one; on fewer, compare only ratios within one run",
        ),
        judge(
            !machine.siblings.is_empty(),
            Weight::Mind,
            5,
            "SMT",
            smt_text(machine),
            "the lab avoids second hardware threads while it can; switch SMT off: echo off > /sys/devices/system/cpu/smt/control",
        ),
        judge(
            machine.virtualised,
            Weight::Mind,
            10,
            "virtual machine",
            if machine.virtualised { "yes: neighbours share the processor" } else { "no" }.into(),
            "measure on bare metal, or pin the guest's processors",
        ),
        judge(
            governor.as_deref().is_some_and(|word| word != "performance"),
            Weight::Mind,
            10,
            "frequency governor",
            governor.unwrap_or_else(|| "not shown by this kernel".into()),
            "cpupower frequency-set -g performance",
        ),
        judge(
            machine.turbo == Some(true),
            Weight::Mind,
            5,
            "turbo",
            machine
                .turbo
                .map_or("not shown by this kernel", |on| {
                    if on { "on: the clock depends on heat and on the neighbour core" } else { "off" }
                })
                .into(),
            "echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo, or echo 0 > /sys/devices/system/cpu/cpufreq/boost",
        ),
        judge(
            steal_share > STEAL_SHARE_MAX,
            Weight::Wrong,
            20,
            "steal",
            format!("{:.2} % now, {:.2} % since boot", steal_share * 100.0, machine.steal_share_since_boot * 100.0),
            "another guest takes processor time: move to a dedicated host, or repeat with more blocks",
        ),
        judge(
            machine.load_average_1m > cores as f64 * 0.25 || busy_share > BUSY_SHARE_MAX,
            Weight::Mind,
            15,
            "other load",
            format!(
                "{:.2} runnable over the last minute on {cores} cores, {:.0} % busy now",
                machine.load_average_1m,
                busy_share * 100.0
            ),
            "stop what else is running (top shows it) and wait a minute",
        ),
        judge(
            clock != "tsc" && clock != "kvm-clock" && clock != "arch_sys_counter",
            Weight::Wrong,
            20,
            "clock source",
            clock.clone(),
            "a slow clock makes every time stamp a system call: boot with clocksource=tsc",
        ),
        judge(
            mitigated > 0,
            Weight::Mind,
            0,
            "mitigations",
            format!("{mitigated} active; system calls cost more than without"),
            "leave them on unless production has them off; say so beside every number",
        ),
        judge(
            uring.is_some_and(|level| level > 0),
            Weight::Wrong,
            20,
            "io_uring",
            uring.map_or("allowed".into(), |level| format!("kernel.io_uring_disabled = {level}")),
            "sysctl kernel.io_uring_disabled=0, and allow io_uring in the container's seccomp profile",
        ),
        judge(
            machine.memlock_bytes.is_some_and(|limit| limit < MEMLOCK_BYTES_MIN),
            Weight::Wrong,
            10,
            "locked memory",
            bytes(machine.memlock_bytes),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit",
        ),
        judge(
            machine.descriptors.is_some_and(|limit| limit < DESCRIPTORS_MIN),
            Weight::Wrong,
            10,
            "descriptors",
            machine.descriptors.map_or("unlimited".into(), |limit| limit.to_string()),
            "ulimit -n 65536",
        ),
        judge(
            machine.listen_backlog_max < BACKLOG_MIN,
            Weight::Mind,
            5,
            "listen backlog",
            format!("net.core.somaxconn = {}", machine.listen_backlog_max),
            "sysctl net.core.somaxconn=4096",
        ),
    ];
    findings.extend(settings(machine, &judge));
    findings.extend(noise(machine, &judge));
    findings
}

type Judge<'a> = &'a dyn Fn(bool, Weight, u32, &str, String, &str) -> Finding;

fn unknown() -> String {
    "not shown by this kernel".to_owned()
}

/// The partition of cores, and settings of the kernel.
fn settings(machine: &Machine, judge: Judge<'_>) -> Vec<Finding> {
    let settings = &machine.settings;
    let pairs = machine.parties_on_one_core();
    let cores = machine.cores.len() as f64;
    let quota = settings.cpu_quota;
    let ports = settings.local_ports.map(|(first, last)| last.saturating_sub(first) + 1);
    let words = |list: &[usize]| list.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    vec![
        judge(
            !pairs.is_empty(),
            Weight::Wrong,
            15,
            "SMT between parties",
            if pairs.is_empty() {
                "none share a physical core".into()
            } else {
                format!("on one physical core: {}", pairs.join(", "))
            },
            "give the lab more physical cores (taskset --cpu-list), or switch SMT off",
        ),
        judge(
            settings.nodes.len() > 1,
            Weight::Mind,
            10,
            "memory nodes",
            if settings.nodes.is_empty() {
                unknown()
            } else {
                format!("the core map lies on node {}", words(&settings.nodes))
            },
            "run the lab on the cores of one node: numactl --cpunodebind=0 --membind=0",
        ),
        judge(
            quota.is_some_and(|quota| quota < cores),
            Weight::Wrong,
            15,
            "quota of time",
            match (quota, settings.quota_throttles) {
                (None, _) => "none".into(),
                (Some(quota), throttles) => format!("{quota:.2} cores, ran out {} times", throttles.unwrap_or(0)),
            },
            "run outside the control group, or raise its cpu.max (docker: --cpus, Kubernetes: no CPU limit)",
        ),
        judge(
            settings.heat_throttles.is_some_and(|count| count > 0),
            Weight::Mind,
            5,
            "heat",
            settings.heat_throttles.map_or_else(unknown, |count| format!("slowed down {count} times since boot")),
            "cool the machine, or lower the clock for good: turbo off",
        ),
        judge(
            settings.huge_pages.as_deref() == Some("always"),
            Weight::Mind,
            3,
            "huge pages",
            settings.huge_pages.clone().unwrap_or_else(unknown),
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled: the kernel else joins pages when it likes",
        ),
        judge(
            ports.is_some_and(|ports| ports < PORTS_MIN),
            Weight::Mind,
            5,
            "local ports",
            ports.map_or_else(unknown, |ports| format!("{ports} for connections that are opened")),
            "sysctl net.ipv4.ip_local_port_range='1024 65535'",
        ),
        judge(
            settings.tcp_tw_reuse == Some(0),
            Weight::Mind,
            2,
            "ports in TIME-WAIT",
            settings.tcp_tw_reuse.map_or_else(unknown, |value| format!("net.ipv4.tcp_tw_reuse = {value}")),
            "sysctl net.ipv4.tcp_tw_reuse=2, which is enough on loopback",
        ),
    ]
}

/// What was seen while watching.
fn noise(machine: &Machine, judge: Judge<'_>) -> Vec<Finding> {
    let Some(noise) = &machine.noise else { return Vec::new() };
    let rates: Vec<(usize, f64)> = machine
        .core_map()
        .distinct()
        .into_iter()
        .map(|core| (core, noise.interrupts_per_s.get(&core).copied().unwrap_or(0.0)))
        .collect();
    let text: Vec<String> = rates.iter().map(|(core, rate)| format!("core {core}: {rate:.0}/s")).collect();
    let source = if noise.interrupt_source.is_empty() {
        String::new()
    } else {
        format!(", most of them {}", noise.interrupt_source)
    };
    vec![
        judge(
            rates.iter().any(|(_, rate)| *rate > INTERRUPTS_PER_S_MAX),
            Weight::Mind,
            5,
            "interrupts",
            format!("{}{source}", text.join(", ")),
            "move them to other cores: stop irqbalance, then echo CORE > /proc/irq/NUMBER/smp_affinity_list",
        ),
        judge(
            noise.irqbalance,
            Weight::Mind,
            5,
            "irqbalance",
            if noise.irqbalance { "runs: interrupts change cores in the middle of a run" } else { "does not run" }
                .into(),
            "systemctl stop irqbalance",
        ),
    ]
}

fn smt_text(machine: &Machine) -> String {
    match machine.siblings.len() {
        0 => "no two usable cores share a physical one".into(),
        count => format!("{count} physical cores have two hardware threads each"),
    }
}

/// The report for people.
pub fn text(checkup: &Checkup) -> String {
    let findings = &checkup.findings;
    let mut lines = Vec::new();
    for finding in findings {
        lines.push(format!("{} {:<19} {}", finding.weight.mark(), finding.subject, finding.found));
        if !finding.cure.is_empty() {
            lines.push(format!("                         cure: {}", finding.cure));
        }
    }
    let count = |weight: Weight| findings.iter().filter(|finding| finding.weight == weight).count();
    lines.push(format!(
        "score {} of {SCORE_MAX}: {} fine, {} to keep in mind, {} wrong",
        checkup.score,
        count(Weight::Fine),
        count(Weight::Mind),
        count(Weight::Wrong)
    ));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::{Checkup, Weight, examine, text};
    use crate::machine::{Machine, Noise};

    fn good() -> Machine {
        Machine {
            cores: (0..16).collect(),
            governor: Some("performance".into()),
            turbo: Some(false),
            clock_source: "tsc".into(),
            memlock_bytes: None,
            descriptors: Some(65_536),
            listen_backlog_max: 4096,
            io_uring_disabled: Some(0),
            ..Machine::default()
        }
    }

    #[test]
    fn a_good_machine_needs_no_cure() {
        let checkup = Checkup::of(examine(&good()));
        assert!(checkup.findings.iter().all(|finding| finding.weight == Weight::Fine), "{}", text(&checkup));
        assert_eq!(checkup.score, 100);
    }

    /// Two faults at once: threads share cores, and the system's neighbour is the generator.
    #[test]
    fn parties_on_one_core_are_wrong() {
        let mut machine = good();
        machine.cores = vec![0, 1, 2];
        machine.siblings = vec![vec![0, 2]];
        let found = examine(&machine).into_iter().find(|finding| finding.subject == "SMT between parties").unwrap();
        assert_eq!((found.weight, found.points), (Weight::Wrong, 15));
        assert!(found.found.contains("system (0) and generator (2)"), "{}", found.found);
    }

    #[test]
    fn each_fault_is_found_with_its_cure() {
        type Fault = (&'static str, fn(&mut Machine));
        let faults: [Fault; 20] = [
            ("cores", |machine| machine.cores.truncate(2)),
            ("SMT", |machine| machine.siblings.push(vec![0, 8])),
            ("virtual machine", |machine| machine.virtualised = true),
            ("frequency governor", |machine| machine.governor = Some("powersave".into())),
            ("turbo", |machine| machine.turbo = Some(true)),
            ("clock source", |machine| machine.clock_source = "hpet".into()),
            ("io_uring", |machine| machine.io_uring_disabled = Some(2)),
            ("locked memory", |machine| machine.memlock_bytes = Some(65_536)),
            ("descriptors", |machine| machine.descriptors = Some(1024)),
            ("listen backlog", |machine| machine.listen_backlog_max = 128),
            ("memory nodes", |machine| machine.settings.nodes = vec![0, 1]),
            ("quota of time", |machine| machine.settings.cpu_quota = Some(2.5)),
            ("heat", |machine| machine.settings.heat_throttles = Some(1)),
            ("huge pages", |machine| machine.settings.huge_pages = Some("always".into())),
            ("local ports", |machine| machine.settings.local_ports = Some((32_768, 40_000))),
            ("ports in TIME-WAIT", |machine| machine.settings.tcp_tw_reuse = Some(0)),
            ("other load", |machine| machine.load_average_1m = 9.0),
            ("other load", |machine| machine.noise = Some(Noise { busy_share: 0.2, ..Noise::default() })),
            ("interrupts", |machine| {
                machine.noise = Some(Noise { interrupts_per_s: [(0, 5000.0)].into(), ..Noise::default() });
            }),
            ("irqbalance", |machine| machine.noise = Some(Noise { irqbalance: true, ..Noise::default() })),
        ];
        for (subject, break_it) in faults {
            let mut machine = good();
            break_it(&mut machine);
            let findings = examine(&machine);
            let found: Vec<&str> = findings
                .iter()
                .filter(|finding| finding.weight != Weight::Fine)
                .map(|finding| finding.subject.as_str())
                .collect();
            assert_eq!(found, [subject]);
            let checkup = Checkup::of(findings);
            assert!(text(&checkup).contains("cure: ") && checkup.score < 100 && checkup.score >= 75, "{subject}");
        }
        let mut machine = good();
        machine.noise = Some(Noise { steal_share: 0.02, ..Noise::default() });
        assert!(examine(&machine).iter().any(|finding| finding.subject == "steal" && finding.weight == Weight::Wrong));
    }
}
