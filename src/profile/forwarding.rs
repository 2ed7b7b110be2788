//! `[forwarding]`: what upstream servers are told about the way of a request, and whose word about it counts.

use std::net::IpAddr;

use serde::Deserialize;

/// The section as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Forwarding {
    /// Peers whose `Forwarded` and `X-Forwarded-*` are believed and added to. From all others they are replaced.
    pub trusted: Vec<Network>,
    pub headers: ForwardedHeaders,
    /// Answers carry `Server-Timing` with the time in the queue, in dispatch and in service.
    pub server_timing: bool,
}

/// Which fields tell an upstream server where a request came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    Both,
    /// None; what an untrusted peer says is removed all the same.
    None,
}

impl ForwardedHeaders {
    pub const fn has_x_forwarded(self) -> bool {
        matches!(self, Self::XForwarded | Self::Both)
    }

    pub const fn has_forwarded(self) -> bool {
        matches!(self, Self::Forwarded | Self::Both)
    }
}

impl Forwarding {
    /// Whether a peer's word about the way of a request counts. `None` is a peer on a Unix socket.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        self.trusted.iter().any(|network| network.has(peer))
    }
}

/// Addresses that share their first bits, or the peers on Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Network {
    Unix,
    /// IPv4 addresses count as the IPv6 ones that map them (RFC 4291 section 2.5.5.2), as dual-stack sockets see them.
    Addresses {
        first: u128,
        mask: u128,
    },
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Network {
    fn has(&self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (Self::Unix, peer) => peer.is_none(),
            (Self::Addresses { first, mask }, Some(peer)) => number(peer) & mask == *first,
            (Self::Addresses { .. }, None) => false,
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    /// `10.0.0.0/8`, `::1`, or `unix`.
    fn try_from(text: String) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let wrong = || format!("`{text}` is no network; write 10.0.0.0/8, 192.0.2.7, 2001:db8::/32 or unix");
        let (address, bits) = text.split_once('/').map_or((text.as_str(), None), |(left, bits)| (left, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits: u32 = bits.map_or(Ok(width), str::parse).map_err(|_| wrong())?;
        if bits > width {
            return Err(wrong());
        }
        // The bits behind the prefix: as many whatever stands before an IPv4 address.
        let mask = u128::MAX.checked_shl(width - bits).unwrap_or(0);
        let first = number(address);
        if first & mask != first {
            return Err(format!("`{text}` has bits behind its prefix; write the network's first address"));
        }
        Ok(Self::Addresses { first, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::{Forwarding, Network};

    #[test]
    fn networks_have_their_addresses_and_no_others() {
        let policy = |text: &[&str]| Forwarding {
            trusted: text.iter().map(|text| Network::try_from((*text).to_owned()).unwrap()).collect(),
            ..Forwarding::default()
        };
        for (networks, peer, expected) in [
            (&["127.0.0.0/8"][..], "127.255.0.1", true),
            (&["127.0.0.0/8"], "128.0.0.1", false),
            (&["127.0.0.0/8"], "::ffff:127.0.0.1", true),
            (&["127.0.0.0/8"], "::1", false),
            (&["192.0.2.7"], "192.0.2.7", true),
            (&["192.0.2.7"], "192.0.2.6", false),
            (&["0.0.0.0/0"], "203.0.113.9", true),
            (&["0.0.0.0/0"], "2001:db8::1", false),
            (&["::/0"], "203.0.113.9", true),
            (&["2001:db8::/32"], "2001:db8:ffff::1", true),
            (&["2001:db8::/32", "10.0.0.0/8"], "10.1.2.3", true),
            (&["2001:db8::/32"], "2001:db9::1", false),
            (&["unix"], "127.0.0.1", false),
            (&[], "127.0.0.1", false),
        ] {
            assert_eq!(policy(networks).trusts(Some(peer.parse().unwrap())), expected, "{networks:?} {peer}");
        }
        assert!(policy(&["unix"]).trusts(None));
        assert!(!policy(&["0.0.0.0/0", "::/0"]).trusts(None));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "a", "10.0.0.0/33", "10.0.0.0/", "10.0.0.1/8", "::1/64", "10.0.0/8", "10.0.0.0/8/8", "::/129"]
        {
            assert!(Network::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
