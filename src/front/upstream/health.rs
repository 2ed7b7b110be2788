//! Whether a server may be asked: what requests found (passive) and what checks found (active).
//!
//! ```text
//!   passive                    failures in a row                     its time is over, a request comes
//!            Closed ───────────────────────────▶ Open until … ─────────────────────────────▶ HalfOpen
//!              ▲                                   ▲     ▲                                   │  │  │
//!              │                                   │     └── the probe ended without verdict ┘  │  │
//!              │                                   └────────────── the probe failed, longer ────┘  │
//!              └───────────────────────────────────── an answer ───────────────────────────────────┘
//!
//!   active   Up ──── `fall` failed checks in a row ───▶ Down ──── `rise` passed checks in a row ───▶ Up
//! ```
//! A server is asked when it is Up and not Open. Neither of the two ever closes the last door: when no server of a
//! statement may be asked, all are (see [`super::pool`]).

/// How long the first ejection lasts, in nanoseconds; each further one in a row lasts twice as long.
pub const EJECTED_NS: u64 = 1_000_000_000;
/// How long an ejection lasts at most, in nanoseconds. A server that served for that long starts again with
/// [`EJECTED_NS`].
pub const EJECTED_NS_MAX: u64 = 30_000_000_000;

/// What a request found out about its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Served,
    /// No connection, no answer in time, or an answer that is none.
    Failed,
    /// Nothing: the browser left, or an old connection was closed under the request.
    Unknown,
}

/// Whether a server may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// By one request, which decides what becomes of it.
    Probe,
    Out,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Circuit {
    /// Requests go through.
    #[default]
    Closed,
    /// None does before this time, in monotonic nanoseconds.
    Open { until_ns: u64 },
    /// One is on its way to try.
    HalfOpen,
}

/// Passive health: what requests found.
#[derive(Clone, Debug)]
pub struct Breaker {
    /// Failures in a row that open it.
    pub failures_max: u32,
    failures: u32,
    circuit: Circuit,
    /// Ejections in a row without a long time of service between them.
    level: u32,
    closed_ns: u64,
    ejections: u64,
}

impl Breaker {
    pub fn new(failures_max: u32) -> Self {
        Self { failures_max, failures: 0, circuit: Circuit::Closed, level: 0, closed_ns: 0, ejections: 0 }
    }

    pub fn readiness(&self, now_ns: u64) -> Readiness {
        match self.circuit {
            Circuit::Closed => Readiness::Ready,
            Circuit::Open { until_ns } if until_ns <= now_ns => Readiness::Probe,
            Circuit::Open { .. } | Circuit::HalfOpen => Readiness::Out,
        }
    }

    /// A request goes to the server; true if it is the probe, which must come back through [`Self::settle`].
    pub fn begin(&mut self, now_ns: u64) -> bool {
        let probe = self.readiness(now_ns) == Readiness::Probe;
        if probe {
            self.circuit = Circuit::HalfOpen;
        }
        probe
    }

    /// A request to the server has ended. Whoever served is trusted at once, also if it was asked for want of a better
    /// one.
    pub fn settle(&mut self, now_ns: u64, probe: bool, outcome: Outcome) {
        match (outcome, self.circuit) {
            (Outcome::Served, circuit) => {
                self.failures = 0;
                if circuit != Circuit::Closed {
                    self.circuit = Circuit::Closed;
                    self.closed_ns = now_ns;
                }
            }
            (Outcome::Failed, Circuit::Closed) => {
                self.failures += 1;
                if self.failures >= self.failures_max {
                    if now_ns.saturating_sub(self.closed_ns) > EJECTED_NS_MAX {
                        self.level = 0;
                    }
                    self.eject(now_ns);
                }
            }
            (Outcome::Failed, Circuit::HalfOpen) if probe => self.eject(now_ns),
            (Outcome::Unknown, Circuit::HalfOpen) if probe => self.circuit = Circuit::Open { until_ns: now_ns },
            (Outcome::Failed | Outcome::Unknown, _) => {}
        }
    }

    fn eject(&mut self, now_ns: u64) {
        let lasts_ns = EJECTED_NS.checked_shl(self.level).map_or(EJECTED_NS_MAX, |ns| ns.min(EJECTED_NS_MAX));
        self.circuit = Circuit::Open { until_ns: now_ns + lasts_ns };
        // No shift of a nanosecond count is worth more than this one.
        self.level = (self.level + 1).min(16);
        self.ejections += 1;
    }

    /// A check passed: a probe may go at once.
    pub fn hasten(&mut self, now_ns: u64) {
        if let Circuit::Open { until_ns } = &mut self.circuit {
            *until_ns = (*until_ns).min(now_ns);
        }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Ejections since the start.
    pub fn ejections(&self) -> u64 {
        self.ejections
    }

    /// Nanoseconds until the next probe; `None` if it is not ejected.
    pub fn ejected_for_ns(&self, now_ns: u64) -> Option<u64> {
        match self.circuit {
            Circuit::Closed => None,
            Circuit::Open { until_ns } => Some(until_ns.saturating_sub(now_ns)),
            Circuit::HalfOpen => Some(0),
        }
    }
}

/// Active health: what checks found. A server is up until a check says otherwise; the first check of all decides alone,
/// because nothing is known before it.
#[derive(Clone, Debug)]
pub struct Watch {
    pub rise: u32,
    pub fall: u32,
    up: bool,
    /// Checks in a row that contradict `up`.
    against: u32,
    passed: u64,
    failed: u64,
}

impl Watch {
    pub fn new(rise: u32, fall: u32) -> Self {
        Self { rise, fall, up: true, against: 0, passed: 0, failed: 0 }
    }

    /// A check ended; true if that changed whether the server is up.
    pub fn note(&mut self, passed: bool) -> bool {
        let first = self.passed + self.failed == 0;
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        if passed == self.up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = if first {
            1
        } else if self.up {
            self.fall
        } else {
            self.rise
        };
        if self.against < needed {
            return false;
        }
        self.up = passed;
        self.against = 0;
        true
    }

    /// The server is checked no more: nothing speaks against it.
    pub fn forget(&mut self) {
        self.up = true;
        self.against = 0;
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Checks since the start that passed.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Checks since the start that failed.
    pub fn failed(&self) -> u64 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{Breaker, EJECTED_NS, EJECTED_NS_MAX, Outcome, Readiness, Watch};

    fn ejected() -> Breaker {
        let mut breaker = Breaker::new(3);
        for _ in 0..3 {
            assert_eq!(breaker.readiness(0), Readiness::Ready);
            breaker.settle(0, false, Outcome::Failed);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_eject_and_a_probe_decides() {
        let mut breaker = ejected();
        assert_eq!(breaker.readiness(EJECTED_NS - 1), Readiness::Out);
        assert_eq!(breaker.readiness(EJECTED_NS), Readiness::Probe);
        assert!(breaker.begin(EJECTED_NS));
        assert_eq!(breaker.readiness(EJECTED_NS), Readiness::Out, "one probe at a time");
        assert!(!breaker.begin(EJECTED_NS), "asked for want of a better one: no second probe");
        breaker.settle(EJECTED_NS, false, Outcome::Failed);
        assert_eq!(breaker.readiness(EJECTED_NS), Readiness::Out, "an older request does not decide");
        breaker.settle(EJECTED_NS, true, Outcome::Failed);
        assert_eq!(breaker.ejected_for_ns(EJECTED_NS), Some(2 * EJECTED_NS));
        assert!(breaker.begin(3 * EJECTED_NS));
        breaker.settle(3 * EJECTED_NS, true, Outcome::Unknown);
        assert!(breaker.begin(3 * EJECTED_NS), "a probe without verdict is made again");
        breaker.settle(3 * EJECTED_NS, true, Outcome::Served);
        assert_eq!((breaker.readiness(0), breaker.failures(), breaker.ejections()), (Readiness::Ready, 0, 2));
    }

    #[test]
    fn ejections_grow_up_to_a_bound_and_are_forgiven() {
        let mut breaker = ejected();
        let mut now_ns = 0;
        for _ in 0..40 {
            let wait_ns = breaker.ejected_for_ns(now_ns).unwrap();
            assert!(wait_ns <= EJECTED_NS_MAX);
            now_ns += wait_ns;
            assert!(breaker.begin(now_ns));
            breaker.settle(now_ns, true, Outcome::Failed);
        }
        assert_eq!(breaker.ejected_for_ns(now_ns), Some(EJECTED_NS_MAX));
        breaker.hasten(now_ns);
        assert!(breaker.begin(now_ns), "a passed check lets the probe go at once");
        breaker.settle(now_ns, true, Outcome::Served);
        let again = |breaker: &mut Breaker, now_ns| (0..3).for_each(|_| breaker.settle(now_ns, false, Outcome::Failed));
        again(&mut breaker, now_ns + 1);
        assert_eq!(breaker.ejected_for_ns(now_ns + 1), Some(EJECTED_NS_MAX), "it had hardly come back");
        breaker.settle(now_ns + 1, false, Outcome::Served);
        let later_ns = now_ns + 2 + EJECTED_NS_MAX;
        again(&mut breaker, later_ns);
        assert_eq!(breaker.ejected_for_ns(later_ns), Some(EJECTED_NS));
    }

    #[test]
    fn rise_and_fall() {
        let mut watch = Watch::new(2, 3);
        assert!(watch.note(false), "the first check decides alone");
        assert!(!watch.is_up() && !watch.note(true) && !watch.note(false) && !watch.note(true));
        assert!(watch.note(true) && watch.is_up());
        assert!(!watch.note(false) && !watch.note(false) && !watch.note(true), "two are not enough");
        assert!(!watch.note(false) && !watch.note(false) && watch.note(false) && !watch.is_up());
        watch.forget();
        assert!(watch.is_up());
        assert_eq!((watch.passed(), watch.failed()), (4, 7));
    }

    proptest! {
        /// At most one probe is under way, and no closed door stays closed for longer than the bound.
        #[test]
        fn one_probe_at_a_time(steps in prop::collection::vec((0_u8..4, any::<bool>(), 0_u64..2_000_000_000), 1..200)) {
            let mut breaker = Breaker::new(2);
            let (mut now_ns, mut probes, mut others) = (0, 0_u32, 0_u32);
            for (step, first, later_ns) in steps {
                now_ns += later_ns;
                if step == 0 {
                    if breaker.readiness(now_ns) != Readiness::Out || first {
                        if breaker.begin(now_ns) { probes += 1 } else { others += 1 }
                    }
                } else {
                    let outcome = [Outcome::Served, Outcome::Failed, Outcome::Unknown][usize::from(step - 1)];
                    if first && probes > 0 {
                        probes -= 1;
                        breaker.settle(now_ns, true, outcome);
                    } else if others > 0 {
                        others -= 1;
                        breaker.settle(now_ns, false, outcome);
                    }
                }
                // A second probe needs the first one's verdict, or an answer to somebody else.
                if breaker.readiness(now_ns) == Readiness::Probe {
                    assert!(probes <= 1, "{breaker:?}");
                }
                assert!(breaker.ejected_for_ns(now_ns).is_none_or(|wait_ns| wait_ns <= EJECTED_NS_MAX));
            }
        }
    }
}
