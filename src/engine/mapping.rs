//! Anonymous memory from the kernel: page-aligned, zeroed, given back on drop.

use std::io;
use std::ptr::NonNull;

/// One private mapping, owned.
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// Maps `bytes` zeroed bytes, not zero of them.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("invariant: mmap returns no null page");
        Ok(Self { start, bytes })
    }

    /// The first byte; aligned to a page.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `start` and `bytes` are what `mmap` returned and was asked for, and the owner is going away.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
