//! Message headers, vectors and addresses that submission entries point to.
//!
//! The kernel copies all of them when it takes the entry (`IORING_FEAT_SUBMIT_STABLE`), so one of each per entry of
//! the submission queue is enough, used in the queue's own order.

use crate::engine::Chunk;
use crate::engine::socket::Name;

/// Chunks that one send takes at most.
pub(super) const PARTS_MAX: usize = 16;

struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; PARTS_MAX],
}

/// The memory behind the entries of one submission queue.
pub(super) struct Vectors {
    messages: Box<[Message]>,
    names: Box<[Name]>,
    /// Entries pushed so far; the low bits are the place in the queue.
    pushed: usize,
}

impl Vectors {
    /// For a queue of `entries`.
    pub(super) fn new(entries: usize) -> Self {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let message = || Message {
            // SAFETY: a msghdr is integers and pointers, for which all zeroes is a value.
            header: unsafe { std::mem::zeroed() },
            parts: [empty; PARTS_MAX],
        };
        Self {
            messages: (0..entries).map(|_| message()).collect(),
            names: vec![Name::empty(); entries].into(),
            pushed: 0,
        }
    }

    /// Counts an entry that was pushed: the next message and name are other ones.
    pub(super) fn advance(&mut self) {
        self.pushed = self.pushed.wrapping_add(1);
    }

    /// The header of a message made of `chunks`, at most [`PARTS_MAX`] of them.
    pub(super) fn message<'a>(&mut self, chunks: impl Iterator<Item = &'a Chunk>) -> *const libc::msghdr {
        let count = self.messages.len();
        let message = &mut self.messages[self.pushed % count];
        let mut used = 0;
        for (part, chunk) in message.parts.iter_mut().zip(chunks) {
            let bytes = chunk.as_slice();
            *part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            used += 1;
        }
        message.header.msg_iov = message.parts.as_mut_ptr();
        message.header.msg_iovlen = used;
        &raw const message.header
    }

    /// Keeps `name` for the entry that is pushed next.
    pub(super) fn name(&mut self, name: Name) -> &Name {
        let count = self.names.len();
        let place = &mut self.names[self.pushed % count];
        *place = name;
        place
    }
}
