//! The search against servers of known capacity, in virtual time.
//!
//! In an M/M/1 queue response times are exponential with rate mu - lambda, so the highest rate that keeps a quantile below
//! a limit is known in closed form. With service times of two exponential kinds (M/G/1, as of a cache that misses) the
//! Laplace transform of the response time is rational and its tail a sum of two exponentials (Pollaczek and Khinchine).

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::{Answer, Bounds, Ending, Interval, Phase, search};
use crate::arrivals::{Plan, Process, Rate, exponential, unit};

/// The objective: this quantile of response time below the limit.
const QUANTILE: f64 = 0.9;
const WARMUP_S: f64 = 1.0;
const TRIALS: u32 = 32;

/// A server with one line of waiting requests, and service times of one or two kinds.
#[derive(Clone, Copy)]
struct Server {
    /// The share of the first kind, and the two rates of service.
    share: f64,
    rates: [f64; 2],
    limit_s: f64,
    /// Long against the time in which the queue forgets, which is longer where service times differ more.
    trial_s: f64,
}

const MEMORYLESS: Server =
    Server { share: 1.0, rates: [1000.0, 1000.0], limit_s: 0.005_756_462_732_485_115, trial_s: 10.0 };
const MISSES: Server = Server { share: 0.9, rates: [1500.0, 250.0], limit_s: 0.009, trial_s: 20.0 };

impl Server {
    /// Whether a trial meets the objective.
    fn trial(&self, per_s: f64, length_s: f64, seed: u64) -> bool {
        let mut arrivals = Plan::steady(Process::Poisson, Rate::of(per_s).unwrap(), seed).arrivals();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(!seed);
        let (mut free_s, mut times_s) = (0.0_f64, Vec::new());
        while let Some(arrival) = arrivals.next_arrival() {
            let at_s = arrival.offset_ns as f64 / 1e9;
            if at_s >= WARMUP_S + length_s {
                break;
            }
            let kind = usize::from(unit(&mut random) > self.share);
            free_s = free_s.max(at_s) + exponential(&mut random) / self.rates[kind];
            if at_s >= WARMUP_S {
                times_s.push(free_s - at_s);
            }
        }
        let rank = (times_s.len() as f64 * QUANTILE) as usize;
        let (_, found_s, _) = times_s.select_nth_unstable_by(rank, f64::total_cmp);
        *found_s < self.limit_s
    }

    /// The share of requests that take longer than the limit, at a steady state.
    fn tail(&self, lambda: f64) -> f64 {
        let (p, q, [one, two], t) = (self.share, 1.0 - self.share, self.rates, self.limit_s);
        let utilisation = lambda * (p / one + q / two);
        // The poles of the transform: -first and -second.
        let (sum, product) = (one + two - lambda, one * two - lambda * (q * one + p * two));
        let root = (sum * sum - 4.0 * product).sqrt();
        let (first, second) = ((sum - root) / 2.0, (sum + root) / 2.0);
        let numerator = |s: f64| (1.0 - utilisation) * (p * one * (two + s) + q * two * (one + s));
        let part = |pole: f64, other: f64| numerator(-pole) / (other - pole) / pole * (-pole * t).exp();
        part(first, second) + part(second, first)
    }

    /// The highest rate that keeps the objective.
    fn capacity(&self) -> f64 {
        let saturation = 1.0 / (self.share / self.rates[0] + (1.0 - self.share) / self.rates[1]);
        let (mut low, mut high) = (0.0, saturation);
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            if self.tail(middle) < 1.0 - QUANTILE { low = middle } else { high = middle }
        }
        low
    }

    /// Searches of this server, each with seeds of its own; how many intervals hold the capacity, and the mean of their
    /// relative lengths.
    fn searches(&self, count: u64) -> (u64, f64) {
        let capacity = self.capacity();
        let (mut held, mut length) = (0, 0.0);
        for number in 0..count {
            // Searches do not all start from the same rate: brackets lie anywhere around the knee.
            let first_per_s = 40.0 * (1.0 + number as f64 / count as f64);
            let bounds = Bounds { first_per_s, rate_per_s_min: 30.0, rate_per_s_max: 2000.0, trials: TRIALS };
            let mut seed = number * 1000;
            let ending = search(&bounds, &mut |rate, phase| {
                seed += 1;
                let met = self.trial(rate, self.trial_s * phase.share(), seed);
                Ok(if met { Answer::Passed } else { Answer::Failed })
            });
            let Ending::Found(interval) = ending.unwrap() else { panic!("search {number} found nothing") };
            assert!(interval.low < interval.middle && interval.middle < interval.high);
            held += u64::from(interval.low <= capacity && capacity <= interval.high);
            length += (interval.high - interval.low) / capacity;
        }
        (held, length / count as f64)
    }
}

#[test]
fn the_closed_forms_agree() {
    // With one kind of service the tail of the general form is that of M/M/1.
    assert!((MEMORYLESS.capacity() - 600.0).abs() < 1e-6, "{}", MEMORYLESS.capacity());
    assert!((MEMORYLESS.tail(600.0) - (-400.0 * MEMORYLESS.limit_s).exp()).abs() < 1e-12);
    let capacity = MISSES.capacity();
    assert!((MISSES.tail(capacity) - 0.1).abs() < 1e-9 && capacity < 1000.0, "{capacity}");
}

/// The seeds are fixed: a correct build always finds the same intervals. 57 of 60 are to be expected, and the
/// campaign below counts more of them.
#[test]
fn intervals_hold_the_known_capacity() {
    for (name, server) in [("M/M/1", MEMORYLESS), ("M/G/1", MISSES)] {
        let (held, length) = server.searches(60);
        assert!((53..=60).contains(&held), "{name}: {held} of 60 intervals hold the capacity");
        assert!(length < 0.1, "{name}: intervals of {:.1} % of the capacity say too little", length * 100.0);
    }
}

/// `cargo test --release -p loadgen --bin loadgen intervals_of_500 -- --ignored --nocapture` prints the figures.
#[test]
#[ignore = "a campaign of minutes"]
fn intervals_of_500_searches_hold_the_capacity_in_95_percent() {
    for (name, server) in [("M/M/1", MEMORYLESS), ("M/G/1", MISSES)] {
        let (held, length) = server.searches(500);
        println!(
            "{name}: {held} of 500 intervals hold the capacity ({:.1} %), mean length {:.1} % of it",
            held as f64 / 5.0,
            length * 100.0
        );
        assert!((465..=485).contains(&held), "{name}: {held} of 500");
    }
}

const BOUNDS: Bounds = Bounds { first_per_s: 100.0, rate_per_s_min: 10.0, rate_per_s_max: 10_000.0, trials: 16 };

/// Searches a system that answers by the rate alone, and counts its probes.
fn sharp(answer: impl Fn(f64) -> Answer) -> (Ending, Vec<(f64, Phase)>) {
    let mut probes = Vec::new();
    let ending = search(&BOUNDS, &mut |rate, phase| {
        probes.push((rate, phase));
        assert!(probes.len() < 100, "a search ends");
        Ok(answer(rate))
    });
    (ending.unwrap(), probes)
}

fn passes_below(knee: f64) -> impl Fn(f64) -> Answer {
    move |rate| if rate < knee { Answer::Passed } else { Answer::Failed }
}

#[test]
fn a_sharp_knee_is_found_wherever_it_lies() {
    for knee in [11.0, 99.0, 101.0, 777.0, 9_999.0] {
        let (ending, probes) = sharp(passes_below(knee));
        let Ending::Found(Interval { middle, low, high }) = ending else { panic!("{knee}: {ending:?}") };
        assert!(low < knee && knee < high && high / low < 1.1, "{knee}: {low} {middle} {high}");
        assert_eq!(probes.iter().filter(|(_, phase)| *phase == Phase::Replicate).count(), 16);
        assert!(probes.iter().all(|(rate, _)| (10.0..=10_000.0).contains(rate)));
    }
}

#[test]
fn a_knee_outside_of_the_bounds_is_no_number() {
    assert_eq!(sharp(passes_below(5.0)).0, Ending::Below(10.0));
    assert_eq!(sharp(passes_below(1e9)).0, Ending::Above(10_000.0));
}

#[test]
fn a_generator_at_its_limit_ends_the_search_after_a_second_try() {
    let (ending, probes) = sharp(|rate| if rate < 3000.0 { Answer::Passed } else { Answer::GeneratorLimited });
    assert_eq!(ending, Ending::GeneratorLimited(3200.0));
    assert_eq!(probes.iter().filter(|(rate, _)| *rate == 3200.0).count(), 2);
    // Once may be chance.
    let tried = std::cell::Cell::new(false);
    let (ending, _) =
        sharp(
            |rate| {
                if rate > 300.0 && !tried.replace(true) { Answer::GeneratorLimited } else { passes_below(777.0)(rate) }
            },
        );
    assert!(matches!(ending, Ending::Found(_)), "{ending:?}");
    assert_eq!(sharp(|rate| if rate > 300.0 { Answer::Stopped } else { Answer::Passed }).0, Ending::Stopped);
}

#[test]
fn one_wrong_answer_of_a_short_probe_does_not_mislead_the_trials() {
    let probes = std::cell::Cell::new(0);
    // The third scout fails by chance, far below the knee: the bracket lies below it, too.
    let (ending, _) = sharp(|rate| {
        probes.set(probes.get() + 1);
        if probes.get() == 3 { Answer::Failed } else { passes_below(500.0)(rate) }
    });
    let Ending::Found(Interval { low, high, .. }) = ending else { panic!("{ending:?}") };
    assert!(low < 500.0 && 500.0 < high, "{low} {high}");
}
