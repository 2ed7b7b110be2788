//! Rounds of the sweep: the asking side counts its open questions, and when none is left it knows that its tables
//! hold whatever the asked side's held when the round began.

use super::peer::Round;
use super::replicator::{Replicator, stub_of};
use super::report::Event;
use super::sweep::{Buckets, Keys, Place, ROWS_MAX, Summary, SweptRows, Wanted};
use super::{Message, Positions};
use crate::tables::{Applied, DataTables, ServerId, TableId, Update};

impl Replicator {
    pub(super) fn send_summary(&mut self, to: ServerId, repair: bool, tables: &DataTables) {
        let summary = Summary::of(tables, self.code_version, self.positions(), repair);
        self.send(to, Message::Summary(Box::new(summary)));
    }

    pub(super) fn receive_summary(&mut self, from: ServerId, summary: &Summary, tables: &mut DataTables) {
        // Only a replica that takes part sweeps.
        self.receive_positions(from, &summary.positions, true);
        if summary.code_version > self.code_version {
            self.tell(Event::CodeBehind { peer: from, version: summary.code_version });
            self.send(from, Message::CodeWanted { have: self.code_version });
        } else if summary.code_version < self.code_version {
            self.tell(Event::CodeWanted { peer: from, have: summary.code_version });
        }
        if !self.may_sweep() {
            return;
        }
        self.notice_holes(from, &summary.positions);
        let peer = &self.peers[usize::from(from)];
        let busy = peer.round.as_ref().is_some_and(|round| {
            let fresh = self.now_ns < round.progress_ns.saturating_add(self.settings.retry_ns);
            fresh && (round.repair || !summary.repair)
        });
        if busy {
            return;
        }
        let round =
            Round { positions: summary.positions, repair: summary.repair, open: Vec::new(), progress_ns: self.now_ns };
        self.peers[usize::from(from)].round = Some(round);
        let differing: Vec<TableId> = summary.differing(tables).collect();
        if !differing.is_empty() {
            self.counters.rounds += 1;
        }
        for table in differing {
            self.ask_buckets(from, table, summary.repair, Place::default(), tables);
        }
        self.end_round(from, tables);
    }

    pub(super) fn receive_keys(&mut self, from: ServerId, keys: &Keys, tables: &mut DataTables) {
        if !self.answered(from, keys.ask) {
            return;
        }
        let comparison = keys.compare(tables);
        for lacking in comparison.lacking.chunks(ROWS_MAX) {
            self.send(from, Message::Rows(Box::new(SweptRows::of(tables, keys.table, lacking, 0))));
        }
        for wanted in comparison.wanted.chunks(ROWS_MAX) {
            let ask = self.open_question(from);
            self.send(from, Message::Wanted(Box::new(Wanted { ask, table: keys.table, keys: wanted.to_vec() })));
        }
        if let Some(next) = &keys.next {
            self.ask_buckets(from, keys.table, keys.with_stubs, next.clone(), tables);
        }
        self.end_round(from, tables);
    }

    pub(super) fn receive_wanted(&mut self, from: ServerId, wanted: &Wanted, tables: &DataTables) {
        let rows = SweptRows::of(tables, wanted.table, &wanted.keys, wanted.ask);
        self.send(from, Message::Rows(Box::new(rows)));
    }

    pub(super) fn receive_rows(&mut self, from: ServerId, swept: &SweptRows, tables: &mut DataTables) {
        self.apply_swept(&swept.rows, &swept.losers, tables);
        self.counters.rows_swept += super::log::count(swept.rows.len());
        if self.answered(from, swept.ask) {
            self.end_round(from, tables);
        }
    }

    /// Applies rows and losers that did not come by a log.
    pub(super) fn apply_swept(&mut self, rows: &[Update], losers: &[Update], tables: &mut DataTables) {
        self.counters.updates_received += super::log::count(rows.len());
        for update in rows.iter().chain(losers) {
            let applied = tables.apply(update);
            self.note(update, &applied);
            self.announce_stub(update, &applied, tables);
        }
    }

    /// A deletion that came by a sweep goes into the own log as well. Only a log tells when everyone holds it, and
    /// the log that it came from may have died with its replica.
    fn announce_stub(&mut self, update: &Update, applied: &Applied, tables: &DataTables) {
        match applied {
            Applied::Inserted | Applied::Replaced | Applied::Conflict { .. } => {}
            Applied::Obsolete | Applied::Duplicate => return,
        }
        if let Some(stub) = stub_of(update, tables) {
            self.log.append(update.clone());
            self.stubs_open.push(stub);
        }
    }

    /// Asks for updates that this side has missed. Updates on their way are no hole, so a position counts as stuck
    /// only if two summaries in a row found it at the same number. An origin that is live is asked itself; what
    /// came from one that is gone, or from the application server, is with those who have it.
    fn notice_holes(&mut self, from: ServerId, theirs: &Positions) {
        for origin in self.other_origins() {
            let asks_itself = self.peers.get(usize::from(origin)).is_some_and(|peer| peer.live);
            if asks_itself && origin != from {
                continue;
            }
            let have = self.receiver.applied().get(origin);
            if theirs.get(origin) > have && self.behind[usize::from(origin)].replace(have) == Some(have) {
                self.ask_resend(from, origin, have);
            }
        }
    }

    fn ask_buckets(&mut self, from: ServerId, table: TableId, with_stubs: bool, place: Place, tables: &DataTables) {
        let ask = self.open_question(from);
        self.send(from, Message::Buckets(Box::new(Buckets::of(tables, table, with_stubs, ask, place))));
    }

    fn open_question(&mut self, from: ServerId) -> u32 {
        // 0 means that nobody asked.
        self.next_ask = self.next_ask.wrapping_add(1).max(1);
        if let Some(round) = &mut self.peers[usize::from(from)].round {
            round.open.push(self.next_ask);
        }
        self.next_ask
    }

    /// Closes a question; false if it is not one of the present round.
    fn answered(&mut self, from: ServerId, ask: u32) -> bool {
        let now_ns = self.now_ns;
        let Some(round) = &mut self.peers[usize::from(from)].round else { return false };
        let Some(place) = round.open.iter().position(|open| *open == ask) else { return false };
        round.open.swap_remove(place);
        round.progress_ns = now_ns;
        true
    }

    fn end_round(&mut self, from: ServerId, tables: &mut DataTables) {
        let slot = &mut self.peers[usize::from(from)].round;
        let Some(round) = slot.take_if(|round| round.open.is_empty()) else { return };
        if round.repair {
            self.adopt(&round.positions, tables);
        }
    }
}
