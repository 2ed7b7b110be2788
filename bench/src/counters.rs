//! Hardware counters of a system over the measured window, by `perf stat`, where the machine has them.
//!
//! `perf` is started together with the generator and waits as long as the generator warms up, so its window is the
//! generator's but for the milliseconds of a start.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;
use crate::process::{Interrupt, Order, Process, ask, find_program};

/// What is counted; the names are perf's own.
const EVENTS: &str = "cycles,instructions,branch-misses,cache-misses";
/// Of its output, in the trial's folder.
const FILE: &str = "perf.csv";
/// For it to write its output after the window.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// The program, if this machine has counters for it; otherwise why not, in a sentence.
///
/// # Errors
/// It is not installed, or shows no counter.
pub fn find() -> Result<PathBuf, String> {
    let Some(program) = find_program("perf") else {
        return Err("no hardware counters: perf is not installed (apt-get install linux-perf)".to_owned());
    };
    let answer = ask(&program, &["stat", "-x", ",", "-e", EVENTS, "true"]).unwrap_or_default();
    if parse(&answer).is_empty() {
        return Err("no hardware counters: perf shows none on this machine (a virtual machine without them, or \
                    kernel.perf_event_paranoid above 2)"
            .to_owned());
    }
    Ok(program)
}

/// Begins to count for some processes: after `warmup_s`, for `duration_s`.
///
/// # Errors
/// The program does not start.
pub fn begin(
    program: &Path,
    processes: &[u32],
    warmup_s: f64,
    duration_s: f64,
    folder: &Path,
) -> Result<Process, Failure> {
    let numbers = processes.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let ms = |seconds: f64| format!("{:.0}", seconds * 1e3);
    let (delay, timeout) = (ms(warmup_s), ms(warmup_s + duration_s));
    let out = folder.join(FILE).to_string_lossy().into_owned();
    let arguments =
        ["stat", "-x", ",", "-e", EVENTS, "--delay", &delay, "--timeout", &timeout, "-o", &out, "-p", &numbers];
    Process::start(&Order::new("perf", program, &arguments, folder))
}

/// What was counted, for each request; `None` where it was nothing.
///
/// # Errors
/// A signal arrives.
pub fn end(
    mut perf: Process,
    interrupt: &Interrupt,
    folder: &Path,
    requests: f64,
) -> Result<Option<BTreeMap<String, f64>>, Failure> {
    interrupt.wait_for(END_DEADLINE, || perf.ended())?;
    let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    let counted: BTreeMap<String, f64> =
        parse(&text).into_iter().map(|(name, count)| (name, count / requests.max(1.0))).collect();
    Ok((!counted.is_empty()).then_some(counted))
}

/// Lines `count,unit,event,…`; what is not supported or not counted has no number.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let mut cells = line.split(',');
        let count = cells.next()?.parse::<f64>().ok()?;
        // With a modifier behind it where the kernel does not count for everybody: `cycles:u`.
        let name = cells.nth(1)?.split(':').next()?.to_owned();
        EVENTS.split(',').any(|event| event == name).then_some((name, count))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_was_not_counted_has_no_number() {
        let text = "# started on Fri Nov 27 2026\n\n123456,,cycles:u,1000,100.00,,\n<not supported>,,instructions,0,100.00,,\n<not counted>,,branch-misses,0,0.00,,\n77,,cache-misses,1000,100.00,,\n5,msec,task-clock,1,100,,\n";
        let found = parse(text);
        assert_eq!(
            found.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>(),
            ["cache-misses 77", "cycles 123456"]
        );
        assert!(parse("<not supported>,,cycles,0,100.00,,").is_empty());
    }
}
