//! Taking and shedding: how many connections and requests a front server accepts.

use std::net::IpAddr;

use super::addresses::Addresses;

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admitted,
    /// The front server has as many as it may have, or drains.
    Full,
    /// Its address has as many as it may have.
    Crowded,
}

/// Admission of one front server.
#[derive(Debug)]
pub struct Admission {
    open: u32,
    open_max: u32,
    addresses: Addresses,
    draining: bool,
}

impl Admission {
    /// `open_max` connections at most, of which `address_max` of one address.
    pub fn new(open_max: u32, address_max: u32) -> Self {
        Self { open: 0, open_max, addresses: Addresses::new(address_max, open_max), draining: false }
    }

    /// Counts a new connection in, unless it must be shed. `None` is an address that is not counted.
    pub fn admit(&mut self, address: Option<IpAddr>) -> Verdict {
        if self.draining || self.open >= self.open_max {
            return Verdict::Full;
        }
        if let Some(address) = address
            && !self.addresses.enter(address)
        {
            return Verdict::Crowded;
        }
        self.open += 1;
        Verdict::Admitted
    }

    /// Counts a connection out, with the address that it came in with.
    pub fn left(&mut self, address: Option<IpAddr>) {
        self.open = self.open.saturating_sub(1);
        if let Some(address) = address {
            self.addresses.leave(address);
        }
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
