//! The jobs that a replica server has accepted and not yet finished, by the front server that sent them: the cap of
//! outstanding work, asserted where the work arrives.
//!
//! The dispatcher that sends asserts the same of its own count. This one would find a job that comes twice, or a front
//! server that runs under another cap.

/// Counts of one replica.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// By worker; a worker without a front server sends nothing.
    by_worker: Box<[u32]>,
    cap: u32,
    total: u32,
    total_max: u32,
}

impl Accepted {
    /// For the workers that carry front servers, each of which may have `cap` jobs here.
    pub fn new(front_workers: &[usize], cap: u32) -> Self {
        let workers = front_workers.iter().max().map_or(0, |last| last + 1);
        let fronts = u32::try_from(front_workers.len()).unwrap_or(u32::MAX);
        Self { by_worker: vec![0; workers].into(), cap, total: 0, total_max: fronts.saturating_mul(cap) }
    }

    /// Counts a job of a front server on `worker` in.
    ///
    /// # Panics
    /// If it is one more than the cap of that front server, or of all together.
    pub fn add(&mut self, worker: u16) {
        let count = &mut self.by_worker[usize::from(worker)];
        assert!(*count < self.cap, "worker {worker} has {count} jobs here, and its cap is {}", self.cap);
        assert!(self.total < self.total_max, "{} jobs are here, and the fronts' caps add up to that", self.total);
        *count += 1;
        self.total += 1;
    }

    /// Counts a finished job out.
    ///
    /// # Panics
    /// If there is none of that worker.
    pub fn remove(&mut self, worker: u16) {
        let count = &mut self.by_worker[usize::from(worker)];
        assert!(*count > 0, "worker {worker} has no job here");
        *count -= 1;
        self.total -= 1;
    }

    /// Jobs here, of all front servers: the replica's queue depth.
    pub fn total(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::Accepted;

    fn full() -> Accepted {
        let mut accepted = Accepted::new(&[0, 2], 2);
        for worker in [0, 2, 0, 2] {
            accepted.add(worker);
        }
        accepted
    }

    #[test]
    fn every_front_server_has_its_cap() {
        let mut accepted = full();
        assert_eq!(accepted.total(), 4);
        accepted.remove(2);
        accepted.add(2);
        assert_eq!(accepted.total(), 4);
    }

    #[test]
    #[should_panic(expected = "worker 0 has 2 jobs here, and its cap is 2")]
    fn one_more_than_the_cap_is_a_bug() {
        full().add(0);
    }

    #[test]
    #[should_panic(expected = "worker 2 has no job here")]
    fn a_job_that_finishes_twice_is_a_bug() {
        let mut accepted = full();
        (0..3).for_each(|_| accepted.remove(2));
    }
}
