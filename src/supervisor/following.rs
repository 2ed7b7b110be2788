//! The threads that follow what other appliances on the same database do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel;

use super::Failure;
use super::neighbors::{self, Follow};
use crate::admin::Cluster;
use crate::database::postgres::{self, listen::listen};
use crate::replication::Backlog;

/// They follow until they are stopped; none where nobody else can be on the database.
#[derive(Default)]
pub(super) struct Following {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Following {
    /// Takes over what was left on the database, then follows what is committed to it, woken by its notifications.
    pub(super) fn start(
        cluster: &Arc<Cluster>,
        store: Option<postgres::Settings>,
        backlog: Backlog,
    ) -> Result<Self, Failure> {
        let mut following = Self::default();
        let (ring, bell) = channel::bounded::<()>(1);
        if let Some(neighbors) = &cluster.neighbors {
            log::info!(reason = neighbors::DURABLE; "every write is acknowledged as durable");
            neighbors::take_over(cluster, neighbors).map_err(Failure::failed)?;
            let (cluster, neighbors, stop) = (Arc::clone(cluster), Arc::clone(neighbors), Arc::clone(&following.stop));
            following.threads.push(Follow { cluster, neighbors, backlog, bell, stop }.spawn()?);
        }
        if let Some(settings) = store {
            // A bell that has been rung and not heard says it all.
            let ring = move || {
                let _ = ring.try_send(());
            };
            let listening = listen(settings, Arc::clone(&following.stop), ring);
            let failed = |error| Failure::failed(format!("no thread `listen`: {error}"));
            following.threads.push(listening.map_err(failed)?);
        }
        Ok(following)
    }

    pub(super) fn stop(self) {
        // ORDERING: Relaxed, pairs with the threads' loads; joining orders the rest.
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}
