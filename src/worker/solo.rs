//! `twintier proxy`: one front server on one worker, without replicas, that relays everything.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::authority::session::SessionKey;
use crate::clock;
use crate::dispatch::policy::PolicyName;
use crate::dispatch::requests::{self, RequestDispatcher};
use crate::engine::{
    self, Address, Engine, EngineChoice, EngineKind, Glommio, MonoioEpoll, MonoioUring, Uring, Waker, socket,
};
use crate::floor::engine_for;
use crate::front::authorize::Sessions;
use crate::front::{FrontServer, Settings};
use crate::profile::Profile;
use crate::storage::site::Site;

use super::access_log;
use super::complaints::Complaints;

/// The profile of a proxy: the defaults, but all connections may come from one address, as those of a load generator do.
const PROFILE: &str = "[cluster]\nname = \"proxy\"\n[storage]\nstatements = \"-\"\n\
    [limits]\nconnections_per_address_max = 65536\n";

/// What `twintier proxy` was told.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Where to listen; port 0 lets the kernel choose.
    pub listen: Address,
    /// Upstream servers.
    pub to: Vec<Address>,
    /// The core to run on; the scheduler's choice without it.
    pub core: Option<usize>,
    /// Where lines about requests go; nowhere without it.
    pub access_log: Option<PathBuf>,
    /// The engine to run on.
    pub engine: EngineChoice,
    /// Safe requests that may share an upstream connection.
    pub pipeline_max: usize,
    /// Options of the statement, such as `check=tcp`.
    pub upstream_options: Vec<String>,
    /// Connections at a time, half of them downstream.
    pub connections_max: u32,
    /// Set to end [`run`]; wake `waker` afterwards.
    pub stop: Arc<AtomicBool>,
    /// The engine's doorbell.
    pub waker: Waker,
}

/// Relays until `stop` is set; prints `ready proxy=ADDR engine=NAME` when it accepts.
///
/// # Errors
/// The address is taken, the core is not there, or the engine is not to be had: one sentence with the cure.
pub fn run(options: ProxyOptions) -> io::Result<()> {
    let kind = engine_for(options.engine)?;
    match kind {
        EngineKind::Uring => run_on::<Uring>(options),
        EngineKind::Monoio => run_on::<MonoioUring>(options),
        EngineKind::MonoioEpoll => run_on::<MonoioEpoll>(options),
        EngineKind::Glommio => run_on::<Glommio>(options),
    }
}

fn run_on<E: Engine>(options: ProxyOptions) -> io::Result<()> {
    let ProxyOptions {
        listen,
        to,
        core,
        access_log,
        engine: _,
        pipeline_max,
        connections_max,
        upstream_options,
        stop,
        waker,
    } = options;
    if let Some(core) = core {
        engine::thread::pin_to_core(core)?;
    }
    engine::thread::raise_descriptor_limit();
    let mut profile: Profile = toml::from_str(PROFILE).map_err(io::Error::other)?;
    profile.limits.upstream_pipeline_max = pipeline_max;
    let mut words = upstream_options;
    words.extend(to.iter().map(ToString::to_string));
    let statements = format!("proxy /* upstream {}\n", words.join(" "));
    profile.engine.connections_max = connections_max;
    let site = Site::compile(Path::new("--to"), &statements, &[], 0, 1)
        .map_err(|faults| io::Error::other(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let mut engine = E::new(&profile.engine.config(), waker)?;
    let socket = socket::listen(&listen, 4096, true)?;
    let bound = socket::local_address(&socket)?;
    engine.listen(socket)?;
    let slots = profile.engine.connections_max;
    let dispatcher = RequestDispatcher::new(&requests::Settings {
        replicas: 0,
        policy: PolicyName::Jbsq,
        credit: 1,
        outstanding_max: 1,
        queue_max: 0,
        seed: 0,
    });
    let mut front = FrontServer::new(
        Settings::of(&profile),
        0,
        None,
        dispatcher,
        Sessions::new(SessionKey::new([0; 32]), 0),
        Arc::new(site),
        slots,
    );
    let access_log = match access_log {
        Some(path) => {
            let (handle, logs) = access_log::spawn(&path, 1).map_err(io::Error::other)?;
            logs.into_iter().for_each(|log| front.log_to(log));
            Some(handle)
        }
        None => None,
    };
    println!("ready proxy={bound} engine={}", E::NAME);
    let mut events = Vec::new();
    let mut next_tick_ns = 0;
    let mut complaints = Complaints::default();
    while !stop.load(Ordering::Acquire) {
        engine.turn(next_tick_ns, &mut events)?;
        front.set_unix_ms(clock::unix_ms());
        for event in events.drain(..) {
            front.on_event(&mut engine, event);
        }
        settle_notes(&mut front);
        if engine.now_ns() >= next_tick_ns {
            front.tick(&mut engine);
            let log_dropped = front.notes().log().map_or(0, |log| log.dropped);
            complaints.look(engine.now_ns(), 0, &engine.statistics(), log_dropped);
            next_tick_ns = engine.now_ns() + crate::front::server::TICK_NS;
        }
    }
    engine.stop_listening();
    front.drain(&mut engine, true);
    let until_ns = engine.now_ns() + profile.timeouts.drain_ms * 1_000_000;
    while front.open_connections() > 0 && engine.now_ns() < until_ns {
        engine.turn(until_ns, &mut events)?;
        for event in events.drain(..) {
            front.on_event(&mut engine, event);
        }
        settle_notes(&mut front);
    }
    if let Some(access_log) = access_log {
        access_log.stop();
    }
    Ok(())
}

/// What was taken and answered within the turn has taken until now.
fn settle_notes(front: &mut FrontServer) {
    if front.has_ended() {
        front.settle_notes(clock::monotonic_ns());
    }
}
