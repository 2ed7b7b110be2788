//! The shorter of two by published depth, the two drawn by lot: most of the gain of the shortest queue without its
//! herd (Mitzenmacher, 2001).

use super::random::Lots;
use super::{Reason, View};

#[derive(Clone, Debug)]
pub(in crate::dispatch) struct PowerOfTwo {
    lots: Lots,
}

impl PowerOfTwo {
    pub fn new(seed: u64) -> Self {
        Self { lots: Lots(seed) }
    }

    pub fn choose(&mut self, view: &View) -> Option<(usize, Reason)> {
        let open = view.open().count();
        let first = self.lots.below(open)?;
        // The second lot is drawn from the others; a single open replica is both.
        let second = self.lots.below(open - 1).map_or(first, |lot| (first + 1 + lot) % open);
        let (first, second) = (view.open().nth(first)?, view.open().nth(second)?);
        let shorter = if view.replicas[second].depth < view.replicas[first].depth { second } else { first };
        Some((shorter, Reason::ShorterOfTwo))
    }
}
