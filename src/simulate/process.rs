//! One life of the simulated process: real workers, database server and storage unit, on simulated engines and stores.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::authority::session::SessionKey;
use crate::clock::Clocks;
use crate::database::contract::{Loaded, Publisher, Store as _};
use crate::database::memory::{Disk, MemoryStore};
use crate::database::{self, server::Server};
use crate::dispatch::requests::{self, RequestDispatcher};
use crate::engine::sim::{Sim, World};
use crate::engine::{Address, Engine as _, Waker};
use crate::front::authorize::Sessions;
use crate::front::{FrontServer, Settings};
use crate::mesh::beats::Beat;
use crate::mesh::depth::DepthBoard;
use crate::mesh::inbox::inbox;
use crate::mesh::relay::{Relay, relayed};
use crate::profile::Profile;
use crate::replica;
use crate::replica::server::ReplicaServer;
use crate::replication::{self, Backlog, Replicator};
use crate::storage::agents::WorkTable;
use crate::storage::backend::Backend;
use crate::storage::numbers::Numbers;
use crate::storage::passwords::Passwords;
use crate::storage::site::Site;
use crate::storage::unit::Executor;
use crate::storage::{orders, unit};
use crate::supervisor;
use crate::tables::code::CodeVersion;
use crate::tables::data::DataTables;
use crate::tables::{ServerId, TableId};
use crate::worker::accepted::Accepted;
use crate::worker::front_role::{Boards, FrontRole};
use crate::worker::load_board::LoadBoard;
use crate::worker::replica_role::{Rebirth, ReplicaBoards, ReplicaRole, Services};
use crate::worker::watch::{Patience, Vitals, Watch};
use crate::worker::{Control, ControlSender, Layout, Message, Worker, deliver};

use super::{application, backend};

/// Where the front servers listen.
pub const ADDRESS: &str = "10.1.1.1:80";
/// Milliseconds between two sweeps of a replica.
pub const SWEEP_MS: u64 = 40;
/// After this long a replica asks its question to another one again.
const RETRY_NS: u64 = 30_000_000;
/// Where the wall clock begins, in Unix milliseconds.
const UNIX_MS: u64 = 1_795_440_180_000;
/// A turn that takes longer is a missed beat, after which a replica is dead; and what a stop may take.
const HUNG_NS: u64 = 10_000_000;
const DEAD_NS: u64 = 60_000_000;
const STOP_NS: u64 = 100_000_000;
/// More than a worker that stands still is sent.
const INBOX_SLOTS: usize = 2048;
/// What a simulated database hands out for the session key.
const KEY: [u8; 32] = [7; 32];

const PROFILE: &str = "[cluster]\nname = \"sim\"\n[storage]\nstatements = \"-\"\n[timeouts]\nhead_ms = 800\n\
    body_ms = 800\nidle_ms = 1000\nqueue_ms = 100\njob_ms = 300\n[limits]\nparked_jobs_max = 64\n";

/// The wall clock of the simulated machine, which all threads read.
#[derive(Clone, Debug)]
pub struct Wall {
    world: World,
    /// What the clock was stepped by.
    stepped_ms: Rc<Cell<i64>>,
    /// Monotonic nanoseconds, for those that could be in another thread.
    shared_ns: Arc<AtomicU64>,
}

impl Wall {
    pub fn new(world: &World) -> Self {
        Self { world: world.clone(), stepped_ms: Rc::default(), shared_ns: Arc::default() }
    }

    pub fn unix_ms(&self) -> u64 {
        (UNIX_MS + self.world.now_ns() / 1_000_000).saturating_add_signed(self.stepped_ms.get())
    }

    pub fn step(&self, ms: i64) {
        self.stepped_ms.set(self.stepped_ms.get() + ms);
    }

    fn now(&self) -> database::server::Now {
        let monotonic_ns = self.world.now_ns();
        self.shared_ns.store(monotonic_ns, Ordering::Relaxed);
        database::server::Now { monotonic_ns, unix_ms: self.unix_ms() }
    }
}

/// The clocks of one worker.
#[derive(Debug)]
struct WorkerClocks {
    wall: Wall,
    /// What its turns took.
    cpu_ns: u64,
}

impl Clocks for WorkerClocks {
    fn unix_ms(&self) -> u64 {
        self.wall.unix_ms()
    }

    fn monotonic_ns(&self) -> u64 {
        self.wall.world.now_ns()
    }

    fn cpu_ns(&self) -> u64 {
        self.cpu_ns
    }
}

/// How the process is laid out; a seed keeps it for all its lives.
#[derive(Clone, Debug)]
pub struct Shape {
    pub layout: Layout,
    pub workers: usize,
    pub ring_slots: usize,
    pub database_queue_max: usize,
    pub connections_max: u32,
    pub credit: u32,
    pub queue_max: usize,
    pub log_updates_max: usize,
    pub seed: u64,
}

impl Shape {
    pub fn replicas(&self) -> usize {
        self.layout.replica_workers.len()
    }

    pub fn application_server(&self) -> ServerId {
        ServerId::try_from(self.replicas()).unwrap_or(ServerId::MAX)
    }
}

/// A worker with its time.
pub struct Running {
    pub worker: Worker<Sim>,
    clocks: WorkerClocks,
    /// When it wants its next turn if nothing comes before.
    pub until_ns: u64,
    /// Its turn goes on until then.
    pub busy_until_ns: u64,
    /// It has told the others that it sleeps.
    asleep: bool,
}

impl Running {
    /// The others see a turn that began now and does not end.
    pub fn stand_still(&self, now_ns: u64) {
        let beat = Beat { at_ns: now_ns, asleep: false };
        self.worker.watch.vitals().beats.publish(self.worker.index, beat);
    }
}

/// The parts of one life.
pub struct Process {
    pub workers: Vec<Running>,
    pub relays: Vec<Relay<Message, Waker>>,
    pub senders: Vec<ControlSender>,
    pub database: Server<MemoryStore>,
    disk: Arc<Disk>,
    pub client: database::server::Client,
    pub agents: Executor,
    pub orders: unit::Orders,
    /// The code deployed last, as the supervisor knows it.
    pub code: Arc<CodeVersion>,
    pub layout: Arc<Layout>,
    wall: Wall,
}

fn site() -> Arc<Site> {
    static SITE: OnceLock<Arc<Site>> = OnceLock::new();
    let compile = || {
        let site = Site::compile(Path::new("simulation"), application::STATEMENTS, &[application::NAME], 0, 1);
        Arc::new(site.unwrap_or_else(|faults| panic!("the simulated statements do not compile: {faults:?}")))
    };
    Arc::clone(SITE.get_or_init(compile))
}

fn profile(shape: &Shape) -> Profile {
    static PROFILES: OnceLock<Profile> = OnceLock::new();
    let parse = || toml::from_str(PROFILE).expect("invariant: the simulated profile is sound");
    let mut profile = PROFILES.get_or_init(parse).clone();
    profile.engine.connections_max = shape.connections_max;
    profile.engine.receive_buffers = 32;
    profile.engine.receive_buffer_bytes = 2048;
    profile.engine.send_buffers = 32;
    profile.engine.send_buffer_bytes = 4096;
    profile
}

/// What the key of session cookies is.
pub fn session_key() -> SessionKey {
    SessionKey::new(KEY)
}

/// A database as it is before the first start.
pub fn new_disk(shape: &Shape, browsers: usize) -> Arc<Disk> {
    let (code, _) = application::version(1);
    let disk = Arc::<Disk>::default();
    let mut store = MemoryStore::on(Arc::clone(&code.shapes), Arc::clone(&disk));
    let key: String = KEY.iter().map(|byte| format!("{byte:02x}")).collect();
    let users = application::users(browsers, shape.application_server());
    let filled = store.set_setting("session_key", &key).and_then(|()| store.upsert(&users));
    filled.expect("invariant: a new store takes rows");
    assert!(store.commit().is_ok(), "invariant: a new store commits");
    disk
}

impl Process {
    /// Starts on what the store has, as the supervisor does.
    pub fn start(shape: &Shape, world: &World, wall: &Wall, disk: Arc<Disk>, life: u64) -> Result<Self, String> {
        let (code, _) = application::version(1);
        let mut store = MemoryStore::on(Arc::clone(&code.shapes), Arc::clone(&disk));
        let deployed = store.deployed()?;
        let version = deployed.iter().map(|deployed| deployed.version).max().unwrap_or(1);
        let (code, _) = application::version(version);
        let layout = Arc::new(shape.layout.clone());

        let wakers = (0..shape.workers).map(|_| Waker::new().map_err(|error| error.to_string()));
        let wakers: Vec<Waker> = wakers.collect::<Result<_, _>>()?;
        let (ports, relays) = relayed::<Message, Waker>(shape.workers, shape.ring_slots, wakers.clone());
        let (senders, inboxes): (Vec<ControlSender>, Vec<_>) =
            ports.iter().map(|port| inbox::<Control, Waker>(INBOX_SLOTS, port.bell())).unzip();

        let replica_senders: Vec<ControlSender> =
            layout.replica_workers.iter().map(|&worker| senders[worker].clone()).collect();
        let backlog = Backlog::default();
        let published = backlog.clone();
        let publisher: Publisher = Arc::new(move |batch| {
            for sender in &replica_senders {
                let unapplied = published.add(batch.updates.len());
                deliver(sender, Control::Published { batch: Arc::clone(&batch), unapplied });
            }
        });
        let settings = database::server::Settings {
            server: shape.application_server(),
            users: Vec::new(),
            code_digests: Vec::new(),
        };
        let loaded = load(&mut store, &code)?;
        let limits = database::server::Limits { requests_max: shape.database_queue_max, ..Default::default() };
        let (database, client, _) = Server::without_thread(settings, store, limits, publisher, wall.now())?;

        let mut backends = vec![Backend::new("suppliers", backend::ADDRESS.parse()?)];
        backends[0].first_byte_limit = std::time::Duration::from_millis(400);
        let mut unit_settings = unit::Settings::new(WorkTable::resolve(&code.shapes)?, backends);
        unit_settings.numbers = Arc::new(numbers(&code, &loaded));
        unit_settings.agents_max = 4;
        unit_settings.orders_max = 64;
        unit_settings.seed = shape.seed;
        unit_settings.backlog = backlog;
        unit_settings.replicas = shape.replicas();
        let (to_database, now_ns) = (client.clone(), Arc::clone(&wall.shared_ns));
        let ask = move |request| to_database.try_send(request, now_ns.load(Ordering::Relaxed));
        let (orders, agents) = unit::simulated(unit_settings, Arc::new(ask), world);
        supervisor::resume_work(&code, &loaded, &orders);

        let parts = Parts { shape, layout, code: &code, loaded: &loaded, client: &client, orders: &orders, life };
        let patience = Patience { hung_ns: HUNG_NS, dead_ns: DEAD_NS };
        let boards = AllBoards {
            loads: Arc::new(LoadBoard::new(parts.layout.front_workers.len())),
            depths: Arc::new(DepthBoard::new(shape.replicas())),
            vitals: Arc::new(Vitals::new(shape.workers, &parts.layout.replica_workers, patience)),
        };
        let address: Address = ADDRESS.parse()?;
        let mut workers = Vec::with_capacity(shape.workers);
        for (index, ((port, control), waker)) in ports.into_iter().zip(inboxes).zip(wakers).enumerate() {
            let profile = profile(shape);
            let mut engine = Sim::new(&profile.engine.config(), waker).map_err(|error| error.to_string())?;
            let replica = parts.layout.replica_workers.iter().position(|&worker| worker == index);
            let replica = replica.and_then(|number| ServerId::try_from(number).ok());
            let front = parts.layout.front_workers.iter().position(|&worker| worker == index);
            let front = front.and_then(|number| u16::try_from(number).ok()).map(|number| {
                engine.listen_at(&address);
                parts.front(&profile, index, number, replica, &boards)
            });
            let replica = replica.map(|number| parts.replica(&profile, number, senders[index].clone(), &boards));
            let watch = Watch::new(Arc::clone(&boards.vitals), index);
            let worker =
                Worker::new(index, index, engine, port, control, Arc::clone(&parts.layout), watch, front, replica);
            let clocks = WorkerClocks { wall: wall.clone(), cpu_ns: 0 };
            workers.push(Running { worker, clocks, until_ns: 0, busy_until_ns: 0, asleep: false });
        }
        let layout = parts.layout;
        Ok(Self { workers, relays, senders, database, disk, client, agents, orders, code, layout, wall: wall.clone() })
    }

    /// Ends it as SIGKILL does: the disk is what is left.
    pub fn kill(self, world: &World) -> Arc<Disk> {
        let disk = Arc::clone(&self.disk);
        drop(self);
        // Connections that were between two workers end with the rest.
        world.reset_handed_over();
        disk
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// One turn of a worker.
    pub fn turn(&mut self, index: usize) -> Result<(), String> {
        let running = &mut self.workers[index];
        let before = self.wall.world.now_ns();
        running.until_ns = running.worker.turn(running.until_ns, &running.clocks).map_err(|error| error.to_string())?;
        running.clocks.cpu_ns += self.wall.world.now_ns() - before;
        running.asleep = false;
        Ok(())
    }

    /// When a worker has something to do.
    pub fn due_ns(&mut self, index: usize) -> u64 {
        let now_ns = self.wall.world.now_ns();
        let running = &mut self.workers[index];
        let worker = &mut running.worker;
        if !running.asleep && now_ns >= running.busy_until_ns {
            running.until_ns = worker.fall_asleep(running.until_ns);
            running.asleep = true;
        }
        let due = if worker.port.has_pending() || !worker.inbox.is_empty() {
            0
        } else {
            running.until_ns.min(worker.engine.due_ns())
        };
        due.max(running.busy_until_ns)
    }

    /// The database server serves what is queued.
    pub fn serve_database(&mut self) {
        self.database.serve_waiting(self.wall.now());
    }

    pub fn turn_agents(&mut self) {
        let now = self.wall.now();
        self.agents.turn(now.unix_ms);
    }
}

fn load(store: &mut MemoryStore, code: &CodeVersion) -> Result<Vec<Loaded>, String> {
    let tables = (0..code.shapes.shapes.len()).filter_map(|index| u16::try_from(index).ok()).map(TableId);
    let load = |table| {
        let mut rows = Vec::new();
        store.load_all(table, &mut |update| rows.push(update))?;
        Ok(Loaded { table, rows, published: 0 })
    };
    tables.map(load).collect()
}

fn numbers(code: &CodeVersion, loaded: &[Loaded]) -> Numbers {
    let numbers = Numbers::default();
    for application in &code.applications {
        for agent in &application.agents {
            if let Some(post) = orders::post_of(application, agent, &code.shapes)
                && let Some(rows) = loaded.iter().find(|loaded| loaded.table == post.table)
            {
                numbers.load(&post, &rows.rows);
            }
        }
    }
    numbers
}

/// What the workers share.
struct AllBoards {
    loads: Arc<LoadBoard>,
    depths: Arc<DepthBoard>,
    vitals: Arc<Vitals>,
}

/// What the roles are made of.
struct Parts<'a> {
    shape: &'a Shape,
    layout: Arc<Layout>,
    code: &'a Arc<CodeVersion>,
    loaded: &'a [Loaded],
    client: &'a database::server::Client,
    orders: &'a unit::Orders,
    /// Counts the lives, so that sessions and lots differ.
    life: u64,
}

impl Parts<'_> {
    fn dispatching(&self) -> requests::Settings {
        requests::Settings {
            replicas: self.shape.replicas(),
            policy: crate::dispatch::policy::PolicyName::Jbsq,
            credit: self.shape.credit,
            outstanding_max: 16,
            queue_max: self.shape.queue_max,
            seed: self.shape.seed,
        }
    }

    fn front(
        &self,
        profile: &Profile,
        worker: usize,
        number: u16,
        replica: Option<ServerId>,
        boards: &AllBoards,
    ) -> FrontRole {
        let mut settings = Settings::of(profile);
        settings.upstream.front = u32::from(number);
        settings.upstream.fronts = u32::try_from(self.layout.front_workers.len()).unwrap_or(u32::MAX);
        let server = FrontServer::new(
            settings,
            u16::try_from(worker).unwrap_or(u16::MAX),
            replica,
            RequestDispatcher::new(&self.dispatching()),
            Sessions::new(session_key(), u128::from(self.shape.seed) << 64 | u128::from(self.life)),
            site(),
            profile.engine.connections_max,
        );
        let boards = Boards { loads: Arc::clone(&boards.loads), depths: Arc::clone(&boards.depths) };
        FrontRole::new(number, server, ADDRESS.to_owned(), 2, boards)
    }

    fn replica(&self, profile: &Profile, number: ServerId, sender: ControlSender, boards: &AllBoards) -> ReplicaRole {
        let mut tables = DataTables::new(Arc::clone(&self.code.shapes));
        for row in self.loaded.iter().flat_map(|loaded| &loaded.rows) {
            tables.apply(row);
        }
        let replication = replication::Settings {
            me: number,
            replicas: self.shape.application_server(),
            sweep_interval_ns: SWEEP_MS * 1_000_000,
            retry_ns: RETRY_NS,
            log_updates_max: self.shape.log_updates_max,
        };
        let replicator = Replicator::new(replication);
        let settings = replica::server::Settings {
            parked_max: profile.limits.parked_jobs_max,
            ..replica::server::Settings::default()
        };
        let server = ReplicaServer::new(number, Arc::clone(self.code), tables, replicator, settings.clone());
        let (for_password, for_rows) = (sender.clone(), sender.clone());
        let services = Services {
            database: self.client.clone(),
            passwords: Passwords::closed(),
            storage: self.orders.clone(),
            database_reply: Arc::new(move |reply| deliver(&sender, Control::Database(reply))),
            password_reply: Arc::new(move |token, right| deliver(&for_password, Control::Password { token, right })),
            loaded: Arc::new(move |incarnation, loaded| deliver(&for_rows, Control::Loaded { incarnation, loaded })),
        };
        let accepted = Accepted::new(&self.layout.front_workers, self.dispatching().cap());
        let boards = ReplicaBoards { depths: Arc::clone(&boards.depths), vitals: Arc::clone(&boards.vitals) };
        let rebirth = Rebirth { server: settings, replication, stop_ns: STOP_NS };
        ReplicaRole::new(number, server, services, accepted, boards, rebirth)
    }
}
