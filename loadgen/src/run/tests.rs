//! What arithmetic says about a run must come out of it, exactly: no machine's noise is in virtual time.

use std::sync::mpsc;

use super::simulation::{Outcome, Reply, Script, ok, simulate, simulate_late, stage, status};
use crate::arrivals::{Plan, Process};
use crate::failure::Failure;
use crate::stage::Stage;
use crate::stationarity::Finding;

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// A server that stands still from `begin_ns` for `stall_ns` after the start of time, and answers in 0.1 ms otherwise.
fn stalling(begin_ns: u64, stall_ns: u64) -> impl FnOnce(u64) -> Script + Send {
    standing_still(begin_ns, stall_ns, MS / 10)
}

/// The same, with the time that an answer takes otherwise.
fn standing_still(begin_ns: u64, stall_ns: u64, answer_ns: u64) -> impl FnOnce(u64) -> Script + Send {
    move |zero_ns| {
        Box::new(move |_, now_ns| {
            let (begin_ns, end_ns) = (zero_ns + begin_ns, zero_ns + begin_ns + stall_ns);
            let begins_ns = if (begin_ns..end_ns).contains(&now_ns) { end_ns } else { now_ns };
            Reply::At(begins_ns + answer_ns, ok())
        })
    }
}

#[track_caller]
fn assert_quantile(outcome: &Outcome, quantile: f64, expected_s: f64) {
    let found_s = outcome.totals.histograms.response.value_at_quantile(quantile) as f64 / 1e9;
    assert!((found_s / expected_s - 1.0).abs() < 0.02, "quantile {quantile}: {found_s} s, and not {expected_s} s");
}

/// With a stall of S in a run of T the quantile q of response time is S - (1 - q) T.
#[test]
fn a_stall_of_2_s_in_30_has_the_percentiles_of_arithmetic() {
    let outcome = simulate(1, &stage("200", 30.0, 16), stalling(10 * S, 2 * S));
    assert_eq!(outcome.totals.counts.planned, 6000, "arrivals depend on the clock only");
    assert_eq!(outcome.totals.counts.completed, 6000);
    for (quantile, expected_s) in [(0.99, 1.7), (0.95, 0.5), (0.999, 1.97)] {
        assert_quantile(&outcome, quantile, expected_s);
    }
    // Omission, had service time been the headline: only what was on the wire when it stopped.
    let slow = outcome.totals.histograms.service.count_between(S / 2, 10 * S);
    assert!((1..=16).contains(&slow), "{slow} slow service times of 16 connections");
    assert_eq!(outcome.served, 6000);
    // And the wait is the pool's: the generator noticed every arrival in time.
    let lag_ns = outcome.totals.histograms.lag.max();
    assert!(lag_ns < MS, "{lag_ns} ns of lag");
    assert!(outcome.totals.histograms.queue.max() > 19 * S / 10);
}

#[test]
fn a_stall_of_half_the_run_has_a_p90_of_four_fifths_of_it() {
    let mut wanted = stage("200", 20.0, 8);
    wanted.timeout_ns = 30 * S;
    let outcome = simulate(2, &wanted, stalling(5 * S, 10 * S));
    assert_quantile(&outcome, 0.9, 8.0);
    assert_quantile(&outcome, 0.75, 5.0);
    assert!(outcome.totals.histograms.service.count_between(S, 100 * S) <= 8);
}

/// A tenth of the requests gets no answer: the timeout says how slow they are at least.
#[test]
fn timeouts_are_samples_and_no_percentile_is_better_for_them() {
    let mut wanted = stage("100", 5.0, 64);
    wanted.timeout_ns = 2 * S;
    let outcome = simulate(3, &wanted, |_| {
        Box::new(|number, now_ns| if number % 10 == 9 { Reply::Never } else { Reply::At(now_ns + MS, ok()) })
    });
    let (counts, response) = (&outcome.totals.counts, &outcome.totals.histograms.response);
    assert_eq!((counts.planned, counts.completed, counts.timed_out, counts.censored), (500, 450, 50, 50));
    assert_eq!((response.len(), counts.errors + counts.in_flight_at_end), (500, 0));
    assert!(response.value_at_quantile(0.89) < 5 * MS && response.value_at_quantile(0.91) >= 2 * S * 999 / 1000);
    assert_eq!(outcome.totals.failures[Failure::HeaderTimeout.index()], 50);
}

/// The timeout counts from the plan, so that no wait for a connection makes it longer.
#[test]
fn a_timeout_counts_from_the_planned_time() {
    let mut wanted = stage("100", 3.0, 4);
    wanted.timeout_ns = S;
    let outcome = simulate(13, &wanted, |_| Box::new(|_, _| Reply::Never));
    let (counts, response) = (&outcome.totals.counts, &outcome.totals.histograms.response);
    assert_eq!((counts.planned, counts.timed_out, response.len()), (300, 300, 300));
    // A tick of 10 ms, and the kernel's.
    let [shortest_ns, longest_ns] = [response.min(), response.max()];
    assert!(shortest_ns >= S * 999 / 1000 && longest_ns < S + 20 * MS, "{shortest_ns} to {longest_ns} ns");
}

/// Whoever could not even wait is counted: a generator that was away for longer than its timeout.
#[test]
fn what_finds_no_place_to_wait_is_shed_and_counted() {
    let mut wanted = stage("2000", 3.0, 4);
    wanted.timeout_ns = 100 * MS;
    let outcome = simulate(14, &wanted, |zero_ns| {
        let mut away = false;
        Box::new(move |_, now_ns| {
            if !away && now_ns > zero_ns + S {
                away = true;
                twintier::engine::sim::World::current().expect("a world").advance(S);
            }
            Reply::At(now_ns, ok())
        })
    });
    let counts = &outcome.totals.counts;
    assert_eq!(counts.planned, 6000, "arrivals depend on the clock only");
    assert!((500..1500).contains(&counts.shed) && counts.balances(), "{counts:?}");
    assert_eq!(outcome.totals.failures[Failure::Shed.index()], counts.shed);
    assert_eq!(outcome.totals.histograms.response.len(), counts.completed + counts.censored, "no sample of a time");
}

/// A closed loop that waits has one slow sample a connection, and nothing is made up for those that it did not send.
#[test]
fn a_closed_loop_is_not_corrected() {
    let outcome = simulate(15, &stage("0", 3.0, 4), standing_still(S, S, 2 * MS));
    let (counts, histograms) = (&outcome.totals.counts, &outcome.totals.histograms);
    assert!(counts.planned > 1000, "{counts:?}");
    assert_eq!((histograms.response.len(), histograms.service.len()), (counts.planned, counts.planned));
    assert!((1..=4).contains(&histograms.response.count_between(S / 10, 10 * S)));
}

/// A tenth hangs past the end and is answered then: those who were asked last are as slow as the others.
#[test]
fn the_last_second_is_not_biased_low() {
    let outcome = simulate(4, &stage("100", 4.0, 60), |_| {
        Box::new(|number, now_ns| Reply::At(now_ns + if number % 10 == 0 { 3 * S } else { MS }, ok()))
    });
    let (counts, response) = (&outcome.totals.counts, &outcome.totals.histograms.response);
    assert_eq!((counts.planned, counts.completed, counts.in_flight_at_end), (400, 400, 0));
    assert_eq!(response.count_between(2 * S, 4 * S), 40, "a tenth of the whole, the end included");
}

/// The generator's core is taken away for 50 ms: that is in the lag and in the response, and not in the service time.
#[test]
fn time_stolen_from_the_generator_shows_as_lag() {
    let outcome = simulate(5, &stage("1000", 2.0, 64), |zero_ns| {
        let mut stolen = false;
        Box::new(move |_, now_ns| {
            if !stolen && now_ns > zero_ns + S {
                stolen = true;
                twintier::engine::sim::World::current().expect("a world").advance(50 * MS);
            }
            Reply::At(now_ns, ok())
        })
    });
    let histograms = &outcome.totals.histograms;
    assert_eq!(outcome.totals.counts.completed, 2000);
    for (name, histogram) in [("lag", &histograms.lag), ("response", &histograms.response)] {
        let late = histogram.count_between(5 * MS, 60 * MS);
        assert!((40..=55).contains(&late), "{name}: {late} requests of 50 ms at 1000/s");
        assert!(histogram.max().abs_diff(50 * MS) < 5 * MS, "{name}: {}", histogram.max());
    }
}

/// How late the server got each request, by its own clock: from the first one on, against the offsets of the plan.
fn late_ns(stage: &Stage, timer_late_ns: u64) -> Vec<u64> {
    let (sender, came) = mpsc::channel();
    simulate_late(10, stage, timer_late_ns, |_| {
        Box::new(move |_, now_ns| {
            sender.send(now_ns).expect("the test listens");
            Reply::At(now_ns, ok())
        })
    });
    let came: Vec<u64> = came.iter().collect();
    let mut arrivals = stage.plan.as_ref().expect("an open loop").arrivals();
    let planned: Vec<u64> = came.iter().map(|_| arrivals.next_arrival().expect("an arrival").offset_ns).collect();
    // The first one was late itself, and by how much is not known: what counts is how far the others are from it.
    let distances = came.iter().zip(&planned).map(|(came_ns, planned_ns)| came_ns - planned_ns);
    let soonest_ns = distances.clone().min().expect("a request");
    distances.map(|distance_ns| distance_ns - soonest_ns).collect()
}

/// Rule 4: what the server sees is the plan, without a comb of ticks. A turn of this machine takes up to 20 µs and its
/// network up to 50 µs.
#[test]
fn the_server_gets_each_request_when_it_was_planned() {
    let with = |process: Process| {
        let plan = Plan::steady(process, "997".parse().unwrap(), 1);
        Stage { plan: Some(plan), ..stage("997", 2.0, 64) }
    };
    for process in [Process::Constant, Process::Poisson] {
        let late = late_ns(&with(process), 0);
        assert!(late.len() > 1800, "{} requests", late.len());
        let latest_ns = late.iter().max().unwrap();
        assert!(*latest_ns < 200_000, "{process:?}: {latest_ns} ns");
    }
}

/// Rule 4: a sleep ends late on every machine. Who polls before each arrival does not hand that on, and says what the
/// polling took.
#[test]
fn polling_before_an_arrival_hides_a_late_timer() {
    const LATE_NS: u64 = 400_000;
    let lag = |spin_ns: u64| {
        let stage = Stage { spin_ns, ..stage("500", 2.0, 64) };
        let outcome = simulate_late(11, &stage, LATE_NS, |_| Box::new(|_, now_ns| Reply::At(now_ns + MS / 10, ok())));
        assert_eq!(outcome.totals.counts.completed, 1000);
        (outcome.totals.histograms.lag, outcome.finished.cost.spin_ns)
    };
    let (asleep, none_ns) = lag(0);
    let (polling, spin_ns) = lag(MS);
    // An answer or a tick may wake the thread that overslept.
    assert!(asleep.value_at_quantile(0.1) > LATE_NS / 3, "{} ns", asleep.value_at_quantile(0.1));
    // But for those behind a tick of the timeouts, which is slept for.
    assert!(polling.value_at_quantile(0.9) < 100_000, "{} ns", polling.value_at_quantile(0.9));
    assert_eq!(none_ns, 0);
    assert!((S / 4..S).contains(&spin_ns), "{spin_ns} ns of polling: 0.6 ms before each of 1000");
}

/// Rule 10: what a run needs is taken at its start. More requests take no more, nor do requests that wait.
#[test]
fn more_requests_allocate_no_more() {
    let allocations = |rate: &str, duration_s: f64, stall_ns: u64| {
        let outcome = simulate(12, &stage(rate, duration_s, 8), standing_still(2 * S, stall_ns, 4 * MS));
        (outcome.served, outcome.allocations)
    };
    for rate in ["400", "0"] {
        let (few, first) = allocations(rate, 5.0, 0);
        for (duration_s, stall_ns) in [(8.0, 0), (5.0, 2 * S)] {
            let (many, count) = allocations(rate, duration_s, stall_ns);
            assert!(stall_ns > 0 || many > few * 3 / 2, "{many} requests after {few}");
            // The processor time is read from a file twice, whose text has the length that it has.
            let more = count.saturating_sub(first);
            assert!(more <= 4, "rate {rate}, {duration_s} s, a stall of {stall_ns} ns: {more} for {many} requests");
        }
    }
}

/// Errors that come fast must not make a percentile better.
#[test]
fn fast_errors_do_not_flatter() {
    let slow_and = |errors: bool| {
        simulate(6, &stage("100", 5.0, 64), move |_| {
            Box::new(move |number, now_ns| match errors && number % 2 == 0 {
                true => Reply::At(now_ns, status(503)),
                false => Reply::At(now_ns + 20 * MS, ok()),
            })
        })
    };
    let (alone, mixed) = (slow_and(false), slow_and(true));
    let p50 = |outcome: &Outcome| outcome.totals.histograms.response.value_at_quantile(0.5) / MS;
    assert_eq!(p50(&alone), p50(&mixed));
    assert_eq!((mixed.totals.counts.errors, mixed.totals.histograms.failed.len()), (250, 250));
    assert!(mixed.totals.histograms.failed.max() < 10 * MS);
    assert_eq!(mixed.totals.histograms.service.len(), 250, "nor is their service time anybody's");
    let within = mixed.totals.completed_in_window;
    assert!((249..=250).contains(&within), "the rate is that of good answers: {within}");
}

/// Whatever a server does, in whatever order, each planned request ends in exactly one of the five ways.
#[test]
fn the_terms_add_up_whatever_happens() {
    for seed in 0..10 {
        for rate in ["300", "0"] {
            let mut wanted = stage(rate, 1.0, 8);
            wanted.timeout_ns = 300 * MS;
            wanted.warmup_ns = 500 * MS;
            let outcome = simulate(seed, &wanted, move |_| {
                let mut random = twintier::engine::sim::Random(seed);
                Box::new(move |_, now_ns| match random.below(8) {
                    0 => Reply::Close,
                    1 => Reply::Never,
                    2 => Reply::At(now_ns + random.below(S), ok()),
                    3 => Reply::At(now_ns + MS, status(500)),
                    4 => Reply::At(now_ns, b"not http\r\n\r\n".to_vec()),
                    _ => Reply::At(now_ns + MS + random.below(5 * MS), ok()),
                })
            });
            let counts = &outcome.totals.counts;
            assert!(counts.balances(), "seed {seed}, rate {rate}: {counts:?}");
            assert!(outcome.finished.warm_up.balances());
            let failed: u64 = outcome.totals.failures.iter().sum();
            assert_eq!(failed, counts.errors + counts.timed_out + counts.shed, "seed {seed}, rate {rate}");
            assert_eq!(outcome.totals.histograms.response.len(), counts.completed + counts.censored);
            if rate == "300" {
                assert_eq!(counts.planned, 300, "seed {seed}");
            }
        }
    }
}

/// Requests go to the connection that has been free for the longest.
#[test]
fn load_spreads_evenly_over_connections() {
    let outcome = simulate(8, &stage("1000", 6.0, 5), |_| Box::new(|_, now_ns| Reply::At(now_ns + MS / 10, ok())));
    let imbalance = outcome.finished.connection_imbalance.expect("1200 requests of each connection");
    assert!(imbalance < 0.02, "{imbalance}: {:?}", outcome.finished.requests_per_connection);
}

/// A server that warms up like a compiler: what is measured after that does not know of it.
#[test]
fn a_warm_up_leaves_no_trace_and_a_drift_is_found() {
    let serving = |delay_ns: fn(u64) -> u64| {
        move |zero_ns| -> Script {
            let mut random = twintier::engine::sim::Random(7);
            Box::new(move |_, now_ns| {
                let noise = random.below(MS / 2);
                Reply::At(now_ns + delay_ns(now_ns - zero_ns) + noise, ok())
            })
        }
    };
    let mut wanted = stage("110", 20.0, 16);
    let warming: fn(u64) -> u64 = |age_ns| if age_ns < 5 * S { 30 * MS } else { MS };
    wanted.warmup_ns = 5 * S + 100 * MS;
    let warm = simulate(7, &wanted, serving(warming));
    assert!(warm.totals.histograms.response.max() < 10 * MS, "steady state only");
    assert_eq!(warm.totals.stationarity().finding, Finding::Stationary);
    wanted.warmup_ns = 0;
    let cold = simulate(7, &wanted, serving(warming));
    assert_eq!(cold.totals.stationarity().finding, Finding::NotStationary);
    let drifting = simulate(7, &wanted, serving(|age_ns| MS + age_ns / 10_000));
    assert_eq!(drifting.totals.stationarity().finding, Finding::NotStationary);
}
