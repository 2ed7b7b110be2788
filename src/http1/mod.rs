//! HTTP/1.1 messages (RFC 9110, RFC 9112): strict parsing, body framing, encoding. Bytes in, types out; no I/O.
//!
//! Strict means: whatever two parsers could read differently is refused, even where the RFC would let a recipient
//! repair it. Each rule names its clause beside the code. No function here panics, whatever the bytes.

pub mod body;
pub mod cookie;
pub mod encode;
pub mod form;
pub mod head;
pub mod parse;
mod scan;
mod semantics;
#[cfg(test)]
mod vectors;

pub use head::Method;
