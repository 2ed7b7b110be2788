//! Figures that are no answers to requests: any number of a system in a case, measured once in each block.
//!
//! A job makes [`Sample`]s and says which systems are compared ([`Pairing`]); the means, the paired ratios and what they
//! say about the targets are the same for every such job.

pub mod text;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::record::{RunRecord, read_json};
use crate::statistics::{Better, Verdict, mean_interval, paired_ratio};
use crate::target::{Holds, Target};

/// Jobs whose `compare.json` is an [`Outcome`].
pub const JOBS: [&str; 4] = ["mesh", "replication", "generators", "database"];

/// One number of one system in one case of one block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub system: String,
    /// In words: the report's heading.
    pub case: String,
    /// A name that ends in its unit: `_per_s` and `_per_cpu_s` are better higher, everything else lower.
    pub metric: String,
    pub block: u32,
    /// The turn that the system had within its block.
    pub turn: u32,
    pub value: f64,
}

/// A metric of a system in a case over all blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub system: String,
    pub case: String,
    pub metric: String,
    pub blocks: u32,
    /// The mean, with its 95 % interval from two blocks on.
    pub value: f64,
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
}

/// What is to be compared, and what the project promises of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairing {
    pub a: String,
    pub b: String,
    pub case: String,
    pub metric: String,
    pub target: Option<Target>,
}

/// `a` ÷ `b` of one metric in one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FigureRatio {
    pub a: String,
    pub b: String,
    pub case: String,
    pub metric: String,
    pub ratio: Option<f64>,
    pub ci_low: Option<f64>,
    pub ci_high: Option<f64>,
    pub blocks: u32,
    pub verdict: Verdict,
    pub target: Option<Target>,
    pub holds: Option<Holds>,
}

/// A system as the report names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    pub version: String,
    pub description: String,
}

/// `compare.json` of such a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub job: String,
    pub blocks: u32,
    /// Measured seconds of each trial.
    pub duration_s: f64,
    pub seed: u64,
    pub systems: Vec<Named>,
    pub figures: Vec<Figure>,
    pub ratios: Vec<FigureRatio>,
    /// What a reader must know beside the tables.
    pub notes: Vec<String>,
    /// Why the figures may not be quoted; empty for a valid run.
    pub invalid: Vec<String>,
    pub samples: Vec<Sample>,
}

impl Outcome {
    /// The outcome in a run directory, if the run was of such a job and came to its end.
    ///
    /// # Errors
    /// The file is no outcome.
    pub fn read(folder: &Path, record: &RunRecord) -> Result<Option<Self>, Failure> {
        let path = folder.join("compare.json");
        match &record.plan {
            Some(plan) if JOBS.contains(&plan.job.as_str()) && path.is_file() => read_json(&path).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// Makes figures and ratios of the samples.
    pub fn evaluate(&mut self, pairings: &[Pairing]) {
        self.figures = figures(&self.samples);
        self.ratios = pairings.iter().map(|pairing| ratio(&self.samples, pairing)).collect();
    }

    /// # Errors
    /// [`Failure::Invalid`] with the reasons, if there are any.
    pub fn refuse_invalid(&self) -> Result<(), Failure> {
        if self.invalid.is_empty() { Ok(()) } else { Err(Failure::Invalid(self.invalid.join("; "))) }
    }
}

/// The good direction of a metric.
fn better(metric: &str) -> Better {
    if metric.ends_with("_per_s") || metric.ends_with("_per_cpu_s") { Better::Higher } else { Better::Lower }
}

/// In the order in which the samples came.
fn figures(samples: &[Sample]) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    for sample in samples {
        let same = |figure: &Figure| {
            figure.system == sample.system && figure.case == sample.case && figure.metric == sample.metric
        };
        if figures.iter().any(same) {
            continue;
        }
        let values: Vec<f64> = samples
            .iter()
            .filter(|other| other.system == sample.system && other.case == sample.case && other.metric == sample.metric)
            .map(|other| other.value)
            .collect();
        let interval = mean_interval(&values);
        figures.push(Figure {
            system: sample.system.clone(),
            case: sample.case.clone(),
            metric: sample.metric.clone(),
            blocks: u32::try_from(values.len()).unwrap_or(u32::MAX),
            value: interval.map_or(sample.value, |(mean, ..)| mean),
            ci_low: interval.map(|(_, low, _)| low),
            ci_high: interval.map(|(.., high)| high),
        });
    }
    figures
}

fn ratio(samples: &[Sample], pairing: &Pairing) -> FigureRatio {
    let of = |system: &str, block: u32| {
        let mut own = samples.iter().filter(|sample| sample.system == system && sample.block == block);
        own.find(|sample| sample.case == pairing.case && sample.metric == pairing.metric).map(|sample| sample.value)
    };
    let blocks = samples.iter().map(|sample| sample.block + 1).max().unwrap_or(0);
    let pairs: Vec<(f64, f64)> =
        (0..blocks).filter_map(|block| Some((of(&pairing.a, block)?, of(&pairing.b, block)?))).collect();
    let ratio = paired_ratio(&pairs);
    FigureRatio {
        a: pairing.a.clone(),
        b: pairing.b.clone(),
        case: pairing.case.clone(),
        metric: pairing.metric.clone(),
        ratio: ratio.map(|ratio| ratio.ratio),
        ci_low: ratio.map(|ratio| ratio.ci_low),
        ci_high: ratio.map(|ratio| ratio.ci_high),
        blocks: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
        verdict: ratio.map_or(Verdict::Underpowered, |ratio| ratio.verdict(better(&pairing.metric))),
        target: pairing.target,
        holds: pairing.target.map(|target| target.judge(ratio.map(|ratio| (ratio.ci_low, ratio.ci_high)))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Pairing, Sample};
    use crate::report::document::{Chapter, markdown};
    use crate::statistics::Verdict;
    use crate::target::{Holds, Target};

    fn sample(system: &str, metric: &str, block: u32, value: f64) -> Sample {
        Sample { system: system.into(), case: "one case".into(), metric: metric.into(), block, turn: 0, value }
    }

    pub fn outcome() -> Outcome {
        let mut samples = Vec::new();
        for block in 0..3 {
            let drift = f64::from(block + 1);
            samples.push(sample("ours", "messages_per_s", block, 600.0 * drift));
            samples.push(sample("theirs", "messages_per_s", block, 100.0 * drift));
            samples.push(sample("ours", "mean_ns", block, 80.0 * drift));
            samples.push(sample("theirs", "mean_ns", block, 40.0 * drift));
        }
        let pairing = |metric: &str, target| Pairing {
            a: "ours".into(),
            b: "theirs".into(),
            case: "one case".into(),
            metric: metric.into(),
            target: Some(target),
        };
        let mut outcome = Outcome { job: "mesh".into(), blocks: 3, samples, ..Outcome::default() };
        outcome
            .evaluate(&[pairing("messages_per_s", Target::at_least(5.0)), pairing("mean_ns", Target::at_most(1.05))]);
        outcome
    }

    /// Blocks pair, so a drift that both share does not count; the unit says which way is good.
    #[test]
    fn samples_pair_by_block_and_the_unit_says_what_is_good() {
        let outcome = outcome();
        assert_eq!(outcome.figures.len(), 4);
        let figure = &outcome.figures[0];
        assert_eq!((figure.system.as_str(), figure.blocks), ("ours", 3));
        assert!((figure.value - 1200.0).abs() < 1e-9 && figure.ci_low.unwrap() < 1200.0);
        let found: Vec<(Verdict, Option<Holds>)> =
            outcome.ratios.iter().map(|ratio| (ratio.verdict, ratio.holds)).collect();
        assert_eq!(found, [(Verdict::Faster, Some(Holds::Yes)), (Verdict::Slower, Some(Holds::No))]);
        assert!((outcome.ratios[0].ratio.unwrap() - 6.0).abs() < 1e-9);
    }

    #[test]
    fn the_file_comes_back_as_it_was() {
        let json = serde_json::to_string(&outcome()).unwrap();
        assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["ratios"][0]["verdict"], &value["ratios"][0]["a"]), (&"faster".into(), &"ours".into()));
    }

    #[test]
    fn reasons_make_a_run_invalid() {
        let mut outcome = outcome();
        assert!(outcome.refuse_invalid().is_ok());
        outcome.invalid.push("the books do not balance".into());
        assert!(outcome.refuse_invalid().unwrap_err().to_string().contains("the books"));
    }

    #[test]
    fn the_tables_hold_what_was_found() {
        let text = super::text::terminal(&outcome());
        for expected in ["one case", "messages/s", "1,200", "6.00 [6.00, 6.00]", "≥ 5.00", "holds", "does not hold"] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        let chapters = super::text::chapters(&outcome());
        let text =
            |chapter: &Chapter| format!("### {}\n{}", chapter.title, markdown(&chapter.blocks, "", &mut Vec::new()));
        let report: String = chapters.iter().map(text).collect();
        for expected in ["### Targets", "| ours | 1,200 |", "### one case"] {
            assert!(report.contains(expected), "{expected} is not in\n{report}");
        }
    }
}
