//! The arrivals of a run: when each request is due, as nanoseconds after the start.
//!
//! ```text
//!   language ─▶ curve (rate over time) ─┐   process: steps of the integral, 1 or exponential
//!                                       ├─▶ arrival 0, 1, 2 … ─▶ share (k mod n) ─▶ schedule
//!   access log ─▶ trace (time stamps) ──┘
//! ```
//! Arrival k of a constant plan is due when the integral of the rate passes k; of a Poisson plan when it passes the sum
//! of k + 1 exponential variates of mean 1, which is the exact construction for a rate that changes.
//!
//! Architecture invariant: offsets depend on the plan and the seed alone. No clock is read here and no completion is
//! known here, so a slow server cannot thin out what is offered to it.

mod curve;
mod language;
mod random;
mod rate;
mod share;

use std::fmt;
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

pub use crate::arrivals::curve::Curve;
use crate::arrivals::curve::{Cursor, MASS_PER_ARRIVAL};
pub use crate::arrivals::language::{Pattern, Process};
#[cfg(test)]
pub use crate::arrivals::random::unit;
pub use crate::arrivals::random::{below, exponential, index_below};
pub use crate::arrivals::rate::Rate;
pub use crate::arrivals::share::Share;
use crate::replay::Trace;

/// Where offsets come from.
#[derive(Clone, Debug)]
enum Source {
    Curve(Process, Curve),
    Trace(Arc<Trace>),
}

/// Everything that fixes the arrivals of a run, but for its window.
#[derive(Clone, Debug)]
pub struct Plan {
    source: Source,
    seed: u64,
    share: Share,
    text: String,
}

impl Plan {
    /// A plan that follows a curve; `text` names it in reports.
    pub fn of_curve(process: Process, curve: Curve, seed: u64, share: Share, text: String) -> Self {
        Self { source: Source::Curve(process, curve), seed, share, text }
    }

    /// A plan that follows an access log.
    pub fn of_trace(trace: Arc<Trace>, seed: u64, share: Share, text: String) -> Self {
        Self { source: Source::Trace(trace), seed, share, text }
    }

    /// A steady rate.
    #[cfg(test)]
    pub fn steady(process: Process, rate: Rate, seed: u64) -> Self {
        let text = format!("{} at {rate}/s", process.name());
        Self::of_curve(process, Curve::ending(Vec::new(), rate), seed, Share::WHOLE, text)
    }

    /// The same arguments give the same series on every machine.
    pub fn arrivals(&self) -> Arrivals {
        let series = match &self.source {
            Source::Curve(process, curve) => Series::Curve {
                cursor: Cursor::new(curve.clone()),
                process: *process,
                mass: 0,
                random: Xoshiro256PlusPlus::seed_from_u64(self.seed),
            },
            Source::Trace(trace) => Series::Trace(Arc::clone(trace)),
        };
        Arrivals { series, number: 0, share: self.share }
    }

    /// The number of arrivals of the whole plan that may be expected between two offsets.
    pub fn expected(&self, from_ns: u64, to_ns: u64) -> f64 {
        match &self.source {
            Source::Curve(_, curve) => curve.arrivals_between(from_ns, to_ns),
            Source::Trace(trace) => trace.arrivals_between(from_ns, to_ns) as f64,
        }
    }

    /// Whether the rate stays the same between two offsets: only then may the system be expected to.
    pub fn is_steady(&self, from_ns: u64, to_ns: u64) -> bool {
        let Source::Curve(..) = self.source else { return false };
        let step_ns = to_ns.saturating_sub(from_ns) / 16;
        let parts = (0..16).map(|part| self.expected(from_ns + part * step_ns, from_ns + (part + 1) * step_ns));
        let (least, most) = parts.fold((f64::INFINITY, 0.0), |(least, most), part| (part.min(least), part.max(most)));
        most <= least * 1.01
    }

    /// The highest rate of this generator's share, in arrivals a second.
    pub fn peak_per_s(&self) -> f64 {
        let whole = match &self.source {
            Source::Curve(_, curve) => curve.peak().per_s(),
            Source::Trace(trace) => trace.peak_per_s(),
        };
        whole / self.share.count() as f64
    }

    pub fn share(&self) -> Share {
        self.share
    }

    /// The access log that is replayed.
    pub fn trace(&self) -> Option<&Trace> {
        match &self.source {
            Source::Curve(..) => None,
            Source::Trace(trace) => Some(trace),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// One arrival of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Nanoseconds after the start at which it is due.
    pub offset_ns: u64,
    /// Its number in the whole plan, from 0.
    pub number: u64,
    /// Which of the plan's requests it is; 0 unless a log is replayed.
    pub request: u32,
}

#[derive(Clone, Debug)]
enum Series {
    /// `mass` is the integral of the rate at which the next arrival is due.
    Curve {
        cursor: Cursor,
        process: Process,
        mass: u128,
        random: Xoshiro256PlusPlus,
    },
    Trace(Arc<Trace>),
}

/// The arrivals of one share in their order; offsets never decrease.
#[derive(Clone, Debug)]
pub struct Arrivals {
    series: Series,
    /// The number of the next arrival of the whole plan.
    number: u64,
    share: Share,
}

impl Arrivals {
    /// The next arrival of this share; `None` when the plan has ended.
    pub fn next_arrival(&mut self) -> Option<Arrival> {
        loop {
            let number = self.number;
            self.number += 1;
            let own = self.share.has(number);
            match &mut self.series {
                Series::Curve { cursor, process, mass, random } => {
                    let due = match process {
                        Process::Constant => {
                            let due = *mass;
                            *mass += MASS_PER_ARRIVAL;
                            due
                        }
                        Process::Poisson => {
                            // At most 37 arrivals' worth: far below 2^63.
                            *mass += u128::from((exponential(random) * MASS_PER_ARRIVAL as f64) as u64);
                            *mass
                        }
                    };
                    // Where the others' arrivals fall is of no interest, only that they are counted.
                    if own {
                        return cursor.offset_ns(due).map(|offset_ns| Arrival { offset_ns, number, request: 0 });
                    }
                }
                Series::Trace(trace) => {
                    let (offset_ns, request) = trace.arrival(number)?;
                    if own {
                        return Some(Arrival { offset_ns, number, request });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
