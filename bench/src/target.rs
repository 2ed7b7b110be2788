//! What the project promises of its speed and memory, beside what was found.
//!
//! A promise is about an interval, not about its middle: it holds if the whole interval keeps it, does not hold if none
//! of it does, and is undecided otherwise.

use serde::{Deserialize, Serialize};

use crate::case::{Case, Load, Work};
use crate::statistics::EQUIVALENCE_FACTOR;

/// The better one of nginx and HAProxy, block by block.
pub const BEST: &str = "best of nginx, haproxy";

/// The system of `--job app` that the promises are about.
const APPLIANCE: &str = "twintier-appliance";

/// User memory for an idle connection.
pub const IDLE_BYTES_MAX: f64 = 4096.0;
/// Growth over [`SOAK_REQUESTS`] that counts as none: the resolution of the look at resident pages.
pub const SOAK_GROWTH_BYTES_MAX: f64 = 1_048_576.0;
/// Requests over which memory must not grow.
pub const SOAK_REQUESTS: f64 = 10_000_000.0;

/// A bound of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub limit: f64,
    /// The figure must be at least the limit instead of at most.
    pub at_least: bool,
}

impl Target {
    /// No worse, of what is better lower: within the margin of equivalence.
    pub const NO_WORSE: Self = Self::at_most(EQUIVALENCE_FACTOR);
    /// The same of what is better higher.
    pub const NO_FEWER: Self = Self::at_least(1.0 / EQUIVALENCE_FACTOR);

    pub const fn at_most(limit: f64) -> Self {
        Self { limit, at_least: false }
    }

    pub const fn at_least(limit: f64) -> Self {
        Self { limit, at_least: true }
    }

    /// Whether an interval keeps it; `None` is no interval.
    pub fn judge(&self, interval: Option<(f64, f64)>) -> Holds {
        let Some((low, high)) = interval else { return Holds::Undecided };
        let (kept, broken) =
            if self.at_least { (low >= self.limit, high < self.limit) } else { (high <= self.limit, low > self.limit) };
        if kept {
            Holds::Yes
        } else if broken {
            Holds::No
        } else {
            Holds::Undecided
        }
    }

    /// `≤ 0.75`.
    pub fn text(&self) -> String {
        let sign = if self.at_least { '≥' } else { '≤' };
        if self.limit.abs() < 100.0 { format!("{sign} {:.2}", self.limit) } else { format!("{sign} {:.0}", self.limit) }
    }
}

/// What an interval says about a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds {
    #[serde(rename = "holds")]
    Yes,
    #[serde(rename = "does not hold")]
    No,
    #[serde(rename = "undecided")]
    Undecided,
}

impl Holds {
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "holds",
            Self::No => "does not hold",
            Self::Undecided => "undecided",
        }
    }
}

/// The target of a ratio; `None` where nothing is promised.
pub fn of_ratio(job: &str, case: &Case, a: &str, b: &str, metric: &str) -> Option<Target> {
    match (job, metric) {
        ("proxy", "cpu_us_per_request") if b == BEST => match case.load {
            Load::KeepAlive if case.body_bytes <= 128 => keep_alive(a, case.connections),
            Load::KeepAlive if case.body_bytes >= 16_384 => Some(Target::NO_WORSE),
            Load::NewConnections => Some(Target::NO_WORSE),
            Load::KeepAlive | Load::Idle | Load::Rate => None,
        },
        ("proxy", "cpu_us_per_request") if b == "twintier-forward" => {
            (case.load == Load::KeepAlive && case.body_bytes <= 128).then_some(Target::at_most(1.10))
        }
        ("proxy", "p99_ns") if b == BEST && case.load == Load::Rate => Some(Target::NO_WORSE),
        ("app", "cpu_us_per_request") if case.work == Work::App && a == APPLIANCE && b == BEST => {
            Some(Target::at_most(0.35))
        }
        ("app", "cpu_us_per_request") if case.work == Work::App && a == APPLIANCE && b == "direct" => {
            Some(Target::at_most(1.25))
        }
        ("slow", "throughput_per_s") => Some(Target::at_least(0.95)),
        _ => None,
    }
}

/// CPU per request to the best of nginx and HAProxy, by the generator's connections.
fn keep_alive(a: &str, connections: u32) -> Option<Target> {
    let limit = match (a, connections) {
        ("twintier", 8) => 1.0,
        ("twintier", 64) | ("twintier-pipeline", 8) => 0.75,
        ("twintier", 512) | ("twintier-pipeline", 64) => 0.65,
        ("twintier-pipeline", 512) => 0.45,
        _ => return None,
    };
    Some(Target::at_most(limit))
}

#[cfg(test)]
mod tests {
    use super::{BEST, Holds, Target, of_ratio};
    use crate::case::{Case, Load, Work};

    #[test]
    fn the_whole_interval_decides() {
        let target = Target::at_most(0.75);
        let found =
            [Some((0.6, 0.75)), Some((0.7, 0.8)), Some((0.76, 0.9)), None].map(|interval| target.judge(interval));
        assert_eq!(found, [Holds::Yes, Holds::Undecided, Holds::No, Holds::Undecided]);
        let target = Target::at_least(0.95);
        let found = [Some((0.95, 1.2)), Some((0.9, 1.0)), Some((0.8, 0.94))].map(|interval| target.judge(interval));
        assert_eq!(found, [Holds::Yes, Holds::Undecided, Holds::No]);
        assert_eq!([Target::at_most(0.75).text(), Target::at_least(4096.0).text()], ["≤ 0.75", "≥ 4096"]);
    }

    #[test]
    fn targets_are_those_of_the_issue() {
        let cpu = |a: &str, b: &str, connections: u32, body_bytes: usize| {
            let case = Case::keep_alive(Work::Proxy, connections, body_bytes);
            of_ratio("proxy", &case, a, b, "cpu_us_per_request").map(|target| target.limit)
        };
        assert_eq!([8, 64, 512].map(|n| cpu("twintier", BEST, n, 128)), [Some(1.0), Some(0.75), Some(0.65)]);
        assert_eq!([8, 64, 512].map(|n| cpu("twintier-pipeline", BEST, n, 128)), [Some(0.75), Some(0.65), Some(0.45)]);
        assert_eq!(cpu("twintier", "twintier-forward", 64, 128), Some(1.10));
        assert_eq!(cpu("twintier", BEST, 64, 1 << 20), Some(1.05));
        assert_eq!(cpu("twintier", BEST, 64, 1024), None);
        assert_eq!(cpu("twintier", "nginx", 64, 128), None);
        let rate = Case { load: Load::Rate, rate_share: Some(0.7), ..Case::keep_alive(Work::Proxy, 64, 128) };
        assert_eq!(of_ratio("proxy", &rate, "twintier", BEST, "p99_ns"), Some(Target::at_most(1.05)));
        assert_eq!(of_ratio("proxy", &rate, "twintier", BEST, "p50_ns"), None);
    }
}
