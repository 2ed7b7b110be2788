//! Requests that wait until a server of their statement has room: in the order of their arrival, so many at most, and
//! each for so long at most.
//!
//! A request leaves by exactly one of these: its turn comes, its time is over, or its browser is gone. The last one
//! leaves its entry behind, to be passed over when its turn would have come.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// The right to a place in a queue, held by the request that waits; dropping it gives the place up.
#[derive(Debug)]
pub struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[derive(Debug)]
struct Entry<T> {
    ticket: T,
    deadline_ns: u64,
}

/// The queue of one statement at one front. `T` is the ticket by which a request is found again.
#[derive(Debug)]
pub struct WaitQueue<T> {
    /// Requests that may wait.
    pub places_max: usize,
    entries: VecDeque<Entry<T>>,
    waiting: Rc<Cell<usize>>,
    waited: u64,
    refused: u64,
    expired: u64,
}

impl<T: Copy> WaitQueue<T> {
    pub fn new(places_max: usize) -> Self {
        Self { places_max, entries: VecDeque::new(), waiting: Rc::default(), waited: 0, refused: 0, expired: 0 }
    }

    /// Lets a request wait; `None` if the queue is full. `waits` says whether a ticket's request still does: entries of
    /// those that do not are swept out when they have become as many as there may be places.
    pub fn push(&mut self, ticket: T, deadline_ns: u64, waits: impl Fn(T) -> bool) -> Option<Place> {
        if self.waiting.get() >= self.places_max {
            self.refused += 1;
            return None;
        }
        if self.entries.len() >= 2 * self.places_max {
            self.entries.retain(|entry| waits(entry.ticket));
        }
        self.entries.push_back(Entry { ticket, deadline_ns });
        self.waiting.set(self.waiting.get() + 1);
        self.waited += 1;
        Some(Place(Rc::clone(&self.waiting)))
    }

    /// Whose turn it is, and whether its time is over.
    pub fn front(&self, now_ns: u64) -> Option<(T, bool)> {
        self.entries.front().map(|entry| (entry.ticket, entry.deadline_ns <= now_ns))
    }

    /// Takes the entry at the front out; its request has given up its place or does so now.
    pub fn pop(&mut self) {
        self.entries.pop_front();
    }

    /// Counts a request that waited in vain.
    pub fn note_expired(&mut self) {
        self.expired += 1;
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Entries, also of requests that no longer wait.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Requests since the start that had to wait.
    pub fn waited(&self) -> u64 {
        self.waited
    }

    /// Requests since the start that found the queue full.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Requests since the start that waited in vain.
    pub fn expired(&self) -> u64 {
        self.expired
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::{prop, proptest};

    use super::{Place, WaitQueue};

    #[test]
    fn first_come_first_served_within_the_bound() {
        let mut queue = WaitQueue::new(2);
        let first = queue.push(1, 10, |_| true).unwrap();
        let second = queue.push(2, 10, |_| true);
        assert!(second.is_some() && queue.push(3, 10, |_| true).is_none());
        assert_eq!((queue.front(9), queue.front(10)), (Some((1, false)), Some((1, true))));
        drop(first);
        assert_eq!(queue.waiting(), 1);
        assert!(queue.push(4, 10, |_| true).is_some(), "a place that was given up is free");
        queue.pop();
        assert_eq!(queue.front(0), Some((2, false)));
        assert_eq!((queue.waited(), queue.refused()), (3, 1));
    }

    proptest! {
        /// Browsers come and leave at will: order holds, and so do both bounds.
        #[test]
        fn entries_stay_bounded(steps in prop::collection::vec(0_u8..4, 1..400), places in 1_usize..6) {
            let mut queue = WaitQueue::new(places);
            let mut held: HashMap<u32, Place> = HashMap::new();
            let mut last = 0;
            for (number, step) in (1_u32..).zip(steps) {
                if step < 2 {
                    let room = held.len() < places;
                    let place = queue.push(number, 0, |ticket| held.contains_key(&ticket));
                    assert_eq!(place.is_some(), room);
                    held.extend(place.map(|place| (number, place)));
                } else if step == 2 {
                    let leaves = held.keys().min().copied();
                    leaves.map(|number| held.remove(&number));
                } else if let Some((ticket, _)) = queue.front(1) {
                    assert!(ticket > last, "in the order of arrival");
                    last = ticket;
                    held.remove(&ticket);
                    queue.pop();
                }
                assert_eq!(queue.waiting(), held.len());
                assert!(queue.entries.len() <= 2 * places);
                assert!(held.keys().all(|number| queue.entries.iter().any(|entry| entry.ticket == *number)));
            }
        }
    }
}
