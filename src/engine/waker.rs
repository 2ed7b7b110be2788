//! Waking an engine from another thread.
//!
//! The engine keeps a read of the eventfd in flight; a write completes it. The counter remembers a write that comes
//! while no read is in flight, so no wake is lost, and several writes become one [`Woken`](super::Event::Woken).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// A doorbell of one engine. It is made before the engine, so that a supervisor can hand it to every thread that will
/// ring it; clones ring the same bell.
#[derive(Clone, Debug)]
pub struct Waker {
    counter: Arc<OwnedFd>,
}

impl Waker {
    /// A bell that nobody has rung.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        // It must block: io_uring answers reads of non-blocking files with EAGAIN instead of waiting for them.
        // SAFETY: the call takes no pointers.
        let counter = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if counter < 0 {
            let error = io::Error::last_os_error();
            return Err(io::Error::new(error.kind(), format!("cannot make an eventfd: {error}; raise `ulimit -n`")));
        }
        // SAFETY: the descriptor is new and nobody else owns it.
        Ok(Self { counter: Arc::new(unsafe { OwnedFd::from_raw_fd(counter) }) })
    }

    /// Makes the engine's turn return with [`Woken`](super::Event::Woken). One system call; callers that wake often
    /// keep a flag of their own that says whether the engine sleeps.
    pub fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: `one` is eight readable bytes, as eventfd wants. The write could only fail or block with a counter
        // near 2^64, which would mean that a wake is pending anyway.
        unsafe { libc::write(self.counter.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Whether the bell was rung since the last call; never waits. For engines without a ring.
    pub(super) fn take(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.counter.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut count = [0_u8; 8];
        // SAFETY: `poll` is one entry and `count` is eight writable bytes; both outlive the calls. The read does not
        // wait, because only the engine's thread reads and the counter was found to be above zero.
        unsafe {
            libc::poll(&raw mut poll, 1, 0) == 1
                && libc::read(self.counter.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) == 8
        }
    }

    /// A copy of the descriptor, for engines whose runtime wants to own what it reads from.
    #[cfg(feature = "appliance")]
    pub(super) fn try_clone_descriptor(&self) -> io::Result<OwnedFd> {
        self.counter.try_clone()
    }

    /// The descriptor that the engine reads eight bytes from.
    pub(super) fn descriptor(&self) -> RawFd {
        self.counter.as_raw_fd()
    }
}
