//! What becomes of a request whose server did not answer it.
//!
//! Sent again is what can do no harm: a request of which no byte had gone out, and one without a body whose method may
//! be repeated (RFC 9110 section 9.2.2). A time that passed in waiting for an answer is not spent a second time, as in
//! HAProxy: a request that holds up one server would hold up the next one.

/// How a request's way to its server ended without an answer.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// A part of the request had gone out.
    pub sent: bool,
    /// The connection had served before.
    pub reused: bool,
    /// A part of an answer came.
    pub began: bool,
    /// A time limit passed.
    pub overdue: bool,
    /// The method may be repeated and there is no body.
    pub repeatable: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send it on a new connection: the server closed the old one between two requests (RFC 9112 section 9.3.1). No
    /// fault of the server, and no part of the budget.
    Renew,
    /// Send it to another server, if the budget has a retry left; otherwise answer with this status.
    Retry(u16),
    /// Answer with this status.
    Answer(u16),
}

impl Loss {
    /// The server closed an old connection when the request was on its way: that says nothing of its health.
    pub fn is_race(self) -> bool {
        self.sent && self.reused && !self.began && !self.overdue
    }

    /// `retries_left` is what the statement allows this request; `renewed` says that it was sent on a new connection
    /// before.
    pub fn next(self, retries_left: u32, renewed: bool) -> Next {
        let status = if self.overdue { 504 } else { 502 };
        let harmless = !self.sent || (self.repeatable && !self.overdue);
        if self.is_race() && self.repeatable && !renewed {
            Next::Renew
        } else if harmless && retries_left > 0 {
            Next::Retry(status)
        } else {
            Next::Answer(status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Loss, Next};

    #[test]
    fn only_what_can_do_no_harm_is_sent_again() {
        let bits = |case: u32, bit: u32| case >> bit & 1 == 1;
        for case in 0..64 {
            let loss = Loss {
                sent: bits(case, 0),
                reused: bits(case, 1),
                began: bits(case, 2),
                overdue: bits(case, 3),
                repeatable: bits(case, 4),
            };
            let renewed = bits(case, 5);
            let again = loss.next(1, renewed) != loss.next(0, true);
            assert_eq!(again, !loss.sent || (loss.repeatable && !loss.overdue), "{loss:?}");
            let race = loss.sent && loss.reused && !loss.began && !loss.overdue;
            assert_eq!(loss.next(1, renewed) == Next::Renew, race && loss.repeatable && !renewed, "{loss:?}");
            assert_eq!(loss.next(0, true), Next::Answer(if loss.overdue { 504 } else { 502 }));
        }
    }
}
