//! One after the other.

use super::{Reason, View};

#[derive(Clone, Debug, Default)]
pub(in crate::dispatch) struct RoundRobin {
    start: usize,
}

impl RoundRobin {
    pub fn choose(&mut self, view: &View) -> Option<(usize, Reason)> {
        let next = view.open_from(self.start).next()?;
        self.start = next + 1;
        Some((next, Reason::Turn))
    }
}
