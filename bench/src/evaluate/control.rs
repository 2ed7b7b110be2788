//! What the two controls of a comparison come to: see [`crate::control`].

use serde::{Deserialize, Serialize};

use super::{Measured, RatioRow};

/// The generator must be able to ask this many times more than the fastest system answers.
pub const CEILING_FACTOR: f64 = 2.0;

/// What this generator measures against the null server on the system's core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    #[serde(flatten)]
    pub measured: Measured,
    pub generator_cpu_us_per_request: Option<f64>,
    /// The system of the case with the highest throughput, and the floor's throughput ÷ its. `null` in an open loop,
    /// where the rate is given.
    pub fastest: Option<String>,
    pub ceiling_ratio: Option<f64>,
}

impl Floor {
    /// Beside the systems of its case.
    pub fn beside(measured: Measured, generator_cpu_us_per_request: Option<f64>, systems: &[Measured]) -> Self {
        let same = systems.iter().filter(|system| system.case == measured.case && system.verdict != "invalid");
        let closed = measured.case.rate_share.is_none();
        let fastest = same.filter(|_| closed).max_by(|a, b| a.throughput_per_s.total_cmp(&b.throughput_per_s));
        let ceiling_ratio = fastest
            .filter(|system| system.throughput_per_s > 0.0)
            .map(|system| measured.throughput_per_s / system.throughput_per_s);
        Self {
            fastest: fastest.map(|system| system.name.clone()),
            ceiling_ratio,
            measured,
            generator_cpu_us_per_request,
        }
    }

    /// Whether the generator's ceiling is far enough above what was measured; `None` where that cannot be said.
    pub fn is_high_enough(&self) -> Option<bool> {
        self.ceiling_ratio.map(|ratio| ratio >= CEILING_FACTOR)
    }

    /// One line for people.
    pub fn text(&self) -> String {
        let Measured { case, throughput_per_s, cpu_us_per_request, p50_ns, p99_ns, .. } = &self.measured;
        let generator = self
            .generator_cpu_us_per_request
            .map_or_else(String::new, |us| format!(", generator {us:.2} µs/request of its own"));
        let mut text = format!(
            "floor, {}: the generator against `twintier origin` on the system's core: {}/s, p50 {}, p99 {}, {cpu_us_per_request:.2} µs CPU/request{generator}",
            case.title(),
            crate::table::rate_text(*throughput_per_s),
            crate::table::quantile_text(*p50_ns),
            crate::table::quantile_text(*p99_ns),
        );
        if let (Some(fastest), Some(ratio)) = (&self.fastest, self.ceiling_ratio) {
            text += &format!("; {ratio:.2} times the throughput of {fastest}");
        }
        if self.is_high_enough() == Some(false) {
            text += &format!(
                ", less than {CEILING_FACTOR:.0}: the throughput of the fast systems is partly the generator's"
            );
        }
        text
    }
}

/// The A/A comparison for people, the loud line last where an interval excludes 1.
pub fn null_text(rows: &[RatioRow]) -> Vec<String> {
    let Some(first) = rows.first() else { return Vec::new() };
    let each = rows.iter().map(|row| {
        let mark = if row.excludes_one() { " (!)" } else { "" };
        format!("{} {}{mark}", super::metric_words(&row.metric), row.interval_text())
    });
    let blocks = rows.iter().map(|row| row.blocks).max().unwrap_or(0);
    let mut lines = vec![format!(
        "A/A, {} against itself, {}, {blocks} blocks: {}",
        first.a,
        first.case.title(),
        each.collect::<Vec<_>>().join(" · ")
    )];
    let off: Vec<&str> =
        rows.iter().filter(|row| row.excludes_one()).map(|row| super::metric_words(&row.metric)).collect();
    if !off.is_empty() {
        lines.push(format!(
            "A/A EXCLUDES 1.00 in {}: {} differs from itself. By chance that happens in 5 of 100 runs for each metric; if it happens again, no difference of this size between systems means anything here",
            off.join(", "),
            first.a
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Floor, null_text};
    use crate::case::{Case, Load, Work};
    use crate::evaluate::{Measured, RatioRow};
    use crate::statistics::Verdict;

    fn case() -> Case {
        Case::keep_alive(Work::Proxy, 64, 128)
    }

    fn row(metric: &str, ci_low: f64, ci_high: f64) -> RatioRow {
        RatioRow {
            a: "twintier".into(),
            b: "twintier-null".into(),
            metric: metric.into(),
            case: case(),
            ratio: Some(f64::midpoint(ci_low, ci_high)),
            ci_low: Some(ci_low),
            ci_high: Some(ci_high),
            bca_low: None,
            bca_high: None,
            blocks: 10,
            verdict: Verdict::Equivalent,
            blocks_to_decide: None,
            target: None,
            holds: None,
        }
    }

    fn measured(name: &str, throughput_per_s: f64, case: Case) -> Measured {
        Measured { name: name.into(), throughput_per_s, case, verdict: "valid".into(), ..Measured::none(case) }
    }

    #[test]
    fn a_null_that_excludes_one_is_loud() {
        let quiet = null_text(&[row("cpu_us_per_request", 0.98, 1.03), row("p99_ns", 0.9, 1.2)]);
        assert_eq!(quiet.len(), 1, "{quiet:?}");
        assert!(
            quiet[0].contains("twintier against itself") && quiet[0].contains("CPU per request 1.005 [0.980, 1.030]")
        );
        let loud = null_text(&[row("cpu_us_per_request", 0.98, 1.03), row("p99_ns", 1.01, 1.2)]);
        assert!(loud.len() == 2 && loud[1].contains("EXCLUDES 1.00 in p99:"), "{loud:?}");
        assert!(null_text(&[]).is_empty());
    }

    #[test]
    fn the_ceiling_is_held_against_the_fastest() {
        let systems = [measured("a", 30_000.0, case()), measured("b", 50_000.0, case())];
        let floor = |rate: f64| Floor::beside(measured("floor", rate, case()), Some(7.5), &systems);
        assert_eq!(floor(100_000.0).is_high_enough(), Some(true));
        assert_eq!(floor(90_000.0).is_high_enough(), Some(false));
        assert!(
            floor(90_000.0).text().contains("1.80 times the throughput of b, less than 2"),
            "{}",
            floor(90_000.0).text()
        );
        let open = Case { load: Load::Rate, rate_share: Some(0.7), ..case() };
        let open = Floor::beside(measured("floor", 1.0, open), None, &systems);
        assert_eq!((open.is_high_enough(), open.fastest), (None, None));
    }
}
