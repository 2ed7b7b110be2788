//! The queue that no dispatcher can beat: one line before all servers, first come first served, no hand-off.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::trace::Arrival;

/// The response time of every request in a central queue before `servers`, in the order of arrival.
pub fn central_queue(arrivals: &[Arrival], servers: usize) -> Vec<u64> {
    let mut free: BinaryHeap<Reverse<u64>> = (0..servers).map(|_| Reverse(0)).collect();
    let serve = |arrival: &Arrival| {
        let Reverse(free_ns) = free.pop().unwrap_or(Reverse(0));
        let end_ns = free_ns.max(arrival.at_ns) + arrival.service_ns;
        free.push(Reverse(end_ns));
        end_ns - arrival.at_ns
    };
    arrivals.iter().map(serve).collect()
}

/// The mean response time of M/M/`servers` in units of the mean service time, from Erlang's C formula.
pub fn erlang_response(servers: u32, load: f64) -> f64 {
    let offered = load * f64::from(servers);
    // Erlang B by its recursion, which cannot overflow.
    let blocked =
        (1..=servers).fold(1.0, |blocked, server| offered * blocked / (f64::from(server) + offered * blocked));
    let waits = blocked / (1.0 - load * (1.0 - blocked));
    1.0 + waits / (f64::from(servers) * (1.0 - load))
}

#[cfg(test)]
mod tests {
    use super::{central_queue, erlang_response};
    use crate::job::dispatch::trace::{Arrival, MEAN_SERVICE_NS, Service, Trace};

    fn mean(values: &[u64]) -> f64 {
        values.iter().sum::<u64>() as f64 / values.len() as f64
    }

    #[test]
    fn requests_wait_for_the_first_free_server() {
        let at = |at_ns, service_ns| Arrival { at_ns, service_ns, front: 0 };
        let arrivals = [at(0, 10), at(1, 3), at(2, 5), at(3, 1)];
        assert_eq!(central_queue(&arrivals, 2), [10, 3, 7, 7]);
    }

    /// M/M/1 responds in 1 / (1 - load); M/M/2 in 1 / (1 - load²).
    #[test]
    fn the_formula_is_the_textbooks() {
        for load in [0.1, 0.5, 0.9] {
            assert!((erlang_response(1, load) - 1.0 / (1.0 - load)).abs() < 1e-12);
            assert!((erlang_response(2, load) - 1.0 / (1.0 - load * load)).abs() < 1e-12);
        }
    }

    /// The simulated M/M/k queue against Erlang C: the check of trace and queue together.
    #[test]
    fn the_simulated_queue_is_erlangs() {
        let trace = Trace::draw(Service::Exponential, 1_000_000, 17);
        for (servers, load) in [(1, 0.5), (2, 0.7), (4, 0.8), (16, 0.9)] {
            let found = mean(&central_queue(&trace.at(load, 1, servers), servers)) / MEAN_SERVICE_NS;
            let expected = erlang_response(u32::try_from(servers).unwrap(), load);
            assert!((found / expected - 1.0).abs() < 0.05, "M/M/{servers} at {load}: {found}, not {expected}, seed 17");
        }
    }
}
