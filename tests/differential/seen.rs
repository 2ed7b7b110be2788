//! What a reader sees in a request.

use super::message;

/// A request without its framing and without fields of one connection, which readers drop in ways of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// Names in lower case, in the order of names; values of one name in their own order.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Fields that say how the message is framed or carried, not what it is.
const LEFT_OUT: [&str; 6] = ["connection", "content-length", "transfer-encoding", "trailer", "te", "keep-alive"];

impl Seen {
    pub fn new(method: String, target: String, fields: Vec<(String, String)>, body: Vec<u8>) -> Self {
        let mut fields: Vec<(String, String)> =
            fields.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        fields.retain(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        Self { method, target, fields, body }
    }
}

/// What our own plain reader sees.
///
/// # Panics
/// If it is not exactly one request.
pub fn of(bytes: &[u8]) -> Seen {
    match message::request(bytes) {
        Ok(Some((request, taken))) if taken == bytes.len() => {
            Seen::new(request.method, request.target, request.head.fields, request.body)
        }
        other => panic!("no request: {other:?} in {}", bytes.escape_ascii()),
    }
}
