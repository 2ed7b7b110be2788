//! The long run: many requests through one process, and its memory all the while.

use std::path::Path;
use std::time::Instant;

use crate::case::Case;
use crate::compare::Plan;
use crate::failure::Failure;
use crate::machine::ProcessGroup;
use crate::memory::{Memory, Sample, Soak};
use crate::opponent::sample_answer;
use crate::quick;
use crate::record::write_json;
use crate::table::count_text;
use crate::trial::{GeneratorOrder, Lab, Setting, Stage, Trial};

/// Requests a second where no trial tells them.
const RATE_ASSUMED_PER_S: f64 = 40_000.0;
/// The run is planned longer than its requests should take: it has to reach them also if the machine slows down.
const MARGIN: f64 = 1.15;
/// Seconds before the measured window.
const WARMUP_S: f64 = 1.0;
/// Seconds between two looks at memory: a look walks the page tables.
const LOOK_EVERY_S: f64 = 0.5;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Order {
    pub requests: u64,
    /// Indexes into the plan's systems.
    pub systems: Vec<usize>,
    pub case: Case,
}

impl Order {
    /// Seconds at the assumed rate.
    pub fn estimate_s(&self) -> f64 {
        // Far below 2^53.
        self.systems.len() as f64 * self.requests as f64 / RATE_ASSUMED_PER_S * MARGIN
    }

    pub fn text(&self) -> String {
        format!("{} long runs of {} requests", self.systems.len(), count_text(self.requests))
    }
}

/// Runs the systems one after the other and writes `soak/SYSTEM/soak.json`.
///
/// # Errors
/// A system or the generator fails; a signal arrives.
pub fn perform(lab: &Lab, stage: &dyn Stage, plan: &Plan, order: &Order, trials: &[Trial]) -> Result<(), Failure> {
    for &index in &order.systems {
        let system = &plan.systems[index];
        let rates: Vec<f64> = trials
            .iter()
            .filter(|trial| trial.system == system.label && trial.case == order.case)
            .map(|trial| trial.throughput_per_s)
            .filter(|&rate| rate > 0.0)
            .collect();
        // A handful of blocks.
        let rate = if rates.is_empty() { RATE_ASSUMED_PER_S } else { rates.iter().sum::<f64>() / rates.len() as f64 };
        let duration_s = (order.requests as f64 / rate * MARGIN).ceil();
        quick::say(&format!("{}: {} requests, {duration_s:.0} s", system.label, count_text(order.requests)));
        let folder = lab.folder.join("soak").join(&system.label);
        let mut running = stage.start(system, &order.case, &Setting::plain(&folder))?;
        sample_answer(&running.address, stage.path())?;
        let group = ProcessGroup::find(Path::new("/proc"), &running.groups);
        let url = format!("http://{}{}", running.address, stage.path());
        let load = GeneratorOrder {
            url: &url,
            rate: None,
            connections: order.case.connections,
            new_connections: false,
            warmup_s: WARMUP_S,
            duration_s,
            seed: plan.seed,
            folder: &folder,
            server_timing: false,
        };
        let begun = Instant::now();
        let mut samples: Vec<Sample> = Vec::new();
        let summary = lab.generate(&load, |_| {
            let at_s = begun.elapsed().as_secs_f64() - WARMUP_S;
            let due = samples.last().is_none_or(|last| at_s - last.at_s >= LOOK_EVERY_S);
            if (0.0..=duration_s).contains(&at_s) && due {
                samples.push(Sample { at_s, memory: Memory::read(Path::new("/proc"), group.processes()) });
            }
            Ok(())
        })?;
        running.still_running()?;
        running.stop()?;
        let soak = Soak {
            system: system.label.clone(),
            connections: order.case.connections,
            body_bytes: order.case.body_bytes,
            requests_wanted: order.requests,
            requests: (summary.achieved_rate * summary.duration_s).round() as u64,
            failed: summary.errors + summary.timed_out + summary.shed,
            window_s: summary.duration_s,
            verdict: summary.verdict,
            reasons: summary.reasons,
            samples,
        };
        write_json(&folder.join("soak.json"), &soak)?;
    }
    Ok(())
}
