//! Updates of the application server: numbered by the database server, they reach every replica from outside.

use std::sync::Arc;

use super::log::count;
use super::replicator::{BATCHES_PER_TURN, Replicator};
use super::{Message, Verdict};
use crate::tables::{Batch, DataTables, ServerId, Update};

/// Batches of the application server that wait for a hole before them to be filled.
const HELD_BATCHES_MAX: usize = 1024;

impl Replicator {
    /// Applies updates of the application server, which reach every replica from outside.
    pub fn receive_external(&mut self, batch: &Arc<Batch>, tables: &mut DataTables) {
        if batch.origin != self.settings.replicas || batch.updates.is_empty() {
            return;
        }
        self.counters.batches_received += 1;
        match self.receiver.accept(batch) {
            Verdict::Apply(range) => {
                self.counters.batches_applied += 1;
                self.apply_all(&batch.updates[range], tables);
                self.external.push(batch.clone());
                self.ack_everyone();
                self.apply_held(tables);
            }
            Verdict::Duplicate => self.counters.batches_repeated += 1,
            Verdict::Gap { have } => {
                self.counters.batches_ahead += 1;
                self.counters.gaps += 1;
                let place = self.held.partition_point(|held| held.first < batch.first);
                let known = self.held.get(place).is_some_and(|held| held.first == batch.first);
                if !known && self.held.len() < HELD_BATCHES_MAX {
                    self.held.insert(place, batch.clone());
                }
                let peer = self.live_peers().next().filter(|_| self.is_ready());
                if let Some(peer) = peer {
                    self.ask_resend(peer, self.settings.replicas, have);
                }
            }
        }
    }

    /// Closes a hole in the application server's updates that no replica can close ([`Report::external_gap`] stays):
    /// `rows` are what the database holds, read when the last batch it had published was `position`.
    pub fn reload_external(&mut self, rows: &[Update], position: u64, tables: &mut DataTables) {
        self.receiver.adopt(self.settings.replicas, position);
        self.apply_all(rows, tables);
        self.apply_held(tables);
        self.ack_everyone();
    }

    /// Applies the held batches that continue the position now.
    pub(super) fn apply_held(&mut self, tables: &mut DataTables) {
        while let Some(batch) = self.held.pop_front() {
            match self.receiver.accept(&batch) {
                Verdict::Apply(range) => {
                    self.apply_all(&batch.updates[range], tables);
                    self.external.push(batch);
                }
                Verdict::Duplicate => {}
                Verdict::Gap { .. } => {
                    self.held.push_front(batch);
                    break;
                }
            }
        }
    }

    /// Sends recent batches again to a peer that misses some.
    pub(super) fn resend_external(&mut self, to: ServerId, after: u64) {
        let mut at = after;
        for _ in 0..BATCHES_PER_TURN {
            let Some(batch) = self.external.batch_after(at).cloned() else { break };
            at = batch.first + count(batch.updates.len()) - 1;
            self.send(to, Message::Batch(batch));
        }
    }
}
