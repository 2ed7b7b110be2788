//! Who asks: the session cookie's signature is verified here, before the request goes anywhere.
//!
//! Architecture invariant: a front says who somebody is; what they may do is decided by the replica, with the
//! authority table of the code version that the request pins.

use crate::authority::session::SessionKey;
use crate::http1::cookie;
use crate::http1::head::{Known, RequestHead};
use crate::replica::job::Identity;

/// Name of the session cookie.
pub const COOKIE: &str = "twintier_session";

/// Fills `identity` from the request's cookies; without a valid session it stays empty, a visitor's.
pub fn identify(head: &RequestHead, bytes: &[u8], key: &SessionKey, unix_ms: u64, identity: &mut Identity) {
    for header in head.headers.iter().filter(|header| header.known == Known::Cookie) {
        let Some(value) = cookie::find(header.value.of(bytes), COOKIE.as_bytes()) else { continue };
        let Ok(text) = std::str::from_utf8(value) else { continue };
        if let Ok(found) = key.verify(text, unix_ms) {
            *identity = found;
            return;
        }
    }
}
