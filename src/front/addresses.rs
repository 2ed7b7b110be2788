//! Open connections of each client address at one front server.

use std::collections::HashMap;
use std::net::IpAddr;

/// Counts connections by address. An IPv6 client has a whole network of 64 bits to call from, so that is what counts.
///
/// The table holds no more entries than there are connections, for which it has room from the start.
#[derive(Debug)]
pub struct Addresses {
    open: HashMap<u128, u32>,
    open_max: u32,
}

/// IPv4 as the IPv6 addresses that map it; IPv6 by its first 64 bits.
fn key(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

impl Addresses {
    /// At most `open_max` connections of an address, among at most `connections_max` in all.
    pub fn new(open_max: u32, connections_max: u32) -> Self {
        Self { open: HashMap::with_capacity(usize::try_from(connections_max).unwrap_or(0)), open_max }
    }

    /// Counts a connection in; false if its address has as many as it may have.
    pub fn enter(&mut self, address: IpAddr) -> bool {
        let open = self.open.entry(key(address)).or_default();
        if *open >= self.open_max {
            return false;
        }
        *open += 1;
        true
    }

    /// Counts a connection out that came in.
    pub fn leave(&mut self, address: IpAddr) {
        let key = key(address);
        if let Some(open) = self.open.get_mut(&key) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.open.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Addresses;

    #[test]
    fn an_address_has_as_many_connections_as_it_may_have() {
        let mut addresses = Addresses::new(2, 16);
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        assert!(addresses.enter(a) && addresses.enter(a) && !addresses.enter(a));
        assert!(addresses.enter(b), "another address is not concerned");
        addresses.leave(a);
        assert!(addresses.enter(a) && !addresses.enter(a));
        for _ in 0..3 {
            addresses.leave(a);
        }
        addresses.leave(b);
        assert!(addresses.open.is_empty(), "who has left is forgotten");
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client() {
        let mut addresses = Addresses::new(1, 16);
        assert!(addresses.enter("2001:db8::1".parse().unwrap()));
        assert!(!addresses.enter("2001:db8::2".parse().unwrap()));
        assert!(addresses.enter("2001:db8:0:1::1".parse().unwrap()));
        assert!(addresses.enter("192.0.2.1".parse().unwrap()));
        assert!(!addresses.enter("::ffff:192.0.2.1".parse().unwrap()));
    }
}
