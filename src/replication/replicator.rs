//! One replica's part in replication: local edits and messages go in, messages to peers come out.

use std::collections::VecDeque;
use std::sync::Arc;

use super::catch_up::Joining;
use super::lag::Lag;
use super::log::count;
use super::peer::Peer;
use super::report::{Counters, Event, Settings};
use super::{Ack, DeltaLog, Message, Positions, Receiver, Verdict};
use crate::tables::stamp::SERVERS_MAX;
use crate::tables::{Applied, Batch, DataTables, ServerId, Stamp, TableId, Update};

/// How soon a full ring is tried again if nothing else makes a turn.
const FULL_RING_NS: u64 = 50_000;
/// Batches handed to one peer in one turn, so that a peer that catches up does not fill its ring.
pub(super) const BATCHES_PER_TURN: usize = 16;

/// Stubs of one turn, and what every replica must hold before they go.
#[derive(Debug)]
pub(super) struct Stubs {
    pub barrier: Positions,
    pub rows: Vec<(TableId, Box<str>, Stamp)>,
}

/// The state machine. Inputs are its methods; what it wants sent is taken by [`Self::outgoing`].
#[derive(Debug)]
pub struct Replicator {
    pub(super) settings: Settings,
    pub(super) receiver: Receiver,
    pub(super) log: DeltaLog,
    /// Recent batches of the application server, for peers that miss one.
    pub(super) external: DeltaLog,
    /// Batches of the application server that came after a hole, by first number.
    pub(super) held: VecDeque<Arc<Batch>>,
    /// Whether the application server's batches wait to be given to [`Self::receive_external`].
    external_waits: bool,
    pub(super) peers: Vec<Peer>,
    pub(super) joining: Joining,
    outbox: VecDeque<(ServerId, Message)>,
    /// Messages that were ever put into the outbox.
    made: u64,
    events: VecDeque<Event>,
    pub(super) stubs: VecDeque<Stubs>,
    /// Stubs of this turn.
    pub(super) stubs_open: Vec<(TableId, Box<str>, Stamp)>,
    pub(super) acknowledged: u64,
    time_seen: u64,
    pub(super) code_version: u64,
    pub(super) now_ns: u64,
    /// When a joining replica last told its positions unasked.
    pub(super) told_ns: u64,
    next_sweep_ns: Option<u64>,
    sweep_turn: u8,
    pub(super) next_ask: u32,
    /// Positions of origins that cannot be asked themselves at which the last summary found this side behind.
    pub(super) behind: [Option<u64>; SERVERS_MAX],
    pub(super) counters: Counters,
    pub(super) lag: Lag,
}

impl Replicator {
    /// A replica that starts together with all others, from the same tables.
    pub fn new(settings: Settings) -> Self {
        let mut new = Self::alone(settings);
        for peer in 0..settings.replicas {
            let other = peer != settings.me;
            new.peers[usize::from(peer)] = Peer { live: other, ready: other, ..Peer::default() };
        }
        new
    }

    /// A replica that comes back with empty tables while the given peers are live. It becomes ready by their help;
    /// each of them must be told by [`Self::peer_up`].
    pub fn joining(settings: Settings, live: &[ServerId]) -> Self {
        let mut new = Self::alone(settings);
        for peer in live.iter().filter(|peer| **peer != settings.me) {
            new.peers[usize::from(*peer)].live = true;
        }
        new.joining = Joining::Listening;
        new
    }

    /// A replica that comes back while no other one can be copied from: its tables hold what the database holds, read
    /// when the last batch of the application server that it had published was `position`. It is ready at once; what
    /// peers that are live hold beyond that comes by repairs.
    pub fn reloaded(settings: Settings, live: &[ServerId], position: u64, now_ns: u64) -> Self {
        let mut new = Self::joining(settings, live);
        new.now_ns = now_ns;
        new.receiver.adopt(settings.replicas, position);
        new.log.restart_at(now_ns.saturating_add(1));
        new.become_ready();
        new
    }

    fn alone(settings: Settings) -> Self {
        assert!(settings.me < settings.replicas, "invariant: a replica's id is below their number");
        assert!(
            usize::from(settings.replicas) < SERVERS_MAX,
            "invariant: replicas and application server fit a version vector"
        );
        Self {
            settings,
            receiver: Receiver::default(),
            log: DeltaLog::new(settings.me, settings.log_updates_max),
            external: DeltaLog::new(settings.replicas, settings.log_updates_max),
            held: VecDeque::new(),
            external_waits: false,
            peers: (0..settings.replicas).map(|_| Peer::default()).collect(),
            joining: Joining::Ready,
            outbox: VecDeque::new(),
            made: 0,
            events: VecDeque::new(),
            stubs: VecDeque::new(),
            stubs_open: Vec::new(),
            acknowledged: 0,
            time_seen: 0,
            code_version: 0,
            now_ns: 0,
            told_ns: 0,
            next_sweep_ns: None,
            sweep_turn: 0,
            next_ask: 0,
            behind: [None; SERVERS_MAX],
            counters: Counters::default(),
            lag: Lag::default(),
        }
    }

    /// Applies an edit of this replica and numbers it for the others. It leaves with the next [`Self::tick`]. Only a
    /// ready replica edits.
    ///
    /// A deletion must have been committed by the database before, and this replica must have received what the
    /// application server published before that commit: then no edit by an agent that did not know of the deletion
    /// can come after its stub is forgotten.
    pub fn local_update(&mut self, update: Update, tables: &mut DataTables) -> (u64, Applied) {
        let applied = self.apply_logged(&update, tables);
        (self.log.append(update), applied)
    }

    /// Takes a message from a peer. Messages from a peer that is not live are dropped.
    pub fn receive(&mut self, from: ServerId, message: Message, tables: &mut DataTables) {
        if from == self.settings.me || !self.peers.get(usize::from(from)).is_some_and(|peer| peer.live) {
            return;
        }
        match message {
            Message::Batch(batch) if batch.origin == self.settings.replicas => self.receive_external(&batch, tables),
            Message::Batch(batch) => self.receive_batch(from, &batch, tables),
            Message::Ack(ack) => self.receive_positions(from, &ack.positions, ack.ready),
            Message::Resend { origin, after } => self.receive_resend(from, origin, after),
            Message::Summary(summary) => self.receive_summary(from, &summary, tables),
            Message::Buckets(buckets) => self.send(from, Message::Keys(Box::new(buckets.answer(tables)))),
            Message::Keys(keys) => self.receive_keys(from, &keys, tables),
            Message::Wanted(wanted) => self.receive_wanted(from, &wanted, tables),
            Message::Rows(rows) => self.receive_rows(from, &rows, tables),
            Message::SnapshotRequest(request) => self.receive_snapshot_request(from, &request, tables),
            Message::SnapshotChunk(chunk) => self.receive_snapshot_chunk(from, *chunk, tables),
            Message::CodeWanted { have } => self.events.push_back(Event::CodeWanted { peer: from, have }),
        }
    }

    /// Ends a turn: sends what was appended since to every live peer as one batch, acknowledges, purges stubs,
    /// begins a sweep if one is due, and asks again what was not answered. `now_ns` is monotonic.
    pub fn tick(&mut self, now_ns: u64, tables: &mut DataTables) {
        self.now_ns = now_ns;
        self.tick_joining();
        self.log.seal();
        self.lag.sealed(self.log.sealed(), now_ns);
        for peer in 0..self.settings.replicas {
            self.peers[usize::from(peer)].blocked = false;
            if self.peers[usize::from(peer)].live {
                self.send_batches(peer);
            }
        }
        self.send_acks();
        self.purge_stubs(tables);
        self.tick_sweep(tables);
        self.settle();
    }

    /// A peer has come up with empty tables, or begins again.
    pub fn peer_up(&mut self, peer: ServerId) {
        if peer == self.settings.me || peer >= self.settings.replicas {
            return;
        }
        // It asks for what it lacks after its snapshot; until then its position holds the log.
        self.peers[usize::from(peer)] = Peer { live: true, ack_due: true, sent: self.log.sealed(), ..Peer::default() };
    }

    /// A peer is gone with what it held: nobody waits for it any more.
    pub fn peer_down(&mut self, peer: ServerId) {
        if let Some(peer) = self.peers.get_mut(usize::from(peer)) {
            *peer = Peer { view: peer.view, ..Peer::default() };
            self.settle();
        }
    }

    /// The ring to a peer was full: the message comes back, and what it carried is made good later.
    pub fn undelivered(&mut self, peer: ServerId, message: &Message) {
        self.counters.undelivered += 1;
        let Some(peer) = self.peers.get_mut(usize::from(peer)) else { return };
        match message {
            Message::Batch(batch) if batch.origin == self.settings.me => {
                peer.sent = peer.sent.min(batch.first - 1);
                peer.blocked = true;
            }
            Message::Ack(_) => peer.ack_due = true,
            Message::Summary(summary) if summary.repair => peer.repair_due = true,
            Message::Resend { .. } => peer.resend_asked = None,
            // A question that is lost is asked again after a while, by this side or by the other.
            Message::Batch(_)
            | Message::Summary(_)
            | Message::Buckets(_)
            | Message::Keys(_)
            | Message::Wanted(_)
            | Message::Rows(_)
            | Message::SnapshotRequest(_)
            | Message::SnapshotChunk(_)
            | Message::CodeWanted { .. } => {}
        }
    }

    /// The next message to hand to a ring.
    pub fn outgoing(&mut self) -> Option<(ServerId, Message)> {
        self.outbox.pop_front()
    }

    /// Messages made so far, those that [`Self::outgoing`] has not given out yet among them, and the number of these.
    pub fn messages(&self) -> (u64, u64) {
        (self.made, count(self.outbox.len()))
    }

    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Says whether batches of the application server are here that [`Self::receive_external`] was not given yet. As
    /// long as they are, no stub is forgotten.
    pub fn set_external_waits(&mut self, waits: bool) {
        self.external_waits = waits;
    }

    pub fn set_code_version(&mut self, version: u64) {
        self.code_version = version;
    }

    /// Whether this replica may take traffic.
    pub fn is_ready(&self) -> bool {
        match self.joining {
            Joining::Ready => true,
            Joining::Listening | Joining::Copying(_) | Joining::CatchingUp { .. } => false,
        }
    }

    /// Own updates up to this number are held by every live replica. Never goes back.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether every live replica holds this own update: the acknowledgement level `all`.
    pub fn acknowledged_by_all(&self, id: u64) -> bool {
        id <= self.acknowledged
    }

    /// Whether every live replica holds all that this one has written.
    pub fn is_heard(&self) -> bool {
        self.acknowledged >= self.log.head() || self.live_peers().next().is_none()
    }

    /// Own updates up to this number are held by at least one other replica.
    pub fn held_by_another(&self) -> u64 {
        let me = self.settings.me;
        let live = self.peers.iter().filter(|peer| peer.live);
        live.map(|peer| peer.view.get(me)).max().unwrap_or(0)
    }

    /// Own updates that not every live replica is known to hold, oldest first, as far as the log goes back.
    pub fn unheard(&self) -> Vec<Update> {
        self.log.updates_after(self.acknowledged)
    }

    /// The greatest hybrid time in any update seen, for the clock that stamps the next edit.
    pub fn time_seen(&self) -> u64 {
        self.time_seen
    }

    /// What the tables hold, own updates included.
    pub fn positions(&self) -> Positions {
        let mut positions = *self.receiver.applied();
        positions.0[usize::from(self.settings.me)] = self.log.head();
        positions
    }

    /// When [`Self::tick`] has something to do although nothing came in, in monotonic nanoseconds.
    pub fn next_tick_ns(&self) -> u64 {
        let retry = self.now_ns.saturating_add(self.settings.retry_ns);
        let waits = !self.is_ready() || self.peers.iter().any(|peer| peer.needs_repair || peer.round.is_some());
        let sweep = self.next_sweep_ns.unwrap_or(self.now_ns);
        let full = |peer: &Peer| peer.live && (peer.blocked || (peer.sent < self.log.sealed() && !peer.needs_repair));
        let soon = self.now_ns.saturating_add(FULL_RING_NS);
        let next = if waits { sweep.min(retry) } else { sweep };
        if self.peers.iter().any(full) { next.min(soon) } else { next }
    }

    fn receive_batch(&mut self, from: ServerId, batch: &Batch, tables: &mut DataTables) {
        if batch.origin != from {
            return;
        }
        self.counters.batches_received += 1;
        // Before the snapshot has come, later batches would only look like a gap.
        if matches!(self.joining, Joining::Listening | Joining::Copying(_)) {
            self.counters.batches_early += 1;
            return;
        }
        match self.receiver.accept(batch) {
            Verdict::Apply(range) => {
                self.counters.batches_applied += 1;
                self.apply_all(&batch.updates[range], tables);
                self.ack_everyone();
            }
            // The acknowledgement may have been lost.
            Verdict::Duplicate => {
                self.counters.batches_repeated += 1;
                self.peers[usize::from(from)].ack_due = true;
            }
            Verdict::Gap { have } => {
                self.counters.batches_ahead += 1;
                self.counters.gaps += 1;
                self.ask_resend(from, from, have);
            }
        }
    }

    /// Takes note of what a peer holds.
    pub(super) fn receive_positions(&mut self, from: ServerId, positions: &Positions, ready: bool) {
        let me = self.settings.me;
        let peer = &mut self.peers[usize::from(from)];
        let joined = ready && !peer.ready;
        peer.heard = true;
        peer.ready = ready;
        peer.view.raise_all(positions);
        if joined {
            // What it was sent while it copied it has thrown away, and its donor may not have had it.
            peer.sent = peer.sent.min(peer.view.get(me));
        }
        if peer.needs_repair && self.log.holds_after(peer.view.get(me)) {
            peer.needs_repair = false;
            peer.sent = peer.view.get(me);
        }
        self.settle();
    }

    fn receive_resend(&mut self, from: ServerId, origin: ServerId, after: u64) {
        let peer = &mut self.peers[usize::from(from)];
        if origin == self.settings.me {
            if self.log.holds_after(after) {
                peer.sent = peer.sent.min(after);
                peer.needs_repair = false;
            } else {
                peer.needs_repair = true;
            }
        } else if origin == self.settings.replicas && self.external.batch_after(after).is_some() {
            self.resend_external(from, after);
        } else if self.receiver.applied().get(origin) > after {
            peer.repair_due = true;
        }
    }

    /// Asks for updates, unless the same was asked a moment ago.
    pub(super) fn ask_resend(&mut self, from: ServerId, origin: ServerId, after: u64) {
        let (now_ns, retry_ns) = (self.now_ns, self.settings.retry_ns);
        let peer = &mut self.peers[usize::from(from)];
        let asked = peer.resend_asked.is_some_and(|(asked, position, at_ns)| {
            (asked, position) == (origin, after) && now_ns < at_ns.saturating_add(retry_ns)
        });
        if !asked {
            peer.resend_asked = Some((origin, after, now_ns));
            self.send(from, Message::Resend { origin, after });
        }
    }

    pub(super) fn apply_all(&mut self, updates: &[Update], tables: &mut DataTables) {
        for update in updates {
            self.counters.updates_received += 1;
            self.apply_logged(update, tables);
        }
    }

    /// Applies an update that has come by its origin's log.
    fn apply_logged(&mut self, update: &Update, tables: &mut DataTables) -> Applied {
        let applied = tables.apply(update);
        self.note(update, &applied);
        self.stubs_open.extend(stub_of(update, tables));
        applied
    }

    pub(super) fn note(&mut self, update: &Update, applied: &Applied) {
        self.time_seen = self.time_seen.max(update.stamp.time);
        match applied {
            Applied::Conflict { loser } => {
                self.counters.conflicts += 1;
                self.events.push_back(Event::Conflict(loser.clone()));
            }
            Applied::Inserted | Applied::Replaced | Applied::Obsolete | Applied::Duplicate => {}
        }
    }

    /// Takes over positions of a peer whose effects are all here now.
    pub(super) fn adopt(&mut self, positions: &Positions, tables: &mut DataTables) {
        for origin in self.other_origins() {
            self.receiver.adopt(origin, positions.get(origin));
        }
        self.apply_held(tables);
        self.ack_everyone();
    }

    fn send_batches(&mut self, to: ServerId) {
        for _ in 0..BATCHES_PER_TURN {
            let peer = &mut self.peers[usize::from(to)];
            if peer.blocked || peer.needs_repair || peer.sent >= self.log.sealed() {
                return;
            }
            let Some(batch) = self.log.batch_after(peer.sent).cloned() else {
                peer.needs_repair = true;
                return;
            };
            peer.sent = batch.first + count(batch.updates.len()) - 1;
            self.counters.batches_sent += 1;
            self.send(to, Message::Batch(batch));
        }
    }

    pub(super) fn ack_everyone(&mut self) {
        for peer in self.peers.iter_mut().filter(|peer| peer.live) {
            peer.ack_due = true;
        }
    }

    fn send_acks(&mut self) {
        if !self.peers.iter().any(|peer| peer.live && peer.ack_due) {
            return;
        }
        let ack = Arc::new(Ack { positions: self.positions(), ready: self.is_ready() });
        for id in 0..self.settings.replicas {
            let peer = &mut self.peers[usize::from(id)];
            if std::mem::take(&mut peer.ack_due) && peer.live {
                self.send(id, Message::Ack(ack.clone()));
            }
        }
    }

    /// Drops what nobody needs any more and moves the acknowledged number.
    fn settle(&mut self) {
        let me = self.settings.me;
        let views = self.peers.iter().filter(|peer| peer.live).map(|peer| peer.view.get(me));
        let least = views.min().unwrap_or(self.log.sealed());
        self.log.truncate(least);
        self.acknowledged = self.acknowledged.max(least);
        self.lag.acknowledged(self.acknowledged, self.now_ns);
    }

    /// Forgets stubs that every live replica holds. Each of them has then applied the deletion, and whatever it
    /// wrote before that has been applied here: nothing can bring the row back.
    fn purge_stubs(&mut self, tables: &mut DataTables) {
        let positions = self.positions();
        if !self.stubs_open.is_empty() {
            let rows = std::mem::take(&mut self.stubs_open);
            self.stubs.push_back(Stubs { barrier: positions, rows });
        }
        // What waits may be older than a deletion that has come already.
        if !self.is_ready() || self.external_waits {
            return;
        }
        while let Some(stubs) = self.stubs.front() {
            let mut live = self.peers.iter().filter(|peer| peer.live);
            if !live.all(|peer| peer.view.covers(&stubs.barrier) && positions.covers(&peer.view)) {
                break;
            }
            for (table, key, stamp) in &stubs.rows {
                self.counters.stubs_purged += u64::from(tables.purge(*table, key, *stamp));
            }
            self.stubs.pop_front();
        }
    }

    fn tick_sweep(&mut self, tables: &DataTables) {
        let (now_ns, settings) = (self.now_ns, self.settings);
        if !self.is_ready() {
            return;
        }
        for id in 0..settings.replicas {
            let peer = &mut self.peers[usize::from(id)];
            let again = peer.needs_repair && now_ns >= peer.repair_offered_ns.saturating_add(settings.retry_ns);
            if peer.live && (again || peer.repair_due) {
                peer.repair_due = false;
                peer.repair_offered_ns = now_ns;
                self.counters.repairs += 1;
                self.send_summary(id, true, tables);
            }
        }
        let due = *self.next_sweep_ns.get_or_insert(now_ns.saturating_add(settings.sweep_interval_ns));
        if now_ns < due {
            return;
        }
        self.next_sweep_ns = Some(now_ns.saturating_add(settings.sweep_interval_ns));
        let turn = self.sweep_turn;
        let mut order = (1..=settings.replicas).map(|step| (turn + step) % settings.replicas);
        if let Some(peer) = order.find(|peer| self.peers[usize::from(*peer)].live) {
            self.sweep_turn = peer;
            self.counters.sweeps += 1;
            self.send_summary(peer, false, tables);
        }
    }

    /// All origins but this one; the application server is the last.
    pub(super) fn other_origins(&self) -> impl Iterator<Item = ServerId> + use<> {
        let me = self.settings.me;
        (0..=self.settings.replicas).filter(move |origin| *origin != me)
    }

    pub(super) fn live_peers(&self) -> impl Iterator<Item = ServerId> + '_ {
        (0..self.settings.replicas).filter(|peer| self.peers[usize::from(*peer)].live)
    }

    pub(super) fn send(&mut self, to: ServerId, message: Message) {
        self.made += 1;
        self.outbox.push_back((to, message));
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }
}

/// The stub that an update has left, if the row still is this deletion.
pub(super) fn stub_of(update: &Update, tables: &DataTables) -> Option<(TableId, Box<str>, Stamp)> {
    if update.record.is_some() {
        return None;
    }
    let row = tables.get_any(update.table, &update.key)?;
    (row.stamp == update.stamp).then(|| (update.table, update.key.clone(), update.stamp))
}
