//! The front servers' port: whether it is free, and their sockets on it.

use std::os::fd::OwnedFd;

use super::Failure;
use crate::engine::{Address, socket};
use crate::profile::Profile;

/// The front servers share their port, so that the kernel would let a second appliance share it, too: a listener that
/// shares with nobody finds out whether the port is free.
pub(super) fn refuse_taken_port(profile: &Profile) -> Result<(), Failure> {
    let Ok(Address::Tcp(address)) = profile.listen.http.parse() else { return Ok(()) };
    std::net::TcpListener::bind(address).map(drop).map_err(|error| {
        Failure::failed(format!(
            "the front servers cannot listen on {address}: {error}; stop what does, or write --set listen.http=127.0.0.1:0"
        ))
    })
}

/// A socket for each front server, and the address of all: the first one fixes the port, the others share it.
pub(super) fn front_listeners(profile: &Profile, fronts: usize) -> Result<(Vec<OwnedFd>, Address), Failure> {
    let mut bound: Address = profile.listen.http.parse().map_err(Failure::usage)?;
    let backlog = u32::try_from(profile.listen.backlog).unwrap_or(4096);
    let mut listeners = Vec::with_capacity(fronts);
    for _ in 0..fronts {
        let socket = socket::listen(&bound, backlog, true).map_err(|error| Failure::failed(error.to_string()))?;
        bound = socket::local_address(&socket).map_err(|error| Failure::failed(error.to_string()))?;
        listeners.push(socket);
    }
    Ok((listeners, bound))
}
