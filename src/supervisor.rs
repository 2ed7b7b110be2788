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

pub mod moving;
mod neighbors;
mod store;
mod systemd;
mod vigil;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel;
use signal_hook::consts::{SIGINT, SIGTERM};

use self::neighbors::Follow;
use self::store::StoreSettings;
use crate::admin::cluster::Parts;
use crate::admin::{self, Cluster};
use crate::authority::session::SessionKey;
use crate::budget::Budget;
use crate::clock;
use crate::database::contract::{ABSENT, Loaded, Place};
use crate::database::duckdb::DuckStore;
use crate::database::follow::Neighbors;
use crate::database::postgres::{PostgresStore, listen::listen};
use crate::database::{self, seed::SeedUser};
use crate::dispatch::requests::{self, RequestDispatcher};
use crate::engine::probe::choose;
use crate::engine::{self, Address, Engine, EngineKind, Glommio, MonoioEpoll, MonoioUring, Uring, Waker, socket};
use crate::error::Fault;
use crate::front::authorize::Sessions;
use crate::front::log::Log;
use crate::front::{FrontServer, Settings};
use crate::limits;
use crate::mesh::depth::DepthBoard;
use crate::mesh::grid::grid;
use crate::mesh::inbox::inbox;
use crate::profile::{self, Profile};
use crate::replica;
use crate::replica::server::ReplicaServer;
use crate::replication::{self, Backlog, Replicator};
use crate::storage::agents::WorkTable;
use crate::storage::backend::Backend;
use crate::storage::numbers::Numbers;
use crate::storage::passwords::Passwords;
use crate::storage::site::Site;
use crate::storage::unit::{self, ExecutorKind, ImportRun, Order};
use crate::storage::{agents, orders, supplier};
use crate::tables::ServerId;
use crate::tables::code::{AGENT_WORK, CodeVersion, agent_work};
use crate::tables::data::DataTables;
use crate::worker::accepted::Accepted;
use crate::worker::access_log;
use crate::worker::front_role::{Boards, FrontRole};
use crate::worker::load_board::LoadBoard;
use crate::worker::placement::{Placement, Topology, WorkerPlan, place};
use crate::worker::replica_role::{Rebirth, ReplicaBoards, ReplicaRole, Services};
use crate::worker::watch::{Patience, Vitals, Watch};
use crate::worker::{Control, ControlSender, Layout, Message, Port, Worker, WorkerStatus, deliver};
use systemd::Notifier;
use vigil::{News, Vigil};

/// How long the order to fill the catalog waits for room.
const IMPORT_ORDER_NS: u64 = 10_000_000_000;
/// Between two looks of the supervisor at the running cluster.
const LOOK: Duration = Duration::from_millis(50);
/// After this long a replica asks its question to another one again.
const REPLICATION_RETRY_NS: u64 = 200_000_000;

/// Why a command ended: the exit code of DESIGN section 6 and what to print.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    /// Bad usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// Something failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::usage(fault.to_string())
    }
}

impl From<Vec<Fault>> for Failure {
    fn from(faults: Vec<Fault>) -> Self {
        Self::usage(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

/// Everything that is read and derived before a thread starts.
pub struct Plan {
    pub profile: Profile,
    pub placement: Placement,
    pub code: CodeVersion,
    pub site: Site,
}

/// Reads and validates a profile with all that it names.
///
/// # Errors
/// Every mistake with its place; exit code 2.
pub fn plan(file: &Path, settings: &[String]) -> Result<Plan, Failure> {
    let profile = Profile::read(file, settings)?;
    let topology = Topology::read(&engine::thread::allowed_cores());
    let placement =
        place(&profile, &topology).map_err(|wrong| Failure::usage(format!("{}: {wrong}", file.display())))?;
    let code = CodeVersion::load(&profile.code_folders(), 1)?;
    for application in &profile.applications {
        if code.application(&application.name).is_none() {
            let wrong = format!("the code in {} is not `{}`'s", application.code.display(), application.name);
            return Err(Failure::usage(format!("{}: {wrong}; its application.toml says another name", file.display())));
        }
    }
    let site = load_site(&profile, placement.fronts(), 1)?;
    let folder = |name: &str| {
        let application = profile.applications.iter().find(|application| application.name == name);
        application.map_or_else(|| name.into(), |application| profile.path(&application.code))
    };
    site.check_sign_in(&code, folder)?;
    orders::check_backends(&code, |backend| profile.backends.contains_key(backend), folder)?;
    check_import(&profile, &code)?;
    // Whether anybody is there is found out by `serve`.
    drop(StoreSettings::of(&profile, String::new())?);
    Ok(Plan { profile, placement, code, site })
}

/// The profile's import finds its agent.
fn check_import(profile: &Profile, code: &CodeVersion) -> Result<(), Failure> {
    let file = profile.file.display();
    if let Some(import) = &profile.storage.import
        && import_agent(import, code).is_none()
    {
        return Err(Failure::usage(format!(
            "{file}: storage.import names the agent `{}` of `{}`; name an import agent of its code",
            import.agent, import.application
        )));
    }
    Ok(())
}

fn import_agent(import: &profile::Import, code: &CodeVersion) -> Option<agents::ImportAgent> {
    let application = code.application(&import.application)?;
    orders::import_of(application, application.agent(&import.agent)?, &code.shapes)
}

/// What `twintier check` prints: the derived placement, its cost, and what the profile names.
pub fn describe(file: &Path, plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let placement = &plan.placement;
    let (workers, fronts, replicas) = (placement.workers.len(), placement.fronts(), placement.replicas());
    line(format!("profile {} is sound", file.display()));
    line(format!("placement: {workers} workers, {fronts} fronts, {replicas} replicas"));
    for (index, worker) in placement.workers.iter().enumerate() {
        let front = worker.front.map_or_else(String::new, |front| format!(" front {front}"));
        let replica = worker.replica.map_or_else(String::new, |replica| format!(" replica {replica}"));
        line(format!("  worker {index:<3} core {:<4} node {}{front}{replica}", worker.cpu.number, worker.cpu.node));
    }
    line(placement.housekeeping.map_or_else(
        || "  no housekeeping core: storage, database, passwords and admin run where there is room".into(),
        |core| format!("  housekeeping core {core}: storage, database, passwords, admin"),
    ));
    for remark in &placement.remarks {
        line(format!("  note: {remark}"));
    }
    if !placement.absent.is_empty() {
        line(format!("  this machine lacks cores {:?}: `serve` would refuse", placement.absent));
    }
    line(format!("cost\n{}", Budget::of(&plan.profile, placement).describe().trim_end()));
    if plan.profile.database.kind == profile::DatabaseKind::Postgres {
        line(format!("note: {}", neighbors::DURABLE));
    }
    line("statements".into());
    for (route, target) in plan.site.table.routes().iter().zip(&plan.site.targets) {
        line(format!("  line {:<4} {:<24} {target}", route.line, route.pattern));
    }
    for application in &plan.code.applications {
        let tables: Vec<&str> = application.code_tables.iter().map(|table| &*table.name).collect();
        line(format!(
            "code of {} ({}): {} code tables\n  {}",
            application.name,
            application.title,
            tables.len(),
            tables.join("\n  ")
        ));
    }
    line("data tables".into());
    for shape in &plan.code.shapes.shapes {
        line(format!("  {} ({} fields, key {})", shape.table, shape.fields.len(), shape.key));
    }
    out
}

fn load_site(profile: &Profile, fronts: usize, version: u64) -> Result<Site, Vec<Fault>> {
    let applications: Vec<&str> = profile.applications.iter().map(|application| application.name.as_str()).collect();
    let file = profile.path(&profile.storage.statements);
    let site = Site::load(&file, &applications, profile.storage.object_bytes_max, version)?;
    site.check_shares(&file, fronts)?;
    Ok(site)
}

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

fn since_ms(begun_ns: u64) -> u64 {
    clock::monotonic_ns().saturating_sub(begun_ns) / 1_000_000
}

/// Why the appliance ends, and that it drains now.
fn tell_end(outcome: &Result<(), Failure>, signal: usize) {
    let name = [SIGTERM, SIGINT]
        .into_iter()
        .zip(["SIGTERM", "SIGINT"])
        .find(|(number, _)| usize::try_from(*number) == Ok(signal));
    match outcome {
        Ok(()) => log::info!(signal = name.map_or("", |(_, name)| name); "draining: no new connection is taken"),
        Err(failure) => log::error!(error = failure.message.as_str(); "a thread has ended, and with it the appliance"),
    }
}

/// The last line of an orderly end: what was served, and that nothing was lost or counted twice.
fn tell_books(cluster: &Cluster, statuses: &[WorkerStatus]) {
    let books = admin::api::books(cluster, statuses);
    let of = |name: &str| books[name].as_u64().unwrap_or(0);
    let requests: u64 =
        statuses.iter().filter_map(|status| status.front.as_ref()).map(|front| front.counters.requests_taken).sum();
    let writes = cluster.database_statistics.board.read(clock::monotonic_ns()).writes.committed;
    let uptime_ms = clock::unix_ms().saturating_sub(cluster.started_unix_ms);
    let (books_requests, books_writes) = (of("requests"), of("writes"));
    let (books_replication, books_agents) = (of("replication"), of("agents"));
    let level = if books_requests + books_writes + books_replication + books_agents == 0 {
        log::Level::Info
    } else {
        log::Level::Error
    };
    log::log!(
        level, requests, writes, books_requests, books_writes, books_replication, books_agents, uptime_ms;
        "ended"
    );
}

/// The number of the signal that came, 0 before.
fn which_signal() -> Result<Arc<AtomicUsize>, Failure> {
    let which = Arc::new(AtomicUsize::new(0));
    for signal in [SIGTERM, SIGINT] {
        let number = usize::try_from(signal).unwrap_or(0);
        signal_hook::flag::register_usize(signal, Arc::clone(&which), number)
            .map_err(|error| Failure::failed(format!("signal {signal} cannot be handled: {error}")))?;
    }
    Ok(which)
}

/// The same with a waker, for a program of one thread that sleeps in its engine: a helper thread watches the flag.
///
/// # Errors
/// The handlers or the thread could not be installed.
pub fn stop_signal_with(waker: Waker) -> Result<Arc<AtomicBool>, Failure> {
    let flag = stop_signal()?;
    let watched = Arc::clone(&flag);
    let watch = move || {
        while !watched.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(20));
        }
        waker.wake();
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map_err(|error| Failure::failed(format!("the signal thread could not be started: {error}")))?;
    Ok(flag)
}

/// Set by SIGTERM or SIGINT. A second signal ends the process at once.
///
/// # Errors
/// The handlers could not be installed.
pub fn stop_signal() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Failure::failed(format!("signal {signal} cannot be handled: {error}")))?;
    }
    Ok(flag)
}

/// Raises what can be raised, and tells what is too low.
fn tell_limits(profile: &Profile, placement: &Placement) {
    let (descriptors, wanted) = (engine::thread::raise_descriptor_limit(), Budget::of(profile, placement).descriptors);
    if descriptors < wanted {
        log::warn!(
            descriptors, wanted, cure = "raise `ulimit -Hn`, LimitNOFILE= of the unit, or lower engine.connections_max";
            "the limit of descriptors is lower than what the profile may need"
        );
    } else {
        log::info!(descriptors, wanted; "the limit of descriptors is raised");
    }
}

/// `0,1,4`: the cores of the workers in their order.
fn cores_of(placement: &Placement) -> String {
    let cores: Vec<String> = placement.workers.iter().map(|worker| worker.cpu.number.to_string()).collect();
    cores.join(",")
}

/// The access log's thread, if the profile wants one, and each front server's end of it.
fn access_log(profile: &Profile, fronts: usize) -> Result<(Option<access_log::Handle>, Vec<Option<Log>>), Failure> {
    let path = &profile.log.access;
    if path.as_os_str().is_empty() {
        return Ok((None, Vec::new()));
    }
    let (handle, logs) = access_log::spawn(path, u16::try_from(fronts).unwrap_or(u16::MAX)).map_err(Failure::failed)?;
    Ok((Some(handle), logs.into_iter().map(Some).collect()))
}

fn layout_of(placement: &Placement) -> Layout {
    let mut fronts: Vec<(u16, usize)> = placement
        .workers
        .iter()
        .enumerate()
        .filter_map(|(index, plan)| plan.front.map(|front| (front, index)))
        .collect();
    fronts.sort_unstable();
    Layout {
        replica_workers: placement.replica_workers(),
        front_workers: fronts.into_iter().map(|(_, index)| index).collect(),
    }
}

/// Opens the database with the shapes of the code that is to run, and gives that code back.
fn open_database(
    profile: &Profile,
    store: StoreSettings,
    code: CodeVersion,
    application_server: ServerId,
    publisher: database::contract::Publisher,
) -> Result<(database::server::Handle, database::server::Opened, CodeVersion), Failure> {
    let place = |key: &str, wrong: String| Failure::from(profile.fault("database", key, wrong, ""));
    if let StoreSettings::Duck(duck) = &store
        && let Some(folder) = duck.path.parent().filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::usage(format!("{}: {error}; choose another database.path", folder.display())))?;
    }
    let users = profile.users.iter().map(|user| SeedUser {
        user: user.user.clone(),
        full_name: user.name.clone(),
        department: user.department.clone(),
        email: user.email.clone(),
        roles: user.roles.clone(),
        password: user.password.clone(),
    });
    let settings = database::server::Settings {
        server: application_server,
        users: users.collect(),
        code_digests: code
            .applications
            .iter()
            .map(|application| (Box::from(&*application.name), base_digest(&code, &application.name)))
            .collect(),
    };
    // The database's thread opens it, and only then it is known what was deployed.
    let (resumed_sender, resumed) = channel::bounded(1);
    let is_shared = store.shared().is_some();
    let shapes_of = move |deployed: &[database::contract::Deployed]| {
        let code = resume_deploys(code, deployed, is_shared).map_err(|failure| failure.message)?;
        let shapes = Arc::clone(&code.shapes);
        // The channel has room for the one message that it is made for.
        let _ = resumed_sender.try_send(code);
        Ok(shapes)
    };
    let limits = database::server::Limits::default();
    let (database, opened) = match store {
        StoreSettings::Duck(store) => {
            let open = move || DuckStore::open_with(&store, shapes_of);
            database::server::spawn(settings, open, limits, publisher).map_err(Failure::usage)?
        }
        StoreSettings::Postgres(store) => {
            let open = move || PostgresStore::open_with(&store, shapes_of);
            database::server::spawn(settings, open, limits, publisher).map_err(|wrong| place("url", wrong))?
        }
    };
    let code = resumed.try_recv().map_err(|_| Failure::failed("the database was opened without its code"))?;
    Ok((database, opened, code))
}

/// Names the sources of one application, so that an edited profile is told from a deployed one.
fn base_digest(code: &CodeVersion, application: &str) -> Box<str> {
    let mut hasher = blake3::Hasher::new();
    for source in code.sources.iter().filter(|source| &*source.application == application) {
        for part in [&source.path, &source.text] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex().as_str().into()
}

/// The code to run: what was deployed, unless the profile's own code was edited since.
/// Where several appliances may share the database, what was deployed runs on all of them, whatever their profiles say.
fn resume_deploys(
    mut code: CodeVersion,
    deployed: &[database::contract::Deployed],
    is_shared: bool,
) -> Result<CodeVersion, Failure> {
    let mut order: Vec<_> = deployed.iter().collect();
    order.sort_by_key(|deployed| deployed.version);
    for deploy in order {
        let edited = base_digest(&code, &deploy.application) != deploy.base_digest;
        if edited && is_shared {
            log::warn!(
                application = &*deploy.application, version = deploy.version;
                "the profile's code is not that on which the last deploy was made; the deployed code runs, as on every appliance; deploy to change it"
            );
        } else if edited {
            log::warn!(
                application = &*deploy.application, version = deploy.version;
                "the profile's code was edited after its last deploy, and runs instead of it"
            );
            continue;
        }
        code = code.deploy(&deploy.application, &deploy.sources, deploy.version).map_err(|faults| {
            let text = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            Failure::usage(format!("the code deployed as version {} no longer fits:\n{text}", deploy.version))
        })?;
    }
    Ok(code)
}

fn load_rows(database: &database::server::Handle, code: &CodeVersion) -> Result<Vec<Loaded>, Failure> {
    let ids = (0..code.shapes.shapes.len()).filter_map(|index| u16::try_from(index).ok());
    ids.map(|id| database.client().load(crate::tables::TableId(id)).map_err(Failure::failed)).collect()
}

/// What the storage unit shares with others.
struct StorageEntrance<'a> {
    numbers: &'a Arc<Numbers>,
    backlog: Backlog,
    place: Option<Place>,
    database: database::server::Client,
}

fn spawn_storage(
    profile: &Profile,
    placement: &Placement,
    code: &CodeVersion,
    loaded: &[Loaded],
    entrance: StorageEntrance<'_>,
) -> Result<unit::Handle, Failure> {
    let StorageEntrance { numbers, backlog, place, database } = entrance;
    let work = WorkTable::resolve(&code.shapes).map_err(Failure::failed)?;
    let mut backends = Vec::new();
    for (name, address) in &profile.backends {
        backends.push(Backend::new(name, address.parse().map_err(Failure::usage)?));
    }
    for application in &code.applications {
        for agent in &application.agents {
            if let Some(post) = orders::post_of(application, agent, &code.shapes)
                && let Some(rows) = loaded.iter().find(|loaded| loaded.table == post.table)
            {
                numbers.load(&post, &rows.rows);
            }
        }
    }
    let mut settings = unit::Settings::new(work, backends);
    settings.numbers = Arc::clone(numbers);
    settings.backlog = backlog;
    settings.place = place;
    settings.replicas = placement.replicas();
    settings.agents_max = profile.storage.agents_max;
    settings.orders_max = profile.storage.orders_max;
    settings.seed = random_seed();
    let (executor, remark) = ExecutorKind::choose();
    settings.executor = executor;
    if let Some(remark) = remark {
        log::warn!(executor = executor.name(), reason = remark.as_str(); "a better executor of agents does not work here");
    }
    if placement.housekeeping.is_none() {
        settings.prepare = Some(Box::new(engine::thread::lower_priority));
    }
    unit::spawn(settings, Arc::new(move |request| database.try_send(request, clock::monotonic_ns())))
        .map_err(|error| Failure::failed(error.to_string()))
}

fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    let read =
        std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if read.is_err() { clock::monotonic_ns() } else { u64::from_le_bytes(bytes) }
}

fn random_seed_wide() -> u128 {
    u128::from(random_seed()) << 64 | u128::from(random_seed())
}

/// The front servers share their port, so that the kernel would let a second appliance share it, too: a listener that
/// shares with nobody finds out whether the port is free.
fn refuse_taken_port(profile: &Profile) -> Result<(), Failure> {
    let Ok(Address::Tcp(address)) = profile.listen.http.parse() else { return Ok(()) };
    std::net::TcpListener::bind(address).map(drop).map_err(|error| {
        Failure::failed(format!(
            "the front servers cannot listen on {address}: {error}; stop what does, or write --set listen.http=127.0.0.1:0"
        ))
    })
}

fn admin_listener(profile: &Profile) -> Result<std::net::TcpListener, Failure> {
    let Ok(Address::Tcp(address)) = profile.listen.admin.parse() else {
        return Err(Failure::usage(format!(
            "listen.admin = `{}`: the admin interface needs a TCP address",
            profile.listen.admin
        )));
    };
    std::net::TcpListener::bind(address).map_err(|error| {
        Failure::failed(format!("the admin interface cannot listen on {address}: {error}; stop what does, or write --set listen.admin=127.0.0.1:0"))
    })
}

/// What the start of every worker needs.
struct Shared {
    profile: Profile,
    engine: EngineKind,
    layout: Arc<Layout>,
    code: Arc<CodeVersion>,
    site: Arc<Site>,
    loaded: Vec<Loaded>,
    session_key: [u8; 32],
    place: Option<Place>,
    board: Arc<LoadBoard>,
    depths: Arc<DepthBoard>,
    vitals: Arc<Vitals>,
    replicas: usize,
    http: String,
    database: database::server::Client,
    passwords: Passwords,
    storage: unit::Orders,
}

/// The start of one worker, carried to its thread.
struct Start {
    index: usize,
    plan: WorkerPlan,
    waker: Waker,
    sender: ControlSender,
    listener: Option<std::os::fd::OwnedFd>,
    log: Option<Log>,
    shared: Arc<Shared>,
}

impl Start {
    fn run(
        self,
        port: Port,
        control: crate::mesh::inbox::Inbox<Control>,
        ready: &channel::Sender<Result<(), String>>,
    ) -> Result<(), String> {
        let kind = self.shared.engine;
        match kind {
            EngineKind::Uring => self.run_on::<Uring>(port, control, ready),
            EngineKind::Monoio => self.run_on::<MonoioUring>(port, control, ready),
            EngineKind::MonoioEpoll => self.run_on::<MonoioEpoll>(port, control, ready),
            EngineKind::Glommio => self.run_on::<Glommio>(port, control, ready),
        }
    }

    fn run_on<E: Engine>(
        self,
        port: Port,
        control: crate::mesh::inbox::Inbox<Control>,
        ready: &channel::Sender<Result<(), String>>,
    ) -> Result<(), String> {
        let shared = &self.shared;
        let core = self.plan.cpu.number;
        engine::thread::pin_to_core(core).map_err(|error| {
            format!(
                "worker {} cannot be pinned to core {core}: {error}; widen the CPU affinity (taskset, cpuset)",
                self.index
            )
        })?;
        let config = shared.profile.engine.config();
        let mut engine = E::new(&config, self.waker.clone()).map_err(|error| error.to_string())?;
        let replica = self.plan.replica.map(|number| self.replica(number));
        let mut front = self.plan.front.map(|number| self.front(number));
        if let (Some(front), Some(log)) = (&mut front, self.log) {
            front.server.log_to(log);
        }
        if let Some(listener) = self.listener {
            engine.listen(listener).map_err(|error| error.to_string())?;
        }
        let watch = Watch::new(Arc::clone(&shared.vitals), self.index);
        // The supervisor counts the ones that are ready; if it is gone, so is the process.
        let _ = ready.try_send(Ok(()));
        Worker::new(self.index, core, engine, port, control, Arc::clone(&shared.layout), watch, front, replica)
            .run()
            .map_err(|error| format!("worker {} failed: {error}", self.index))
    }

    fn front(&self, number: u16) -> FrontRole {
        let shared = &self.shared;
        let dispatch = &shared.profile.dispatch;
        let dispatching = dispatch_settings(dispatch, shared.replicas);
        let dispatcher = RequestDispatcher::new(&requests::Settings { seed: random_seed(), ..dispatching });
        let mut settings = Settings::of(&shared.profile);
        settings.upstream.front = u32::from(number);
        settings.upstream.fronts = u32::try_from(shared.layout.front_workers.len()).unwrap_or(u32::MAX);
        let server = FrontServer::new(
            settings,
            u16::try_from(self.index).unwrap_or(u16::MAX),
            self.plan.replica,
            dispatcher,
            Sessions::new(SessionKey::new(shared.session_key), random_seed_wide()),
            Arc::clone(&shared.site),
            shared.profile.engine.connections_max,
        );
        let boards = Boards { loads: Arc::clone(&shared.board), depths: Arc::clone(&shared.depths) };
        FrontRole::new(number, server, shared.http.clone(), dispatch.handoff_threshold, boards)
    }

    fn replica(&self, number: ServerId) -> ReplicaRole {
        let shared = &self.shared;
        let mut tables = DataTables::new(Arc::clone(&shared.code.shapes));
        for loaded in &shared.loaded {
            for row in &loaded.rows {
                tables.apply(row);
            }
        }
        let replication = replication::Settings {
            me: number,
            replicas: ServerId::try_from(shared.replicas).unwrap_or(ServerId::MAX),
            sweep_interval_ns: shared.profile.replication.sweep_ms * 1_000_000,
            retry_ns: REPLICATION_RETRY_NS,
            log_updates_max: limits::LOG_UPDATES_MAX,
        };
        let replicator = Replicator::new(replication);
        let settings = replica::server::Settings {
            parked_max: shared.profile.limits.parked_jobs_max,
            place: shared.place,
            ..replica::server::Settings::default()
        };
        let server = ReplicaServer::new(number, Arc::clone(&shared.code), tables, replicator, settings.clone());
        let to_self = self.sender.clone();
        let for_password = self.sender.clone();
        let for_rows = self.sender.clone();
        let services = Services {
            database: shared.database.clone(),
            passwords: shared.passwords.clone(),
            storage: shared.storage.clone(),
            database_reply: Arc::new(move |reply| deliver(&to_self, Control::Database(reply))),
            password_reply: Arc::new(move |token, right| deliver(&for_password, Control::Password { token, right })),
            loaded: Arc::new(move |incarnation, loaded| deliver(&for_rows, Control::Loaded { incarnation, loaded })),
        };
        let cap = dispatch_settings(&shared.profile.dispatch, shared.replicas).cap();
        let accepted = Accepted::new(&shared.layout.front_workers, cap);
        let boards = ReplicaBoards { depths: Arc::clone(&shared.depths), vitals: Arc::clone(&shared.vitals) };
        let stop_ns = shared.profile.timeouts.stop_ms * 1_000_000;
        ReplicaRole::new(number, server, services, accepted, boards, Rebirth { server: settings, replication, stop_ns })
    }
}

/// What the profile says of the second dispatcher; the seed is each one's own.
fn dispatch_settings(dispatch: &crate::profile::Dispatch, replicas: usize) -> requests::Settings {
    requests::Settings {
        replicas,
        policy: dispatch.policy.parse().unwrap_or_default(),
        credit: dispatch.credit,
        outstanding_max: dispatch.outstanding_max,
        queue_max: dispatch.queue_max,
        seed: 0,
    }
}

/// Compiles and publishes statements when their file or a folder of static objects changes; a wrong file is refused
/// and the old table stays. A folder that a changed file names for the first time is watched from the next start on.
fn watch_statements(cluster: &Arc<Cluster>, orders: &unit::Orders) {
    let profile = &cluster.profile;
    let watched = Arc::clone(cluster);
    let notify: unit::Notify = Arc::new(move |_| {
        let fronts = watched.placement.fronts();
        match load_site(&watched.profile, fronts, watched.site().version + 1) {
            Ok(site) => {
                log::info!(version = site.version, routes = site.table.routes().len(); "the statements are in force");
                watched.publish_site(Arc::new(site));
            }
            Err(faults) => {
                for fault in faults {
                    log::error!(error:% = fault; "the statements are refused, the old ones stay");
                }
            }
        }
    });
    let order =
        Order::WatchFiles { paths: cluster.site().sources.clone(), interval_ms: profile.storage.watch_ms, notify };
    if orders.try_send(order).is_err() {
        log::error!("statement files are not watched: the storage unit takes no orders");
    }
}

/// Work that a crash or stop left unfinished is ordered again (of an appliance that has its database for itself); its idempotency key keeps its effect single.
pub fn resume_work(code: &CodeVersion, loaded: &[Loaded], unit: &unit::Orders) {
    let Some(rows) = loaded.iter().find(|loaded| loaded.table == AGENT_WORK) else { return };
    for row in &rows.rows {
        let Some(record) = &row.record else { continue };
        if agents::WorkState::is_finished(record.get(agent_work::STATE).as_text().unwrap_or("")) {
            continue;
        }
        let order = orders::order_of(code, &row.key, record);
        // What finds no room is ordered again from its row by a replica.
        if unit.try_send(order).is_err() {
            return;
        }
    }
}

/// Fills an empty catalog from the supplier's file that the profile names.
fn import_catalog(cluster: &Cluster, code: &CodeVersion, loaded: &[Loaded]) -> Result<(), Failure> {
    let Some(import) = &cluster.profile.storage.import else { return Ok(()) };
    let Some(resolved) = import_agent(import, code) else { return Ok(()) };
    let has_rows = loaded.iter().any(|loaded| loaded.table == resolved.table && !loaded.rows.is_empty());
    // One that a crash interrupted has been ordered again already.
    if has_rows || cluster.storage.is_importing() {
        return Ok(());
    }
    let file = if import.source == "apt" {
        let folder = cluster.profile.database.path.parent().unwrap_or(Path::new("")).to_path_buf();
        // Beside a DuckDB file it exists; PostgreSQL needs none.
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::failed(format!("{}: {error}; choose another database.path", folder.display())))?;
        let target = folder.join("supplier.txt");
        let source = supplier::supplier_file(&target).map_err(|error| {
            Failure::failed(format!("{}: {error}; name a file in storage.import.source", target.display()))
        })?;
        log::info!(source:%, file:% = target.display(); "the supplier's file is made");
        target
    } else {
        cluster.profile.path(Path::new(&import.source))
    };
    let work: Box<str> = format!("{}//{}", resolved.table_name, import.agent).into();
    if let Some(neighbors) = &cluster.neighbors {
        let path = file.display().to_string();
        let rows = loaded.iter().find(|loaded| loaded.table == AGENT_WORK);
        let row = rows.and_then(|loaded| loaded.rows.iter().find(|row| row.key == work));
        let known = row.map_or(ABSENT, |row| row.stamp);
        let claimed = neighbors::claims_import(cluster, neighbors.me, &work, &resolved, &path, known);
        if !claimed.map_err(Failure::failed)? {
            log::info!(agent = &*import.agent; "another appliance fills the catalog");
            return Ok(());
        }
    }
    let run = ImportRun {
        work,
        progress: Arc::new(unit::ImportProgress::new(&file)),
        agent: Arc::new(resolved),
        file,
        requested_by: "supervisor".into(),
    };
    // It has no row yet from which it could be ordered again: it waits for room.
    let until = clock::monotonic_ns() + IMPORT_ORDER_NS;
    let mut order = Order::Import(run);
    while let Err(back) = cluster.storage.try_send(order) {
        if clock::monotonic_ns() >= until {
            log::error!("the catalog is not imported: the storage unit takes no orders");
            break;
        }
        order = back;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Stops accepting, lets requests finish, closes idle connections; bounded by `timeouts.drain_ms`.
fn drain(cluster: &Cluster) {
    let begun_ns = clock::monotonic_ns();
    let until = begun_ns + cluster.profile.timeouts.drain_ms * 1_000_000;
    cluster.broadcast(|| Control::StopListening);
    cluster.broadcast(|| Control::Drain { on: true });
    let mut open = 0;
    while clock::monotonic_ns() < until {
        let statuses = cluster.statuses_blocking();
        open =
            statuses.iter().filter_map(|status| status.front.as_ref()).map(|front| front.open_connections).sum::<u32>();
        if open == 0 {
            log::info!(elapsed_ms = since_ms(begun_ns); "drained");
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    log::warn!(
        drain_ms = cluster.profile.timeouts.drain_ms, connections = open;
        "connections were still open after timeouts.drain_ms and are cut"
    );
}
