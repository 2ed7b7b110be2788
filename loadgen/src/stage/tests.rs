//! What the timing thread and the reporter know reaches the verdict: each on its own changes a run that was valid.

use super::{Finished, Stage, Totals, summarize};
use crate::meter::Cost;
use crate::recorder::histogram;
use crate::run::simulation::{Reply, ok, simulate, stage};
use crate::summary::BrowseSummary;
use crate::verdict::Verdict;

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// A run in virtual time at 100/s, against a server that answers in `delay_ns` of the time since its start.
fn ran(duration_s: u32, delay_ns: fn(u64) -> u64) -> (Stage, Totals, Finished) {
    let wanted = stage("100", f64::from(duration_s), 16);
    let outcome =
        simulate(1, &wanted, |zero_ns| Box::new(move |_, now_ns| Reply::At(now_ns + delay_ns(now_ns - zero_ns), ok())));
    // What virtual time costs on this machine is nothing that a test should know.
    let cost = Cost { wall_ns: 10 * S, cpu_ns: 3 * S, ..Cost::default() };
    (wanted, outcome.totals, Finished { cost, ..outcome.finished })
}

/// What it changes, and words of the reason that it must have.
type Case = (Verdict, &'static str, fn(&mut Totals, &mut Finished));

#[test]
fn everything_that_can_spoil_a_run_reaches_its_verdict() {
    let cases: [Case; 13] = [
        (Verdict::Invalid, "its thread ran 81.0 % of the window", |_, finished| finished.cost.cpu_ns = 81 * S / 10),
        (Verdict::Invalid, "waited for a core 60.0 % of it", |_, finished| finished.cost.wait_ns = 6 * S),
        (Verdict::Invalid, "90.0 % of the planned requests were sent in time", |_, finished| finished.submitted = 900),
        (Verdict::Invalid, "the generator was late", |totals, _| {
            totals.histograms.lag.record_n(4 * MS, 400).unwrap();
        }),
        (Verdict::Suspect, "the generator was late", |totals, _| {
            totals.histograms.lag.record_n(MS / 2, 400).unwrap();
        }),
        (Verdict::Suspect, "2 intervals are longer", |_, finished| finished.late_intervals = 2),
        (Verdict::Suspect, "stopped by a signal", |_, finished| finished.interrupted = true),
        (Verdict::Suspect, "a connection carried 30 % more or fewer", |_, finished| {
            finished.connection_imbalance = Some(0.3);
        }),
        (Verdict::Suspect, "3 times a connection brought bytes", |_, finished| finished.unasked = 3),
        (
            Verdict::Suspect,
            "100 requests a second are more than half of what this generator can do here, 199/s",
            |_, f| {
                f.ceiling_rate = Some(199.0);
            },
        ),
        (Verdict::Suspect, "values above one hour", |totals, finished| {
            (totals.counts.overflow, finished.counts.overflow) = (1, 1);
        }),
        (Verdict::Invalid, "5.0 % of the planned sessions found every slot taken", |_, finished| {
            finished.browse =
                Some(BrowseSummary { sessions_started: 95, sessions_shed: 5, ..BrowseSummary::default() });
        }),
        (Verdict::Invalid, "each of the 9 sessions failed", |_, finished| {
            finished.browse = Some(BrowseSummary { sessions_failed: 9, ..BrowseSummary::default() });
        }),
    ];
    let steady: fn(u64) -> u64 = |_| 5 * MS;
    let (stage, totals, finished) = ran(10, steady);
    let summary = summarize(&stage, &totals, finished, 0);
    assert_eq!((summary.verdict, summary.reasons.as_slice()), (Verdict::Valid, &[][..]));
    for (verdict, words, spoil) in cases {
        let (stage, mut totals, mut finished) = ran(10, steady);
        spoil(&mut totals, &mut finished);
        let summary = summarize(&stage, &totals, finished, 0);
        assert_eq!(summary.verdict, verdict, "{words}: {:?}", summary.reasons);
        assert!(summary.reasons.iter().any(|reason| reason.contains(words)), "{words}: {:?}", summary.reasons);
        let headless = summary.text().contains("no headline");
        assert_eq!(headless, verdict == Verdict::Invalid, "{words}: {}", summary.text());
    }
}

#[test]
fn a_server_that_slows_down_is_not_stationary() {
    let (stage, totals, finished) = ran(20, |age_ns| MS + age_ns / 1_000);
    let summary = summarize(&stage, &totals, finished, 0);
    assert!(summary.reasons.iter().any(|reason| reason.contains("not stationary")), "{:?}", summary.reasons);
}

/// What is sent behind the window was not sent in time, however well it went then.
#[test]
fn a_server_that_stands_still_until_the_end_was_not_offered_its_rate() {
    let wanted = stage("200", 4.0, 8);
    let outcome = simulate(2, &wanted, |zero_ns| {
        Box::new(move |_, now_ns| {
            Reply::At(if now_ns - zero_ns > 2 * S { zero_ns + 5 * S } else { now_ns }.max(now_ns), ok())
        })
    });
    let cost = Cost { wall_ns: 4 * S, cpu_ns: S, ..Cost::default() };
    let summary = summarize(&wanted, &outcome.totals, Finished { cost, ..outcome.finished }, 0);
    assert_eq!((summary.planned, summary.completed, summary.verdict), (800, 800, Verdict::Invalid));
    assert!(summary.reasons[0].contains("of the planned requests were sent in time"), "{:?}", summary.reasons);
}

#[test]
fn an_empty_run_is_no_fast_one() {
    assert_eq!(histogram().value_at_quantile(0.99), 0);
    let (stage, _, _) = ran(1, |_| MS);
    let totals = Totals::new(stage.tag_names.len(), crate::recorder::STATUS_COUNT);
    let summary = summarize(&stage, &totals, Finished::default(), 0);
    assert_eq!(summary.verdict, Verdict::Invalid, "{:?}", summary.reasons);
}
