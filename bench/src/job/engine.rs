//! `--job engine`: the engines on the same work: as a reverse proxy, and as the origin itself (one hop).
//!
//! An engine that this build or this kernel does not have is absent, with the reason that the program gives.

use super::campaign::{Campaign, plan, refuse_proxy_options};
use super::{CompareArgs, ProxyStage};
use crate::case::{Case, Work};
use crate::compare::PlannedCase;
use crate::failure::Failure;
use crate::opponent::{Engine, Kind};
use crate::process::Interrupt;
use crate::trial::System;

/// # Errors
/// A system does other work than the others, a signal arrives, or the run is invalid.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    refuse_proxy_options(args)?;
    let mut campaign = Campaign::begin(args, interrupt)?;
    let own: Vec<Kind> = Engine::NAMED.map(Kind::Twintier).into_iter().chain(Engine::NAMED.map(Kind::Origin)).collect();
    let systems = campaign.select(args, &own);
    let lab = campaign.lab.clone();
    let stage = ProxyStage::start(&lab, &args.body_bytes)?;
    let cases = cases(args, &systems);
    campaign.conduct(args, &stage, plan(args, "engine", systems, cases, None))
}

fn cases(args: &CompareArgs, systems: &[System]) -> Vec<PlannedCase> {
    let mut cases = Vec::new();
    for work in [Work::Proxy, Work::Origin] {
        let fits = |kind: Kind| match kind {
            Kind::Origin(_) => work == Work::Origin,
            Kind::Direct | Kind::Twintier(_) | Kind::Pipeline | Kind::Forward | Kind::Appliance | Kind::Foreign(_) => {
                work == Work::Proxy
            }
        };
        let systems: Vec<usize> =
            systems.iter().enumerate().filter(|(_, system)| fits(system.kind)).map(|(index, _)| index).collect();
        if systems.is_empty() {
            continue;
        }
        for &body_bytes in &args.body_bytes {
            cases.extend(args.connections().iter().map(|&connections| PlannedCase {
                case: Case::keep_alive(work, connections, body_bytes),
                systems: systems.clone(),
            }));
        }
    }
    cases
}
