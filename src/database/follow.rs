//! What other appliances committed on the same database, on its way to this one's replicas.
//!
//! ```text
//!   store.follow ─▶ updates, in commit order ─▶ published ─▶ replicas: the greater stamp stays
//!        │ lines are gone that were not read
//!        └────────▶ every table is loaded ─▶ published in the same portions, then on from before the load
//! ```
//! Order against this appliance's own commits does not matter: a row's revisions are made one from another, since the
//! database lets nothing in that does not know the stored one, so that each has a greater stamp than those before it,
//! and applying is a maximum.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::contract::{Follow, Followed, Member, Place, Store, StoreResult};
use super::logged::table_id;
use crate::tables::Update;

/// What an appliance knows of the others on its database: written by the thread that follows them, read by people.
#[derive(Debug)]
pub struct Neighbors {
    pub me: Place,
    seen: Mutex<Seen>,
}

/// As it was at the last look.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All appliances, this one among them.
    pub members: Vec<Member>,
    /// The last change log line that went to the replicas, and the last that was there.
    pub position: u64,
    pub head: u64,
    /// Updates of others since the start.
    pub updates: u64,
    /// Times that lines were gone that were not read, so that everything was read again.
    pub reloads: u64,
    /// Pieces of agents' work that were taken over from appliances that had ended.
    pub taken_over: u64,
    /// When there was last nothing left to read, in monotonic nanoseconds: all that was committed before is here.
    pub level_ns: u64,
    /// Why the code that another appliance deployed does not run here.
    pub refused: Option<String>,
}

impl Seen {
    /// Change log lines that did not go to the replicas yet, as of the last look.
    pub fn behind(&self) -> u64 {
        self.head.saturating_sub(self.position)
    }
}

impl Neighbors {
    pub fn new(me: Place) -> Self {
        Self { me, seen: Mutex::default() }
    }

    pub fn read(&self) -> Seen {
        self.open().clone()
    }

    /// Why the code that another appliance deployed does not run here.
    pub fn refused(&self) -> Option<String> {
        self.open().refused.clone()
    }

    pub fn write(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.open());
    }

    fn open(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has to go to the replicas before the change log is read on.
#[derive(Debug, Default)]
pub(super) struct Follower {
    reload: VecDeque<Update>,
}

impl Follower {
    /// The next portion for the replicas, and what to tell whoever asked.
    pub fn next<S: Store>(
        &mut self,
        store: &mut S,
        updates_max: usize,
        members: bool,
    ) -> StoreResult<(Vec<Update>, Follow)> {
        let updates_max = updates_max.max(1);
        let mut told = Follow::default();
        if members {
            told.members = store.members()?;
        }
        let mut updates = Vec::new();
        if self.reload.is_empty() {
            let Followed { updates: found, deployed, more, missed, position, head } = store.follow(updates_max)?;
            (told.deployed, told.more, told.position, told.head) = (deployed, more, position, head);
            updates = found;
            if missed {
                self.load_all(store)?;
            }
        }
        if !self.reload.is_empty() {
            updates.extend(self.reload.drain(..self.reload.len().min(updates_max)));
            told.more = true;
            told.reloading = true;
        }
        told.updates = updates.len();
        Ok((updates, told))
    }

    fn load_all<S: Store>(&mut self, store: &mut S) -> StoreResult<()> {
        let mut rows = VecDeque::new();
        for index in 0..store.shapes().shapes.len() {
            store.load_all(table_id(index), &mut |row| rows.push_back(row))?;
        }
        self.reload = rows;
        Ok(())
    }
}
