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

mod catalog;
mod deploys;
mod drain;
mod entropy;
mod failure;
mod listeners;
mod log_lines;
pub mod moving;
mod neighbors;
mod opening;
mod plan;
mod signals;
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

use crossbeam::channel;

pub use self::failure::Failure;
pub use self::plan::{Plan, describe, plan};
pub use self::signals::{stop_signal, stop_signal_with};
pub use self::storage::resume_work;

use self::catalog::import_catalog;
use self::drain::drain;
use self::entropy::random_seed;
use self::listeners::{admin_listener, refuse_taken_port};
use self::log_lines::{cores_of, since_ms, tell_books, tell_end, tell_limits};
use self::neighbors::Follow;
use self::opening::{load_rows, open_database};
use self::signals::which_signal;
use self::statements::watch_statements;
use self::storage::{StorageEntrance, spawn_storage};
use self::store::StoreSettings;
use self::systemd::Notifier;
use self::vigil::{News, Vigil};
use self::workers::{Shared, Start, access_log, layout_of};
use crate::admin::cluster::Parts;
use crate::admin::{self, Cluster};
use crate::clock;
use crate::database;
use crate::database::follow::Neighbors;
use crate::database::postgres::listen::listen;
use crate::engine::probe::choose;
use crate::engine::{self, Address, Waker, socket};
use crate::limits;
use crate::mesh::depth::DepthBoard;
use crate::mesh::grid::grid;
use crate::mesh::inbox::inbox;
use crate::replication::Backlog;
use crate::storage::numbers::Numbers;
use crate::storage::passwords::Passwords;
use crate::tables::ServerId;
use crate::worker::load_board::LoadBoard;
use crate::worker::watch::{Patience, Vitals};
use crate::worker::{Control, ControlSender, Message, Port, deliver};

/// Between two looks of the supervisor at the running cluster.
const LOOK: Duration = Duration::from_millis(50);

/// Runs the appliance until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting, or a thread that failed.
pub fn serve(plan: Plan) -> Result<(), Failure> {
    let Plan { profile, placement, code, site } = plan;
    if !placement.absent.is_empty() {
        let absent = &placement.absent;
        return Err(Failure::usage(format!(
            "{}: the profile wants cores {absent:?}, which this process does not have; run it with --set cluster.cores=auto --set cluster.placement=shared",
            profile.file.display()
        )));
    }
    log::info!(
        version = env!("CARGO_PKG_VERSION"), commit = option_env!("TWINTIER_COMMIT").unwrap_or(""),
        profile:% = profile.file.display(), workers = placement.workers.len(), fronts = placement.fronts(),
        replicas = placement.replicas(), cores:% = cores_of(&placement), housekeeping = placement.housekeeping;
        "starting"
    );
    for remark in &placement.remarks {
        log::warn!(remark = remark.as_str(); "the placement is not what a measurement wants");
    }
    tell_limits(&profile, &placement);
    let chosen = choose(profile.engine.choice()).map_err(|error| Failure::failed(error.to_string()))?;
    let (engine, reason) = (chosen.kind.name(), chosen.reason.as_str());
    if chosen.fallback {
        log::warn!(engine, reason; "a better engine does not work here");
    } else {
        log::info!(engine, reason; "the engine is chosen");
    }
    // The number is there before the flag is.
    let (signal, stop_signal) = (which_signal()?, stop_signal()?);
    let mut notifier = Notifier::of_environment();
    refuse_taken_port(&profile)?;
    let admin_listener = admin_listener(&profile)?;
    // Threads inherit the cores of the one that starts them; workers choose their own.
    if let Some(core) = placement.housekeeping {
        engine::thread::pin_to_core(core).map_err(|error| {
            Failure::failed(format!("no thread can be pinned to housekeeping core {core}: {error}"))
        })?;
    }

    let layout = Arc::new(layout_of(&placement));
    let count = placement.workers.len();
    let application_server = ServerId::try_from(placement.replicas()).unwrap_or(ServerId::MAX);

    // The ways into the workers exist before the workers: other threads are given them first.
    let mut wakers = Vec::with_capacity(count);
    for _ in 0..count {
        wakers.push(Waker::new().map_err(|error| Failure::failed(format!("no eventfd: {error}; raise `ulimit -n`")))?);
    }
    let ports: Vec<Port> = grid::<Message, Waker>(count, limits::MESH_RING_SLOTS, wakers.clone());
    let (senders, inboxes): (Vec<ControlSender>, Vec<_>) =
        ports.iter().map(|port| inbox::<Control, Waker>(limits::INBOX_SLOTS, port.bell())).unzip();

    // The database: opened, brought to the code's shapes, read whole.
    let replica_senders: Vec<ControlSender> =
        layout.replica_workers.iter().map(|&worker| senders[worker].clone()).collect();
    let backlog = Backlog::default();
    let published = backlog.clone();
    let publisher: database::contract::Publisher = Arc::new(move |batch| {
        for sender in &replica_senders {
            let unapplied = published.add(batch.updates.len());
            deliver(sender, Control::Published { batch: Arc::clone(&batch), unapplied });
        }
    });
    let store = StoreSettings::of(&profile, format!("{}-{:016x}", profile.cluster.name, random_seed()))?;
    let database_place = store.place();
    let (ring, bell) = channel::bounded::<()>(1);
    let shared_store = store.shared().cloned();
    let opening_ns = clock::monotonic_ns();
    let (database, opened, code) = open_database(&profile, store, code, application_server, publisher)?;
    let code = Arc::new(code);
    let loaded = load_rows(&database, &code)?;
    log::info!(
        kind = profile.database.kind.name(), path = database_place.as_str(), rows = opened.rows,
        users_seeded = opened.users_seeded, deploys = opened.deployed.len(), code_version = code.version,
        code_digest:% = format_args!("{:032x}", code.digest), elapsed_ms = since_ms(opening_ns);
        "the database is open"
    );
    let place = opened.place;
    let shared_place = place.map(|me| Arc::new(Neighbors::new(me)));
    let unapplied = backlog.clone();

    // Threads of the storage and execution unit.
    let numbers = Arc::new(Numbers::default());
    let entrance = StorageEntrance { numbers: &numbers, backlog, place, database: database.client().clone() };
    let storage = spawn_storage(&profile, &placement, &code, &loaded, entrance)?;
    let passwords = Passwords::spawn(256).map_err(Failure::failed)?;

    // Listeners: the first one fixes the port, the others share it.
    let http: Address = profile.listen.http.parse().map_err(Failure::usage)?;
    let backlog = u32::try_from(profile.listen.backlog).unwrap_or(4096);
    let mut listeners = Vec::with_capacity(placement.fronts());
    let mut bound = http.clone();
    for _ in 0..placement.fronts() {
        let socket = socket::listen(&bound, backlog, true).map_err(|error| Failure::failed(error.to_string()))?;
        bound = socket::local_address(&socket).map_err(|error| Failure::failed(error.to_string()))?;
        listeners.push(Some(socket));
    }

    let (access_log, mut logs) = access_log(&profile, placement.fronts())?;
    let site = Arc::new(site);
    let patience =
        Patience { hung_ns: profile.timeouts.hung_ms * 1_000_000, dead_ns: profile.timeouts.dead_ms * 1_000_000 };
    let vitals = Arc::new(Vitals::new(count, &layout.replica_workers, patience));
    let shared = Shared {
        profile: profile.clone(),
        engine: chosen.kind,
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
        http: bound.to_string(),
        database: database.client().clone(),
        passwords: passwords.passwords().clone(),
        storage: storage.orders().clone(),
    };
    let shared = Arc::new(shared);
    let (ready_sender, ready) = channel::bounded::<Result<(), String>>(count);
    let (end_sender, ended) = channel::bounded::<String>(count + 1);
    let mut workers: Vec<JoinHandle<()>> = Vec::with_capacity(count);
    for (index, ((plan, port), (waker, control))) in
        placement.workers.iter().zip(ports).zip(wakers.into_iter().zip(inboxes)).enumerate()
    {
        let start = Start {
            index,
            plan: plan.clone(),
            waker,
            sender: senders[index].clone(),
            listener: plan.front.and_then(|front| listeners[usize::from(front)].take()),
            log: plan.front.and_then(|front| logs.get_mut(usize::from(front))?.take()),
            shared: Arc::clone(&shared),
        };
        let (ready, end) = (ready_sender.clone(), end_sender.clone());
        let body = move || {
            let outcome = start.run(port, control, &ready);
            if let Err(wrong) = outcome {
                // Before the start is complete the first message matters, afterwards the second.
                let _ = ready.try_send(Err(wrong.clone()));
                let _ = end.try_send(wrong);
            }
        };
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(body);
        workers.push(thread.map_err(|error| Failure::failed(format!("worker {index} could not be started: {error}")))?);
    }
    for _ in 0..count {
        match ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => return Err(Failure::failed(wrong)),
            Err(_) => return Err(Failure::failed("a worker ended while it started")),
        }
    }

    let admin_address = Address::Tcp(admin_listener.local_addr().map_err(|error| Failure::failed(error.to_string()))?);
    let cluster = Arc::new(Cluster::new(
        profile.clone(),
        Parts {
            engine: chosen.clone(),
            http: bound.clone(),
            admin: admin_address.clone(),
            placement: placement.clone(),
            layout: Arc::clone(&layout),
            workers: senders.clone(),
            database: database.client().clone(),
            database_place,
            database_statistics: Arc::clone(database.statistics()),
            storage: storage.orders().clone(),
            access_log: access_log.as_ref().map(|log| Arc::clone(log.statistics())),
            code: Arc::clone(&code),
            site,
            vitals,
            neighbors: shared_place.clone(),
        },
    ));
    let admin_stop = Arc::new(AtomicBool::new(false));
    let admin_thread = {
        let (cluster, stop, token) =
            (Arc::clone(&cluster), Arc::clone(&admin_stop), profile.listen.admin_token.clone());
        let end = end_sender;
        std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || {
                if let Err(error) = admin::server::run(admin_listener, cluster, token, stop) {
                    let _ = end.try_send(format!("the admin thread ended: {error}"));
                }
            })
            .map_err(|error| Failure::failed(format!("the admin thread could not be started: {error}")))?
    };

    watch_statements(&cluster, storage.orders());
    println!("ready http={bound} admin={admin_address} engine={} workers={count}", chosen.kind);
    log::info!(http:% = bound, admin:% = admin_address, engine = chosen.kind.name(), workers = count; "ready");
    notifier.ready(&format!("http={bound} admin={admin_address} engine={} workers={count}", chosen.kind));
    let stop_following = Arc::new(AtomicBool::new(false));
    let mut following = Vec::new();
    match &shared_place {
        None => resume_work(&code, &shared.loaded, storage.orders()),
        Some(neighbors) => {
            log::info!(reason = neighbors::DURABLE; "every write is acknowledged as durable");
            neighbors::take_over(&cluster, neighbors).map_err(Failure::failed)?;
            let (cluster, neighbors, stop) = (Arc::clone(&cluster), Arc::clone(neighbors), Arc::clone(&stop_following));
            following.push(Follow { cluster, neighbors, backlog: unapplied, bell, stop }.spawn()?);
        }
    }
    if let Some(settings) = shared_store {
        // A bell that has been rung and not heard says it all.
        let ring = move || {
            let _ = ring.try_send(());
        };
        let listening = listen(settings, Arc::clone(&stop_following), ring);
        following.push(listening.map_err(|error| Failure::failed(format!("no thread `listen`: {error}")))?);
    }
    import_catalog(&cluster, &code, &shared.loaded)?;

    let mut vigil = Vigil::new(Arc::clone(&cluster.vitals));
    let outcome = loop {
        let now_ns = clock::monotonic_ns();
        vigil.look(&cluster.database_statistics.board.read(now_ns), now_ns).iter().for_each(News::tell);
        notifier.keep_alive(now_ns, |patience_ns| vigil.is_alive(patience_ns, now_ns));
        if stop_signal.load(Ordering::Acquire) {
            break Ok(());
        }
        match ended.recv_timeout(LOOK) {
            Ok(wrong) => break Err(Failure::failed(wrong)),
            Err(channel::RecvTimeoutError::Timeout) => {}
            Err(channel::RecvTimeoutError::Disconnected) => break Err(Failure::failed("every worker has ended")),
        }
    };

    notifier.stopping("draining");
    tell_end(&outcome, signal.load(Ordering::Acquire));
    drain(&cluster);
    // ORDERING: Relaxed, pairs with the threads' loads; joining orders the rest.
    stop_following.store(true, Ordering::Relaxed);
    for thread in following {
        let _ = thread.join();
    }
    admin_stop.store(true, Ordering::Release);
    let storage_outcome = storage.stop();
    let last_statuses = cluster.statuses_blocking();
    cluster.broadcast(|| Control::Stop);
    for worker in workers {
        let _ = worker.join();
    }
    let _ = admin_thread.join();
    if let Some(access_log) = access_log {
        access_log.stop();
    }
    passwords.stop();
    database.stop().map_err(Failure::failed)?;
    storage_outcome.map_err(|error| Failure::failed(error.to_string()))?;
    tell_books(&cluster, &last_statuses);
    outcome
}
