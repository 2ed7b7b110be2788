//! Fixed-size buffers in one mapping, and leases of them.
//!
//! ```text
//!   mapping   │ buffer 0 │ buffer 1 │ buffer 2 │ …        one mmap, taken at start
//!   leases         1          0          2              a buffer is free when no lease is left
//! ```
//! The same pool serves both directions. Machines take a lease, fill it and send it; the ring takes whole buffers and
//! publishes them to the kernel, and what the kernel filled comes up as a lease. Whoever drops the last lease of a
//! buffer gives it back, also after its engine is gone: a lease keeps the mapping alive.
//!
//! Architecture invariant: leases of the same buffer own ranges that do not overlap, so writing needs no lock and no
//! look at the count. A lease stays on the thread of its pool (`Rc` makes it `!Send`).

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;

use super::mapping::Mapping;

/// A pool of buffers that all have the same size. Cloning it makes another handle on the same buffers.
#[derive(Clone)]
pub struct Pool {
    shared: Rc<Shared>,
}

struct Shared {
    mapping: Mapping,
    count: u32,
    bytes: u32,
    /// Leases of each buffer; zero for one that is free or that the kernel holds.
    leases: Box<[Cell<u32>]>,
    /// Indices of free buffers; never longer than `count`, so it never grows.
    free: UnsafeCell<Vec<u32>>,
}

impl Pool {
    /// Maps `count` buffers of `bytes` each. The pages are touched when they are used first.
    ///
    /// # Errors
    /// The sizes are zero or overflow, or the kernel has no memory for the mapping.
    pub fn new(count: u32, bytes: u32) -> io::Result<Self> {
        let total = usize::try_from(u64::from(count) * u64::from(bytes)).unwrap_or(usize::MAX);
        if total == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a pool needs at least one buffer of one byte"));
        }
        let mapping = Mapping::new(total).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot map {count} buffers of {bytes} bytes: {error}; lower the buffer counts of the profile"),
            )
        })?;
        let leases = (0..count).map(|_| Cell::new(0)).collect();
        // Popping from the end hands out low indices first, which keeps a lightly loaded pool in few pages.
        let free = UnsafeCell::new((0..count).rev().collect());
        Ok(Self { shared: Rc::new(Shared { mapping, count, bytes, leases, free }) })
    }

    /// An empty buffer, or `None` when all are in use.
    pub fn lease(&self) -> Option<Lease> {
        self.take().map(|index| self.filled(index, 0))
    }

    /// Buffers that nobody holds.
    pub fn available(&self) -> usize {
        self.shared.with_free(|free| free.len())
    }

    /// All buffers of the pool.
    pub fn count(&self) -> u32 {
        self.shared.count
    }

    /// Bytes of each buffer.
    pub fn buffer_bytes(&self) -> u32 {
        self.shared.bytes
    }

    /// Takes a whole free buffer out of the pool, to lend it to the kernel.
    pub(super) fn take(&self) -> Option<u32> {
        self.shared.with_free(Vec::pop)
    }

    /// The lease of a buffer from [`Pool::take`] whose first `length` bytes are filled.
    pub(super) fn filled(&self, index: u32, length: u32) -> Lease {
        let count = &self.shared.leases[position(index)];
        assert!(count.get() == 0 && length <= self.shared.bytes, "invariant: only a buffer without leases is filled");
        count.set(1);
        Lease { pool: Rc::clone(&self.shared), index, start: 0, end: length, limit: self.shared.bytes }
    }

    /// Where a buffer lies in memory.
    pub(super) fn address(&self, index: u32) -> NonNull<u8> {
        self.shared.address(index, 0)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Pool({} of {} free, {} bytes each)", self.available(), self.shared.count, self.shared.bytes)
    }
}

impl Shared {
    fn with_free<R>(&self, change: impl FnOnce(&mut Vec<u32>) -> R) -> R {
        // SAFETY: the list is only reached through this function, which hands it to closures of this file that call
        // `len`, `pop` or `push` and nothing that could come back here; `Rc` keeps the pool on one thread.
        change(unsafe { &mut *self.free.get() })
    }

    fn address(&self, index: u32, offset: u32) -> NonNull<u8> {
        assert!(index < self.count && offset <= self.bytes, "invariant: addresses stay within the pool");
        let at = position(index) * position(self.bytes) + position(offset);
        // SAFETY: `new` mapped count × bytes, and the assertion above keeps `at` within that or one past its end.
        unsafe { self.mapping.start().add(at) }
    }

    fn release(&self, index: u32) {
        let count = &self.leases[position(index)];
        let left = count.get().checked_sub(1).expect("invariant: a lease is counted until it is dropped");
        count.set(left);
        if left == 0 {
            self.with_free(|free| free.push(index));
        }
    }
}

/// Widens an index or length of 32 bits; every target of this project has pointers of at least that.
fn position(value: u32) -> usize {
    usize::try_from(value).expect("invariant: pointers have at least 32 bits")
}

/// A filled range of one buffer. Derefs to its bytes; dropping it gives its share of the buffer back.
pub struct Lease {
    pool: Rc<Shared>,
    index: u32,
    /// The filled range is `start..end`; the lease may write up to `limit`. `start <= end <= limit <= pool.bytes`.
    start: u32,
    end: u32,
    limit: u32,
}

impl Lease {
    /// Filled bytes.
    pub fn len(&self) -> usize {
        position(self.end - self.start)
    }

    /// True without filled bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes that [`Lease::extend_from_slice`] would still take.
    pub fn capacity_left(&self) -> usize {
        position(self.limit - self.end)
    }

    /// Drops the first `count` filled bytes (all of them if there are fewer).
    pub fn advance(&mut self, count: usize) {
        self.start += self.clamp(count);
    }

    /// Keeps the first `length` filled bytes.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.start + self.clamp(length);
    }

    /// Cuts off the first `count` filled bytes as a lease of their own on the same buffer; this lease keeps the rest
    /// and the room behind it. No bytes are copied.
    pub fn split_to(&mut self, count: usize) -> Lease {
        let middle = self.start + self.clamp(count);
        let leases = &self.pool.leases[position(self.index)];
        leases.set(leases.get().checked_add(1).expect("invariant: a buffer has fewer leases than 2^32"));
        let front =
            Lease { pool: Rc::clone(&self.pool), index: self.index, start: self.start, end: middle, limit: middle };
        self.start = middle;
        front
    }

    /// Appends as much of `bytes` as fits and says how much that was.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.capacity_left());
        self.spare_mut()[..count].copy_from_slice(&bytes[..count]);
        self.grow(count);
        count
    }

    /// The room behind the filled bytes, to be written in place and then counted with [`Lease::grow`].
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let start = self.pool.address(self.index, self.end);
        // SAFETY: `end..limit` lies in the mapping, which is initialised (zero pages) and lives as long as `pool`. No
        // other lease of this buffer overlaps this lease's range, and `&mut self` excludes a second borrow of it.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.capacity_left()) }
    }

    /// Counts `count` bytes of [`Lease::spare_mut`] as filled (at most all of it).
    pub fn grow(&mut self, count: usize) {
        let room = self.limit - self.end;
        self.end += u32::try_from(count).map_or(room, |count| count.min(room));
    }

    /// The filled bytes, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let start = self.pool.address(self.index, self.start);
        // SAFETY: as in `spare_mut`, for the range `start..end`.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.len()) }
    }

    /// Forgets the filled bytes. The only lease of a buffer has the whole buffer as room again.
    pub fn clear(&mut self) {
        if self.pool.leases[position(self.index)].get() == 1 {
            self.start = 0;
            self.limit = self.pool.bytes;
        }
        self.end = self.start;
    }

    fn clamp(&self, count: usize) -> u32 {
        let filled = self.end - self.start;
        u32::try_from(count).map_or(filled, |count| count.min(filled))
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.pool.address(self.index, self.start);
        // SAFETY: `start..end` lies in the mapping, which is initialised and lives as long as `pool`; ranges of
        // leases do not overlap and the kernel holds no buffer that is leased, so nobody writes here meanwhile.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.len()) }
    }
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Lease(buffer {}, {} bytes)", self.index, self.len())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.release(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn a_dropped_lease_gives_its_buffer_back() {
        let pool = Pool::new(2, 16).unwrap();
        let first = pool.lease().unwrap();
        let second = pool.lease().unwrap();
        assert!(pool.lease().is_none());
        drop(first);
        assert!(pool.lease().is_some());
        drop(second);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn writing_stops_at_the_end_of_the_buffer() {
        let pool = Pool::new(1, 8).unwrap();
        let mut lease = pool.lease().unwrap();
        assert_eq!(lease.extend_from_slice(b"abcdef"), 6);
        assert_eq!(lease.extend_from_slice(b"ghijkl"), 2);
        assert_eq!(&lease[..], b"abcdefgh");
        assert_eq!(lease.capacity_left(), 0);
        lease.grow(5);
        assert_eq!(lease.len(), 8);
    }

    #[test]
    fn split_parts_share_the_buffer_and_never_overlap() {
        let pool = Pool::new(1, 16).unwrap();
        let mut rest = pool.lease().unwrap();
        rest.extend_from_slice(b"head body");
        let mut head = rest.split_to(5);
        assert_eq!((&head[..], &rest[..]), (&b"head "[..], &b"body"[..]));
        head.truncate(2);
        assert_eq!(head.extend_from_slice(b"ron and more"), 3, "the front part ends where the rest begins");
        assert_eq!((&head[..], &rest[..]), (&b"heron"[..], &b"body"[..]));
        rest.as_mut_slice()[0] = b'B';
        rest.extend_from_slice(b"!");
        assert_eq!(&rest[..], b"Body!");
        drop(rest);
        assert_eq!(pool.available(), 0, "one part still holds the buffer");
        drop(head);
        assert_eq!(pool.available(), 1);
    }

    #[test]
    fn counts_beyond_the_filled_range_are_clamped() {
        let pool = Pool::new(1, 8).unwrap();
        let mut lease = pool.lease().unwrap();
        lease.extend_from_slice(b"abc");
        lease.truncate(usize::MAX);
        assert_eq!(lease.len(), 3);
        assert_eq!(&lease.split_to(usize::MAX)[..], b"abc");
        lease.advance(usize::MAX);
        assert!(lease.is_empty());
    }

    #[test]
    fn clearing_the_only_lease_regains_the_whole_buffer() {
        let pool = Pool::new(1, 8).unwrap();
        let mut lease = pool.lease().unwrap();
        lease.extend_from_slice(b"abcdefgh");
        let front = lease.split_to(4);
        lease.clear();
        assert_eq!(lease.capacity_left(), 4, "the front part keeps its range");
        drop(front);
        lease.clear();
        assert_eq!(lease.capacity_left(), 8);
    }

    #[test]
    fn a_lease_outlives_its_pool() {
        let lease = {
            let pool = Pool::new(4, 32).unwrap();
            let mut lease = pool.lease().unwrap();
            lease.extend_from_slice(b"still here");
            lease
        };
        assert_eq!(&lease[..], b"still here");
    }

    #[test]
    fn an_empty_pool_is_refused() {
        assert!(Pool::new(0, 8).is_err());
        assert!(Pool::new(8, 0).is_err());
    }
}
