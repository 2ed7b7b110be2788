//! Upstream connections that carry requests and take more of them.

use crate::engine::Conn;

/// Connections that take more riders, of each upstream server. Entries are hints: what they name is looked at before
/// it is used.
#[derive(Debug, Default)]
pub struct Offers {
    servers: Vec<Vec<Conn>>,
}

impl Offers {
    pub fn add(&mut self, server: usize, conn: Conn) {
        if self.servers.len() <= server {
            self.servers.resize_with(server + 1, Vec::new);
        }
        self.servers[server].push(conn);
    }

    /// The one offered last: it is the likeliest to go out in the same system call.
    pub fn last(&self, server: usize) -> Option<Conn> {
        self.servers.get(server)?.last().copied()
    }

    pub fn remove_last(&mut self, server: usize) {
        if let Some(offers) = self.servers.get_mut(server) {
            offers.pop();
        }
    }
}
