//! What happened to each request, in counters and histograms that never grow.
//!
//! ```text
//!   t0 planned ─ t1 noticed ─ t2 connection free ─ t3 submitted ─ t4 first byte ─ t5 last byte
//!      response = t5 - t0    service = t5 - t3    first byte = t4 - t3
//!      client queue = t2 - t1    generator lag = (t1 - t0) + (t3 - t2)
//! ```
//! The timing thread owns the [`Recorder`] and fills one [`Interval`]; once a second the interval goes to the
//! reporter through a bounded channel and an empty one comes back. Totals are sums of intervals, made by the reporter,
//! so the two cannot disagree. A request that did not complete is a lower bound and is recorded as such (censored).

use crossbeam::channel::{Receiver, Sender, bounded};
use hdrhistogram::Histogram;

use crate::failure::{Account, Failure};
use crate::schedule::Window;

/// The highest value that a histogram holds; higher ones are recorded as this and counted in `overflow`.
pub const VALUE_NS_MAX: u64 = 3_600_000_000_000;
/// Significant decimal digits of every histogram.
pub const DIGITS: u8 = 3;
/// Length of an interval.
pub const INTERVAL_NS: u64 = 1_000_000_000;
/// Statuses that are counted one by one.
pub const STATUS_MIN: u16 = 100;
pub const STATUS_COUNT: usize = 500;
/// Intervals in circulation between the timing thread and the reporter.
const INTERVALS: usize = 4;

/// An empty histogram of nanoseconds: 1 ns to 1 h at three digits, 270 kB.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, VALUE_NS_MAX, DIGITS).expect("invariant: constant bounds are valid")
}

/// The times of one request in monotonic nanoseconds; 0 for a point that it has not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// t0: when the plan wanted it sent.
    pub planned_ns: u64,
    /// t1: when the loop noticed that it was due.
    pub noticed_ns: u64,
    /// t2: when a connection was free for it.
    pub free_ns: u64,
    /// t3: when it (or the connect that it needs) was handed to the kernel.
    pub submitted_ns: u64,
    /// t4: when the first byte of the response was seen.
    pub first_byte_ns: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A complete response with an expected status.
    Completed { status: u16 },
    /// It failed; `status` is known if a head was received.
    Failed { why: Failure, status: Option<u16> },
    /// Nothing had come of it when the run ended.
    InFlight,
}

/// The terms of the accounting identity, and what else is only counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub planned: u64,
    pub completed: u64,
    pub errors: u64,
    pub timed_out: u64,
    pub shed: u64,
    pub in_flight_at_end: u64,
    /// Samples of the response histogram that are lower bounds: timed out or in flight at the end.
    pub censored: u64,
    /// Values above [`VALUE_NS_MAX`].
    pub overflow: u64,
    /// Bytes of complete responses' bodies.
    pub body_bytes: u64,
}

impl Counts {
    /// Whether every planned request is accounted for exactly once.
    pub fn balances(&self) -> bool {
        self.planned == self.completed + self.errors + self.timed_out + self.shed + self.in_flight_at_end
    }

    pub fn add(&mut self, other: &Self) {
        self.planned += other.planned;
        self.completed += other.completed;
        self.errors += other.errors;
        self.timed_out += other.timed_out;
        self.shed += other.shed;
        self.in_flight_at_end += other.in_flight_at_end;
        self.censored += other.censored;
        self.overflow += other.overflow;
        self.body_bytes += other.body_bytes;
    }
}

/// The five histograms, and a sixth for requests that failed fast, so that errors cannot flatter the other five.
#[derive(Debug)]
pub struct Histograms {
    /// t5 - t0 of completed and censored requests.
    pub response: Histogram<u64>,
    /// t5 - t3 of the same, if they were submitted.
    pub service: Histogram<u64>,
    /// (t1 - t0) + (t3 - t2) of every submitted request.
    pub lag: Histogram<u64>,
    /// t2 - t1 of every noticed request.
    pub queue: Histogram<u64>,
    /// t4 - t3 of every request that got a byte.
    pub first_byte: Histogram<u64>,
    /// t5 - t0 of errors.
    pub failed: Histogram<u64>,
}

impl Histograms {
    pub fn new() -> Self {
        Self {
            response: histogram(),
            service: histogram(),
            lag: histogram(),
            queue: histogram(),
            first_byte: histogram(),
            failed: histogram(),
        }
    }

    /// The parts that `latency-parts.hlog` keeps, by tag.
    pub fn parts(&self) -> [(&'static str, &Histogram<u64>); 5] {
        [
            ("service", &self.service),
            ("generator_lag", &self.lag),
            ("client_queue", &self.queue),
            ("first_byte", &self.first_byte),
            ("failed", &self.failed),
        ]
    }

    /// The part of that tag; the untagged lines are the response times.
    pub fn part_mut(&mut self, tag: Option<&str>) -> Option<&mut Histogram<u64>> {
        match tag.unwrap_or("response") {
            "response" => Some(&mut self.response),
            "service" => Some(&mut self.service),
            "generator_lag" => Some(&mut self.lag),
            "client_queue" => Some(&mut self.queue),
            "first_byte" => Some(&mut self.first_byte),
            "failed" => Some(&mut self.failed),
            _ => None,
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (sum, part) in [
            (&mut self.response, &other.response),
            (&mut self.service, &other.service),
            (&mut self.lag, &other.lag),
            (&mut self.queue, &other.queue),
            (&mut self.first_byte, &other.first_byte),
            (&mut self.failed, &other.failed),
        ] {
            sum.add(part).expect("invariant: all histograms have the same bounds");
        }
    }

    fn reset(&mut self) {
        self.response.reset();
        self.service.reset();
        self.lag.reset();
        self.queue.reset();
        self.first_byte.reset();
        self.failed.reset();
    }
}

/// Which part of the run an interval lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Measure,
    /// After the last planned arrival, while outstanding requests end.
    Drain,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::WarmUp => "warm-up",
            Self::Measure => "measure",
            Self::Drain => "drain",
        }
    }
}

/// What ended within about a second of the run.
#[derive(Debug)]
pub struct Interval {
    pub start_ns: u64,
    pub length_ns: u64,
    pub phase: Phase,
    pub counts: Counts,
    pub failures: [u64; Failure::ALL.len()],
    /// By status minus [`STATUS_MIN`].
    pub statuses: Vec<u64>,
    pub histograms: Histograms,
    /// Response times by tag, by index into the names of the run; made when a tag is first seen.
    pub tags: Vec<Option<Histogram<u64>>>,
}

impl Interval {
    pub fn new(tag_count: usize) -> Self {
        let mut interval = Self {
            start_ns: 0,
            length_ns: 0,
            phase: Phase::WarmUp,
            counts: Counts::default(),
            failures: [0; Failure::ALL.len()],
            statuses: vec![0; STATUS_COUNT],
            histograms: Histograms::new(),
            tags: (0..tag_count).map(|_| None).collect(),
        };
        // Touches every page now, so that the first requests do not pay for it.
        interval.reset();
        interval
    }

    fn reset(&mut self) {
        self.counts = Counts::default();
        self.failures = [0; Failure::ALL.len()];
        self.statuses.fill(0);
        self.histograms.reset();
        self.tags.iter_mut().flatten().for_each(Histogram::reset);
    }
}

/// The names of tags, by index. A run tags by status, a browser by step.
pub fn status_tags() -> Vec<String> {
    (0..STATUS_COUNT).map(|index| format!("status_{}", index + usize::from(STATUS_MIN))).collect()
}

/// How intervals reach the reporter and come back.
pub struct Exchange {
    pub full: Receiver<Box<Interval>>,
    pub free: Sender<Box<Interval>>,
}

/// The timing thread's end: counts, records, and hands an interval over each second.
pub struct Recorder {
    window: Window,
    interval: Box<Interval>,
    full: Sender<Box<Interval>>,
    free: Receiver<Box<Interval>>,
    /// When the current interval ends.
    roll_ns: u64,
    totals: Counts,
    warm_up: Counts,
    late_rolls: u64,
}

impl Recorder {
    /// A recorder for a window, and the reporter's end of it. All memory but that of tags is taken here.
    pub fn new(window: Window, tag_count: usize) -> (Self, Exchange) {
        let (full, full_receiver) = bounded(INTERVALS);
        let (free_sender, free) = bounded(INTERVALS);
        for _ in 1..INTERVALS {
            free_sender
                .try_send(Box::new(Interval::new(tag_count)))
                .expect("invariant: the channel holds every interval");
        }
        let mut recorder = Self {
            window,
            interval: Box::new(Interval::new(tag_count)),
            full,
            free,
            roll_ns: 0,
            totals: Counts::default(),
            warm_up: Counts::default(),
            late_rolls: 0,
        };
        recorder.open(window.start_ns);
        (recorder, Exchange { full: full_receiver, free: free_sender })
    }

    /// When [`Recorder::roll`] has something to do.
    pub fn roll_ns(&self) -> u64 {
        self.roll_ns
    }

    /// Intervals that grew longer because the reporter held all others (a slow disk).
    pub fn late_rolls(&self) -> u64 {
        self.late_rolls
    }

    /// Hands the current interval over if its time is up. To be called before the arrivals of `now_ns` are taken.
    pub fn roll(&mut self, now_ns: u64) {
        while now_ns >= self.roll_ns {
            let boundary_ns = self.roll_ns;
            let Ok(mut empty) = self.free.try_recv() else {
                self.late_rolls += 1;
                if boundary_ns == self.window.measure_ns {
                    // The warm-up must not leak into the measured window: its interval is given up.
                    self.interval.reset();
                    self.open(boundary_ns);
                } else {
                    self.roll_ns += INTERVAL_NS;
                }
                return;
            };
            empty.reset();
            std::mem::swap(&mut self.interval, &mut empty);
            empty.length_ns = boundary_ns - empty.start_ns;
            self.full.try_send(empty).expect("invariant: the channel holds every interval");
            self.open(boundary_ns);
        }
    }

    fn open(&mut self, start_ns: u64) {
        let (phase, phase_end_ns) = if start_ns < self.window.measure_ns {
            (Phase::WarmUp, self.window.measure_ns)
        } else if start_ns < self.window.end_ns {
            (Phase::Measure, self.window.end_ns)
        } else {
            (Phase::Drain, u64::MAX)
        };
        self.interval.start_ns = start_ns;
        self.interval.phase = phase;
        self.roll_ns = (start_ns + INTERVAL_NS).min(phase_end_ns);
    }

    /// A request is due. It may be due after the last [`Self::roll`], when a page asked for it in between; then the
    /// interval that it belongs to begins here.
    pub fn plan(&mut self, planned_ns: u64) {
        self.roll(planned_ns);
        let (counts, current) = self.cohort(planned_ns);
        counts.planned += 1;
        if current {
            self.interval.counts.planned += 1;
        }
    }

    /// A request ended at `end_ns` (t5). `tag` is an index below the count given to [`Recorder::new`].
    pub fn finish(&mut self, stamps: &Stamps, end_ns: u64, outcome: Outcome, tag: usize, body_bytes: u64) {
        let mut delta = Counts::default();
        match outcome {
            Outcome::Completed { .. } => {
                delta.completed = 1;
                delta.body_bytes = body_bytes;
            }
            Outcome::Failed { why, .. } => match why.account() {
                Account::Error => delta.errors = 1,
                Account::TimedOut => (delta.timed_out, delta.censored) = (1, 1),
                Account::Shed => delta.shed = 1,
            },
            Outcome::InFlight => (delta.in_flight_at_end, delta.censored) = (1, 1),
        }
        let (counts, current) = self.cohort(stamps.planned_ns);
        if !current {
            counts.add(&delta);
            return;
        }
        let interval = &mut *self.interval;
        if delta.shed == 0 {
            delta.overflow = record(interval, stamps, end_ns, delta.errors == 1, tag);
        }
        match outcome {
            Outcome::Completed { status } => count_status(&mut interval.statuses, Some(status)),
            Outcome::Failed { why, status } => {
                interval.failures[why.index()] += 1;
                count_status(&mut interval.statuses, status);
            }
            Outcome::InFlight => {}
        }
        interval.counts.add(&delta);
        self.cohort(stamps.planned_ns).0.add(&delta);
    }

    /// A value of a tag that is no request of its own: the load time of a page.
    pub fn tagged(&mut self, planned_ns: u64, value_ns: u64, tag: usize) {
        if self.cohort(planned_ns).1 {
            self.interval.tags[tag].get_or_insert_with(histogram).saturating_record(value_ns);
        }
    }

    /// The counters of the cohort that a planned time belongs to, and whether the current interval is of that cohort.
    fn cohort(&mut self, planned_ns: u64) -> (&mut Counts, bool) {
        let measured = self.window.measures(planned_ns);
        let current = measured == (self.interval.phase != Phase::WarmUp);
        (if measured { &mut self.totals } else { &mut self.warm_up }, current)
    }

    /// Hands over the last interval, which ends at `now_ns`, and returns the measured and the warm-up cohort.
    pub fn end(mut self, now_ns: u64) -> (Counts, Counts) {
        self.interval.length_ns = now_ns.saturating_sub(self.interval.start_ns);
        // The reporter may be gone (a full disk): then it has said so itself.
        let _ = self.full.send(self.interval);
        (self.totals, self.warm_up)
    }
}

fn count_status(statuses: &mut [u64], status: Option<u16>) {
    if let Some(count) = status.and_then(|status| statuses.get_mut(usize::from(status.checked_sub(STATUS_MIN)?))) {
        *count += 1;
    }
}

/// Records the five values and returns how many were too high for a histogram.
fn record(interval: &mut Interval, stamps: &Stamps, end_ns: u64, failed: bool, tag: usize) -> u64 {
    let Stamps { planned_ns, noticed_ns, free_ns, submitted_ns, first_byte_ns } = *stamps;
    let histograms = &mut interval.histograms;
    let mut overflow = 0;
    let mut put = |histogram: &mut Histogram<u64>, value_ns: u64| {
        overflow += u64::from(value_ns > VALUE_NS_MAX);
        histogram.saturating_record(value_ns);
    };
    let response_ns = end_ns.saturating_sub(planned_ns);
    put(if failed { &mut histograms.failed } else { &mut histograms.response }, response_ns);
    let free_or_end_ns = if free_ns == 0 { end_ns } else { free_ns };
    put(&mut histograms.queue, free_or_end_ns.saturating_sub(noticed_ns));
    if submitted_ns != 0 {
        put(&mut histograms.lag, noticed_ns.saturating_sub(planned_ns) + submitted_ns.saturating_sub(free_ns));
        if !failed {
            put(&mut histograms.service, end_ns.saturating_sub(submitted_ns));
        }
    }
    if first_byte_ns != 0 {
        put(&mut histograms.first_byte, first_byte_ns.saturating_sub(submitted_ns));
    }
    interval.tags[tag].get_or_insert_with(histogram).saturating_record(response_ns);
    overflow
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        Counts, INTERVAL_NS, INTERVALS, Interval, Outcome, Phase, Recorder, STATUS_COUNT, Stamps, VALUE_NS_MAX,
    };
    use crate::failure::Failure;
    use crate::schedule::Window;

    fn window() -> Window {
        Window::new(10, INTERVAL_NS / 2, 2 * INTERVAL_NS)
    }

    fn stamps(planned_ns: u64) -> Stamps {
        Stamps {
            planned_ns,
            noticed_ns: planned_ns + 10,
            free_ns: planned_ns + 110,
            submitted_ns: planned_ns + 115,
            first_byte_ns: planned_ns + 1_115,
        }
    }

    #[test]
    fn the_five_values_are_what_the_drawing_says() {
        let window = window();
        let (mut recorder, exchange) = Recorder::new(window, 1);
        let planned_ns = window.measure_ns + 5;
        recorder.roll(planned_ns);
        recorder.plan(planned_ns);
        recorder.finish(&stamps(planned_ns), planned_ns + 2_000, Outcome::Completed { status: 200 }, 0, 7);
        recorder.end(planned_ns + 3_000);
        let warm_up = exchange.full.recv().unwrap();
        assert_eq!((warm_up.phase, warm_up.length_ns), (Phase::WarmUp, INTERVAL_NS / 2));
        let interval = exchange.full.recv().unwrap();
        assert_eq!((interval.phase, interval.start_ns), (Phase::Measure, window.measure_ns));
        let histograms = &interval.histograms;
        let maxima =
            [&histograms.response, &histograms.service, &histograms.lag, &histograms.queue, &histograms.first_byte]
                .map(|h| h.max());
        assert_eq!(maxima, [2_000, 1_885, 15, 100, 1_000]);
        assert_eq!(interval.statuses[100], 1);
        assert_eq!(interval.counts.body_bytes, 7);
    }

    #[test]
    fn a_request_that_is_due_after_the_last_roll_is_in_its_interval() {
        let window = window();
        let (mut recorder, exchange) = Recorder::new(window, 1);
        let planned_ns = window.measure_ns + 5;
        recorder.plan(planned_ns);
        recorder.finish(&stamps(planned_ns), planned_ns + 2_000, Outcome::Completed { status: 200 }, 0, 7);
        let (counts, _) = recorder.end(planned_ns + 3_000);
        let planned: u64 = exchange.full.iter().map(|interval| interval.counts.planned).sum();
        assert_eq!((counts.planned, planned), (1, 1));
    }

    #[test]
    fn warm_up_requests_are_counted_apart_even_when_they_end_late() {
        let window = window();
        let (mut recorder, exchange) = Recorder::new(window, 1);
        recorder.plan(window.start_ns);
        recorder.roll(window.measure_ns);
        recorder.finish(&stamps(window.start_ns), window.measure_ns + 1, Outcome::Completed { status: 200 }, 0, 0);
        assert_eq!(recorder.totals, Counts::default());
        assert_eq!(recorder.warm_up.completed, 1);
        recorder.end(window.measure_ns + 2);
        let lengths: Vec<u64> = exchange.full.iter().map(|interval| interval.histograms.response.len()).collect();
        assert_eq!(lengths, [0, 0]);
    }

    #[test]
    fn timeouts_and_requests_in_flight_are_samples_and_errors_are_not() {
        let window = Window::new(10, 0, INTERVAL_NS);
        let (mut recorder, exchange) = Recorder::new(window, 1);
        let unsent = Stamps { planned_ns: 20, noticed_ns: 25, ..Stamps::default() };
        for _ in 0..5 {
            recorder.plan(20);
        }
        recorder.finish(&stamps(20), 5_020, Outcome::Failed { why: Failure::HeaderTimeout, status: None }, 0, 0);
        recorder.finish(&unsent, 5_020, Outcome::Failed { why: Failure::QueueTimeout, status: None }, 0, 0);
        recorder.finish(&stamps(20), 6_020, Outcome::InFlight, 0, 0);
        recorder.finish(&stamps(20), 2_000, Outcome::Failed { why: Failure::Status, status: Some(503) }, 0, 0);
        assert!(!recorder.totals.balances());
        recorder.finish(&unsent, 25, Outcome::Failed { why: Failure::Shed, status: None }, 0, 0);
        assert!(recorder.totals.balances());
        let (totals, _) = recorder.end(7_000);
        let expected = Counts {
            planned: 5,
            errors: 1,
            timed_out: 2,
            shed: 1,
            in_flight_at_end: 1,
            censored: 3,
            ..Counts::default()
        };
        assert_eq!(totals, expected);
        let interval = exchange.full.recv().unwrap();
        assert_eq!(interval.histograms.response.len(), totals.completed + totals.censored);
        assert_eq!(interval.histograms.response.min(), 5_000);
        assert_eq!(interval.histograms.failed.len(), 1);
        assert_eq!(interval.histograms.lag.len(), 3);
    }

    #[test]
    fn a_reporter_that_lags_makes_intervals_longer_and_loses_nothing() {
        let window = Window::new(1, 0, 60 * INTERVAL_NS);
        let (mut recorder, exchange) = Recorder::new(window, 1);
        for second in 0..20 {
            let planned_ns = 1 + second * INTERVAL_NS;
            recorder.roll(planned_ns);
            recorder.plan(planned_ns);
            recorder.finish(&stamps(planned_ns), planned_ns + 2_000, Outcome::Completed { status: 200 }, 0, 0);
        }
        assert_eq!(recorder.late_rolls(), 16);
        let reporter =
            std::thread::spawn(move || exchange.full.iter().map(|interval| interval.counts.completed).sum::<u64>());
        let (totals, _) = recorder.end(21 * INTERVAL_NS);
        assert_eq!(totals.completed, 20);
        assert_eq!(reporter.join().unwrap(), 20);
    }

    /// Rule 10: what a run holds is taken at its start, however long it is and whatever it measures.
    #[test]
    fn the_same_intervals_circulate_and_none_grows() {
        const SECONDS: u64 = 600;
        let (mut recorder, exchange) = Recorder::new(Window::new(0, 0, SECONDS * INTERVAL_NS), STATUS_COUNT);
        let (mut buckets, mut received) = (BTreeSet::new(), 0);
        let mut seen = BTreeSet::new();
        for second in 0..SECONDS {
            for part in 0..4 {
                let planned_ns = second * INTERVAL_NS + part;
                recorder.plan(planned_ns);
                let lasted_ns = 1 << (second % 42);
                recorder.finish(
                    &stamps(planned_ns),
                    planned_ns + 1_115 + lasted_ns,
                    Outcome::Completed { status: 200 },
                    100,
                    1,
                );
            }
            for interval in exchange.full.try_iter() {
                received += interval.counts.completed;
                seen.insert(std::ptr::from_ref::<Interval>(&interval).addr());
                let parts = interval.histograms.parts();
                buckets.extend(parts.iter().map(|(_, histogram)| histogram.distinct_values()));
                exchange.free.try_send(interval).unwrap();
            }
        }
        recorder.end(SECONDS * INTERVAL_NS);
        received += exchange.full.iter().map(|interval| interval.counts.completed).sum::<u64>();
        assert_eq!(received, 4 * SECONDS);
        assert!(seen.len() <= INTERVALS, "{} intervals were made", seen.len());
        assert_eq!(buckets.len(), 1, "a histogram has grown: {buckets:?} values");
    }

    #[test]
    fn values_above_the_range_are_counted() {
        let (mut recorder, exchange) = Recorder::new(Window::new(10, 0, INTERVAL_NS), 1);
        recorder.plan(10);
        recorder.finish(&stamps(10), 10 + 2 * VALUE_NS_MAX, Outcome::Completed { status: 200 }, 0, 0);
        let (totals, _) = recorder.end(20);
        assert_eq!(totals.overflow, 2);
        assert!(exchange.full.recv().unwrap().histograms.response.max() >= VALUE_NS_MAX);
    }
}
