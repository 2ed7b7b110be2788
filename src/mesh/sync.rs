//! The primitives of [`ring`](super::ring), [`doorbell`](super::doorbell), [`grid`](super::grid) and `inbox`, named in one
//! place.
//!
//! Those files take every atomic, cell and reference count from here. `tests/loom` compiles the very same files
//! below a `sync` of its own that names loom's primitives, so what is proven is what runs.

pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

#[cfg(feature = "appliance")]
pub use crossbeam::queue::ArrayQueue;
pub use crossbeam_utils::CachePadded;

/// [`std::cell::UnsafeCell`] with loom's access functions: a pointer never leaves the closure that may use it.
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Hands out a pointer to read through. The caller upholds that nobody writes meanwhile.
    #[inline]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Hands out a pointer to write through. The caller upholds that nobody else reads or writes meanwhile.
    #[inline]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
