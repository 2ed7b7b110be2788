//! The end of the connections.

use std::time::Duration;

use super::log_lines::since_ms;
use crate::admin::Cluster;
use crate::clock;
use crate::worker::Control;

/// Stops accepting, lets requests finish, closes idle connections; bounded by `timeouts.drain_ms`.
pub(super) fn drain(cluster: &Cluster) {
    let begun_ns = clock::monotonic_ns();
    let until = begun_ns + cluster.profile.timeouts.drain_ms * 1_000_000;
    cluster.broadcast(|| Control::StopListening);
    cluster.broadcast(|| Control::Drain { on: true });
    let mut open = 0;
    while clock::monotonic_ns() < until {
        let statuses = cluster.statuses_blocking();
        open =
            statuses.iter().filter_map(|status| status.front.as_ref()).map(|front| front.open_connections).sum::<u32>();
        if open == 0 {
            log::info!(elapsed_ms = since_ms(begun_ns); "drained");
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    log::warn!(
        drain_ms = cluster.profile.timeouts.drain_ms, connections = open;
        "connections were still open after timeouts.drain_ms and are cut"
    );
}
