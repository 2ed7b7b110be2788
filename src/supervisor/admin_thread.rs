//! The thread of the admin interface, and its port.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel;

use super::Failure;
use crate::admin::{self, Cluster};
use crate::engine::Address;
use crate::profile::Profile;

pub(super) fn admin_listener(profile: &Profile) -> Result<TcpListener, Failure> {
    let Ok(Address::Tcp(address)) = profile.listen.admin.parse() else {
        return Err(Failure::usage(format!(
            "listen.admin = `{}`: the admin interface needs a TCP address",
            profile.listen.admin
        )));
    };
    TcpListener::bind(address).map_err(|error| {
        Failure::failed(format!("the admin interface cannot listen on {address}: {error}; stop what does, or write --set listen.admin=127.0.0.1:0"))
    })
}

/// The running thread.
pub(super) struct AdminThread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl AdminThread {
    /// If it ends by itself, it says so to `end`.
    pub(super) fn spawn(
        listener: TcpListener,
        cluster: &Arc<Cluster>,
        end: channel::Sender<String>,
    ) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let (cluster, stopped) = (Arc::clone(cluster), Arc::clone(&stop));
        let token = cluster.profile.listen.admin_token.clone();
        let body = move || {
            if let Err(error) = admin::server::run(listener, cluster, token, stopped) {
                let _ = end.try_send(format!("the admin thread ended: {error}"));
            }
        };
        let thread = std::thread::Builder::new().name("admin".into()).spawn(body);
        let failed = |error| Failure::failed(format!("the admin thread could not be started: {error}"));
        Ok(Self { stop, thread: thread.map_err(failed)? })
    }

    /// It answers no new question; [`join`](Self::join) waits for the last answer.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn join(self) {
        let _ = self.thread.join();
    }
}
