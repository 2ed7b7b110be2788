//! The ports: whether they are free, and who listens there.

use super::Failure;
use crate::engine::Address;
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

pub(super) fn admin_listener(profile: &Profile) -> Result<std::net::TcpListener, Failure> {
    let Ok(Address::Tcp(address)) = profile.listen.admin.parse() else {
        return Err(Failure::usage(format!(
            "listen.admin = `{}`: the admin interface needs a TCP address",
            profile.listen.admin
        )));
    };
    std::net::TcpListener::bind(address).map_err(|error| {
        Failure::failed(format!("the admin interface cannot listen on {address}: {error}; stop what does, or write --set listen.admin=127.0.0.1:0"))
    })
}
