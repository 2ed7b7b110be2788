//! Start order, drain, stop, and what happens when a thread fails.
//!
//! ```text
//!   read profile, statements, code   nothing started: a mistake exits 2
//!   open database, load rows         the database thread
//!   storage, passwords               the storage unit's threads
//!   workers                          each pins itself, makes its engine, fills its replica, listens
//!   admin                            and then the `ready` line
//!   … serve …                        SIGTERM or SIGINT: stop listening, finish requests, stop in reverse order
//! ```

mod admin_thread;
mod catalog;
mod deploys;
mod drain;
mod entropy;
mod failure;
mod following;
mod listeners;
mod log_lines;
pub mod moving;
mod neighbors;
mod opening;
mod plan;
mod signals;
mod start;
mod statements;
mod storage;
mod store;
mod systemd;
mod vigil;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{self, RecvTimeoutError};

pub use self::failure::Failure;
pub use self::plan::{Plan, describe, plan};
pub use self::signals::{stop_signal, stop_signal_with};
pub use self::storage::resume_work;

use self::admin_thread::{AdminThread, admin_listener};
use self::catalog::import_catalog;
use self::drain::drain;
use self::entropy::random_seed;
use self::following::Following;
use self::listeners::{front_listeners, refuse_taken_port};
use self::log_lines::{tell_books, tell_end, tell_engine, tell_limits, tell_ready, tell_start};
use self::opening::Opening;
use self::signals::which_signal;
use self::start::Shared;
use self::statements::watch_statements;
use self::storage::{StorageEntrance, spawn_storage};
use self::store::StoreSettings;
use self::systemd::Notifier;
use self::vigil::{News, Vigil};
use self::workers::{Ways, layout_of, open_access_log, patience, spawn_workers};
use crate::admin::Cluster;
use crate::admin::cluster::Parts;
use crate::clock;
use crate::database;
use crate::database::follow::Neighbors;
use crate::engine::probe::choose;
use crate::engine::{self, Address};
use crate::limits::PASSWORD_CHECKS_MAX;
use crate::mesh::depth::DepthBoard;
use crate::replication::Backlog;
use crate::storage::passwords::{self, Passwords};
use crate::storage::unit;
use crate::tables::ServerId;
use crate::worker::Control;
use crate::worker::access_log;
use crate::worker::load_board::LoadBoard;
use crate::worker::placement::Placement;
use crate::worker::watch::Vitals;

/// Between two looks of the supervisor at the running cluster.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the appliance until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting, or a thread that failed.
pub fn serve(plan: Plan) -> Result<(), Failure> {
    plan.refuse_absent_cores()?;
    let Plan { profile, placement, code, site } = plan;
    tell_start(&profile, &placement);
    tell_limits(&profile, &placement);
    let engine = choose(profile.engine.choice()).map_err(|error| Failure::failed(error.to_string()))?;
    tell_engine(&engine);
    // The number is there before the flag is.
    let (signal, stop_signal) = (which_signal()?, stop_signal()?);
    let mut notifier = Notifier::of_environment();
    refuse_taken_port(&profile)?;
    let admin_listener = admin_listener(&profile)?;
    pin_housekeeping(&placement)?;

    let (layout, count) = (Arc::new(layout_of(&placement)), placement.workers.len());
    let ways = Ways::make(count)?;
    let to_workers = ways.senders.clone();
    let backlog = Backlog::default();

    let store = StoreSettings::of(&profile, format!("{}-{:016x}", profile.cluster.name, random_seed()))?;
    let (database_place, shared_store) = (store.place(), store.shared().cloned());
    let application_server = ServerId::try_from(placement.replicas()).unwrap_or(ServerId::MAX);
    let publisher = ways.publisher(&layout, backlog.clone());
    let Opening { database, opened, code, loaded } =
        Opening::open(&profile, store, code, application_server, publisher)?;
    let place = opened.place;

    let entrance = StorageEntrance { backlog: backlog.clone(), place, database: database.client().clone() };
    let storage = spawn_storage(&profile, &placement, &code, &loaded, entrance)?;
    let passwords = Passwords::spawn(PASSWORD_CHECKS_MAX).map_err(Failure::failed)?;

    let (listeners, http) = front_listeners(&profile, placement.fronts())?;
    let (access_log, logs) = open_access_log(&profile, placement.fronts())?;
    let site = Arc::new(site);
    let vitals = Arc::new(Vitals::new(count, &layout.replica_workers, patience(&profile)));
    let shared = Arc::new(Shared {
        profile: profile.clone(),
        engine: engine.kind,
        layout: Arc::clone(&layout),
        code: Arc::clone(&code),
        site: Arc::clone(&site),
        loaded,
        session_key: opened.session_key,
        place,
        board: Arc::new(LoadBoard::new(placement.fronts())),
        depths: Arc::new(DepthBoard::new(placement.replicas())),
        vitals: Arc::clone(&vitals),
        replicas: placement.replicas(),
        http: http.to_string(),
        database: database.client().clone(),
        passwords: passwords.passwords().clone(),
        storage: storage.orders().clone(),
    });
    let (end, ended) = channel::bounded::<String>(count + 1);
    let workers = spawn_workers(&shared, &placement, ways, listeners, logs, &end)?;

    let admin_address = Address::Tcp(admin_listener.local_addr().map_err(|error| Failure::failed(error.to_string()))?);
    let parts = Parts {
        engine: engine.clone(),
        http: http.clone(),
        admin: admin_address.clone(),
        placement,
        layout,
        workers: to_workers,
        database: database.client().clone(),
        database_place,
        database_statistics: Arc::clone(database.statistics()),
        storage: storage.orders().clone(),
        access_log: access_log.as_ref().map(|log| Arc::clone(log.statistics())),
        code: Arc::clone(&code),
        site,
        vitals,
        neighbors: place.map(|me| Arc::new(Neighbors::new(me))),
    };
    let cluster = Arc::new(Cluster::new(profile, parts));
    let admin = AdminThread::spawn(admin_listener, &cluster, end)?;

    watch_statements(&cluster, storage.orders());
    notifier.ready(&tell_ready(&http, &admin_address, engine.kind, count));
    if cluster.neighbors.is_none() {
        resume_work(&code, &shared.loaded, storage.orders());
    }
    let following = Following::start(&cluster, shared_store, backlog)?;
    import_catalog(&cluster, &code, &shared.loaded)?;

    let outcome = watch_over(&cluster, &mut notifier, &stop_signal, &ended);

    notifier.stopping("draining");
    tell_end(&outcome, signal.load(Ordering::Acquire));
    drain(&cluster);
    following.stop();
    Threads { admin, workers, storage, passwords, database, access_log }.stop(&cluster)?;
    outcome
}

/// Threads inherit the cores of the one that starts them; workers choose their own.
fn pin_housekeeping(placement: &Placement) -> Result<(), Failure> {
    let Some(core) = placement.housekeeping else { return Ok(()) };
    engine::thread::pin_to_core(core)
        .map_err(|error| Failure::failed(format!("no thread can be pinned to housekeeping core {core}: {error}")))
}

/// Looks at the running cluster until a signal comes or a thread ends.
fn watch_over(
    cluster: &Cluster,
    notifier: &mut Notifier,
    stop_signal: &AtomicBool,
    ended: &channel::Receiver<String>,
) -> Result<(), Failure> {
    let mut vigil = Vigil::new(Arc::clone(&cluster.vitals));
    loop {
        let now_ns = clock::monotonic_ns();
        vigil.look(&cluster.database_statistics.board.read(now_ns), now_ns).iter().for_each(News::tell);
        notifier.keep_alive(now_ns, |patience_ns| vigil.is_alive(patience_ns, now_ns));
        if stop_signal.load(Ordering::Acquire) {
            return Ok(());
        }
        match ended.recv_timeout(LOOK) {
            Ok(wrong) => return Err(Failure::failed(wrong)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Failure::failed("every worker has ended")),
        }
    }
}

/// What runs until the connections are drained.
struct Threads {
    admin: AdminThread,
    workers: Vec<JoinHandle<()>>,
    storage: unit::Handle,
    passwords: passwords::Handle,
    database: database::server::Handle,
    access_log: Option<access_log::Handle>,
}

impl Threads {
    /// Stops them in the order in which nothing is lost: who asks before who answers.
    fn stop(self, cluster: &Cluster) -> Result<(), Failure> {
        self.admin.stop();
        let storage_outcome = self.storage.stop();
        let last_statuses = cluster.statuses_blocking();
        cluster.broadcast(|| Control::Stop);
        for worker in self.workers {
            let _ = worker.join();
        }
        self.admin.join();
        if let Some(access_log) = self.access_log {
            access_log.stop();
        }
        self.passwords.stop();
        self.database.stop().map_err(Failure::failed)?;
        storage_outcome.map_err(|error| Failure::failed(error.to_string()))?;
        tell_books(cluster, &last_statuses);
        Ok(())
    }
}
