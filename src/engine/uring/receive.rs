//! The provided-buffer ring: pool buffers that the kernel may fill, in the order in which it takes them.
//!
//! A buffer belongs to the kernel from [`ReceiveRing::publish`] until a completion names it, then to a lease, then to
//! the pool until the next publish.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::engine::mapping::Mapping;
use crate::engine::{Lease, Pool};

/// The group that every receive selects from; a ring has one.
pub(super) const GROUP: u16 = 0;

/// The largest number of entries that the kernel takes.
const ENTRIES_MAX: u16 = 1 << 15;

/// One registered ring and the pool that fills it.
pub(super) struct ReceiveRing {
    /// Entries, one for each buffer of the pool; the kernel reads them.
    entries: Mapping,
    mask: u16,
    tail: u16,
    /// Buffers that the kernel holds.
    published: u32,
    pool: Pool,
}

impl ReceiveRing {
    /// Maps `count` buffers of `bytes` each and registers the ring, still empty.
    ///
    /// # Errors
    /// `count` is no power of two up to 32768, or memory is short.
    pub(super) fn new(submitter: &Submitter<'_>, count: u16, bytes: u32) -> io::Result<Self> {
        if !count.is_power_of_two() || count > ENTRIES_MAX {
            let message = format!("receive_buffers = {count}: use a power of two from 1 to {ENTRIES_MAX}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let pool = Pool::new(u32::from(count), bytes)?;
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let address = u64::try_from(entries.start().addr().get()).expect("invariant: addresses have at most 64 bits");
        // SAFETY: the mapping is page-aligned, holds `count` entries, and outlives the registration: the engine
        // unregisters the group before it drops this.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0) }.map_err(super::ring::explain)?;
        Ok(Self { entries, mask: count - 1, tail: 0, published: 0, pool })
    }

    /// Hands every free buffer to the kernel.
    pub(super) fn publish(&mut self) {
        if self.pool.available() == 0 {
            return;
        }
        while let Some(index) = self.pool.take() {
            let at = usize::from(self.tail & self.mask);
            // SAFETY: `at` is below the number of entries. The reference covers no field that the kernel writes, and
            // the setters leave `resv` of entry 0 alone, which is the ring's tail.
            let entry = unsafe { self.entries.start().cast::<BufRingEntry>().add(at).as_mut() };
            let address = self.pool.address(index).addr().get();
            entry.set_addr(u64::try_from(address).expect("invariant: addresses have at most 64 bits"));
            entry.set_len(self.pool.buffer_bytes());
            entry.set_bid(u16::try_from(index).expect("invariant: at most 32768 buffers"));
            self.tail = self.tail.wrapping_add(1);
            self.published += 1;
        }
        // SAFETY: the pointer is that of entry 0.
        let tail = unsafe { BufRingEntry::tail(self.entries.start().cast::<BufRingEntry>().as_ptr()) };
        let tail = NonNull::new(tail.cast_mut()).expect("invariant: a field of a mapped entry");
        // SAFETY: the field is aligned, mapped and shared with the kernel, which reads it with acquire.
        unsafe { tail.cast::<AtomicU16>().as_ref() }.store(self.tail, Ordering::Release);
    }

    /// The lease of a buffer that a completion named, with `length` filled bytes.
    pub(super) fn taken(&mut self, buffer: u16, length: u32) -> Lease {
        self.published -= 1;
        self.pool.filled(u32::from(buffer), length)
    }

    /// Buffers that the kernel may still fill.
    pub(super) fn published(&self) -> u32 {
        self.published
    }
}
