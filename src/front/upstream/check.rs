//! Active checks of one server: when, what is asked, and what an answer means.

use crate::engine::{Conn, Lease};
use crate::front::connection::Input;
use crate::http1::head::{Method, ResponseHead};
use crate::http1::parse::{self, ParseLimits, Progress};
use crate::statements::upstream::Check;

/// What a statement wants checked. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPlan {
    pub check: Check,
    pub interval_ns: u64,
    pub timeout_ns: u64,
}

/// A check under way, on a connection of its own.
#[derive(Debug)]
struct Running {
    conn: Conn,
    deadline_ns: u64,
    input: Input,
}

/// The checks of one server.
#[derive(Debug, Default)]
pub struct Checks {
    plan: Option<CheckPlan>,
    running: Option<Running>,
    due_ns: u64,
    last: &'static str,
}

/// The outcome of a check, with what to tell people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub passed: bool,
    pub reason: &'static str,
}

impl Verdict {
    pub const REFUSED: Self = Self { passed: false, reason: "no connection" };
    pub const LATE: Self = Self { passed: false, reason: "no answer in time" };
    pub const CUT: Self = Self { passed: false, reason: "closed before an answer" };
    const CONNECTED: Self = Self { passed: true, reason: "connected" };
    const NONSENSE: Self = Self { passed: false, reason: "no HTTP answer" };

    /// What HAProxy takes for healthy by default: 200 to 399.
    fn of(status: u16) -> Self {
        if (200..400).contains(&status) {
            Self { passed: true, reason: "status below 400" }
        } else {
            Self { passed: false, reason: "status 400 or above" }
        }
    }
}

impl Checks {
    /// Sets what is checked from the next check on; one under way goes on.
    pub fn set_plan(&mut self, plan: Option<CheckPlan>) {
        if plan.is_none() {
            self.last = "";
        }
        self.plan = plan;
    }

    pub fn plan(&self) -> Option<&CheckPlan> {
        self.plan.as_ref()
    }

    /// A check is to begin now.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.plan.is_some() && self.running.is_none() && self.due_ns <= now_ns
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The connection of the check under way.
    pub fn conn(&self) -> Option<Conn> {
        self.running.as_ref().map(|running| running.conn)
    }

    /// A check under way has taken too long.
    pub fn is_overdue(&self, now_ns: u64) -> bool {
        self.running.as_ref().is_some_and(|running| running.deadline_ns <= now_ns)
    }

    /// A check begins, on this connection unless none could be opened.
    pub fn begin(&mut self, conn: Option<Conn>, now_ns: u64) {
        let Some(plan) = &self.plan else { return };
        self.due_ns = now_ns + plan.interval_ns;
        self.running =
            conn.map(|conn| Running { conn, deadline_ns: now_ns + plan.timeout_ns, input: Input::default() });
    }

    /// The connection stands: what to send, or the verdict of a check that asks for no more.
    pub fn connected(&self, host: &str) -> Result<Vec<u8>, Verdict> {
        match self.plan.as_ref().map(|plan| &plan.check) {
            Some(Check::Http { path }) => Ok(format!(
                "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: twintier-check\r\nconnection: close\r\n\r\n"
            )
            .into_bytes()),
            Some(Check::Tcp) | None => Err(Verdict::CONNECTED),
        }
    }

    /// A part of the answer; the verdict once there is one.
    pub fn read(&mut self, bytes: Lease, limits: &ParseLimits) -> Option<Verdict> {
        let running = self.running.as_mut()?;
        running.input.push(bytes);
        running.input.gather();
        let mut head = ResponseHead::default();
        loop {
            match parse::parse_response(running.input.front(), Method::Get, limits, &mut head) {
                Ok(Progress::Incomplete) => return None,
                Ok(Progress::Complete) if head.is_interim() => running.input.skip(head.head_bytes),
                Ok(Progress::Complete) => return Some(Verdict::of(head.status)),
                Err(_) => return Some(Verdict::NONSENSE),
            }
        }
    }

    /// The check is over.
    pub fn end(&mut self, verdict: Option<Verdict>) {
        self.running = None;
        if let Some(verdict) = verdict {
            self.last = verdict.reason;
        }
    }

    /// Why the last check ended as it did; empty before the first one.
    pub fn last(&self) -> &'static str {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckPlan, Checks, Verdict};
    use crate::engine::Conn;
    use crate::statements::upstream::Check;

    fn checks(check: Check) -> Checks {
        let mut checks = Checks::default();
        checks.set_plan(Some(CheckPlan { check, interval_ns: 100, timeout_ns: 50 }));
        checks
    }

    #[test]
    fn one_at_a_time_at_an_interval_and_within_a_time() {
        let mut checks = checks(Check::Tcp);
        assert!(checks.is_due(0));
        checks.begin(Some(Conn { slot: 1, generation: 1 }), 0);
        assert!(!checks.is_due(1000), "one is under way");
        assert!(!checks.is_overdue(49) && checks.is_overdue(50));
        assert_eq!(checks.connected("a"), Err(Verdict::CONNECTED));
        checks.end(Some(Verdict::CONNECTED));
        assert!(!checks.is_due(99) && checks.is_due(100));
        assert_eq!(checks.last(), "connected");
        checks.set_plan(None);
        assert!(!checks.is_due(1000));
    }

    #[test]
    fn an_http_check_asks_for_its_path() {
        let checks = checks(Check::Http { path: "/health".into() });
        let request = String::from_utf8(checks.connected("10.0.0.1:80").unwrap()).unwrap();
        assert!(request.starts_with("GET /health HTTP/1.1\r\nhost: 10.0.0.1:80\r\n"), "{request}");
        assert!(Verdict::of(204).passed && Verdict::of(302).passed && !Verdict::of(404).passed);
    }
}
