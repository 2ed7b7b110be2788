//! This appliance among others on one database: follows what they commit and deploy, and takes over what they leave.
//!
//! ```text
//!   a notification, or a second has passed ─▶ follow: updates to the replicas, in portions
//!        ├─ code was deployed elsewhere ─▶ compiled, checked and run here, then on
//!        └─ an appliance is gone, at two looks ─▶ its unfinished work is this one's, or another's: the database says
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::Failure;
use crate::admin::Cluster;
use crate::clock;
use crate::database::contract::{ABSENT, CommitMode, Deployed, Outcome, Place, Request};
use crate::database::follow::Neighbors;
use crate::limits::UNAPPLIED_UPDATES_MAX;
use crate::replication::Backlog;
use crate::storage::agents::{ImportAgent, WorkState};
use crate::storage::orders;
use crate::tables::code::{AGENT_WORK, agent_work};
use crate::tables::stamp::HybridClock;
use crate::tables::{Record, ServerId, Stamp, Update, Value, VersionVector};

/// How often others' commits are looked for where no notification comes.
const LOOK_NS: u64 = 1_000_000_000;
/// How long an appliance must be gone before its work is taken over: longer than a connection takes to come back.
const GONE_NS: u64 = 3_000_000_000;
/// Updates of one portion: browsers' commits wait behind it.
const FOLLOWED_UPDATES_MAX: usize = 1024;
/// Between two looks at what the replicas have to apply, and how long they are waited for.
const PACE_STEP: Duration = Duration::from_millis(2);
const PACE_MAX: Duration = Duration::from_secs(2);
/// How long the database server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a start and `twintier check` say of a database that several appliances may share.
pub const DURABLE: &str = "the database may be shared by several appliances: every write is acknowledged when it is \
    committed there, also those of actions that say `acknowledge = \"local\"` or `\"all\"`";

/// The thread, and what it works with.
pub struct Follow {
    pub cluster: Arc<Cluster>,
    pub neighbors: Arc<Neighbors>,
    pub backlog: Backlog,
    /// Rung by notifications.
    pub bell: Receiver<()>,
    pub stop: Arc<AtomicBool>,
}

impl Follow {
    /// # Errors
    /// No thread could be started.
    pub fn spawn(self) -> Result<JoinHandle<()>, Failure> {
        std::thread::Builder::new()
            .name("follow".into())
            .spawn(move || self.run())
            .map_err(|error| Failure::failed(format!("the thread `follow` could not be started: {error}")))
    }

    fn run(self) {
        let mut gone = Gone::default();
        let mut next_look_ns = 0;
        loop {
            let now_ns = clock::monotonic_ns();
            let looks = now_ns >= next_look_ns;
            if looks {
                next_look_ns = now_ns + LOOK_NS;
            }
            self.follow(looks);
            if looks && gone.look(&self.neighbors.read().members, now_ns) {
                match take_over(&self.cluster, &self.neighbors) {
                    Ok(0) => {}
                    Ok(pieces) => log::warn!(pieces; "took over unfinished work of an appliance that has ended"),
                    // The next look finds it still gone.
                    Err(_) => gone.again(),
                }
            }
            let left = Duration::from_nanos(next_look_ns.saturating_sub(clock::monotonic_ns()));
            match self.bell.recv_timeout(left) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                // Nobody listens for notifications.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(left),
            }
            // ORDERING: Relaxed: the flag says that the process ends, and nothing else.
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Reads until nothing is left, as fast as the replicas take it.
    fn follow(&self, mut members: bool) {
        loop {
            self.pace();
            let asked_ns = clock::monotonic_ns();
            // The database server keeps the books of what its store refuses.
            let Ok(told) = self.cluster.database.follow(FOLLOWED_UPDATES_MAX, members) else { return };
            self.neighbors.write(|seen| {
                if std::mem::take(&mut members) {
                    seen.members.clone_from(&told.members);
                }
                if !told.reloading || told.head > 0 {
                    (seen.position, seen.head) = (told.position, told.head);
                }
                seen.updates += u64::try_from(told.updates).unwrap_or(u64::MAX);
                seen.reloads += u64::from(told.reloading && told.head > 0);
                if !told.more {
                    seen.level_ns = asked_ns;
                }
            });
            for deployed in &told.deployed {
                self.adopt(deployed);
            }
            // ORDERING: Relaxed, as in `run`.
            if !told.more || self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn adopt(&self, deployed: &Deployed) {
        let Deployed { version, application, .. } = deployed;
        match self.cluster.adopt(deployed) {
            Ok(()) => {
                log::info!(application = &**application, version; "code that was deployed on another appliance runs here");
                self.neighbors.write(|seen| seen.refused = None);
            }
            Err(wrong) => {
                let sentence = format!(
                    "code version {version} of `{application}`, deployed on another appliance, does not run here: {wrong}"
                );
                log::error!(
                    application = &**application, version, error = wrong.as_str(), cure = "cure it and restart this appliance";
                    "code that was deployed on another appliance does not run here, the old one stays"
                );
                self.neighbors.write(|seen| seen.refused = Some(sentence));
            }
        }
    }

    /// Waits while the replicas have much to apply; one that hangs does not hold the others up for ever.
    fn pace(&self) {
        let max = UNAPPLIED_UPDATES_MAX.saturating_mul(self.cluster.placement.replicas().max(1));
        let mut waited = Duration::ZERO;
        while self.backlog.updates() > max && waited < PACE_MAX {
            std::thread::sleep(PACE_STEP);
            waited += PACE_STEP;
        }
    }
}

/// Appliances that were alive and are not.
#[derive(Default)]
struct Gone {
    alive: BTreeSet<u64>,
    /// Since when one of them or more have been gone.
    since_ns: Option<u64>,
}

impl Gone {
    /// Takes note of who is there; true when somebody has been gone for [`GONE_NS`], once.
    fn look(&mut self, members: &[crate::database::contract::Member], now_ns: u64) -> bool {
        let alive: BTreeSet<u64> =
            members.iter().filter(|member| member.alive).map(|member| member.appliance).collect();
        if self.alive.is_subset(&alive) {
            self.since_ns = None;
            self.alive = alive;
            return false;
        }
        // Who joined meanwhile is looked after as well; who is gone stays on the list until its work is taken over.
        self.alive.extend(&alive);
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        if now_ns < since_ns.saturating_add(GONE_NS) {
            return false;
        }
        self.alive = alive;
        self.since_ns = None;
        true
    }

    /// It could not be done: as if it were seen for the first time.
    fn again(&mut self) {
        // No appliance has this number: it is missed at once.
        self.alive.insert(u64::MAX);
    }
}

/// Unfinished work that belongs to no living appliance is this one's from here on, and is ordered; returns how much.
///
/// # Errors
/// What the database said.
pub fn take_over(cluster: &Cluster, neighbors: &Neighbors) -> Result<usize, String> {
    let updates = match cluster.database.ask(PATIENCE, |reply| Request::TakeOver { token: 0, reply })? {
        Outcome::Committed { updates } => updates,
        Outcome::Failed(wrong) | Outcome::Unknown(wrong) => return Err(wrong),
        Outcome::Conflict { .. } | Outcome::Row(_) | Outcome::Number(_) => Vec::new(),
    };
    let code = cluster.code();
    for update in &updates {
        let Some(record) = &update.record else { continue };
        // What finds no room is ordered again from its row by a replica.
        if cluster.storage.try_send(orders::order_of(&code, &update.key, record)).is_err() {
            cluster.storage.leave_behind();
        }
    }
    neighbors.write(|seen| seen.taken_over += u64::try_from(updates.len()).unwrap_or(u64::MAX));
    Ok(updates.len())
}

/// Whether this appliance is the one that fills the catalog, of several that start at once on an empty database: the
/// one whose work row the database takes. `known` is that row's stamp as it was loaded, before the catalog's table was
/// and found empty.
///
/// # Errors
/// What the database said.
pub fn claims_import(
    cluster: &Cluster,
    me: Place,
    work: &str,
    agent: &ImportAgent,
    file: &str,
    known: Stamp,
) -> Result<bool, String> {
    let (table, key) = (AGENT_WORK, Box::from(work));
    let stored = match cluster.database.ask(PATIENCE, |reply| Request::Read { token: 0, table, key, reply })? {
        Outcome::Row(row) => row,
        Outcome::Failed(wrong) | Outcome::Unknown(wrong) => return Err(wrong),
        Outcome::Committed { .. } | Outcome::Conflict { .. } | Outcome::Number(_) => None,
    };
    if !is_free(stored.as_ref(), known) {
        return Ok(false);
    }
    let (base, versions) = stored.as_ref().map_or((ABSENT, VersionVector::default()), |row| (row.stamp, row.versions));
    let mut values = vec![Value::Null; agent_work::APPLIANCE + 1];
    values[agent_work::AGENT] = Value::text(&agent.name);
    values[agent_work::SUBJECT_TABLE] = Value::text(&agent.table_name);
    values[agent_work::SUBJECT_KEY] = Value::text(file);
    values[agent_work::STATE] = Value::text(WorkState::Queued.as_str());
    values[agent_work::ATTEMPTS] = Value::Integer(0);
    values[agent_work::REQUESTED_BY] = Value::text("supervisor");
    values[agent_work::UPDATED] = Value::Integer(clock::unix_ms().cast_signed());
    values[agent_work::APPLIANCE] = Value::Integer(me.appliance.cast_signed());
    let mut clock = HybridClock::of_slot(me.slot);
    clock.see(base.time);
    let server = ServerId::try_from(cluster.placement.replicas()).unwrap_or(ServerId::MAX);
    let sequence = base.sequence.saturating_add(1);
    let claim = Update {
        table: AGENT_WORK,
        key: work.into(),
        stamp: Stamp { sequence, time: clock.tick(clock::unix_ms()), server },
        versions: versions.edited_by(server, sequence),
        base,
        record: Some(Record(values.into())),
    };
    let updates = vec![claim];
    let mode = CommitMode::Arbitrated;
    match cluster.database.ask(PATIENCE, |reply| Request::Commit { token: 0, updates, mode, deadline_ns: 0, reply })? {
        Outcome::Committed { .. } => Ok(true),
        Outcome::Conflict { .. } => Ok(false),
        Outcome::Failed(wrong) | Outcome::Unknown(wrong) => Err(wrong),
        Outcome::Row(_) | Outcome::Number(_) => Ok(false),
    }
}

/// Whether nobody has an import's work, or has had it since its row was loaded with the stamp `known`.
fn is_free(stored: Option<&Update>, known: Stamp) -> bool {
    let Some(row) = stored else { return true };
    let state = row.record.as_ref().and_then(|record| record.get(agent_work::STATE).as_text());
    // Who has not finished is at it, or was and is missed before long. Who has finished since filled what was found empty.
    state.is_none_or(agent_work::is_finished) && row.stamp == known
}

#[cfg(test)]
mod tests {
    use super::{GONE_NS, Gone, is_free};
    use crate::database::contract::{ABSENT, Member};
    use crate::tables::code::{AGENT_WORK, agent_work};
    use crate::tables::{Record, Stamp, Update, Value, VersionVector};

    #[test]
    fn an_import_that_another_began_or_finished_since_the_load_is_not_done_again() {
        let stamp = |time: u64| Stamp { sequence: 1, time, server: 2 };
        let row = |state: &str, time: u64| {
            let mut values = vec![Value::Null; agent_work::APPLIANCE + 1];
            values[agent_work::STATE] = Value::text(state);
            Update {
                table: AGENT_WORK,
                key: "item//catalog-import".into(),
                stamp: stamp(time),
                versions: VersionVector::default(),
                base: ABSENT,
                record: Some(Record(values.into())),
            }
        };
        assert!(is_free(None, ABSENT), "nobody ever did it");
        assert!(!is_free(Some(&row("queued", 7)), ABSENT), "ordered meanwhile");
        assert!(!is_free(Some(&row("running", 7)), stamp(7)), "at it since before");
        assert!(!is_free(Some(&row("done", 8)), ABSENT), "begun and finished meanwhile");
        assert!(!is_free(Some(&row("done", 8)), stamp(7)), "done again meanwhile");
        assert!(is_free(Some(&row("done", 7)), stamp(7)), "done once, and the catalog was emptied since");
        assert!(is_free(Some(&row("failed", 7)), stamp(7)), "it failed at an earlier start");
    }

    fn members(alive: &[u64]) -> Vec<Member> {
        let all = 1..=3;
        all.map(|appliance| Member {
            appliance,
            name: format!("number {appliance}"),
            started_ms: 0,
            alive: alive.contains(&appliance),
            position: 0,
        })
        .collect()
    }

    #[test]
    fn who_comes_back_soon_is_not_missed() {
        let mut gone = Gone::default();
        assert!(!gone.look(&members(&[1, 2]), 0));
        assert!(!gone.look(&members(&[1]), 1));
        assert!(!gone.look(&members(&[1, 2]), GONE_NS), "back again");
        assert!(!gone.look(&members(&[1]), GONE_NS + 1));
        assert!(!gone.look(&members(&[1]), 2 * GONE_NS), "not long enough");
        assert!(gone.look(&members(&[1]), 2 * GONE_NS + 1));
        assert!(!gone.look(&members(&[1]), 9 * GONE_NS), "once");
    }

    #[test]
    fn the_second_to_go_is_missed_as_well() {
        let mut gone = Gone::default();
        assert!(!gone.look(&members(&[1, 2, 3]), 0));
        assert!(!gone.look(&members(&[1, 3]), 1));
        assert!(gone.look(&members(&[1, 3]), GONE_NS + 1));
        assert!(!gone.look(&members(&[1]), GONE_NS + 2));
        assert!(gone.look(&members(&[1]), 2 * GONE_NS + 2));
        gone.again();
        assert!(!gone.look(&members(&[1]), 3 * GONE_NS));
        assert!(gone.look(&members(&[1]), 4 * GONE_NS), "the take-over failed and comes again");
    }
}
