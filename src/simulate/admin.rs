//! The administrator: deploys one code version after the other, as the admin thread does, and stops replicas.
//!
//! ```text
//!   Idle ──▶ Recording ──committed──▶ Spreading ──every replica has it──▶ returned
//!                │failed                   └─not in time──▶ Idle
//!                └──▶ Idle: nothing has changed
//! ```

use std::sync::Arc;

use crossbeam::channel::{Receiver, bounded, unbounded};

use crate::database::contract::{Outcome, Reply, ReplySink, Request};
use crate::tables::ServerId;
use crate::tables::code::CodeVersion;
use crate::worker::watch::Vitals;
use crate::worker::{Control, WorkerStatus};

use super::application;
use super::ledger::Ledger;
use super::process::Process;
use super::trace::Trace;

/// Between two looks at the replicas.
const LOOK_NS: u64 = 5_000_000;
/// How long a deploy waits for the database, and for the replicas.
const PATIENCE_NS: u64 = 10_000_000_000;

#[derive(Debug)]
enum State {
    Idle,
    Recording { code: Arc<CodeVersion>, answer: Receiver<Outcome>, until_ns: u64, look_ns: u64 },
    Spreading { version: u64, reports: Receiver<WorkerStatus>, heard: Vec<u64>, until_ns: u64, look_ns: u64 },
}

/// The one administrator.
#[derive(Debug)]
pub struct Admin {
    state: State,
    pub deploys: u64,
}

impl Admin {
    pub fn new() -> Self {
        Self { state: State::Idle, deploys: 0 }
    }

    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// The process is gone, and with it what was asked of it.
    pub fn forget(&mut self) {
        self.state = State::Idle;
    }

    pub fn due_ns(&self) -> u64 {
        match &self.state {
            State::Idle => u64::MAX,
            State::Recording { look_ns, .. } | State::Spreading { look_ns, .. } => *look_ns,
        }
    }

    /// Begins to deploy the next version, unless a deploy is under way.
    pub fn begin_deploy(&mut self, process: &Process, ledger: &mut Ledger, now_ns: u64, trace: &mut Trace) {
        let version = process.code.version + 1;
        if self.is_busy() || version > application::VERSIONS_MAX {
            return;
        }
        let (code, sources) = application::version(version);
        let (sender, answer) = bounded(1);
        // Whoever has given up hears nothing.
        let reply: ReplySink = Arc::new(move |reply: Reply| drop(sender.try_send(reply.outcome)));
        let request = Request::Deploy { token: 0, version, application: application::NAME.into(), sources, reply };
        if process.client.try_send(request, now_ns).is_err() {
            return;
        }
        trace.line(|| format!("admin: deploys version {version}"));
        ledger.begun = ledger.begun.max(version);
        self.state = State::Recording { code, answer, until_ns: now_ns + PATIENCE_NS, look_ns: now_ns + LOOK_NS };
    }

    pub fn step(&mut self, process: &mut Process, ledger: &mut Ledger, now_ns: u64, trace: &mut Trace) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {}
            State::Recording { code, answer, until_ns, look_ns } => match answer.try_recv() {
                Ok(Outcome::Committed { .. }) => {
                    trace.line(|| format!("admin: version {} is recorded", code.version));
                    process.code = Arc::clone(&code);
                    process.vitals().publish_code(&code);
                    let version = code.version;
                    process.publish_code(code);
                    self.spread(process, version, now_ns);
                }
                Ok(Outcome::Failed(wrong) | Outcome::Unknown(wrong)) => {
                    trace.line(|| format!("admin: nothing is deployed: {wrong}"))
                }
                Ok(Outcome::Conflict { .. } | Outcome::Row(_) | Outcome::Number(_)) => {}
                Err(_) if now_ns >= until_ns => {}
                Err(_) => {
                    let look_ns = look_ns.max(now_ns) + LOOK_NS;
                    self.state = State::Recording { code, answer, until_ns, look_ns };
                }
            },
            State::Spreading { version, reports, mut heard, until_ns, .. } => {
                while let Ok(status) = reports.try_recv() {
                    if let Some(replica) = &status.replica {
                        heard[usize::from(replica.replica)] = replica.code_version;
                    }
                }
                if process.live().all(|replica| heard[replica] >= version) {
                    trace.line(|| format!("admin: version {version} is deployed"));
                    ledger.deployed = ledger.deployed.max(version);
                    self.deploys += 1;
                } else if now_ns < until_ns {
                    let reports = process.ask_statuses();
                    self.state = State::Spreading { version, reports, heard, until_ns, look_ns: now_ns + LOOK_NS };
                }
            }
        }
    }

    fn spread(&mut self, process: &Process, version: u64, now_ns: u64) {
        let heard = vec![0; process.replicas()];
        let reports = process.ask_statuses();
        self.state =
            State::Spreading { version, reports, heard, until_ns: now_ns + PATIENCE_NS, look_ns: now_ns + LOOK_NS };
    }
}

impl Process {
    pub fn replicas(&self) -> usize {
        self.layout.replica_workers.len()
    }

    fn vitals(&self) -> &Vitals {
        self.workers[0].worker.watch.vitals()
    }

    /// Replicas that have to have new code before a deploy returns. One that is stopped or was declared dead takes the
    /// present code before it takes a job.
    fn live(&self) -> impl Iterator<Item = usize> {
        let lives = &self.vitals().lives;
        (0..lives.replicas()).filter(|replica| lives.read(*replica).life.is_live())
    }

    /// Hands new code to the first replica that lives, which passes it on.
    fn publish_code(&self, code: Arc<CodeVersion>) {
        if let Some(&worker) = self.live().next().and_then(|replica| self.layout.replica_workers.get(replica)) {
            drop(self.senders[worker].send(Control::Deploy(code)));
        }
    }

    /// Asks every worker for its report.
    fn ask_statuses(&self) -> Receiver<WorkerStatus> {
        let (sender, reports) = unbounded();
        for worker in &self.senders {
            drop(worker.send(Control::Status(sender.clone())));
        }
        reports
    }

    /// Gives an order to the worker of a replica.
    pub fn order(&self, replica: ServerId, control: Control) {
        // A full inbox loses the order, as an administrator's that is not repeated.
        drop(self.senders[self.layout.replica_workers[usize::from(replica)]].send(control));
    }
}
