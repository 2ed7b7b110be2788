//! The running cluster as threads that are no workers reach it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::channel;

use crate::clock;
use crate::database;
use crate::database::contract::Deployed;
use crate::database::follow::Neighbors;
use crate::engine::Address;
use crate::engine::probe::Chosen;
use crate::mesh::lives::{Life, Standing};
use crate::profile::Profile;
use crate::storage::orders;
use crate::storage::site::Site;
use crate::storage::unit;
use crate::tables::ServerId;
use crate::tables::code::CodeVersion;
use crate::worker::access_log;
use crate::worker::placement::Placement;
use crate::worker::watch::Vitals;
use crate::worker::{Control, ControlSender, FrontRejects, Layout, WorkerStatus, deliver};

/// How long a worker may take to report.
const REPORT_NS: u64 = 2_000_000_000;
/// The same for one that hangs.
const HUNG_REPORT_NS: u64 = 1_000_000_000;
/// How long an order to a replica is waited for.
const ORDER_NS: u64 = 5_000_000_000;
/// How long a deploy waits for its turn, and for the replicas.
const DEPLOY_NS: u64 = 30_000_000_000;

/// Everything that the admin thread and the supervisor know of the running process.
pub struct Cluster {
    pub profile: Profile,
    pub engine: Chosen,
    pub http: Address,
    pub admin: Address,
    pub started_unix_ms: u64,
    pub placement: Placement,
    pub layout: Arc<Layout>,
    pub workers: Vec<ControlSender>,
    pub database: database::server::Client,
    /// Where it is, without a password.
    pub database_place: String,
    pub database_statistics: Arc<database::server::Statistics>,
    pub storage: unit::Orders,
    /// What the access log's thread counts, if there is one.
    pub access_log: Option<Arc<access_log::Statistics>>,
    /// Beats and lives of the servers.
    pub vitals: Arc<Vitals>,
    /// The other appliances, if several may share the database.
    pub neighbors: Option<Arc<Neighbors>>,
    code: Mutex<Arc<CodeVersion>>,
    site: Mutex<Arc<Site>>,
    /// One deploy at a time: each counts on from the version before it.
    deploying: AtomicBool,
}

/// What [`Cluster::new`] takes beside the profile.
pub struct Parts {
    pub engine: Chosen,
    pub http: Address,
    pub admin: Address,
    pub placement: Placement,
    pub layout: Arc<Layout>,
    pub workers: Vec<ControlSender>,
    pub database: database::server::Client,
    /// Where it is, without a password.
    pub database_place: String,
    pub database_statistics: Arc<database::server::Statistics>,
    pub storage: unit::Orders,
    pub access_log: Option<Arc<access_log::Statistics>>,
    pub code: Arc<CodeVersion>,
    pub site: Arc<Site>,
    pub vitals: Arc<Vitals>,
    pub neighbors: Option<Arc<Neighbors>>,
}

impl Cluster {
    pub fn new(profile: Profile, parts: Parts) -> Self {
        let Parts {
            engine,
            http,
            admin,
            placement,
            layout,
            workers,
            database,
            database_place,
            database_statistics,
            storage,
            access_log,
            code,
            site,
            vitals,
            neighbors,
        } = parts;
        Self {
            profile,
            engine,
            http,
            admin,
            started_unix_ms: clock::unix_ms(),
            placement,
            layout,
            workers,
            database,
            database_place,
            database_statistics,
            storage,
            access_log,
            vitals,
            neighbors,
            code: Mutex::new(code),
            site: Mutex::new(site),
            deploying: AtomicBool::new(false),
        }
    }

    /// The code version deployed last.
    pub fn code(&self) -> Arc<CodeVersion> {
        Arc::clone(&self.code.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The statements published last.
    pub fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives every worker the same order.
    pub fn broadcast(&self, mut control: impl FnMut() -> Control) {
        for worker in &self.workers {
            deliver(worker, control());
        }
    }

    /// Publishes new statements to every front server.
    pub fn publish_site(&self, site: Arc<Site>) {
        *self.site.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&site);
        self.broadcast(|| Control::Site(Arc::clone(&site)));
    }

    /// The worker that carries a replica.
    pub fn replica_worker(&self, replica: ServerId) -> Option<&ControlSender> {
        self.layout.replica_workers.get(usize::from(replica)).map(|&worker| &self.workers[worker])
    }

    /// The worker that carries a front server.
    pub fn front_worker(&self, front: usize) -> Option<&ControlSender> {
        self.layout.front_workers.get(front).map(|&worker| &self.workers[worker])
    }

    /// Asks every worker for its report and waits for those that answer in time, by worker number. For threads that
    /// may block.
    pub fn statuses_blocking(&self) -> Vec<WorkerStatus> {
        let reports = self.ask();
        let until = clock::monotonic_ns() + REPORT_NS;
        let mut statuses = Vec::with_capacity(self.workers.len());
        while statuses.len() < self.workers.len() {
            let left = Duration::from_nanos(until.saturating_sub(clock::monotonic_ns()));
            let Ok(status) = reports.recv_timeout(left) else { break };
            statuses.push(status);
        }
        statuses.sort_by_key(|status| status.worker);
        statuses
    }

    /// The same for the admin thread, whose other connections go on meanwhile.
    pub async fn statuses(&self) -> Vec<WorkerStatus> {
        self.statuses_within(REPORT_NS).await
    }

    /// The same with less patience: of those that do not answer in time another look tells more.
    pub async fn statuses_within(&self, patience_ns: u64) -> Vec<WorkerStatus> {
        let mut statuses = self.collect(&self.ask(), self.workers.len(), patience_ns).await;
        statuses.sort_by_key(|status| status.worker);
        statuses
    }

    /// The rejected requests that every front remembers, by front number.
    pub async fn rejects(&self) -> Vec<FrontRejects> {
        let count = self.layout.front_workers.len();
        let (sender, reports) = channel::bounded(count);
        self.broadcast(|| Control::Rejects(sender.clone()));
        let mut rejects = self.collect(&reports, count, REPORT_NS).await;
        rejects.sort_by_key(|rejects| rejects.front);
        rejects
    }

    fn ask(&self) -> channel::Receiver<WorkerStatus> {
        let (sender, reports) = channel::bounded(self.workers.len());
        self.broadcast(|| Control::Status(sender.clone()));
        reports
    }

    /// `count` answers, or those that come in time. Those that hang get less of it.
    async fn collect<T>(&self, reports: &channel::Receiver<T>, count: usize, patience_ns: u64) -> Vec<T> {
        let begun = clock::monotonic_ns();
        let mut answers = Vec::with_capacity(count);
        loop {
            while let Ok(answer) = reports.try_recv() {
                answers.push(answer);
            }
            let now = clock::monotonic_ns();
            let hung = (0..self.workers.len()).filter(|worker| self.vitals.is_late(*worker, now)).count();
            let some_hang = hung > 0 && answers.len() + hung >= count && now >= begun + HUNG_REPORT_NS;
            if answers.len() >= count || some_hang || now >= begun + patience_ns {
                return answers;
            }
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops a replica or starts it; returns how it stands when it has come to rest, or when that takes too long.
    pub async fn order_replica(&self, replica: ServerId, start: bool) -> Standing {
        let place = usize::from(replica);
        let control = if start { Control::StartReplica(self.code()) } else { Control::StopReplica };
        if let Some(worker) = self.replica_worker(replica) {
            deliver(worker, control);
        }
        let wanted = if start { Life::Running } else { Life::Stopped };
        let until = clock::monotonic_ns() + ORDER_NS;
        loop {
            let standing = self.vitals.lives.read(place);
            if standing.life == wanted || clock::monotonic_ns() >= until {
                return standing;
            }
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Replicas that have to have new code before a deploy returns. One that is stopped or was declared dead takes the
    /// present code before it takes a job.
    fn live(&self) -> impl Iterator<Item = ServerId> {
        let live = (0..self.vitals.lives.replicas()).filter(|replica| self.vitals.lives.read(*replica).life.is_live());
        live.filter_map(|replica| ServerId::try_from(replica).ok())
    }

    /// Waits until no other deploy is under way. Deploys come by the admin thread only, so the flag orders nothing else.
    async fn turn_to_deploy(&self) -> Result<Turn<'_>, String> {
        let until = clock::monotonic_ns() + DEPLOY_NS;
        while self.deploying.swap(true, Ordering::Relaxed) {
            if clock::monotonic_ns() >= until {
                return Err("another deploy is under way and does not end; GET /replication tells who lacks it".into());
            }
            monoio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Turn(&self.deploying))
    }

    /// Deploys new code tables of one application: validated, recorded in the database, handed to one replica, which
    /// replicates them to the others. Returns the new version when every replica executes it.
    ///
    /// # Errors
    /// Every fault of the code, or what the database said; then nothing has changed.
    pub async fn deploy(&self, application: &str, texts: Vec<(String, String)>) -> Result<u64, String> {
        let _turn = self.turn_to_deploy().await?;
        if let Some(wrong) = self.neighbors.as_ref().and_then(|neighbors| neighbors.refused()) {
            return Err(format!(
                "this appliance does not run what another one deployed, and numbers no deploy: {wrong}"
            ));
        }
        let version = self.code().version + 1;
        let code = self.compile(application, &texts, version)?;
        let digest = code.digest;
        self.reshape(&code)?;
        let recorded = self.database.ask(DATABASE_PATIENCE, |reply| database::contract::Request::Deploy {
            token: 0,
            version,
            application: application.into(),
            sources: texts,
            reply,
        });
        if let Err(refused) = recorded.and_then(committed) {
            return Err(match self.withdraw(&code) {
                Ok(()) => refused,
                Err(wrong) => format!("{refused}; restart this appliance before another deploy: {wrong}"),
            });
        }
        self.publish_code(code);
        let until = clock::monotonic_ns() + DEPLOY_NS;
        while clock::monotonic_ns() < until {
            let statuses = self.statuses().await;
            let has_it = |replica: ServerId| {
                let mut reports = statuses.iter().filter_map(|status| status.replica.as_ref());
                reports.any(|report| report.replica == replica && report.code_version >= version)
            };
            if self.live().all(has_it) {
                log::info!(application, version, digest:% = format_args!("{digest:032x}"); "deployed");
                return Ok(version);
            }
            monoio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(format!("version {version} is recorded, but not every replica has it yet; GET /replication tells which"))
    }
}

/// How long the database server may take to answer an order of a deploy.
const DATABASE_PATIENCE: Duration = Duration::from_secs(10);

impl Cluster {
    /// The code with an application's new code tables; nothing has changed yet.
    fn compile(&self, application: &str, texts: &[(String, String)], version: u64) -> Result<Arc<CodeVersion>, String> {
        let code = self.code().deploy(application, texts, version).and_then(|code| {
            let folder = |name: &str| PathBuf::from(name);
            self.site().check_sign_in(&code, folder)?;
            orders::check_backends(&code, |name| self.profile.backends.contains_key(name), folder)?;
            Ok(code)
        });
        code.map(Arc::new).map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    /// Brings the database to the shapes of new code, before its first write.
    fn reshape(&self, code: &CodeVersion) -> Result<(), String> {
        if code.shapes == self.code().shapes {
            return Ok(());
        }
        let shapes = Arc::clone(&code.shapes);
        self.database
            .ask(DATABASE_PATIENCE, |reply| database::contract::Request::Reshape { token: 0, shapes, reply })
            .and_then(committed)
    }

    /// Takes [`Self::reshape`] back: what another appliance deployed first may have other tables.
    fn withdraw(&self, code: &CodeVersion) -> Result<(), String> {
        let shapes = Arc::clone(&self.code().shapes);
        if code.shapes == shapes {
            return Ok(());
        }
        self.database
            .ask(DATABASE_PATIENCE, |reply| database::contract::Request::Withdraw { token: 0, shapes, reply })
            .and_then(committed)
    }

    /// Hands new code to one replica, which replicates it to the others.
    fn publish_code(&self, code: Arc<CodeVersion>) {
        *self.code.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&code);
        self.vitals.publish_code(&code);
        let now = clock::monotonic_ns();
        let well = |replica: &ServerId| {
            let worker = self.vitals.replica_workers.get(usize::from(*replica));
            worker.is_some_and(|worker| !self.vitals.is_late(*worker, now))
        };
        // Where nobody lives, whoever comes to life takes it from the board.
        let first = self.live().find(well).or_else(|| self.live().next());
        if let Some(worker) = first.and_then(|replica| self.replica_worker(replica)) {
            deliver(worker, Control::Deploy(code));
        }
    }

    /// Runs what another appliance deployed: the way of an own deploy, without recording it. For threads that may block.
    ///
    /// # Errors
    /// The code does not fit here (another program version, no such back-end server), or what the database said.
    pub fn adopt(&self, deployed: &Deployed) -> Result<(), String> {
        let until = clock::monotonic_ns() + DEPLOY_NS;
        // ORDERING: Relaxed, as in `turn_to_deploy`: what a deploy changes has locks of its own.
        while self.deploying.swap(true, Ordering::Relaxed) {
            if clock::monotonic_ns() >= until {
                return Err("another deploy is under way and does not end".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _turn = Turn(&self.deploying);
        if deployed.version <= self.code().version {
            return Ok(());
        }
        let code = self.compile(&deployed.application, &deployed.sources, deployed.version)?;
        self.reshape(&code)?;
        self.publish_code(code);
        Ok(())
    }
}

/// Ends a deploy's turn, however it ended.
struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn committed(outcome: database::contract::Outcome) -> Result<(), String> {
    match outcome {
        database::contract::Outcome::Failed(wrong) | database::contract::Outcome::Unknown(wrong) => Err(wrong),
        database::contract::Outcome::Committed { .. }
        | database::contract::Outcome::Conflict { .. }
        | database::contract::Outcome::Row(_)
        | database::contract::Outcome::Number(_) => Ok(()),
    }
}
