//! What a connection's send queue may hold: pieces are passed on in the very buffers that the kernel filled, as long as
//! enough of those are left for reading.
//!
//! Architecture invariant: peers that do not read never hold so many receive buffers that others cannot be read.

use std::sync::Arc;

use crate::engine::{Chunk, Conn, Engine};
use crate::limits;

use super::FrontServer;
use super::connection::{Downstream, Piece};
use super::upstream::UpstreamConnection;

/// What was put into a connection's send queue since the queue was last empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// All of it, whatever it lies in.
    pieces: u32,
    /// Receive buffers among them. Parts of one buffer count each, so this errs on the safe side.
    leases: u32,
}

impl FrontServer {
    /// Passes a piece on to the browser.
    pub(super) fn pass_down<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, piece: Piece) {
        if let Some(chunk) = self.chunk(&mut down.queue, piece) {
            let bytes = chunk.as_slice().len();
            engine.send(down.conn, chunk);
            self.given(engine, down, bytes);
        }
    }

    /// Passes a piece on to an upstream server.
    pub(super) fn pass_up<E: Engine>(&mut self, engine: &mut E, up: &mut UpstreamConnection, piece: Piece) {
        if let Some(chunk) = self.chunk(&mut up.queue, piece) {
            engine.send(up.conn, chunk);
        }
    }

    /// So much was put into the browser's queue: how fast it is taken is measured from now on.
    pub(super) fn given<E: Engine>(&mut self, engine: &E, down: &mut Downstream, bytes: usize) {
        let taken = down.given_bytes.saturating_sub(to_u64(engine.queued_bytes(down.conn).saturating_sub(bytes)));
        down.given_bytes = down.given_bytes.saturating_add(to_u64(bytes));
        down.pace.begin(engine.now_ns(), taken, self.settings.send.base_ns);
    }

    /// Whether the browser takes what is queued for it slower than it must; asked when its window is over.
    pub(super) fn is_too_slow<E: Engine>(&self, engine: &E, down: &mut Downstream, now_ns: u64) -> bool {
        let queued = to_u64(engine.queued_bytes(down.conn));
        down.pace.is_too_slow(now_ns, down.given_bytes.saturating_sub(queued), queued, self.settings.send)
    }

    /// Whether a connection's queue is so long that its source must wait.
    pub(super) fn is_full<E: Engine>(&self, engine: &E, conn: Conn, queue: Queue) -> bool {
        queue.pieces >= limits::QUEUED_PIECES_MAX || engine.queued_bytes(conn) > self.settings.buffer_bytes_max
    }

    /// A queue is empty, or gone with its connection.
    pub(super) fn emptied(&mut self, queue: &mut Queue) {
        self.leases_out = self.leases_out.saturating_sub(queue.leases);
        *queue = Queue::default();
    }

    fn chunk(&mut self, queue: &mut Queue, piece: Piece) -> Option<Chunk> {
        let bytes: Arc<[u8]> = match piece {
            Piece::Empty => return None,
            Piece::Lease(lease) if lease.is_empty() => return None,
            Piece::Lease(lease) if self.leases_out < self.settings.leases_out_max => {
                queue.pieces = queue.pieces.saturating_add(1);
                queue.leases = queue.leases.saturating_add(1);
                self.leases_out += 1;
                return Some(Chunk::Lease(lease));
            }
            Piece::Lease(lease) => lease[..].into(),
            Piece::Heap(bytes) if bytes.is_empty() => return None,
            Piece::Heap(bytes) => bytes.into(),
        };
        queue.pieces = queue.pieces.saturating_add(1);
        let end = bytes.len();
        Some(Chunk::Shared(bytes, 0..end))
    }
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
