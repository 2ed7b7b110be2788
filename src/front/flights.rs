//! Jobs that are out at replicas: who waits for each, and what becomes of it when its replica hangs.
//!
//! ```text
//!   begin ─▶ UnderWay ──────────────── reply ────────▶ end     answers the exchange
//!               │                  └── unclaimed ────▶ end     goes to another replica
//!               │ the replica hangs
//!               ├─ not begun: taken back ─▶ Withdrawn ─ the empty slip was found ─▶ end
//!               └─ begun, but safe: executed elsewhere ─▶ Abandoned ─ late reply ─▶ end, thrown away
//! ```
//! Every flight holds one credit of its replica from its beginning to its end, so that what lies in a hung worker's
//! ring stays bounded, and ends exactly once: its number is given out again only after that.

use std::sync::Arc;

use serde::Serialize;

use crate::mesh::slip::Slip;
use crate::replica::job::Job;
use crate::tables::ServerId;

use super::server::Ticket;

/// What a flight waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// For its reply, which answers the exchange.
    UnderWay,
    /// For its replica to find that the job was taken back.
    Withdrawn,
    /// For a reply that nobody wants any more: the job is executed elsewhere.
    Abandoned,
}

/// A job at a replica.
#[derive(Clone, Debug)]
pub struct Flight {
    pub ticket: Ticket,
    pub replica: ServerId,
    pub course: Course,
}

/// Since the start of the front server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Jobs given to replicas, a job that was given to several counted each time.
    pub dispatched: u64,
    /// Flights that ended by a reply that answered, or by one that came when nobody waited any more.
    pub replied: u64,
    /// Jobs that a replica gave back because it takes none, or that it could not be given.
    pub returned: u64,
    /// Jobs taken back from a hung replica that had not begun them; those whose empty slip it has found since.
    pub retracted: u64,
    pub withdrawn: u64,
    /// Safe requests executed again because the replica that had begun them hung; late replies to them.
    pub reexecuted: u64,
    pub late_replies: u64,
}

/// All flights of one front server, by number.
#[derive(Debug, Default)]
pub struct Flights {
    flights: Vec<Option<Flight>>,
    /// One for each number, made when it is given out for the first time.
    slips: Vec<Arc<Slip<Job>>>,
    free: Vec<u32>,
    pub counters: Counters,
}

impl Flights {
    /// Begins a flight; its number.
    ///
    /// # Panics
    /// If there are 2^32 of them, which no cap allows.
    pub fn begin(&mut self, ticket: Ticket, replica: ServerId) -> u32 {
        self.counters.dispatched += 1;
        let number = self.free.pop().unwrap_or_else(|| {
            let number = u32::try_from(self.flights.len()).expect("invariant: caps of all replicas fit 32 bits");
            self.flights.push(None);
            self.slips.push(Arc::new(Slip::new(number)));
            number
        });
        self.flights[index(number)] = Some(Flight { ticket, replica, course: Course::UnderWay });
        number
    }

    /// The slip that carries the job of this flight to another worker.
    pub fn slip(&self, number: u32) -> &Arc<Slip<Job>> {
        &self.slips[index(number)]
    }

    /// Ends a flight; its credit is to be given back.
    ///
    /// # Panics
    /// If it has ended before: a job would have come back twice.
    pub fn end(&mut self, number: u32) -> Flight {
        let flight = self.flights.get_mut(index(number)).and_then(Option::take);
        let flight = flight.unwrap_or_else(|| panic!("flight {number} ended that was not under way"));
        self.free.push(number);
        flight
    }

    /// Changes what a flight waits for.
    pub fn set_course(&mut self, number: u32, course: Course) {
        if let Some(flight) = self.flights.get_mut(index(number)).and_then(Option::as_mut) {
            flight.course = course;
        }
    }

    /// The next flight under way at a replica, from this number on.
    pub fn next_under_way(&self, replica: ServerId, from: u32) -> Option<(u32, Ticket)> {
        let mut rest = (from..).zip(self.flights.get(index(from)..)?);
        rest.find_map(|(number, flight)| {
            let flight = flight.as_ref()?;
            (flight.replica == replica && flight.course == Course::UnderWay).then_some((number, flight.ticket))
        })
    }

    /// Flights that have not ended.
    pub fn count(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Jobs dispatched, less those that came back in any way, less those that are out: 0, or the accounting is wrong.
    pub fn books(&self) -> i64 {
        let Counters { dispatched, replied, returned, withdrawn, late_replies, .. } = self.counters;
        let ended = replied + returned + withdrawn + late_replies + self.count() as u64;
        dispatched.cast_signed() - ended.cast_signed()
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Course, Flights};
    use crate::engine::Conn;
    use crate::front::server::Ticket;

    fn ticket(slot: u32) -> Ticket {
        Ticket { conn: Conn { slot, generation: 0 }, exchange: 1 }
    }

    #[test]
    fn numbers_are_given_out_again_after_the_end() {
        let mut flights = Flights::default();
        assert_eq!([flights.begin(ticket(7), 0), flights.begin(ticket(8), 1)], [0, 1]);
        assert_eq!(flights.count(), 2);
        let ended = flights.end(0);
        assert_eq!((ended.ticket, ended.replica, ended.course), (ticket(7), 0, Course::UnderWay));
        flights.counters.replied += 1;
        assert_eq!(flights.begin(ticket(9), 1), 0);
        assert_eq!((flights.count(), flights.books()), (2, 0));
        assert_eq!(flights.slip(1).number(), 1);
    }

    #[test]
    fn a_take_out_meets_each_flight_of_the_replica_once() {
        let mut flights = Flights::default();
        for (slot, replica) in [(0, 2), (1, 0), (2, 2), (3, 2)] {
            flights.begin(ticket(slot), replica);
        }
        flights.set_course(2, Course::Abandoned);
        assert_eq!(flights.next_under_way(2, 0), Some((0, ticket(0))));
        assert_eq!(flights.next_under_way(2, 1), Some((3, ticket(3))));
        assert_eq!(flights.next_under_way(2, 4), None);
        assert_eq!(flights.next_under_way(1, 0), None);
        assert_eq!(flights.end(2).course, Course::Abandoned);
    }

    #[test]
    #[should_panic(expected = "flight 0 ended that was not under way")]
    fn a_job_that_comes_back_twice_is_a_bug() {
        let mut flights = Flights::default();
        let number = flights.begin(ticket(0), 0);
        flights.end(number);
        flights.end(number);
    }
}
