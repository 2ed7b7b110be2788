//! The catalog that the profile wants filled from the supplier's file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Failure, neighbors};
use crate::admin::Cluster;
use crate::clock;
use crate::database::contract::{ABSENT, Loaded};
use crate::profile::{self, Profile};
use crate::storage::unit::{self, ImportRun, Order};
use crate::storage::{agents, orders, supplier};
use crate::tables::code::{AGENT_WORK, CodeVersion};

/// How long the order to fill the catalog waits for room.
const IMPORT_ORDER_NS: u64 = 10_000_000_000;

/// The profile's import finds its agent.
pub(super) fn check_import(profile: &Profile, code: &CodeVersion) -> Result<(), Failure> {
    let file = profile.file.display();
    if let Some(import) = &profile.storage.import
        && import_agent(import, code).is_none()
    {
        return Err(Failure::usage(format!(
            "{file}: storage.import names the agent `{}` of `{}`; name an import agent of its code",
            import.agent, import.application
        )));
    }
    Ok(())
}

fn import_agent(import: &profile::Import, code: &CodeVersion) -> Option<agents::ImportAgent> {
    let application = code.application(&import.application)?;
    orders::import_of(application, application.agent(&import.agent)?, &code.shapes)
}

/// Fills an empty catalog from the supplier's file that the profile names.
pub(super) fn import_catalog(cluster: &Cluster, code: &CodeVersion, loaded: &[Loaded]) -> Result<(), Failure> {
    let Some(import) = &cluster.profile.storage.import else { return Ok(()) };
    let Some(resolved) = import_agent(import, code) else { return Ok(()) };
    let has_rows = loaded.iter().any(|loaded| loaded.table == resolved.table && !loaded.rows.is_empty());
    // One that a crash interrupted has been ordered again already.
    if has_rows || cluster.storage.is_importing() {
        return Ok(());
    }
    let file = if import.source == "apt" {
        let folder = cluster.profile.database.path.parent().unwrap_or(Path::new("")).to_path_buf();
        // Beside a DuckDB file it exists; PostgreSQL needs none.
        std::fs::create_dir_all(&folder)
            .map_err(|error| Failure::failed(format!("{}: {error}; choose another database.path", folder.display())))?;
        let target = folder.join("supplier.txt");
        let source = supplier::supplier_file(&target).map_err(|error| {
            Failure::failed(format!("{}: {error}; name a file in storage.import.source", target.display()))
        })?;
        log::info!(source:%, file:% = target.display(); "the supplier's file is made");
        target
    } else {
        cluster.profile.path(Path::new(&import.source))
    };
    let work: Box<str> = format!("{}//{}", resolved.table_name, import.agent).into();
    if let Some(neighbors) = &cluster.neighbors {
        let path = file.display().to_string();
        let rows = loaded.iter().find(|loaded| loaded.table == AGENT_WORK);
        let row = rows.and_then(|loaded| loaded.rows.iter().find(|row| row.key == work));
        let known = row.map_or(ABSENT, |row| row.stamp);
        let claimed = neighbors::claims_import(cluster, neighbors.me, &work, &resolved, &path, known);
        if !claimed.map_err(Failure::failed)? {
            log::info!(agent = &*import.agent; "another appliance fills the catalog");
            return Ok(());
        }
    }
    let run = ImportRun {
        work,
        progress: Arc::new(unit::ImportProgress::new(&file)),
        agent: Arc::new(resolved),
        file,
        requested_by: "supervisor".into(),
    };
    // It has no row yet from which it could be ordered again: it waits for room.
    let until = clock::monotonic_ns() + IMPORT_ORDER_NS;
    let mut order = Order::Import(run);
    while let Err(back) = cluster.storage.try_send(order) {
        if clock::monotonic_ns() >= until {
            log::error!("the catalog is not imported: the storage unit takes no orders");
            break;
        }
        order = back;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
