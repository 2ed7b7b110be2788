//! Objectives of a run, as in `p99<5ms,errors<0.1%`: what was wanted, what came, and whether that is enough.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::quantile::samples_min;
use crate::summary::{Summary, duration_text};

/// One objective.
#[derive(Clone, Debug, PartialEq)]
struct Objective {
    text: String,
    limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// A quantile of response time lies below this many nanoseconds.
    Response(Quantile, u64),
    /// The share of requests that failed in any way lies below this.
    Errors(f64),
    /// Completed requests a second lie above this.
    Rate(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantile {
    P50,
    P90,
    P99,
    P999,
    Max,
}

/// Objectives that all have to be met.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    objectives: Vec<Objective>,
}

/// What came of an objective.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub objective: String,
    pub found: String,
    pub met: bool,
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let objectives = text.split(',').map(|part| parse(part.trim())).collect::<Result<_, _>>()?;
        Ok(Self { objectives })
    }
}

impl Slo {
    /// Holds the figures of a run against every objective. A quantile that its samples do not support is not met.
    pub fn check(&self, summary: &Summary) -> Vec<Finding> {
        self.objectives.iter().map(|objective| objective.check(summary)).collect()
    }

    /// Requests that a run needs for its quantiles to say anything.
    pub fn samples_min(&self) -> u64 {
        let needed = self.objectives.iter().map(|objective| match objective.limit {
            Limit::Response(quantile, _) => quantile.samples_min(),
            Limit::Errors(_) | Limit::Rate(_) => 1,
        });
        needed.max().unwrap_or(1)
    }

    /// Whether an objective names a rate.
    pub fn wants_rate(&self) -> bool {
        self.objectives.iter().any(|objective| matches!(objective.limit, Limit::Rate(_)))
    }
}

/// As written.
impl fmt::Display for Slo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<&str> = self.objectives.iter().map(|objective| objective.text.as_str()).collect();
        out.write_str(&texts.join(","))
    }
}

impl Quantile {
    fn samples_min(self) -> u64 {
        match self {
            Self::P50 => samples_min(0.5),
            Self::P90 => samples_min(0.9),
            Self::P99 => samples_min(0.99),
            Self::P999 => samples_min(0.999),
            Self::Max => 1,
        }
    }
}

impl Objective {
    fn check(&self, summary: &Summary) -> Finding {
        let (found, met) = match self.limit {
            Limit::Response(quantile, limit_ns) => {
                let quantiles = &summary.response_ns;
                let value = match quantile {
                    Quantile::P50 => quantiles.p50,
                    Quantile::P90 => quantiles.p90,
                    Quantile::P99 => quantiles.p99,
                    Quantile::P999 => quantiles.p999,
                    Quantile::Max => quantiles.max,
                };
                let needed = quantile.samples_min();
                let absent = || format!("{} samples, and it needs {needed}", quantiles.count);
                // What the samples do not support was not shown to be met.
                let value = value.filter(|_| quantiles.count >= needed);
                (value.map_or_else(absent, duration_text), value.is_some_and(|ns| ns < limit_ns))
            }
            Limit::Errors(share_max) => {
                let failed = summary.errors + summary.timed_out + summary.shed;
                let share = failed as f64 / summary.planned.max(1) as f64;
                (format!("{:.3}%", share * 100.0), share < share_max)
            }
            Limit::Rate(rate_min) => (format!("{:.1}/s", summary.achieved_rate), summary.achieved_rate > rate_min),
        };
        Finding { objective: self.text.clone(), found, met }
    }
}

fn parse(text: &str) -> Result<Objective, String> {
    let limit = match text.split_once(['<', '>']) {
        Some((name, value)) => parse_limit(name.trim(), text.contains('<'), value.trim()),
        None => None,
    };
    let limit = limit.ok_or_else(|| {
        format!(
            "`{text}` is no objective: write p50, p90, p99, p999 or max < a duration, errors < a percentage, \
             or rate > a number, as in p99<5ms"
        )
    })?;
    Ok(Objective { text: text.to_owned(), limit })
}

fn parse_limit(name: &str, below: bool, value: &str) -> Option<Limit> {
    let response = |quantile| duration_ns(value).map(|ns| Limit::Response(quantile, ns));
    match (name, below) {
        ("p50", true) => response(Quantile::P50),
        ("p90", true) => response(Quantile::P90),
        ("p99", true) => response(Quantile::P99),
        ("p999" | "p99.9", true) => response(Quantile::P999),
        ("max", true) => response(Quantile::Max),
        ("errors", true) => value.strip_suffix('%').and_then(positive).map(|percent| Limit::Errors(percent / 100.0)),
        ("rate", false) => positive(value).map(Limit::Rate),
        _ => None,
    }
}

fn positive(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| *value > 0.0 && value.is_finite())
}

/// A time with its unit, up to an hour, as in `5ms`.
pub fn duration_ns(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let scale = match unit {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    // Up to an hour: far below 2^53.
    positive(digits).map(|value| value * scale).filter(|ns| (1.0..=3.6e12).contains(ns)).map(|ns| ns.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::{Limit, Quantile, Slo};

    #[test]
    fn objectives_are_read_with_their_units() {
        let limits = |text: &str| {
            text.parse::<Slo>().map(|slo| slo.objectives.iter().map(|objective| objective.limit).collect::<Vec<_>>())
        };
        assert_eq!(
            limits("p99<5ms, errors < 0.1%,rate>1000,p99.9 < 1.5s,max<800us"),
            Ok(vec![
                Limit::Response(Quantile::P99, 5_000_000),
                Limit::Errors(0.001),
                Limit::Rate(1000.0),
                Limit::Response(Quantile::P999, 1_500_000_000),
                Limit::Response(Quantile::Max, 800_000),
            ])
        );
        for text in ["", "p99", "p98<5ms", "p99<5", "p99>5ms", "errors<5", "rate<5", "rate>-1", "p99<0ms", "p99<5h"] {
            assert!(text.parse::<Slo>().is_err(), "{text}");
        }
    }
}
