//! The fewest outstanding requests of this front server, whatever the others do: what most proxies call least
//! connection.

use super::{Reason, View};

#[derive(Clone, Debug, Default)]
pub(in crate::dispatch) struct LeastConnection {
    start: usize,
}

impl LeastConnection {
    pub fn choose(&mut self, view: &View) -> Option<(usize, Reason)> {
        let fewest = view.open_from(self.start).min_by_key(|&index| view.replicas[index].outstanding)?;
        self.start = fewest + 1;
        Some((fewest, Reason::FewestOutstanding))
    }
}
