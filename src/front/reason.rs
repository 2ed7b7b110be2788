//! Why this server and why this status: one short word for each way in which an exchange can end.
//!
//! A request gets its word when a server is chosen for it, and another one if something goes wrong afterwards. The
//! access log, `GET /rejects` and the metric `twintier_front_endings_total` show it; the table in
//! profiles/OBSERVING.md is made from the one below.

use serde::Serialize;

use crate::dispatch::policy;
use crate::http1::parse::Reject;

use super::upstream::server::Grant;

/// Declares the reasons: variant, word, status of the front's own answer (0: none of its own), explanation.
macro_rules! reasons {
    ($($variant:ident $word:literal $status:literal $why:literal)*) => {
        /// Why an exchange went where it went and ended as it did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[repr(u8)]
        pub enum Reason {
            $(#[doc = $why] #[serde(rename = $word)] $variant,)*
        }

        impl Reason {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word that logs and metrics show.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The status of the front's own answer; 0 where the answer is another's, or there is none.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// What it means, for the operator.
            pub fn why(self) -> &'static str {
                match self { $(Self::$variant => $why,)* }
            }
        }
    };
}

reasons! {
    Unrouted "-" 0 "the exchange ended before anything was decided"
    Local "local" 0 "the replica on the front's own core had credit"
    MostCredit "most-credit" 0 "the replica with the most free credit"
    Waited "waited" 0 "no replica had credit; the first one that became free"
    Moved "moved" 0 "another replica, because the one before takes no jobs or hung"
    Turn "turn" 0 "the next replica in turn (policy `round-robin`)"
    Lot "lot" 0 "a replica drawn by lot (policy `random`)"
    ShorterOfTwo "shorter-of-two" 0 "the shorter of two replicas drawn by lot (policy `power-of-two`)"
    ShortestDepth "shortest-depth" 0 "the replica with the smallest published depth (policy `jsq`)"
    FewestOutstanding "fewest-outstanding" 0 "the replica with the fewest requests of this front (policy `least-connection`)"
    Weight "weight" 0 "the replica whose weight made it its turn (policy `weighted`)"
    UpstreamLeast "upstream-least" 0 "the upstream server with the fewest outstanding requests"
    UpstreamWaited "upstream-waited" 0 "no upstream server had room; the first one that had"
    Affinity "affinity" 0 "the upstream server that the affinity cookie names"
    Probe "probe" 0 "an ejected upstream server, to see whether it is well again"
    Retry "retry" 0 "another attempt, because the one before got no answer"
    File "file" 0 "a static object"
    Statement "statement" 0 "a `fail` or `redirect` statement"
    Options "options" 0 "`OPTIONS` for the server itself, or with `Max-Forwards: 0`"
    BadRequest "bad-request" 400 "the message is not sound; the parser's own words follow the colon"
    HeadTooLarge "head-too-large" 431 "the request line or the head exceeds its limit"
    BodyTooLarge "body-too-large" 413 "the body exceeds `limits.body_bytes_max`"
    HeadTimeout "head-timeout" 408 "the head was not whole within `timeouts.head_ms`"
    BodyTimeout "body-timeout" 408 "the body made no progress within `timeouts.body_ms`"
    NoRoute "no-route" 404 "no statement maps this host and path"
    NoFile "no-file" 404 "the statement's folder has no such file"
    FileMethod "file-method" 405 "a static object can only be read"
    Trace "trace" 405 "`TRACE` is not answered: a reflected request shows what others have put into it"
    QueueFull "queue-full" 503 "every replica was busy and the queue full (`dispatch.queue_max`)"
    QueueExpired "queue-expired" 503 "no replica became free within `timeouts.queue_ms`"
    ReplicaTimeout "replica-timeout" 503 "the replica did not answer within `timeouts.job_ms`; the request is safe, or was not begun"
    OutcomeUnknown "outcome-unknown" 504 "the replica did not answer a request that may change something within `timeouts.job_ms`: look before you repeat it"
    UpstreamNone "upstream-none" 502 "the statement names no upstream server"
    UpstreamDrains "upstream-drains" 503 "every server of the statement drains"
    UpstreamFull "upstream-full" 503 "every upstream server was busy and the statement's queue full (`queue`)"
    UpstreamExpired "upstream-expired" 503 "no upstream server had room in time (`wait`)"
    UpstreamSlots "upstream-slots" 503 "no connection could be opened: every slot is taken (`engine.connections_max`)"
    UpstreamConnect "upstream-connect" 502 "the upstream server refused the connection"
    UpstreamReset "upstream-reset" 502 "the upstream server closed the connection before it answered"
    UpstreamTimeout "upstream-timeout" 504 "the upstream server neither connected nor answered in time"
    UpstreamBad "upstream-bad" 502 "the upstream server's answer is not sound; the parser's own words follow the colon"
    UpstreamCut "upstream-cut" 0 "the upstream server's answer broke off after its head was sent on; the browser sees a reset"
    ClientLeft "client-left" 0 "the browser closed the connection before its answer was whole"
}

#[expect(clippy::derivable_impls, reason = "the macro writes the variants")]
impl Default for Reason {
    fn default() -> Self {
        Self::Unrouted
    }
}

impl Reason {
    pub const COUNT: usize = Self::ALL.len();

    /// Place in [`Reason::ALL`].
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }

    /// What the second dispatcher's rule went by.
    pub fn of_pick(reason: policy::Reason) -> Self {
        match reason {
            policy::Reason::Local => Self::Local,
            policy::Reason::MostCredit => Self::MostCredit,
            policy::Reason::Turn => Self::Turn,
            policy::Reason::Lot => Self::Lot,
            policy::Reason::ShorterOfTwo => Self::ShorterOfTwo,
            policy::Reason::ShortestDepth => Self::ShortestDepth,
            policy::Reason::FewestOutstanding => Self::FewestOutstanding,
            policy::Reason::Weight => Self::Weight,
        }
    }

    /// What a message that is not sound ended by.
    pub fn of_reject(reject: &Reject) -> Self {
        match reject.status {
            413 => Self::BodyTooLarge,
            414 | 431 => Self::HeadTooLarge,
            502 => Self::UpstreamBad,
            _ => Self::BadRequest,
        }
    }

    /// Why an upstream server is asked: `attempts` counts this time, too; `waited` says that it had no room before.
    pub fn of_grant(grant: Grant, attempts: u32, waited: bool) -> Self {
        if attempts > 1 {
            Self::Retry
        } else if grant.affinity {
            Self::Affinity
        } else if grant.probe {
            Self::Probe
        } else if waited {
            Self::UpstreamWaited
        } else {
            Self::UpstreamLeast
        }
    }

    /// Why an upstream server gave no answer.
    pub fn of_upstream_end(connecting: bool, overdue: bool) -> Self {
        match (connecting, overdue) {
            (_, true) => Self::UpstreamTimeout,
            (true, false) => Self::UpstreamConnect,
            (false, false) => Self::UpstreamReset,
        }
    }

    /// Whether the words of a [`Reject`] belong behind it.
    pub fn has_detail(self) -> bool {
        matches!(self, Self::BadRequest | Self::UpstreamBad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> String {
        let mut out = String::from("| reason | status | meaning |\n|---|---|---|\n");
        for reason in Reason::ALL {
            let status = match reason.status() {
                0 => String::from("–"),
                400 if reason.has_detail() => "400 and others".into(),
                431 => "431, 414".into(),
                status => status.to_string(),
            };
            let word = if reason.has_detail() { format!("{}:WORDS", reason.word()) } else { reason.word().into() };
            out.push_str(&format!("| `{word}` | {status} | {} |\n", reason.why()));
        }
        out
    }

    #[test]
    fn the_documented_table_is_the_one_in_force() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/OBSERVING.md");
        let text = std::fs::read_to_string(&file).unwrap();
        let (begin, end) = ("front::reason -->\n", "<!-- end -->");
        let from = text.find(begin).unwrap() + begin.len();
        let to = from + text[from..].find(end).unwrap();
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            let updated = format!("{}{}{}", &text[..from], table(), &text[to..]);
            std::fs::write(&file, updated).unwrap();
            return;
        }
        assert_eq!(&text[from..to], table(), "write it anew with UPDATE_SNAPSHOTS=1");
    }

    #[test]
    fn words_are_unique_and_safe_in_a_log() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(reason.word().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
            assert!(Reason::ALL[..index].iter().all(|other| other.word() != reason.word()), "{reason:?}");
            assert!(!reason.why().is_empty() && !reason.why().contains('|'));
        }
    }
}
