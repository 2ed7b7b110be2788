//! The jobs that a replica server has begun and not yet finished, by the front server that sent them: the cap of
//! outstanding work, asserted where the work arrives, and the list of whom to tell if the replica fails.
//!
//! The dispatcher that sends asserts the same of its own count. This one would find a job that comes twice, or a front
//! server that runs under another cap.

use crate::replica::job::Origin;

/// Jobs of one replica.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// By worker, then by the front's number for the flight; a worker without a front server sends nothing.
    by_worker: Box<[Vec<Option<Origin>>]>,
    counts: Box<[u32]>,
    cap: u32,
    total: u32,
    total_max: u32,
}

impl Accepted {
    /// For the workers that carry front servers, each of which may have `cap` jobs here.
    pub fn new(front_workers: &[usize], cap: u32) -> Self {
        let workers = front_workers.iter().max().map_or(0, |last| last + 1);
        let fronts = u32::try_from(front_workers.len()).unwrap_or(u32::MAX);
        Self {
            by_worker: vec![Vec::new(); workers].into(),
            counts: vec![0; workers].into(),
            cap,
            total: 0,
            total_max: fronts.saturating_mul(cap),
        }
    }

    /// Counts a job of a front server in.
    ///
    /// # Panics
    /// If it is here already, or one more than the cap of that front server, or of all together.
    pub fn add(&mut self, origin: Origin) {
        let (worker, flight) = (usize::from(origin.worker), flight(origin));
        let count = &mut self.counts[worker];
        assert!(*count < self.cap, "worker {worker} has {count} jobs here, and its cap is {}", self.cap);
        assert!(self.total < self.total_max, "{} jobs are here, and the fronts' caps add up to that", self.total);
        let places = &mut self.by_worker[worker];
        if places.len() <= flight {
            places.resize(flight + 1, None);
        }
        assert!(places[flight].replace(origin).is_none(), "flight {flight} of worker {worker} came twice");
        *count += 1;
        self.total += 1;
    }

    /// Counts a finished job out.
    ///
    /// # Panics
    /// If it is not here.
    pub fn remove(&mut self, origin: Origin) {
        let (worker, flight) = (usize::from(origin.worker), flight(origin));
        let place = self.by_worker.get_mut(worker).and_then(|places| places.get_mut(flight));
        assert!(place.and_then(Option::take).is_some(), "worker {worker} has no job here as flight {flight}");
        self.counts[worker] -= 1;
        self.total -= 1;
    }

    /// Takes any of the jobs out, to be answered without the replica.
    pub fn pop(&mut self) -> Option<Origin> {
        let worker = self.counts.iter().position(|count| *count > 0)?;
        let origin = self.by_worker[worker].iter_mut().find_map(Option::take)?;
        self.counts[worker] -= 1;
        self.total -= 1;
        Some(origin)
    }

    /// Jobs here, of all front servers: the replica's queue depth.
    pub fn total(&self) -> u32 {
        self.total
    }
}

fn flight(origin: Origin) -> usize {
    usize::try_from(origin.flight).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Accepted, Origin};

    fn origin(worker: u16, flight: u32) -> Origin {
        Origin { worker, flight, slot: flight + 10, ..Origin::default() }
    }

    fn full() -> Accepted {
        let mut accepted = Accepted::new(&[0, 2], 2);
        for (worker, flight) in [(0, 0), (2, 7), (0, 1), (2, 3)] {
            accepted.add(origin(worker, flight));
        }
        accepted
    }

    #[test]
    fn every_front_server_has_its_cap() {
        let mut accepted = full();
        assert_eq!(accepted.total(), 4);
        accepted.remove(origin(2, 7));
        accepted.add(origin(2, 8));
        assert_eq!(accepted.total(), 4);
    }

    #[test]
    fn all_of_them_can_be_told() {
        let mut accepted = full();
        let mut told: Vec<(u16, u32)> =
            std::iter::from_fn(|| accepted.pop()).map(|origin| (origin.worker, origin.slot)).collect();
        told.sort_unstable();
        assert_eq!(told, [(0, 10), (0, 11), (2, 13), (2, 17)]);
        assert_eq!(accepted.total(), 0);
        accepted.add(origin(0, 0));
        assert_eq!(accepted.total(), 1);
    }

    #[test]
    #[should_panic(expected = "worker 0 has 2 jobs here, and its cap is 2")]
    fn one_more_than_the_cap_is_a_bug() {
        full().add(origin(0, 9));
    }

    #[test]
    #[should_panic(expected = "flight 7 of worker 2 came twice")]
    fn a_job_that_comes_twice_is_a_bug() {
        let mut accepted = full();
        accepted.remove(origin(2, 3));
        accepted.add(origin(2, 7));
    }

    #[test]
    #[should_panic(expected = "worker 2 has no job here as flight 3")]
    fn a_job_that_finishes_twice_is_a_bug() {
        let mut accepted = full();
        (0..2).for_each(|_| accepted.remove(origin(2, 3)));
    }
}
