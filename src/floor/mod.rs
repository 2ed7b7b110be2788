//! The two floors that measurements stand on: an [`origin`] that only answers, and a [`forward`]er that only moves
//! bytes. What the appliance costs above them is its own.
//!
//! Architecture invariant: both use the engine and nothing else of the appliance, so that a change of the request path
//! cannot move the floor.

pub mod forward;
pub mod origin;
mod request;

use std::io::{self, Write};

use crate::engine::probe::choose;
use crate::engine::socket::{listen, local_address};
use crate::engine::thread::{pin_to_core, raise_descriptor_limit};
use crate::engine::{Address, Config, Engine, EngineChoice, EngineKind, Waker};

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Sizes that hold the connections of any load test on one core in some 45 MiB.
fn config() -> Config {
    Config {
        connections_max: 16_384,
        receive_buffers: 4096,
        send_buffers: 1,
        send_buffer_bytes: 4096,
        ..Config::default()
    }
}

/// Turns what the user asks for into an engine, and logs it if it is not the best one.
///
/// # Errors
/// No engine works here: what each one says, with the cures.
pub fn engine_for(choice: EngineChoice) -> io::Result<EngineKind> {
    let chosen = choose(choice)?;
    if chosen.fallback {
        log::warn!(engine = chosen.kind.name(), reason:% = chosen.reason; "a better engine does not work here");
    }
    Ok(chosen.kind)
}

/// Pins the thread, makes its engine, listens, and says so on standard output: `ready NAME=ADDRESS engine=NAME`.
fn start<E: Engine>(name: &str, address: &Address, core: Option<usize>, waker: Waker) -> io::Result<E> {
    if let Some(core) = core {
        pin_to_core(core)?;
    }
    raise_descriptor_limit();
    let mut engine = E::new(&config(), waker)?;
    let socket = listen(address, BACKLOG, false)?;
    let bound = local_address(&socket)?;
    engine.listen(socket)?;
    let mut out = io::stdout().lock();
    writeln!(out, "ready {name}={bound} engine={}", E::NAME)?;
    out.flush()?;
    Ok(engine)
}

/// The index of a connection's state in a vector by slot.
fn position(slot: u32) -> usize {
    usize::try_from(slot).expect("invariant: pointers have at least 32 bits")
}
