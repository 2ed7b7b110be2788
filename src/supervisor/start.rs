//! The start of one worker: what it shares with the others, and what it makes on its own core.

use std::sync::Arc;

use crossbeam::channel;

use super::entropy::{random_seed, random_seed_wide};
use crate::authority::session::SessionKey;
use crate::database;
use crate::database::contract::{Loaded, Place};
use crate::dispatch::requests::{self, RequestDispatcher};
use crate::engine::{self, Engine, EngineKind, Glommio, MonoioEpoll, MonoioUring, Uring, Waker};
use crate::front::authorize::Sessions;
use crate::front::log::Log;
use crate::front::{FrontServer, Settings};
use crate::limits;
use crate::mesh::depth::DepthBoard;
use crate::mesh::inbox::Inbox;
use crate::profile::Profile;
use crate::replica;
use crate::replica::server::ReplicaServer;
use crate::replication::{self, Replicator};
use crate::storage::passwords::Passwords;
use crate::storage::site::Site;
use crate::storage::unit;
use crate::tables::ServerId;
use crate::tables::code::CodeVersion;
use crate::tables::data::DataTables;
use crate::worker::accepted::Accepted;
use crate::worker::front_role::{Boards, FrontRole};
use crate::worker::load_board::LoadBoard;
use crate::worker::placement::WorkerPlan;
use crate::worker::replica_role::{Rebirth, ReplicaBoards, ReplicaRole, Services};
use crate::worker::watch::{Vitals, Watch};
use crate::worker::{Control, ControlSender, Layout, Port, Worker, deliver};

/// After this long a replica asks its question to another one again.
const REPLICATION_RETRY_NS: u64 = 200_000_000;

/// What the start of every worker needs.
pub(super) struct Shared {
    pub(super) profile: Profile,
    pub(super) engine: EngineKind,
    pub(super) layout: Arc<Layout>,
    pub(super) code: Arc<CodeVersion>,
    pub(super) site: Arc<Site>,
    pub(super) loaded: Vec<Loaded>,
    pub(super) session_key: [u8; 32],
    pub(super) place: Option<Place>,
    pub(super) board: Arc<LoadBoard>,
    pub(super) depths: Arc<DepthBoard>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) replicas: usize,
    pub(super) http: String,
    pub(super) database: database::server::Client,
    pub(super) passwords: Passwords,
    pub(super) storage: unit::Orders,
}

/// The start of one worker, carried to its thread.
pub(super) struct Start {
    pub(super) index: usize,
    pub(super) plan: WorkerPlan,
    pub(super) waker: Waker,
    pub(super) sender: ControlSender,
    pub(super) listener: Option<std::os::fd::OwnedFd>,
    pub(super) log: Option<Log>,
    pub(super) shared: Arc<Shared>,
}

impl Start {
    pub(super) fn run(
        self,
        port: Port,
        control: Inbox<Control>,
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
        control: Inbox<Control>,
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
