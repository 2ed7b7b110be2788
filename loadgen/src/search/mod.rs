//! The search for the highest rate that keeps the objectives, as a pure core: it asks for probes and reads their answers.
//!
//! ```text
//!   scout      short probes, each at twice the rate (or half, until one passes)   ─▶ a pass and a fail
//!   bisect     longer ones between the two                                        ─▶ a narrow bracket
//!   replicate  full trials around the knee, each with arrivals of its own         ─▶ capacity and its interval
//! ```
//! Near the knee the same rate passes once and fails the next time. The capacity is therefore the rate at which a trial
//! passes as often as not (a goal exceed ratio of one half, in the words of the MLRsearch draft), and what is reported is
//! the [`posterior`] of that rate after all full trials: its median and its central 95 %. The short probes only say where
//! to look; they are no evidence, because a short probe starts with an empty queue.

mod posterior;

use std::io;

pub use self::posterior::Interval;
use self::posterior::Posterior;

/// Factor between one scouting rate and the next.
const SCOUT_STEP: f64 = 2.0;
/// The bracket is narrow enough for trials when its ends differ by less than this factor.
const BRACKET_RATIO: f64 = 1.12;
/// Probes that a bracket of one scouting step is narrowed with, at most.
const BISECTIONS_MAX: u32 = 6;
/// Where trials stand, in widths of the knee from its middle: at the middle they say most about where it is, beside it
/// about how wide it is.
const PLACES: [f64; 4] = [0.0, 1.2, 0.0, -1.2];

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Scout,
    Bisect,
    Replicate,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Scout => "scout",
            Self::Bisect => "bisect",
            Self::Replicate => "replicate",
        }
    }

    /// How long a probe is, as a share of a full trial.
    pub fn share(self) -> f64 {
        match self {
            Self::Scout => 0.25,
            Self::Bisect => 0.5,
            Self::Replicate => 1.0,
        }
    }
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every objective was met.
    Passed,
    /// One was missed.
    Failed,
    /// The generator could not offer the rate: the probe says nothing about the system.
    GeneratorLimited,
    /// The user has seen enough.
    Stopped,
}

/// Where and how thoroughly to look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub first_per_s: f64,
    pub rate_per_s_min: f64,
    pub rate_per_s_max: f64,
    /// Full trials at the knee.
    pub trials: u32,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    Found(Interval),
    /// Even the lowest rate missed an objective.
    Below(f64),
    /// Even the highest rate met all objectives.
    Above(f64),
    /// The generator reached its limit first, at this rate.
    GeneratorLimited(f64),
    Stopped,
}

/// Asks `probe` until it knows. A probe that the generator failed is repeated once: something else may have been in its
/// way.
///
/// # Errors
/// What a probe says.
pub fn search(bounds: &Bounds, probe: &mut dyn FnMut(f64, Phase) -> io::Result<Answer>) -> io::Result<Ending> {
    let mut ask = |rate: f64, phase: Phase| -> io::Result<Result<bool, Ending>> {
        for _ in 0..2 {
            match probe(rate, phase)? {
                Answer::Passed => return Ok(Ok(true)),
                Answer::Failed => return Ok(Ok(false)),
                Answer::Stopped => return Ok(Err(Ending::Stopped)),
                Answer::GeneratorLimited => {}
            }
        }
        Ok(Err(Ending::GeneratorLimited(rate)))
    };
    let mut bracket = match scout(bounds, &mut ask)? {
        Ok(bracket) => bracket,
        Err(ending) => return Ok(ending),
    };
    for _ in 0..BISECTIONS_MAX {
        let (pass, fail) = bracket;
        if fail / pass < BRACKET_RATIO {
            break;
        }
        let middle = (pass * fail).sqrt();
        match ask(middle, Phase::Bisect)? {
            Ok(true) => bracket.0 = middle,
            Ok(false) => bracket.1 = middle,
            Err(ending) => return Ok(ending),
        }
    }
    let mut posterior = Posterior::around(bracket.0, bracket.1);
    for (_, place) in (0..bounds.trials).zip(PLACES.into_iter().cycle()) {
        let rate = posterior.place(place).clamp(bounds.rate_per_s_min, bounds.rate_per_s_max);
        match ask(rate, Phase::Replicate)? {
            Ok(passed) => posterior.learn(rate, passed),
            Err(ending) => return Ok(ending),
        }
    }
    Ok(Ending::Found(posterior.interval()))
}

/// A rate that passed and a higher one that failed.
type Bracket = (f64, f64);

fn scout(
    bounds: &Bounds,
    ask: &mut dyn FnMut(f64, Phase) -> io::Result<Result<bool, Ending>>,
) -> io::Result<Result<Bracket, Ending>> {
    let mut rate = bounds.first_per_s.clamp(bounds.rate_per_s_min, bounds.rate_per_s_max);
    let (mut passed, mut failed): (Option<f64>, Option<f64>) = (None, None);
    loop {
        match ask(rate, Phase::Scout)? {
            Ok(true) => passed = Some(rate),
            Ok(false) => failed = Some(rate),
            Err(ending) => return Ok(Err(ending)),
        }
        rate = match (passed, failed) {
            (Some(pass), Some(fail)) => return Ok(Ok((pass, fail))),
            (Some(pass), None) if pass >= bounds.rate_per_s_max => return Ok(Err(Ending::Above(pass))),
            (None, Some(fail)) if fail <= bounds.rate_per_s_min => return Ok(Err(Ending::Below(fail))),
            (Some(pass), None) => (pass * SCOUT_STEP).min(bounds.rate_per_s_max),
            (None, _) => (rate / SCOUT_STEP).max(bounds.rate_per_s_min),
        };
    }
}

#[cfg(test)]
mod tests;
