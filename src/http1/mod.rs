//! HTTP/1.1 messages (RFC 9110, RFC 9112): strict parsing, body framing, encoding. Bytes in, types out; no I/O.

pub mod body;
pub mod encode;
pub mod head;
pub mod parse;

pub use head::Method;
