//! `--job slow`: what good clients still get while thousands of connections drip heads that never end.
//!
//! Every system takes part twice in each block: alone and beside the slow connections. The ratio of the two throughputs
//! is what it keeps of its goodput.

use super::campaign::{Campaign, plan, refuse_proxy_options};
use super::{CompareArgs, ProxyStage};
use crate::case::{Case, Work};
use crate::compare::{PlannedCase, beside};
use crate::failure::Failure;
use crate::hold::Hold;
use crate::opponent::{Engine, Foreign, Kind};
use crate::process::Interrupt;
use crate::trial::System;

const SYSTEMS: [Kind; 3] =
    [Kind::Twintier(Engine::Auto), Kind::Foreign(Foreign::Nginx), Kind::Foreign(Foreign::Haproxy)];

/// # Errors
/// A system fails or does other work than the others, a signal arrives, or the run is invalid.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    refuse_proxy_options(args)?;
    let mut campaign = Campaign::begin(args, interrupt)?;
    let systems = doubled(&campaign.select(args, &SYSTEMS), Hold::slow(args.slow_connections));
    let lab = campaign.lab.clone();
    let stage = ProxyStage::start(&lab, &args.body_bytes)?;
    let everybody: Vec<usize> = (0..systems.len()).collect();
    let mut cases = Vec::new();
    for &body_bytes in &args.body_bytes {
        cases.extend(args.connections().iter().map(|&connections| PlannedCase {
            case: Case::keep_alive(Work::Proxy, connections, body_bytes),
            systems: everybody.clone(),
        }));
    }
    campaign.conduct(args, &stage, plan(args, "slow", systems, cases, None))
}

fn doubled(systems: &[System], hold: Hold) -> Vec<System> {
    systems.iter().flat_map(|system| [system.clone(), beside(system, hold)]).collect()
}
