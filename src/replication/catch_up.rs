//! How a replica joins: it listens for its peers' positions, copies everything from one of them in bounded chunks,
//! and gets the updates that it missed meanwhile. Only then it takes traffic.
//!
//! The copy is right although rows change while it runs: every chunk is read later than the first, and a row only
//! moves forward, so when the last chunk is in, the tables hold whatever the donor held when it sent the first one.
//! Updates after that come from their origins' logs.

use super::replicator::Replicator;
use super::report::Event;
use super::{Message, Positions};
use crate::tables::{DataTables, ServerId, TableId, Update};

/// Rows in one chunk.
pub const CHUNK_ROWS_MAX: usize = 512;

/// Where a copy goes on: a table, a bucket of it, and the key in it after which to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub table: TableId,
    pub bucket: u8,
    pub after: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    pub ask: u32,
    pub cursor: Cursor,
}

/// A part of all rows, stubs and losers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    pub ask: u32,
    /// What the donor's tables held when it read the chunk.
    pub positions: Positions,
    pub rows: Vec<Update>,
    pub losers: Vec<Update>,
    /// For each table, the greatest sequence of a purged stub.
    pub purged: Vec<u32>,
    /// Where to go on; `None` after the last chunk.
    pub next: Option<Cursor>,
}

impl SnapshotChunk {
    /// Reads at most [`CHUNK_ROWS_MAX`] rows from the cursor on.
    pub fn read(tables: &DataTables, positions: Positions, request: &SnapshotRequest) -> Self {
        let purged = (0..tables.table_count()).map(|table| tables.purged_sequence(TableId(table))).collect();
        let (rows, losers) = (Vec::new(), Vec::new());
        let mut chunk = Self { ask: request.ask, positions, rows, losers, purged, next: None };
        let start = &request.cursor;
        for table in (start.table.0..tables.table_count()).map(TableId) {
            let first = if table == start.table { start.bucket } else { 0 };
            for bucket in first..=u8::MAX {
                let continues = table == start.table && bucket == start.bucket;
                let after = start.after.as_deref().filter(|_| continues);
                for row in tables.rows_in_bucket(table, bucket, after) {
                    if chunk.rows.len() == CHUNK_ROWS_MAX {
                        let last = chunk.rows.last().filter(|last| last.table == table);
                        let in_bucket = last.filter(|last| crate::tables::digest::bucket_of(&last.key) == bucket);
                        let after = in_bucket.map(|last| last.key.clone());
                        chunk.next = Some(Cursor { table, bucket, after });
                        return chunk;
                    }
                    chunk.losers.extend(tables.losers(table, &row.key).cloned());
                    chunk.rows.push(row.to_update(table));
                }
            }
        }
        chunk
    }
}

/// How far a joining replica is.
#[derive(Debug)]
pub(super) enum Joining {
    /// Takes part.
    Ready,
    /// Waits for the positions of every live peer, to find the one that knows most.
    Listening,
    /// Copies from a donor.
    Copying(Copy),
    /// Waits for updates that were made during the copy.
    CatchingUp { donor: ServerId, target: Positions, asked_ns: u64 },
}

#[derive(Debug)]
pub(super) struct Copy {
    donor: ServerId,
    cursor: Cursor,
    ask: u32,
    asked_ns: u64,
    /// The donor's positions at the first chunk.
    start: Option<Positions>,
}

impl Replicator {
    /// Whether a comparison with a peer makes sense: not before there is a copy.
    pub(super) fn may_sweep(&self) -> bool {
        match self.joining {
            Joining::Ready | Joining::CatchingUp { .. } => true,
            Joining::Listening | Joining::Copying(_) => false,
        }
    }

    pub(super) fn tick_joining(&mut self) {
        if !self.is_ready() && self.now_ns >= self.told_ns.saturating_add(self.settings.retry_ns) {
            // Others that join wait for this replica's positions; a message may have been lost.
            self.told_ns = self.now_ns;
            self.ack_everyone();
        }
        match &self.joining {
            Joining::Ready => {}
            Joining::Listening => self.begin_copy(),
            Joining::Copying(copy) => {
                let (donor, cursor) = (copy.donor, copy.cursor.clone());
                if !self.peers[usize::from(donor)].live {
                    self.joining = Joining::Listening;
                    self.begin_copy();
                } else if self.now_ns >= copy.asked_ns.saturating_add(self.settings.retry_ns) {
                    self.ask_chunk(cursor);
                }
            }
            Joining::CatchingUp { donor, target, asked_ns } => {
                let (donor, target, asked_ns) = (*donor, *target, *asked_ns);
                if !self.peers[usize::from(donor)].live {
                    // What only the donor could tell is told by another one.
                    self.joining = Joining::Listening;
                    self.begin_copy();
                } else if self.positions().covers(&target) {
                    self.become_ready();
                } else if self.now_ns >= asked_ns.saturating_add(self.settings.retry_ns) {
                    self.ask_missing(donor, target);
                }
            }
        }
    }

    pub(super) fn receive_snapshot_request(&mut self, from: ServerId, request: &SnapshotRequest, tables: &DataTables) {
        if self.is_ready() {
            let chunk = SnapshotChunk::read(tables, self.positions(), request);
            self.send(from, Message::SnapshotChunk(Box::new(chunk)));
        }
    }

    pub(super) fn receive_snapshot_chunk(&mut self, from: ServerId, chunk: SnapshotChunk, tables: &mut DataTables) {
        let Joining::Copying(copy) = &mut self.joining else { return };
        if copy.donor != from || copy.ask != chunk.ask {
            return;
        }
        let start = *copy.start.get_or_insert(chunk.positions);
        self.apply_swept(&chunk.rows, &chunk.losers, tables);
        for (table, purged) in (0..u16::MAX).map(TableId).zip(&chunk.purged) {
            tables.raise_purged_sequence(table, *purged);
        }
        self.counters.snapshot_rows += super::log::count(chunk.rows.len());
        match chunk.next {
            Some(cursor) => self.ask_chunk(cursor),
            None => {
                self.adopt(&start, tables);
                self.ask_missing(from, chunk.positions);
            }
        }
    }

    /// Chooses the donor that knows most of what this replica wrote before it went, when all peers have been heard.
    fn begin_copy(&mut self) {
        let me = self.settings.me;
        let known = |peer: &ServerId| self.peers[usize::from(*peer)].view.get(me);
        let ready = |peer: &ServerId| self.peers[usize::from(*peer)].ready;
        if self.live_peers().any(|peer| !self.peers[usize::from(peer)].heard) {
            return;
        }
        let Some(donor) = self.live_peers().filter(ready).max_by_key(known) else {
            if self.live_peers().next().is_some() {
                // All of them are joining: one will be ready.
                return;
            }
            // Nobody to copy from: the caller has loaded the tables from the database.
            self.become_ready();
            return;
        };
        if self.log.head() == 0 {
            // Numbers of an earlier life must not come again, known to anyone or not. An earlier life numbered from
            // an earlier time, and fewer than one update in a nanosecond.
            self.log.restart_at(known(&donor).max(self.now_ns) + 1);
        }
        let copy = Copy { donor, cursor: Cursor::default(), ask: 0, asked_ns: self.now_ns, start: None };
        self.joining = Joining::Copying(copy);
        self.ask_chunk(Cursor::default());
    }

    pub(super) fn become_ready(&mut self) {
        self.joining = Joining::Ready;
        self.ack_everyone();
        // The peers' positions of this replica are those of its earlier life: a repair brings them forward.
        for peer in self.peers.iter_mut().filter(|peer| peer.live) {
            peer.repair_due = true;
        }
        self.tell(Event::Ready);
    }

    fn ask_chunk(&mut self, cursor: Cursor) {
        self.next_ask = self.next_ask.wrapping_add(1).max(1);
        let Joining::Copying(copy) = &mut self.joining else { return };
        copy.ask = self.next_ask;
        copy.asked_ns = self.now_ns;
        copy.cursor = cursor.clone();
        let (donor, request) = (copy.donor, SnapshotRequest { ask: copy.ask, cursor });
        self.send(donor, Message::SnapshotRequest(Box::new(request)));
    }

    /// Asks for what was written during the copy: a live origin itself, the donor for all others.
    fn ask_missing(&mut self, donor: ServerId, target: Positions) {
        self.joining = Joining::CatchingUp { donor, target, asked_ns: self.now_ns };
        for origin in self.other_origins() {
            let have = self.receiver.applied().get(origin);
            if have < target.get(origin) {
                let live = self.peers.get(usize::from(origin)).is_some_and(|peer| peer.live);
                self.send(if live { origin } else { donor }, Message::Resend { origin, after: have });
            }
        }
    }
}
