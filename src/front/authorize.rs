//! Who asks: the session cookie's signature is verified here, before the request goes anywhere.
//!
//! Architecture invariant: a front says who somebody is; what they may do is decided by the replica, with the
//! authority table of the code version that the request pins.

use crate::authority::session::{Identity, SessionKey};
use crate::http1::cookie;
use crate::http1::head::{Known, RequestHead};
use crate::replica::job::SessionChange;

/// Name of the session cookie.
pub const COOKIE: &str = "twintier_session";
/// How long a session lasts, in milliseconds.
const SESSION_MS: u64 = 12 * 3600 * 1000;

/// The sessions of one front server: reads cookies, writes new ones. Nothing is kept, so every front knows them all.
pub struct Sessions {
    key: SessionKey,
    seed: u128,
    begun: u64,
}

impl Sessions {
    /// `seed` comes from the system's random source; session numbers are hashes of it.
    pub fn new(key: SessionKey, seed: u128) -> Self {
        Self { key, seed, begun: 0 }
    }

    /// The cluster's secret.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Fills `identity` from the request's cookies; without a valid session it stays empty, a visitor's.
    pub fn identify(&self, head: &RequestHead, bytes: &[u8], unix_ms: u64, identity: &mut Identity) {
        for header in head.headers.iter().filter(|header| header.known == Known::Cookie) {
            let Some(value) = cookie::find(header.value.of(bytes), COOKIE.as_bytes()) else { continue };
            let Ok(text) = std::str::from_utf8(value) else { continue };
            if self.key.verify_into(text, unix_ms, identity).is_ok() {
                return;
            }
        }
    }

    /// The value of `Set-Cookie` for what an answer does to its session; empty for nothing.
    pub fn set_cookie(&mut self, change: &SessionChange, unix_ms: u64) -> String {
        match change {
            SessionChange::None => String::new(),
            SessionChange::Begin { user } => {
                let number = self.number();
                let value = self.key.sign(number, user, unix_ms + SESSION_MS);
                format!("{COOKIE}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax", SESSION_MS / 1000)
            }
            SessionChange::End => format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"),
        }
    }

    fn number(&mut self) -> u128 {
        self.begun += 1;
        let hash = blake3::hash(&[self.seed.to_le_bytes(), u128::from(self.begun).to_le_bytes()].concat());
        let mut number = [0; 16];
        number.copy_from_slice(&hash.as_bytes()[..16]);
        u128::from_le_bytes(number)
    }
}
