//! Sessions in signed cookies: `v1.<session>.<user>.<expiry>.<signature>`.
//!
//! The session is 32 hexadecimal digits, the user base64url without padding, the expiry in Unix seconds, and the
//! signature a keyed BLAKE3 hash over everything before its dot. The cookie is characters that RFC 6265 §4.1.1
//! allows. Nothing of it is looked at before its signature is found right, except that it has one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of a user's name at most.
pub const USER_BYTES_MAX: usize = 256;
/// Bytes of a cookie value at most: what [`SessionKey::sign`] makes of the longest name, with room.
pub const COOKIE_BYTES_MAX: usize = 512;

/// Each use of the key hashes its own prefix, so that no output of one passes for another's.
const SIGNATURE_USE: &[u8] = b"twintier session signature 1\0";
const CSRF_USE: &[u8] = b"twintier csrf token 1\0";
const SERVER_USE: &[u8] = b"twintier upstream server 1\0";

/// Who asks. The front has verified the session's signature; the replica decides what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Signed-in user; empty for a visitor.
    pub user: String,
    /// The session's number in the cookie; empty without a valid session cookie.
    pub session: String,
    /// Unix milliseconds at which the session ends.
    pub expires_ms: u64,
    /// The token that forms of this session must carry; empty without a session.
    pub csrf: String,
}

/// Why a cookie is not accepted. The visitor has no session then; nothing is told to the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionFault {
    /// Not the form of a cookie of ours.
    Malformed,
    /// Not signed with this key, or changed since.
    Forged,
    /// Signed, but over.
    Expired,
}

/// The secret of all session cookies of a cluster; kept in the database, so that sessions outlive a restart.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("SessionKey(secret)")
    }
}

impl SessionKey {
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The cookie value of a session that ends at `expires_ms` (Unix milliseconds, rounded up to a second). A user's
    /// name is at most [`USER_BYTES_MAX`] bytes; a longer one makes a cookie that is not accepted.
    pub fn sign(&self, session: u128, user: &str, expires_ms: u64) -> String {
        let mut cookie = format!("v1.{session:032x}.");
        URL_SAFE_NO_PAD.encode_string(user, &mut cookie);
        cookie.push('.');
        cookie.push_str(&expires_ms.div_ceil(1000).to_string());
        let signature = self.hash(SIGNATURE_USE, cookie.as_bytes());
        cookie.push('.');
        cookie.push_str(&signature.to_hex());
        cookie
    }

    /// Who sends this cookie.
    ///
    /// # Errors
    /// A cookie that is not ours, not signed with this key, or over at `now_unix_ms`.
    pub fn verify(&self, cookie: &str, now_unix_ms: u64) -> Result<Identity, SessionFault> {
        let mut identity = Identity::default();
        self.verify_into(cookie, now_unix_ms, &mut identity)?;
        Ok(identity)
    }

    /// The same into an identity that is used again; it is empty after an error.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_into(&self, cookie: &str, now_unix_ms: u64, identity: &mut Identity) -> Result<(), SessionFault> {
        identity.user.clear();
        identity.session.clear();
        identity.csrf.clear();
        identity.expires_ms = 0;
        if cookie.len() > COOKIE_BYTES_MAX {
            return Err(SessionFault::Malformed);
        }
        let (signed, signature) = cookie.rsplit_once('.').ok_or(SessionFault::Malformed)?;
        let signature = parse_hash(signature).ok_or(SessionFault::Malformed)?;
        // `blake3::Hash` compares in constant time.
        if self.hash(SIGNATURE_USE, signed.as_bytes()) != signature {
            return Err(SessionFault::Forged);
        }
        let mut parts = signed.split('.');
        let (Some("v1"), Some(session), Some(user), Some(expiry), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SessionFault::Malformed);
        };
        let mut name = [0u8; USER_BYTES_MAX + 2];
        let length = URL_SAFE_NO_PAD.decode_slice(user, &mut name).map_err(|_| SessionFault::Malformed)?;
        let name = std::str::from_utf8(&name[..length]).map_err(|_| SessionFault::Malformed)?;
        let expires_s: u64 = expiry.parse().map_err(|_| SessionFault::Malformed)?;
        let expires_ms = expires_s.saturating_mul(1000);
        if now_unix_ms >= expires_ms {
            return Err(SessionFault::Expired);
        }
        identity.user.push_str(name);
        identity.session.push_str(session);
        identity.csrf.push_str(&self.csrf(session));
        identity.expires_ms = expires_ms;
        Ok(())
    }

    /// The token that forms of a session carry; `session` as in [`Identity::session`].
    pub fn csrf(&self, session: &str) -> impl std::ops::Deref<Target = str> + use<> {
        self.hash(CSRF_USE, session.as_bytes()).to_hex()
    }

    /// What an upstream server is called in affinity cookies: 64 hexadecimal digits that do not tell its address.
    pub fn server_name(&self, address: &str) -> impl std::ops::Deref<Target = str> + use<> {
        self.hash(SERVER_USE, address.as_bytes()).to_hex()
    }

    fn hash(&self, purpose: &[u8], data: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.0).update(purpose).update(data).finalize()
    }
}

/// Whether a form's token is the session's; an empty one never is. Takes the same time wherever they differ.
pub fn csrf_matches(identity: &Identity, sent: &str) -> bool {
    let same_length = identity.csrf.len() == sent.len() && !sent.is_empty();
    let difference =
        identity.csrf.bytes().zip(sent.bytes()).fold(0, |difference, (one, other)| difference | (one ^ other));
    same_length && std::hint::black_box(difference) == 0
}

/// 64 lower-case hexadecimal digits: the one spelling that is accepted.
fn parse_hash(digits: &str) -> Option<blake3::Hash> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !digits.bytes().all(is_digit) {
        return None;
    }
    blake3::Hash::from_hex(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
    const EXPIRES_MS: u64 = 1_700_000_000_000;

    fn key() -> SessionKey {
        SessionKey::new([7; 32])
    }

    #[test]
    fn a_signed_session_comes_back() {
        let longest = "x".repeat(USER_BYTES_MAX);
        for user in ["", "ada", "Zoë O'Hara <zoe@example.com>", "a.b.c", &longest] {
            let cookie = key().sign(SESSION, user, EXPIRES_MS);
            assert!(cookie.len() <= COOKIE_BYTES_MAX, "{}", cookie.len());
            assert!(cookie.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{cookie}");
            let identity = key().verify(&cookie, EXPIRES_MS - 1).unwrap();
            assert_eq!(identity.user, user);
            assert_eq!(identity.session, "0123456789abcdef0011223344556677");
            assert_eq!(identity.expires_ms, EXPIRES_MS);
            assert_eq!(identity.csrf.len(), 64);
        }
        let cookie = key().sign(SESSION, &"x".repeat(USER_BYTES_MAX * 2), EXPIRES_MS);
        assert_eq!(key().verify(&cookie, 0), Err(SessionFault::Malformed));
    }

    #[test]
    fn it_ends_when_it_says() {
        let cookie = key().sign(SESSION, "ada", EXPIRES_MS - 1);
        assert!(key().verify(&cookie, EXPIRES_MS - 1).is_ok());
        assert_eq!(key().verify(&cookie, EXPIRES_MS), Err(SessionFault::Expired));
        assert_eq!(key().verify(&cookie, u64::MAX), Err(SessionFault::Expired));
    }

    #[test]
    fn a_change_of_any_byte_is_found() {
        let cookie = key().sign(SESSION, "ada", EXPIRES_MS);
        let mut tried = 0;
        for place in 0..cookie.len() {
            for byte in (0..128u8).filter(|byte| *byte != cookie.as_bytes()[place]) {
                let mut changed = cookie.clone().into_bytes();
                changed[place] = byte;
                let changed = String::from_utf8(changed).unwrap();
                let fault = key().verify(&changed, 0).unwrap_err();
                assert_ne!(fault, SessionFault::Expired, "{changed}");
                tried += 1;
            }
            assert!(key().verify(&cookie[..place], 0).is_err(), "cut at {place}");
            let (before, after) = cookie.split_at(place);
            assert!(key().verify(&format!("{before}x{after}"), 0).is_err(), "grown at {place}");
        }
        assert_eq!(tried, cookie.len() * 127);
        assert!(key().verify(&cookie.to_uppercase(), 0).is_err());
        assert!(key().verify(&format!("{cookie} "), 0).is_err());
    }

    #[test]
    fn another_key_is_refused() {
        let cookie = key().sign(SESSION, "ada", EXPIRES_MS);
        assert_eq!(SessionKey::new([8; 32]).verify(&cookie, 0), Err(SessionFault::Forged));
        for junk in ["", ".", "v1", "v1....", "v1.a.b.c.d", &"x".repeat(10_000), "é.é", &".".repeat(100)] {
            assert!(key().verify(junk, 0).is_err(), "{junk}");
        }
    }

    #[test]
    fn tokens_belong_to_their_session() {
        let mine = key().verify(&key().sign(SESSION, "ada", EXPIRES_MS), 0).unwrap();
        let other = key().verify(&key().sign(SESSION + 1, "ada", EXPIRES_MS), 0).unwrap();
        assert!(csrf_matches(&mine, &mine.csrf));
        for wrong in ["", &other.csrf, &mine.csrf[1..], &mine.csrf.to_uppercase(), &format!("{}0", mine.csrf)] {
            assert!(!csrf_matches(&mine, wrong), "{wrong}");
        }
        assert!(!csrf_matches(&Identity::default(), ""));
        assert!(!key().sign(SESSION, "ada", EXPIRES_MS).contains(&mine.csrf), "the token is not in the cookie");
    }
}
