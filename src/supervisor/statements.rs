//! The statements and what they name: loaded at the start, and again when a file changes.

use std::sync::Arc;

use crate::admin::Cluster;
use crate::error::Fault;
use crate::profile::Profile;
use crate::storage::site::Site;
use crate::storage::unit::{self, Order};

pub(super) fn load_site(profile: &Profile, fronts: usize, version: u64) -> Result<Site, Vec<Fault>> {
    let applications: Vec<&str> = profile.applications.iter().map(|application| application.name.as_str()).collect();
    let file = profile.path(&profile.storage.statements);
    let site = Site::load(&file, &applications, profile.storage.object_bytes_max, version)?;
    site.check_shares(&file, fronts)?;
    Ok(site)
}

/// Compiles and publishes statements when their file or a folder of static objects changes; a wrong file is refused
/// and the old table stays. A folder that a changed file names for the first time is watched from the next start on.
pub(super) fn watch_statements(cluster: &Arc<Cluster>, orders: &unit::Orders) {
    let profile = &cluster.profile;
    let watched = Arc::clone(cluster);
    let notify: unit::Notify = Arc::new(move |_| {
        let fronts = watched.placement.fronts();
        match load_site(&watched.profile, fronts, watched.site().version + 1) {
            Ok(site) => {
                log::info!(version = site.version, routes = site.table.routes().len(); "the statements are in force");
                watched.publish_site(Arc::new(site));
            }
            Err(faults) => {
                for fault in faults {
                    log::error!(error:% = fault; "the statements are refused, the old ones stay");
                }
            }
        }
    });
    let order =
        Order::WatchFiles { paths: cluster.site().sources.clone(), interval_ms: profile.storage.watch_ms, notify };
    if orders.try_send(order).is_err() {
        log::error!("statement files are not watched: the storage unit takes no orders");
    }
}
