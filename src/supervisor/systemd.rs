//! What systemd wants to hear from a service of `Type=notify` (sd_notify(3)): datagrams to the socket that
//! `NOTIFY_SOCKET` names. Without that variable nothing is sent.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to systemd, if there is one.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog_ns: Option<u64>,
    next_ns: u64,
}

impl Notifier {
    /// By the variables that systemd has set.
    pub fn of_environment() -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let own = std::process::id();
        Self::new(&variable("NOTIFY_SOCKET"), watchdog_ns(&variable("WATCHDOG_USEC"), &variable("WATCHDOG_PID"), own))
    }

    fn new(path: &str, watchdog_ns: Option<u64>) -> Self {
        let socket = address(path).and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            // A manager that does not read must not hold us up.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        if !path.is_empty() && socket.is_none() {
            log::warn!(socket = path; "systemd cannot be notified");
        }
        Self { socket, watchdog_ns, next_ns: 0 }
    }

    /// What is sent is lost where nobody listens; a service that does not become ready is restarted by its timeout.
    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            let sent = socket.send_to_addr(text.as_bytes(), address);
            if let Err(error) = sent {
                log::warn!(error:%; "systemd could not be notified");
            }
        }
    }

    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// A sign of life, three times within the watchdog's patience, while `is_alive` says so.
    pub fn keep_alive(&mut self, now_ns: u64, is_alive: impl FnOnce(u64) -> bool) {
        let Some(watchdog_ns) = self.watchdog_ns.filter(|_| now_ns >= self.next_ns) else { return };
        if is_alive(watchdog_ns) {
            self.next_ns = now_ns + watchdog_ns / 3;
            self.send("WATCHDOG=1");
        }
    }
}

/// A path, or behind `@` a name of Linux's abstract namespace.
fn address(path: &str) -> Option<SocketAddr> {
    match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None if path.starts_with('/') => SocketAddr::from_pathname(path).ok(),
        None => None,
    }
}

/// The patience of a watchdog that is meant for this process.
fn watchdog_ns(microseconds: &str, process: &str, own: u32) -> Option<u64> {
    let meant = process.is_empty() || process.parse() == Ok(own);
    let patience = Duration::from_micros(microseconds.parse().ok().filter(|_| meant)?);
    u64::try_from(patience.as_nanos()).ok().filter(|ns| *ns > 0)
}

#[cfg(test)]
mod tests {
    use super::{Notifier, address, watchdog_ns};
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn the_watchdog_is_meant_for_one_process() {
        assert_eq!(watchdog_ns("30000000", "", 7), Some(30_000_000_000));
        assert_eq!(watchdog_ns("30000000", "7", 7), Some(30_000_000_000));
        for (microseconds, process) in [("30000000", "8"), ("", ""), ("0", ""), ("x", "7")] {
            assert_eq!(watchdog_ns(microseconds, process, 7), None, "{microseconds} {process}");
        }
    }

    #[test]
    fn states_are_datagrams_and_the_dead_send_none() {
        let path = std::env::temp_dir().join(format!("twintier-notify-{}", std::process::id()));
        drop(std::fs::remove_file(&path));
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let heard = || {
            let mut bytes = [0; 256];
            manager.recv(&mut bytes).ok().map(|count| String::from_utf8_lossy(&bytes[..count]).into_owned())
        };
        let mut notifier = Notifier::new(path.to_str().unwrap(), Some(9_000));
        notifier.ready("all is well");
        assert_eq!(heard().as_deref(), Some("READY=1\nSTATUS=all is well"));
        notifier.keep_alive(1_000, |patience_ns| patience_ns == 9_000);
        assert_eq!(heard().as_deref(), Some("WATCHDOG=1"));
        notifier.keep_alive(3_999, |_| true);
        assert_eq!(heard(), None, "not before a third of the patience has passed");
        notifier.keep_alive(4_000, |_| false);
        assert_eq!(heard(), None, "the dead are silent");
        notifier.keep_alive(4_001, |_| true);
        assert_eq!(heard().as_deref(), Some("WATCHDOG=1"));
        notifier.stopping("draining");
        assert_eq!(heard().as_deref(), Some("STOPPING=1\nSTATUS=draining"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn sockets_are_paths_or_abstract_names() {
        assert!(address("/run/systemd/notify").unwrap().as_pathname().is_some());
        assert!(address("@notify").is_some_and(|address| address.as_pathname().is_none()));
        assert!(address("").is_none() && address("notify").is_none());
        Notifier::new("", None).ready("nobody hears it");
    }
}
