//! `twintier forward`: moves bytes between two connections and looks at none of them.
//!
//! ```text
//!   downstream ──Data──▶ the same buffer ──send──▶ upstream       and the other way round;
//!              ◀─pause── when the other queue is full             FIN follows FIN, a reset follows a reset
//! ```
//! A proxied hop cannot cost less on this engine: two receives and two sends, no copy in user space.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{engine_for, position, start};
use crate::engine::{
    Address, Chunk, Close, CloseReason, Conn, Engine, EngineChoice, EngineKind, Event, Glommio, MonoioEpoll,
    MonoioUring, Uring, Waker,
};

/// What `twintier forward` was told.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// Where to listen; port 0 lets the kernel choose.
    pub listen: Address,
    /// Where each connection is forwarded to, by a connection of its own.
    pub to: Address,
    /// The core to run on; the scheduler's choice without it.
    pub core: Option<usize>,
    /// The engine to run on.
    pub engine: EngineChoice,
    /// Set to end [`run`]; wake `waker` afterwards.
    pub stop: Arc<AtomicBool>,
    /// The engine's doorbell.
    pub waker: Waker,
}

/// Prints `ready forward=ADDRESS engine=NAME` and forwards on the calling thread until `stop` is set.
///
/// # Errors
/// The core, the address or io_uring is not to be had: one sentence with the cure.
pub fn run(options: ForwardOptions) -> io::Result<()> {
    let kind = engine_for(options.engine)?;
    match kind {
        EngineKind::Uring => run_on::<Uring>(options),
        EngineKind::Monoio => run_on::<MonoioUring>(options),
        EngineKind::MonoioEpoll => run_on::<MonoioEpoll>(options),
        EngineKind::Glommio => run_on::<Glommio>(options),
    }
}

fn run_on<E: Engine>(options: ForwardOptions) -> io::Result<()> {
    let mut engine: E = start("forward", &options.listen, options.core, options.waker)?;
    let mut forwarder =
        Forwarder { to: options.to, sides: vec![Side::default(); position(super::config().connections_max)] };
    let mut events = Vec::with_capacity(super::config().events_max);
    while !options.stop.load(Ordering::Acquire) {
        engine.turn(u64::MAX, &mut events)?;
        for event in events.drain(..) {
            forwarder.handle(&mut engine, event);
        }
    }
    Ok(())
}

/// Queued bytes beyond which the sender is held back.
const QUEUED_BYTES_MAX: usize = 128 * 1024;

/// Queued buffers beyond which the sender is held back: a buffer with one byte is as dear as a full one.
const QUEUED_BUFFERS_MAX: u32 = 32;

/// One end of a pair.
#[derive(Clone, Copy, Default)]
struct Side {
    other: Option<Conn>,
    /// Buffers queued to this side since its queue was empty.
    queued_buffers: u32,
    /// This side sends no more.
    ended: bool,
    /// This side is held back.
    paused: bool,
}

struct Forwarder {
    to: Address,
    /// By slot.
    sides: Vec<Side>,
}

impl Forwarder {
    fn handle(&mut self, engine: &mut impl Engine, event: Event) {
        match event {
            Event::Accepted { conn, .. } => self.pair(engine, conn),
            // A failure comes again as `Closed`, where it is passed on.
            Event::Connected { conn, result } => engine.receive(conn, result.is_ok()),
            Event::Data { conn, bytes } => {
                let Some(other) = self.side(conn).other else { return };
                engine.send(other, Chunk::Lease(bytes));
                self.side(other).queued_buffers += 1;
                if engine.queued_bytes(other) > QUEUED_BYTES_MAX || self.side(other).queued_buffers > QUEUED_BUFFERS_MAX
                {
                    self.side(conn).paused = true;
                    engine.receive(conn, false);
                }
            }
            Event::Sent { conn } => {
                self.side(conn).queued_buffers = 0;
                if let Some(other) = self.side(conn).other
                    && std::mem::take(&mut self.side(other).paused)
                {
                    engine.receive(other, true);
                }
            }
            Event::Eof { conn } => {
                self.side(conn).ended = true;
                let Some(other) = self.side(conn).other else { return };
                engine.shutdown_send(other);
                if self.side(other).ended {
                    engine.close(conn, Close::Flush);
                    engine.close(other, Close::Flush);
                }
            }
            Event::Closed { conn, reason } => {
                let side = std::mem::take(self.side(conn));
                if let Some(other) = side.other {
                    self.side(other).other = None;
                    match reason {
                        CloseReason::Failed(_) => engine.close(other, Close::Reset),
                        CloseReason::Ordered => engine.close(other, Close::Flush),
                    }
                }
            }
            Event::Timer { .. } | Event::Woken => {}
        }
    }

    /// Opens the upstream connection; what the downstream peer sends meanwhile is queued.
    fn pair(&mut self, engine: &mut impl Engine, downstream: Conn) {
        match engine.connect(&self.to) {
            Ok(upstream) => {
                *self.side(downstream) = Side { other: Some(upstream), ..Side::default() };
                *self.side(upstream) = Side { other: Some(downstream), ..Side::default() };
                engine.receive(downstream, true);
            }
            Err(_) => engine.close(downstream, Close::Reset),
        }
    }

    fn side(&mut self, conn: Conn) -> &mut Side {
        &mut self.sides[position(conn.slot)]
    }
}
