//! Join the bounded shortest queue, local first: the own core while it has credit, then the most free credit; of
//! equals the smaller published depth, then the next in turn. A replica without credit is not open, so the rest waits.

use super::{Reason, View};

#[derive(Clone, Debug, Default)]
pub(in crate::dispatch) struct Jbsq {
    start: usize,
}

impl Jbsq {
    pub fn choose(&mut self, view: &View) -> Option<(usize, Reason)> {
        if let Some(local) = view.local.map(usize::from).filter(|&local| view.is_open(local)) {
            return Some((local, Reason::Local));
        }
        let most = view.open_from(self.start).min_by_key(|&index| {
            let replica = &view.replicas[index];
            (replica.outstanding, replica.depth)
        })?;
        self.start = most + 1;
        Some((most, Reason::MostCredit))
    }
}
