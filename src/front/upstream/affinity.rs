//! Session affinity: a cookie that names the server of a browser's first request.
//!
//! The name is a keyed hash of the server's address: it says nothing to a stranger, and it is the same on every front,
//! after a reload and after a restart.

use crate::authority::session::SessionKey;
use crate::engine::Address;
use crate::http1::cookie;
use crate::http1::head::{Known, RequestHead};

/// Hexadecimal digits of a server's name.
const DIGITS: usize = 16;

/// A server's name in cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerName([u8; DIGITS]);

impl ServerName {
    pub fn of(address: &Address, key: &SessionKey) -> Self {
        let hash = key.server_name(&address.to_string());
        let mut name = [0; DIGITS];
        name.copy_from_slice(&hash.as_bytes()[..DIGITS]);
        Self(name)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }

    /// The value of `Set-Cookie`; `mount` is the statement's pattern without `/*`.
    pub fn set_cookie(&self, cookie: &str, mount: &str) -> Box<str> {
        let path = if mount.is_empty() { "/" } else { mount };
        format!("{cookie}={}; Path={path}; HttpOnly; SameSite=Lax", self.as_str()).into()
    }
}

/// The value of the request's affinity cookie; `bytes` are the head's.
pub fn sent<'b>(head: &RequestHead, bytes: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let mut fields = head.headers.iter().filter(|header| header.known == Known::Cookie);
    fields.find_map(|header| cookie::find(header.value.of(bytes), name.as_bytes()))
}

impl PartialEq<[u8]> for ServerName {
    fn eq(&self, sent: &[u8]) -> bool {
        self.0 == sent
    }
}

#[cfg(test)]
mod tests {
    use super::ServerName;
    use crate::authority::session::SessionKey;

    #[test]
    fn names_depend_on_address_and_key_and_on_nothing_else() {
        let name = |address: &str, key: u8| ServerName::of(&address.parse().unwrap(), &SessionKey::new([key; 32]));
        assert_eq!(name("127.0.0.1:80", 1), name("127.0.0.1:80", 1));
        assert_ne!(name("127.0.0.1:80", 1), name("127.0.0.1:81", 1));
        assert_ne!(name("127.0.0.1:80", 1), name("127.0.0.1:80", 2));
        let one = name("unix:/run/a", 1);
        assert!(one == *one.as_str().as_bytes() && one != b"x"[..]);
        let line = one.set_cookie("srv", "/api");
        assert_eq!(*line, *format!("srv={}; Path=/api; HttpOnly; SameSite=Lax", one.as_str()));
        assert!(one.set_cookie("srv", "").contains("; Path=/;"));
    }
}
