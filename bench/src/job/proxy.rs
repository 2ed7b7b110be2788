//! `--job proxy`: one proxy process in front of one fixed-response origin server.
//!
//! One thing is changed at a time: every number of connections with the first body, every other body with one number of
//! connections, and so the new connections, the open loop and the idle connections.

use super::CompareArgs;
use super::campaign::{Campaign, plan, reference_connections};
use crate::case::{Case, Load, Work};
use crate::compare::{Plan, PlannedCase};
use crate::failure::Failure;
use crate::opponent::{self, Answer, Engine, Foreign, Kind, OriginOrder, Place, Running, sample_answer, start_origin};
use crate::process::{Interrupt, Process};
use crate::soak;
use crate::trial::{Lab, Setting, Stage, System};

const SYSTEMS: [Kind; 6] = [
    Kind::Direct,
    Kind::Twintier(Engine::Auto),
    Kind::Pipeline,
    Kind::Forward,
    Kind::Foreign(Foreign::Nginx),
    Kind::Foreign(Foreign::Haproxy),
];

/// # Errors
/// A system fails or does other work than the others, a signal arrives, or the run is invalid.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    let mut campaign = Campaign::begin(args, interrupt)?;
    let systems = campaign.select(args, &SYSTEMS);
    let lab = campaign.lab.clone();
    let stage = ProxyStage::start(&lab, &args.body_bytes)?;
    campaign.conduct(args, &stage, planned(args, systems))
}

fn planned(args: &CompareArgs, systems: Vec<System>) -> Plan {
    let reference = Case::keep_alive(Work::Proxy, reference_connections(args), first_body(args));
    let cases = cases(args, &reference).into_iter().map(|case| {
        let takes_part = |(index, system): (usize, &System)| takes_part(system.kind, &case).then_some(index);
        PlannedCase { case, systems: systems.iter().enumerate().filter_map(takes_part).collect() }
    });
    let cases = cases.collect();
    let soak = args.soak_requests.map(|requests| {
        let ours = |(index, system): (usize, &System)| {
            matches!(system.kind, Kind::Twintier(Engine::Auto) | Kind::Pipeline).then_some(index)
        };
        soak::Order { requests, systems: systems.iter().enumerate().filter_map(ours).collect(), case: reference }
    });
    plan(args, "proxy", systems, cases, soak)
}

fn first_body(args: &CompareArgs) -> usize {
    args.body_bytes.first().copied().unwrap_or(128)
}

fn cases(args: &CompareArgs, reference: &Case) -> Vec<Case> {
    let case = |connections, body_bytes| Case::keep_alive(Work::Proxy, connections, body_bytes);
    let mut cases: Vec<Case> =
        args.connections().iter().map(|&connections| case(connections, reference.body_bytes)).collect();
    // Behind the capacity that it is a share of, and in the same block.
    if let Some(share) = args.rate_share {
        cases.push(Case { load: Load::Rate, rate_share: Some(share), ..*reference });
    }
    cases.extend(args.body_bytes.iter().skip(1).map(|&bytes| case(reference.connections, bytes)));
    if args.new_connections {
        cases.push(Case { load: Load::NewConnections, ..*reference });
    }
    if let Some(idle_connections) = args.idle_connections {
        cases.push(Case { load: Load::Idle, idle_connections, ..*reference });
    }
    cases
}

/// Idle connections are a proxy's: the origin has them without one, and a byte forwarder holds an upstream connection
/// for each.
fn takes_part(kind: Kind, case: &Case) -> bool {
    case.load != Load::Idle || !matches!(kind, Kind::Direct | Kind::Forward)
}

/// An origin for each size of body, which says what every answer must be; the systems; and for each trial an origin
/// of its own, which says at the end how many requests came.
pub struct ProxyStage<'a> {
    lab: &'a Lab,
    origins: Vec<Origin>,
}

struct Origin {
    body_bytes: usize,
    _process: Process,
    address: String,
}

impl<'a> ProxyStage<'a> {
    /// # Errors
    /// An origin does not get ready.
    pub fn start(lab: &'a Lab, body_bytes: &[usize]) -> Result<Self, Failure> {
        let mut origins: Vec<Origin> = Vec::new();
        for &body_bytes in body_bytes {
            if origins.iter().any(|origin| origin.body_bytes == body_bytes) {
                continue;
            }
            let order = OriginOrder {
                name: &format!("origin-{body_bytes}"),
                core: Some(lab.cores.origin),
                engine: Engine::Auto,
                answer: Answer::Bytes(body_bytes),
                folder: &lab.folder.join("origin"),
                env_padding_bytes: 0,
                burn_ns: 0,
            };
            let (process, address) = start_origin(&lab.programs, &lab.interrupt, &order)?;
            origins.push(Origin { body_bytes, _process: process, address });
        }
        Ok(Self { lab, origins })
    }

    fn origin(&self, case: &Case) -> &Origin {
        let found = self.origins.iter().find(|origin| origin.body_bytes == case.body_bytes);
        found.expect("invariant: every body of the plan has an origin")
    }

    /// An origin for one trial: behind a system, or in its place.
    fn fresh_origin(
        &self,
        engine: Engine,
        core: usize,
        case: &Case,
        setting: &Setting<'_>,
    ) -> Result<(Process, String), Failure> {
        let order = OriginOrder {
            name: "origin",
            core: Some(core),
            engine,
            answer: Answer::Bytes(case.body_bytes),
            folder: setting.folder,
            env_padding_bytes: setting.env_padding_bytes,
            burn_ns: 0,
        };
        start_origin(&self.lab.programs, &self.lab.interrupt, &order)
    }
}

impl Stage for ProxyStage<'_> {
    fn start(&self, system: &System, case: &Case, setting: &Setting<'_>) -> Result<Running, Failure> {
        if let Kind::Origin(engine) = system.kind {
            let (process, address) = self.fresh_origin(engine, self.lab.cores.system, case, setting)?;
            return Ok(Running::of(address, process));
        }
        let (origin, origin_address) = self.fresh_origin(Engine::Auto, self.lab.cores.origin, case, setting)?;
        if system.kind == Kind::Direct {
            return Ok(Running::of(origin_address, origin));
        }
        let held = system.held.map_or(0, |hold| hold.connections);
        let place = Place {
            programs: &self.lab.programs,
            origins: std::slice::from_ref(&origin_address),
            core: self.lab.cores.system,
            folder: setting.folder,
            interrupt: &self.lab.interrupt,
            connections: case.connections + case.idle_connections + held,
            env_padding_bytes: setting.env_padding_bytes,
        };
        let mut running = opponent::start(system.kind, &place)?;
        running.processes.push(origin);
        Ok(running)
    }

    fn path(&self) -> &str {
        "/"
    }

    fn expected_body(&self, case: &Case) -> Result<Vec<u8>, Failure> {
        Ok(sample_answer(&self.origin(case).address, self.path())?.body)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{CompareArgs, SYSTEMS, planned};
    use crate::trial::System;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn keys(words: &[&str]) -> Vec<String> {
        let words = ["bench", "--job", "proxy"].iter().chain(words);
        let args = Cli::parse_from(words).args;
        let systems = SYSTEMS.map(System::of).to_vec();
        let plan = planned(&args, systems);
        let soak = plan.soak.as_ref().map(|order| format!("soak of {}", order.systems.len()));
        let cases = plan.cases.iter().map(|planned| format!("{} × {}", planned.case.key(), planned.systems.len()));
        cases.chain(soak).collect()
    }

    /// The null and the floor take part in the reference case, and the floor in its open loop.
    #[test]
    fn one_thing_is_changed_at_a_time() {
        assert_eq!(keys(&[]), ["c64-128B × 8"]);
        assert_eq!(
            keys(&[
                "--connections",
                "8,64,512",
                "--body-bytes",
                "128,1024,16384",
                "--new-connections",
                "--idle-connections",
                "10000",
                "--rate-share",
                "0.7",
                "--soak-requests",
                "10000000",
            ]),
            [
                "c8-128B × 6",
                "c64-128B × 8",
                "c512-128B × 6",
                "c64-128B-rate70 × 7",
                "c64-1024B × 6",
                "c64-16384B × 6",
                "c64-128B-new × 6",
                "c64-128B-idle10000 × 4",
                "soak of 2",
            ]
        );
    }
}
