//! A slip: what is handed to another worker and may be taken back, for as long as that one has not begun it.
//!
//! ```text
//!   sender   put ──▶ ┌──────┐ ──claim──▶ receiver       whoever takes it first has it;
//!            ◀─retract── │ item │                            the other one finds nothing
//!                     └──────┘
//! ```
//! The slip itself travels through the ring and cannot be called back; only its content can. The receiver tells the
//! sender of every slip that it found empty: until then the sender does not use the slip again, so that an old one in
//! a ring never gives away something new.

use crossbeam::atomic::AtomicCell;

/// Content that one of two workers takes. Exactly one of them gets it: taking is one atomic exchange of a pointer.
pub struct Slip<T> {
    /// The sender's name for it.
    number: u32,
    content: AtomicCell<Option<Box<T>>>,
}

impl<T> std::fmt::Debug for Slip<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Looking at the content would be taking it.
        write!(out, "Slip({})", self.number)
    }
}

impl<T> Slip<T> {
    pub fn new(number: u32) -> Self {
        // Otherwise it would take turns on a lock, which a hung worker could hold.
        assert!(AtomicCell::<Option<Box<T>>>::is_lock_free(), "invariant: a pointer is exchanged without a lock");
        Self { number, content: AtomicCell::new(None) }
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    /// Sender: puts something in, before the slip is sent.
    ///
    /// # Panics
    /// If something is in it: it would be lost.
    pub fn put(&self, content: Box<T>) {
        assert!(self.content.swap(Some(content)).is_none(), "slip {} was not empty", self.number);
    }

    /// Receiver: begins it, unless it was taken back. Sender: takes it back, unless it was begun.
    pub fn take(&self) -> Option<Box<T>> {
        self.content.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Slip;

    #[test]
    fn the_first_to_take_has_it() {
        let slip = Slip::new(3);
        assert_eq!((slip.number(), slip.take()), (3, None));
        slip.put(Box::new("job"));
        assert_eq!(slip.take().as_deref(), Some(&"job"));
        assert_eq!(slip.take(), None);
        slip.put(Box::new("another"));
        assert_eq!(slip.take().as_deref(), Some(&"another"));
    }

    #[test]
    #[should_panic(expected = "slip 3 was not empty")]
    fn nothing_is_put_over_something() {
        let slip = Slip::new(3);
        slip.put(Box::new(1));
        slip.put(Box::new(2));
    }

    #[test]
    fn of_two_that_take_one_gets_it() {
        const ROUNDS: u64 = 10_000;
        let slips: Arc<Vec<Slip<u64>>> = Arc::new((0..).zip(0..ROUNDS).map(|(number, _)| Slip::new(number)).collect());
        for (slip, value) in slips.iter().zip(0..) {
            slip.put(Box::new(value));
        }
        let taken: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let take = || slips.iter().filter_map(Slip::take).map(|value| *value).collect::<Vec<u64>>();
            let threads = [scope.spawn(take), scope.spawn(take)];
            threads.map(|thread| thread.join().unwrap()).to_vec()
        });
        let mut all = taken.concat();
        all.sort_unstable();
        assert_eq!(all, (0..ROUNDS).collect::<Vec<_>>(), "each one by one of them");
    }
}
