//! What a relayed exchange holds on its way to a server.

use crate::statements::upstream::RETRIES_MAX;

use super::budget::Retry;
use super::group::SharedGroup;
use super::queue::Place;

/// Servers that failed a request: it goes to another one if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    servers: [usize; RETRIES_MAX as usize + 1],
    count: usize,
}

impl Tried {
    pub fn add(&mut self, server: usize) {
        if let Some(place) = self.servers.get_mut(self.count) {
            *place = server;
            self.count += 1;
        }
    }

    pub fn contains(&self, server: usize) -> bool {
        self.servers[..self.count].contains(&server)
    }

    /// Times that the request failed.
    pub fn count(&self) -> u32 {
        u32::try_from(self.count).unwrap_or(u32::MAX)
    }
}

/// What one relayed exchange holds; all of it is given up with it.
#[derive(Debug, Default)]
pub struct Course {
    /// The servers of its statement.
    pub group: Option<SharedGroup>,
    /// Its place in the queue.
    pub place: Option<Place>,
    /// Its part of the retry budget.
    pub retry: Option<Retry>,
    pub tried: Tried,
    /// It was sent again because of an old connection, on a new one.
    pub renewed: bool,
}
