//! Join the shortest queue by published depth: what many dispatchers with one old snapshot make of it is the herd.

use super::{Reason, View};

#[derive(Clone, Debug, Default)]
pub(in crate::dispatch) struct JoinShortest {
    start: usize,
}

impl JoinShortest {
    pub fn choose(&mut self, view: &View) -> Option<(usize, Reason)> {
        let shortest = view.open_from(self.start).min_by_key(|&index| view.replicas[index].depth)?;
        self.start = shortest + 1;
        Some((shortest, Reason::ShortestDepth))
    }
}
