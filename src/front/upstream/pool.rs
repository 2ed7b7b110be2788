//! Keep-alive pools of one front, outstanding requests, passive health.

use crate::engine::{Address, Conn};

/// Consecutive failures after which a server is left alone for a while.
const FAILURES_MAX: u32 = 3;
/// How long, in nanoseconds; then one request is let through as a probe.
const EJECTED_NS: u64 = 1_000_000_000;

/// One upstream server as this front sees it.
#[derive(Debug)]
pub struct UpstreamServer {
    pub address: Address,
    pub outstanding: u32,
    pub failures: u32,
    pub requests: u64,
    idle: Vec<Conn>,
    ejected_until_ns: u64,
}

/// All upstream servers that statements name. They stay when statements change, so that health and idle connections
/// survive a reload.
#[derive(Debug, Default)]
pub struct Pools {
    servers: Vec<UpstreamServer>,
    turn: usize,
}

impl Pools {
    /// The server's index; new servers are appended.
    pub fn resolve(&mut self, address: &Address) -> usize {
        if let Some(index) = self.servers.iter().position(|server| server.address == *address) {
            return index;
        }
        self.servers.push(UpstreamServer {
            address: address.clone(),
            outstanding: 0,
            failures: 0,
            requests: 0,
            idle: Vec::new(),
            ejected_until_ns: 0,
        });
        self.servers.len() - 1
    }

    /// The server with the fewest outstanding requests; ties rotate. Servers that failed are passed over unless all
    /// have failed: a request is better tried than refused.
    pub fn pick(&mut self, candidates: &[usize], now_ns: u64) -> Option<usize> {
        self.turn = self.turn.wrapping_add(1);
        let order = || (0..candidates.len()).map(|step| candidates[(step + self.turn) % candidates.len()]);
        let healthy = order().filter(|&index| self.servers[index].ejected_until_ns <= now_ns);
        let least = healthy.min_by_key(|&index| self.servers[index].outstanding);
        least.or_else(|| order().min_by_key(|&index| self.servers[index].outstanding))
    }

    pub fn server(&mut self, index: usize) -> &mut UpstreamServer {
        &mut self.servers[index]
    }

    pub fn servers(&self) -> &[UpstreamServer] {
        &self.servers
    }
}

impl UpstreamServer {
    pub fn take_idle(&mut self) -> Option<Conn> {
        self.idle.pop()
    }

    pub fn give_back(&mut self, conn: Conn) {
        self.idle.push(conn);
    }

    /// Forgets an idle connection that closed.
    pub fn forget(&mut self, conn: Conn) {
        self.idle.retain(|idle| *idle != conn);
    }

    pub fn idle_count(&self) -> usize {
        self.idle.len()
    }

    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.ejected_until_ns = 0;
    }

    pub fn failed(&mut self, now_ns: u64) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.ejected_until_ns = now_ns + EJECTED_NS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_least_busy_and_passes_over_failed_servers() {
        let mut pools = Pools::default();
        let a = pools.resolve(&"127.0.0.1:1".parse().unwrap());
        let b = pools.resolve(&"127.0.0.1:2".parse().unwrap());
        assert_eq!(pools.resolve(&"127.0.0.1:1".parse().unwrap()), a);
        pools.server(a).outstanding = 1;
        assert_eq!(pools.pick(&[a, b], 0), Some(b));
        for _ in 0..FAILURES_MAX {
            pools.server(b).failed(0);
        }
        assert_eq!(pools.pick(&[a, b], 1), Some(a));
        assert_eq!(pools.pick(&[b], 1), Some(b), "all failed: tried anyway");
        assert_eq!(pools.pick(&[a, b], EJECTED_NS), Some(b), "probed after the pause");
        assert_eq!(pools.pick(&[], 0), None);
    }
}
