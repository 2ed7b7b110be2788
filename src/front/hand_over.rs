//! Idle keep-alive connections on their way to another front server.
//!
//! ```text
//!   idle ──pause──▶ leaving ──quiet──▶ (the socket goes to the other front server)
//!     ▲                │
//!     ╰──stay──────────╯  bytes arrived, the browser left, or it takes too long
//! ```
//! Nothing of the connection is lost: what the browser has sent and no event has shown waits in the socket.

use std::os::fd::OwnedFd;

use crate::engine::{Conn, Engine};

use super::FrontServer;
use super::exchange::State;

/// Slots that one search for idle connections looks at.
const SEARCH_SLOTS_MAX: usize = 1024;

impl FrontServer {
    /// The next connection between two requests that has taken none since `before_ns`, from slot `start` on.
    pub fn idle_connection(&self, start: usize, before_ns: u64) -> Option<Conn> {
        let count = self.slot_count();
        let slots = (0..count.min(SEARCH_SLOTS_MAX)).map(|offset| (start + offset) % count);
        slots.filter_map(|slot| self.downstream_at(slot)).find_map(|down| {
            let quiet = down.exchange.taken_ns <= before_ns;
            (quiet && self.may_leave(down.conn)).then_some(down.conn)
        })
    }

    /// Whether the connection is between two requests, with nothing of the next one here.
    pub fn may_leave(&self, conn: Conn) -> bool {
        self.is_idle(conn) && self.downstream_at(conn.slot as usize).is_some_and(|down| !down.paused && !down.leaving)
    }

    /// Begins to hand a connection over: it is no longer read.
    pub fn begin_leaving<E: Engine>(&mut self, engine: &mut E, conn: Conn) {
        if let Some(mut down) = self.take_downstream(conn) {
            down.leaving = true;
            engine.receive(conn, false);
            self.put_downstream(down);
        }
    }

    /// A connection that was to be handed over stays after all.
    pub fn stay<E: Engine>(&mut self, engine: &mut E, conn: Conn) {
        if let Some(mut down) = self.take_downstream(conn) {
            if std::mem::take(&mut down.leaving) && down.exchange.state != State::Closing {
                engine.receive(conn, true);
            }
            self.put_downstream(down);
        }
    }

    /// Takes a quiet connection out of this front server; `None` if it is not quiet yet, or no longer idle.
    pub fn leave_with<E: Engine>(&mut self, engine: &mut E, conn: Conn) -> Option<OwnedFd> {
        if !(self.is_idle(conn) && self.downstream_at(conn.slot as usize)?.leaving) {
            return None;
        }
        let socket = engine.detach(conn)?;
        if let Some(mut down) = self.take_downstream(conn) {
            self.emptied(&mut down.queue);
            self.admission.left(down.address);
        }
        self.counters.connections_relocated += 1;
        Some(socket)
    }

    /// Whether the connection is here and idle.
    pub fn is_idle(&self, conn: Conn) -> bool {
        self.downstream_at(conn.slot as usize).is_some_and(|down| {
            down.conn == conn && down.exchange.state == State::Idle && down.input.is_empty() && !down.eof
        })
    }
}
