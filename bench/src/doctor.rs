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

/// Examines a machine. `steal_share` is what was stolen while the doctor looked.
pub fn examine(machine: &Machine, steal_share: f64) -> Vec<Finding> {
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
    vec![
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
            machine.load_average_1m > cores as f64 * 0.25,
            Weight::Mind,
            15,
            "other load",
            format!("{:.2} runnable over the last minute on {cores} cores", machine.load_average_1m),
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
    use crate::machine::Machine;

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
        let checkup = Checkup::of(examine(&good(), 0.0));
        assert!(checkup.findings.iter().all(|finding| finding.weight == Weight::Fine), "{}", text(&checkup));
        assert_eq!(checkup.score, 100);
    }

    #[test]
    fn each_fault_is_found_with_its_cure() {
        type Fault = (&'static str, fn(&mut Machine));
        let faults: [Fault; 10] = [
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
        ];
        for (subject, break_it) in faults {
            let mut machine = good();
            break_it(&mut machine);
            let findings = examine(&machine, 0.0);
            let found: Vec<&str> = findings
                .iter()
                .filter(|finding| finding.weight != Weight::Fine)
                .map(|finding| finding.subject.as_str())
                .collect();
            assert_eq!(found, [subject]);
            let checkup = Checkup::of(findings);
            assert!(text(&checkup).contains("cure: ") && checkup.score < 100 && checkup.score >= 75, "{subject}");
        }
        assert!(
            examine(&good(), 0.02).iter().any(|finding| finding.subject == "steal" && finding.weight == Weight::Wrong)
        );
    }
}
