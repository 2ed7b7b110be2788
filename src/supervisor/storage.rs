//! The storage and execution unit's start, and the work that an earlier end left unfinished.

use std::sync::Arc;

use super::Failure;
use super::entropy::random_seed;
use crate::clock;
use crate::database;
use crate::database::contract::{Loaded, Place};
use crate::engine;
use crate::profile::Profile;
use crate::replication::Backlog;
use crate::storage::agents::{self, WorkTable};
use crate::storage::backend::Backend;
use crate::storage::numbers::Numbers;
use crate::storage::orders;
use crate::storage::unit::{self, ExecutorKind};
use crate::tables::code::{AGENT_WORK, CodeVersion, agent_work};
use crate::worker::placement::Placement;

/// What the storage unit shares with others.
pub(super) struct StorageEntrance {
    pub(super) backlog: Backlog,
    pub(super) place: Option<Place>,
    pub(super) database: database::server::Client,
}

pub(super) fn spawn_storage(
    profile: &Profile,
    placement: &Placement,
    code: &CodeVersion,
    loaded: &[Loaded],
    entrance: StorageEntrance,
) -> Result<unit::Handle, Failure> {
    let StorageEntrance { backlog, place, database } = entrance;
    let work = WorkTable::resolve(&code.shapes).map_err(Failure::failed)?;
    let numbers = Arc::new(Numbers::default());
    let mut backends = Vec::new();
    for (name, address) in &profile.backends {
        backends.push(Backend::new(name, address.parse().map_err(Failure::usage)?));
    }
    for application in &code.applications {
        for agent in &application.agents {
            if let Some(post) = orders::post_of(application, agent, &code.shapes)
                && let Some(rows) = loaded.iter().find(|loaded| loaded.table == post.table)
            {
                numbers.load(&post, &rows.rows);
            }
        }
    }
    let mut settings = unit::Settings::new(work, backends);
    settings.numbers = numbers;
    settings.backlog = backlog;
    settings.place = place;
    settings.replicas = placement.replicas();
    settings.agents_max = profile.storage.agents_max;
    settings.orders_max = profile.storage.orders_max;
    settings.seed = random_seed();
    let (executor, remark) = ExecutorKind::choose();
    settings.executor = executor;
    if let Some(remark) = remark {
        log::warn!(executor = executor.name(), reason = remark.as_str(); "a better executor of agents does not work here");
    }
    if placement.housekeeping.is_none() {
        settings.prepare = Some(Box::new(engine::thread::lower_priority));
    }
    unit::spawn(settings, Arc::new(move |request| database.try_send(request, clock::monotonic_ns())))
        .map_err(|error| Failure::failed(error.to_string()))
}

/// Work that a crash or stop left unfinished is ordered again (of an appliance that has its database for itself); its idempotency key keeps its effect single.
pub fn resume_work(code: &CodeVersion, loaded: &[Loaded], unit: &unit::Orders) {
    let Some(rows) = loaded.iter().find(|loaded| loaded.table == AGENT_WORK) else { return };
    for row in &rows.rows {
        let Some(record) = &row.record else { continue };
        if agents::WorkState::is_finished(record.get(agent_work::STATE).as_text().unwrap_or("")) {
            continue;
        }
        let order = orders::order_of(code, &row.key, record);
        // What finds no room is ordered again from its row by a replica.
        if unit.try_send(order).is_err() {
            return;
        }
    }
}
