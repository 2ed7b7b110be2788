//! What each front server publishes of its load for the first dispatchers of the others.

use crate::dispatch::connections::Load;
use crate::mesh::depth::DepthBoard;

/// Published in place of the connections of a front server that takes no more.
const DRAINING: u32 = u32::MAX;

/// Loads by front number; each is written by its own worker only. The numbers of one load need not be of one moment.
#[derive(Debug)]
pub struct LoadBoard {
    connections: DepthBoard,
    exchanges: DepthBoard,
    busy_permille: DepthBoard,
}

impl LoadBoard {
    pub fn new(fronts: usize) -> Self {
        let board = || DepthBoard::new(fronts);
        Self { connections: board(), exchanges: board(), busy_permille: board() }
    }

    pub fn fronts(&self) -> usize {
        self.connections.workers()
    }

    /// Costs no line transfer if nothing changed.
    ///
    /// # Panics
    /// If there is no such front server.
    pub fn publish(&self, front: usize, load: &Load) {
        self.connections.publish(front, if load.draining { DRAINING } else { load.connections.min(DRAINING - 1) });
        self.exchanges.publish(front, load.exchanges);
        self.busy_permille.publish(front, load.busy_permille);
    }

    /// # Panics
    /// If there is no such front server.
    pub fn read(&self, front: usize) -> Load {
        let connections = self.connections.read(front);
        let draining = connections == DRAINING;
        Load {
            connections: if draining { 0 } else { connections },
            exchanges: self.exchanges.read(front),
            busy_permille: self.busy_permille.read(front),
            draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Load, LoadBoard};

    #[test]
    fn loads_come_back_as_published() {
        let board = LoadBoard::new(2);
        let load = Load { connections: 7, exchanges: 3, busy_permille: 640, draining: false };
        board.publish(1, &load);
        assert_eq!((board.read(0), board.read(1)), (Load::default(), load));
        board.publish(1, &Load { draining: true, ..load });
        assert_eq!(board.read(1), Load { connections: 0, draining: true, ..load });
    }
}
