//! Taking and shedding: how many connections and requests a front server accepts.

use crate::engine::Conn;

/// Admission of one front server.
#[derive(Debug)]
pub struct Admission {
    open: u32,
    open_max: u32,
    draining: bool,
}

impl Admission {
    /// `open_max` connections at most.
    pub fn new(open_max: u32) -> Self {
        Self { open: 0, open_max, draining: false }
    }

    /// Counts a new connection in; false if it must be shed.
    pub fn admit(&mut self, _conn: Conn) -> bool {
        if self.draining || self.open >= self.open_max {
            return false;
        }
        self.open += 1;
        true
    }

    /// Counts a connection out.
    pub fn left(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    pub fn open(&self) -> u32 {
        self.open
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// While draining, answers close their connection and new connections are shed.
    pub fn drain(&mut self, on: bool) {
        self.draining = on;
    }
}
