//! One seed: a world, a front, its neighbours, and what must hold after every step and at the end.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use twintier::authority::session::SessionKey;
use twintier::dispatch::policy::PolicyName;
use twintier::dispatch::requests::{self, RequestDispatcher};
use twintier::engine::sim::{Faults, Random, Sim, World};
use twintier::engine::{Address, Config, Conn, Engine, Event, Waker};
use twintier::front::authorize::Sessions;
use twintier::front::server::TICK_NS;
use twintier::front::{FrontServer, Settings};
use twintier::profile::Profile;
use twintier::storage::site::Site;

use super::browser::Browser;
use super::message::pattern;
use super::replicas::{self, REPLICAS, Replicas};
use super::upstream::Upstream;

/// What `/u/*` and `/one/*` lead to: without options, with caps and checks, and with other servers and a short queue.
const UPSTREAMS: [&str; 3] = [
    "proxy /u/* upstream 10.0.0.1:80 10.0.0.2:80 unix:/sim/three\nproxy /one/* upstream 10.0.0.4:80\n",
    "proxy /u/* upstream max=2 10.0.0.1:80 weight=3 10.0.0.2:80 unix:/sim/three queue=100 wait=5s affinity=srv check=tcp \
     interval=400ms timeout=300ms rise=1 fall=2 eject=2\nproxy /one/* upstream 10.0.0.4:80 max=1 queue=100 wait=5s\n",
    "proxy /u/* upstream 10.0.0.1:80 max=1 10.0.0.2:80 drain 10.0.0.4:80 queue=3 wait=200ms observe=answers retries=4\n\
     proxy /one/* upstream 10.0.0.4:80 max=2\n",
];
/// The first so many of them are for seeds without faults.
const UPSTREAMS_FAIR: usize = 2;
const STATEMENTS: &str = "pass /s/* files files
redirect /r /elsewhere 302
fail /f/* 410
proxy /app/* cluster app
";
const PROFILE: &str = "[cluster]\nname = \"sim\"\n[storage]\nstatements = \"-\"\n[timeouts]\nhead_ms = 2000
body_ms = 3000\nidle_ms = 4000\nqueue_ms = 500\njob_ms = 1500\nupstream_connect_ms = 1000
upstream_first_byte_ms = 2000\nupstream_idle_ms = 3000\n";
pub const SECOND: u64 = 1_000_000_000;

/// What `/s/a.txt` holds.
pub fn file() -> Vec<u8> {
    pattern(0xF11E, 3000)
}

fn site(number: usize) -> Arc<Site> {
    static SITES: OnceLock<Vec<Arc<Site>>> = OnceLock::new();
    let sites = SITES.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("sim-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("files")).unwrap();
        std::fs::write(folder.join("files/a.txt"), file()).unwrap();
        let compile = |upstreams: &&str| {
            let text = format!("{upstreams}{STATEMENTS}");
            let site = Site::compile(&folder.join("site.statements"), &text, &["app"], 1 << 20, 1);
            Arc::new(site.unwrap_or_else(|faults| panic!("{faults:?}")))
        };
        let sites = UPSTREAMS.iter().map(compile).collect();
        std::fs::remove_dir_all(&folder).unwrap();
        sites
    });
    Arc::clone(&sites[number])
}

struct Stage {
    world: World,
    random: Random,
    engine: Sim,
    front: FrontServer,
    fair: bool,
    events: Vec<Event>,
    next_tick_ns: u64,
    replicas: Replicas,
    browsers: Vec<Browser>,
    upstreams: Vec<Upstream>,
    /// What each upstream server had under way after the last step.
    outstanding: Vec<u32>,
    begun_ns: u64,
    moves: Moves,
}

fn faults(random: &mut Random, fair: bool) -> Faults {
    let mut faults = Faults {
        latency_ns_max: [50_000, 1_000_000, 20_000_000][random.size(3)],
        late: random.below(600),
        cut: random.below(1000),
        exhaust: random.below(200),
        window: [1_000, 8_000, 64_000][random.size(3)],
        ..Faults::default()
    };
    if !fair && random.chance(700) {
        faults.refuse = [0, 20, 300][random.size(3)];
        faults.slow_connect = [0, 20, 200][random.size(3)];
        faults.reset = [0, 1, 10][random.size(3)];
    }
    faults
}

impl Stage {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let fair = seed.is_multiple_of(3);
        let world_seed = random.next();
        // Three of four seeds hand a slot out again as soon as the engine on io_uring would.
        let faults = Faults { slots_rest: seed % 4 == 1, ..faults(&mut random, fair) };
        let world = World::new(world_seed, faults);
        world.enter();
        let config = Config {
            connections_max: if fair { 128 } else { [16, 40, 128][random.size(3)] },
            receive_buffers: if fair { 256 } else { [16, 64, 256][random.size(3)] },
            receive_buffer_bytes: [512, 4096, 8192][random.size(3)],
            send_buffers: [4, 16, 64][random.size(3)],
            send_buffer_bytes: [256, 4096, 16384][random.size(3)],
            linger_ms: 200,
            events_max: [2, 16, 1024][random.size(3)],
            ..Config::default()
        };
        let mut engine = Sim::new(&config, Waker::new().unwrap()).unwrap();
        let address: Address = "10.1.1.1:80".parse().unwrap();
        engine.listen_at(&address);
        let mut profile: Profile = toml::from_str(PROFILE).unwrap();
        profile.limits.connection_buffer_bytes_max = [2_000, 16_000, 256_000][random.size(3)];
        if fair {
            // A slow network is no fault: what still times out has been forgotten.
            profile.timeouts.idle_ms = 60_000;
            profile.timeouts.head_ms = 60_000;
            profile.timeouts.body_ms = 60_000;
        }
        profile.limits.body_bytes_max = 100_000;
        let pipelined = seed % 4 >= 2;
        profile.limits.upstream_pipeline_max =
            if pipelined { [2, 4, 16][usize::from(seed.to_le_bytes()[0]) % 3] } else { 0 };
        profile.engine.connections_max = config.connections_max;
        if !fair && random.chance(200) {
            profile.limits.connection_requests_max = 3;
        }
        let dispatcher = RequestDispatcher::new(&requests::Settings {
            replicas: REPLICAS,
            policy: PolicyName::Jbsq,
            credit: if fair { 8 } else { 2 },
            outstanding_max: 16,
            queue_max: if fair { 100 } else { 3 },
            seed: 1,
        });
        let sessions = Sessions::new(SessionKey::new([0; 32]), 0);
        let mut front =
            FrontServer::new(Settings::of(&profile), 0, None, dispatcher, sessions, site(0), config.connections_max);
        for replica in 0..REPLICAS {
            front.dispatcher_mut().set_available(u8::try_from(replica).unwrap(), true);
        }
        let upstreams = ["10.0.0.1:80", "10.0.0.2:80", "unix:/sim/three", "10.0.0.4:80"]
            .iter()
            .enumerate()
            .filter(|&(index, _)| fair || index != 1 || seed.is_multiple_of(2))
            .map(|(_, text)| {
                let mut upstream = Upstream::new(&world, text.parse().unwrap(), fair, pipelined);
                // Half of the unfair seeds have servers that die, hang and come back.
                upstream.moody = !fair && seed % 8 >= 4;
                upstream
            })
            .collect();
        let count_max = if random.chance(200) { 40 } else { 12 };
        let count = 1 + random.size(count_max);
        let browsers = (0..count).map(|number| Browser::new(number, &world, &address, &mut random, fair)).collect();
        Self {
            begun_ns: world.now_ns(),
            outstanding: Vec::new(),
            world,
            random,
            engine,
            front,
            fair,
            events: Vec::new(),
            next_tick_ns: 0,
            replicas: Replicas::default(),
            browsers,
            upstreams,
            moves: Moves { connections_max: config.connections_max as usize, ..Moves::default() },
        }
    }

    fn turn(&mut self, alarm_ns: u64) -> Result<(), String> {
        self.world.set_alarm(alarm_ns);
        self.engine.turn(self.next_tick_ns, &mut self.events).map_err(|error| error.to_string())?;
        self.front.set_unix_ms(1_700_000_000_000 + self.engine.now_ns() / 1_000_000);
        self.moves.arrive(&mut self.engine, &mut self.front);
        for event in std::mem::take(&mut self.events) {
            self.moves.before(&mut self.engine, &mut self.front, &event);
            self.front.on_event(&mut self.engine, event);
        }
        let now = self.engine.now_ns();
        self.replicas.step(&mut self.engine, &mut self.front, &mut self.random, self.fair, now);
        self.moves.step(&mut self.engine, &mut self.front, &mut self.random);
        if self.engine.now_ns() >= self.next_tick_ns {
            self.front.tick(&mut self.engine);
            self.next_tick_ns = self.engine.now_ns() + TICK_NS;
        }
        self.front.pump(&mut self.engine);
        self.check()
    }

    /// What holds after every step.
    fn check(&mut self) -> Result<(), String> {
        let counters = self.front.counters();
        let ended = counters.requests_answered + counters.requests_refused + counters.requests_aborted;
        if ended > counters.requests_taken {
            return Err(format!("more requests ended than were taken: {counters:?}"));
        }
        let in_progress = counters.requests_taken - ended;
        if in_progress > u64::from(self.front.open_connections()) {
            return Err(format!(
                "{in_progress} requests in progress on {} connections: {counters:?}",
                self.front.open_connections()
            ));
        }
        let outstanding: u64 =
            self.front.upstreams().servers().iter().map(|server| u64::from(server.outstanding())).sum();
        let abandoned = self.front.abandoned_rides() as u64;
        if outstanding > in_progress + abandoned {
            return Err(format!(
                "{outstanding} outstanding upstream, {in_progress} in progress, {abandoned} abandoned"
            ));
        }
        let servers = self.front.upstreams().servers();
        self.outstanding.resize(servers.len(), 0);
        for (server, before) in servers.iter().zip(&mut self.outstanding) {
            // A cap that was lowered lets what is under way end.
            let now = server.outstanding();
            if now > server.outstanding_max() && now > *before {
                return Err(format!("{now} requests at {}, of {}", server.address, server.outstanding_max()));
            }
            *before = now;
        }
        replicas::check(&self.front)
    }

    fn play(&mut self) -> Result<(), String> {
        let end_ns = self.world.now_ns() + 300 * SECOND;
        let mut draining = false;
        loop {
            let now = self.world.now_ns();
            let mut next = now + 50_000_000;
            for browser in &mut self.browsers {
                next = next.min(browser.step(&self.world, &mut self.random)?);
            }
            for upstream in &mut self.upstreams {
                next = next.min(upstream.step(&self.world, &mut self.random)?);
            }
            next = next.min(self.replicas.next_ns());
            if self.random.chance(4) {
                let count = if self.fair { UPSTREAMS_FAIR } else { UPSTREAMS.len() };
                let number = self.random.size(count);
                self.front.publish(site(number));
            }
            self.turn(next.max(now + 50_000))?;
            if !draining && !self.browsers.iter().any(Browser::waits) {
                draining = true;
                self.engine.stop_listening();
                self.front.drain(&mut self.engine, true);
            }
            if draining
                && self.moves.arriving.is_empty()
                && self.engine.connections() == 0
                && self.front.open_connections() == 0
            {
                return Ok(());
            }
            if now > end_ns {
                return Err(format!(
                    "does not come to an end: {} connections, {} of browsers, {:?}",
                    self.engine.connections(),
                    self.front.open_connections(),
                    self.front.counters()
                ));
            }
        }
    }

    fn finish(self, config: (usize, usize)) -> Result<(), String> {
        let counters = *self.front.counters();
        let ended = counters.requests_answered + counters.requests_refused + counters.requests_aborted;
        if counters.requests_taken != ended {
            return Err(format!("requests got lost: {counters:?}"));
        }
        for server in self.front.upstreams().servers() {
            if server.outstanding() != 0 || server.idle_count() != 0 {
                return Err(format!("after the end: {server:?}"));
            }
        }
        let mut begun = 0;
        for group in self.front.upstreams().groups() {
            let group = group.borrow();
            if group.queue.waiting() != 0 {
                return Err(format!("somebody waits after the end: {group:?}"));
            }
            begun += group.budget.begun();
        }
        // A request may stand in two windows of ten seconds; each window has three retries in any case, of each group.
        let windows = (self.world.now_ns() - self.begun_ns) / (10 * SECOND) + 1;
        if begun > counters.to_upstreams * 2 / 5 + 12 * windows {
            return Err(format!("{begun} retries in {windows} windows: {counters:?}"));
        }
        let Self { engine, front, events, replicas, .. } = self;
        drop((front, events, replicas));
        if engine.buffers_available() != config {
            return Err(format!("buffers are missing: {:?} of {config:?}", engine.buffers_available()));
        }
        Ok(())
    }
}

/// Idle connections on their way to another front server, which here is the same one again.
#[derive(Default)]
struct Moves {
    connections_max: usize,
    leaving: Vec<(Conn, u64)>,
    arriving: Vec<OwnedFd>,
}

impl Moves {
    /// Those that left in the last turn are taken in again.
    fn arrive(&mut self, engine: &mut Sim, front: &mut FrontServer) {
        for socket in self.arriving.drain(..) {
            // Where another connection has taken the last slot meanwhile, it ends, as it does in a worker.
            if let Ok(conn) = engine.adopt(socket) {
                front.begin_connection(engine, conn, true);
            }
        }
    }

    /// What arrives on a connection that leaves takes it back.
    fn before(&mut self, engine: &mut Sim, front: &mut FrontServer, event: &Event) {
        if let Event::Data { conn, .. } | Event::Eof { conn } = event
            && let Some(at) = self.leaving.iter().position(|(leaver, _)| leaver == conn)
        {
            self.leaving.swap_remove(at);
            front.stay(engine, *conn);
        }
    }

    fn step(&mut self, engine: &mut Sim, front: &mut FrontServer, random: &mut Random) {
        let now = engine.now_ns();
        let room = engine.connections() * 2 < self.connections_max;
        if room
            && random.chance(150)
            && let Some(conn) = front.idle_connection(random.size(self.connections_max), now)
        {
            front.begin_leaving(engine, conn);
            self.leaving.push((conn, now + random.below(20_000_000)));
        }
        let arriving = &mut self.arriving;
        self.leaving.retain(|&(conn, until_ns)| {
            if let Some(socket) = front.leave_with(engine, conn) {
                arriving.push(socket);
                return false;
            }
            let waits = now < until_ns && front.is_idle(conn);
            if !waits {
                front.stay(engine, conn);
            }
            waits
        });
    }
}

/// Plays a seed; how many jobs were moved away from hung replicas.
pub fn simulate(seed: u64) -> Result<u64, String> {
    let mut stage = Stage::new(seed);
    let buffers = stage.engine.buffers_available();
    stage.play().map_err(|wrong| {
        let (engine, front) = (&stage.engine, &stage.front);
        format!(
            "{wrong}\n  buffers {:?} of {buffers:?}; {:?}\n  {:?}",
            engine.buffers_available(),
            engine.statistics(),
            front.counters()
        )
    })?;
    let moved = stage.replicas.moved;
    stage.finish(buffers).map(|()| moved)
}
