//! Alarms: time-outs that lie in the ring and end a wait, so that most waits need no time of their own.
//!
//! A wait with a time of its own costs a timer's set-up and removal in each enter. The times that a worker waits for
//! hardly change from turn to turn, so an alarm that was set once serves many waits. One that comes earlier than
//! needed wakes the worker for nothing, which is harmless and rare.

use io_uring::opcode;
use io_uring::squeue;
use io_uring::types::{TimeoutFlags, Timespec};

/// Alarms that are set at the same time; beyond it a wait brings its own time.
const ALARMS_MAX: usize = 4;

/// What is set. The kernel copies an alarm's time when it takes the entry (Linux 5.4, `io_timeout_prep`).
pub(super) struct Alarms {
    times: Box<[Timespec; ALARMS_MAX]>,
    /// When each goes off; `None` for one that is not set.
    set_ns: [Option<u64>; ALARMS_MAX],
}

impl Alarms {
    pub(super) fn new() -> Self {
        Self { times: Box::new([Timespec::new(); ALARMS_MAX]), set_ns: [None; ALARMS_MAX] }
    }

    /// Whether an alarm goes off at `at_ns` or before.
    pub(super) fn cover(&self, at_ns: u64) -> bool {
        self.set_ns.iter().any(|set| set.is_some_and(|set_ns| set_ns <= at_ns))
    }

    /// The entry of an alarm for `at_ns` and its number, if one is to be had.
    pub(super) fn set(&mut self, at_ns: u64) -> Option<(squeue::Entry, u32)> {
        let index = self.set_ns.iter().position(Option::is_none)?;
        self.set_ns[index] = Some(at_ns);
        self.times[index] = super::ring::timespec(at_ns);
        let time = &raw const self.times[index];
        let entry = opcode::Timeout::new(time).flags(TimeoutFlags::ABS).build();
        Some((entry, u32::try_from(index).expect("invariant: a few alarms")))
    }

    /// An alarm has gone off.
    pub(super) fn gone(&mut self, number: u32) {
        if let Some(set) = usize::try_from(number).ok().and_then(|index| self.set_ns.get_mut(index)) {
            *set = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALARMS_MAX, Alarms};

    #[test]
    fn an_alarm_covers_later_times_until_it_is_gone() {
        let mut alarms = Alarms::new();
        assert!(!alarms.cover(u64::MAX));
        let (_, number) = alarms.set(1_500_000_000).unwrap();
        assert!(alarms.cover(1_500_000_000) && alarms.cover(u64::MAX) && !alarms.cover(1_499_999_999));
        let others = (1..ALARMS_MAX).filter(|_| alarms.set(1).is_some()).count();
        assert_eq!(others, ALARMS_MAX - 1);
        assert!(alarms.set(1).is_none(), "every alarm is set");
        alarms.gone(number);
        assert!(alarms.set(2).is_some());
    }
}
