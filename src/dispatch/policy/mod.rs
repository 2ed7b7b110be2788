//! How a replica is chosen: one rule a file, all over the same view, so that they can be compared.
//!
//! A rule sees only replicas that are open: available and below the cap. Only JBSQ makes use of a small cap; the others
//! run under a bound that merely protects memory.

mod jbsq;
mod join_shortest;
mod least_connection;
mod power_of_two;
mod random;
mod round_robin;
mod weighted;

use std::fmt;
use std::str::FromStr;

use super::requests::ReplicaId;
use jbsq::Jbsq;
use join_shortest::JoinShortest;
use least_connection::LeastConnection;
use power_of_two::PowerOfTwo;
use random::Random;
use round_robin::RoundRobin;
use weighted::Weighted;

/// The rules by the names that profiles use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PolicyName {
    /// Local first, then the replica with the most free credit, then wait: `jbsq`.
    #[default]
    Jbsq,
    /// One after the other: `round-robin`.
    RoundRobin,
    /// Any: `random`.
    Random,
    /// The shorter of two random ones by published depth: `power-of-two`.
    PowerOfTwo,
    /// The shortest by published depth: `jsq`.
    JoinShortest,
    /// The fewest of this front server's own requests: `least-connection`.
    LeastConnection,
    /// By turns, with weights that are computed every two seconds: `weighted`, the rule of 2000.
    Weighted,
}

impl PolicyName {
    pub const ALL: [Self; 7] = [
        Self::Jbsq,
        Self::RoundRobin,
        Self::Random,
        Self::PowerOfTwo,
        Self::JoinShortest,
        Self::LeastConnection,
        Self::Weighted,
    ];

    /// Whether the rule goes by published depths, which are worth reading only then.
    pub fn reads_depths(self) -> bool {
        match self {
            Self::PowerOfTwo | Self::JoinShortest => true,
            Self::Jbsq | Self::RoundRobin | Self::Random | Self::LeastConnection | Self::Weighted => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jbsq => "jbsq",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::PowerOfTwo => "power-of-two",
            Self::JoinShortest => "jsq",
            Self::LeastConnection => "least-connection",
            Self::Weighted => "weighted",
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for PolicyName {
    type Err = String;

    /// # Errors
    /// A sentence that lists the names.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!("`{text}` is no dispatch policy: write one of {}", names.join(", "))
        })
    }
}

/// Why a replica was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is on the same core and has credit.
    Local,
    /// It has the most free credit.
    MostCredit,
    /// It was its turn.
    Turn,
    /// Drawn by lot.
    Lot,
    /// The shorter of two drawn by lot.
    ShorterOfTwo,
    /// The smallest published depth.
    ShortestDepth,
    /// The fewest outstanding requests of this front server.
    FewestOutstanding,
    /// Its weight made it its turn.
    Weight,
}

impl Reason {
    /// For the claim chart.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::MostCredit => "most credit",
            Self::Turn => "turn",
            Self::Lot => "lot",
            Self::ShorterOfTwo => "shorter of two",
            Self::ShortestDepth => "shortest depth",
            Self::FewestOutstanding => "fewest outstanding",
            Self::Weight => "weight",
        }
    }
}

/// One replica as a dispatcher sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Requests that this dispatcher sent and that have not returned: exact.
    pub outstanding: u32,
    /// Published depth at the last snapshot, corrected by what this dispatcher did since: a hint.
    pub depth: u32,
    pub available: bool,
}

/// What a rule chooses from.
pub(super) struct View<'a> {
    pub replicas: &'a [Replica],
    pub local: Option<ReplicaId>,
    /// Outstanding requests that a replica may have.
    pub cap: u32,
    pub now_ns: u64,
}

impl View<'_> {
    fn is_open(&self, index: usize) -> bool {
        self.replicas.get(index).is_some_and(|replica| replica.available && replica.outstanding < self.cap)
    }

    /// Open replicas in turn, from `start`.
    fn open_from(&self, start: usize) -> impl Iterator<Item = usize> + '_ {
        let count = self.replicas.len();
        (0..count).map(move |offset| (start + offset) % count).filter(|&index| self.is_open(index))
    }

    /// Open replicas.
    fn open(&self) -> impl Iterator<Item = usize> + '_ {
        self.open_from(0)
    }
}

/// A rule with its state.
#[derive(Clone, Debug)]
pub(super) enum Policy {
    Jbsq(Jbsq),
    RoundRobin(RoundRobin),
    Random(Random),
    PowerOfTwo(PowerOfTwo),
    JoinShortest(JoinShortest),
    LeastConnection(LeastConnection),
    Weighted(Weighted),
}

impl Policy {
    pub fn new(name: PolicyName, seed: u64, replicas: usize) -> Self {
        match name {
            PolicyName::Jbsq => Self::Jbsq(Jbsq::default()),
            PolicyName::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            PolicyName::Random => Self::Random(Random::new(seed)),
            PolicyName::PowerOfTwo => Self::PowerOfTwo(PowerOfTwo::new(seed)),
            PolicyName::JoinShortest => Self::JoinShortest(JoinShortest::default()),
            PolicyName::LeastConnection => Self::LeastConnection(LeastConnection::default()),
            PolicyName::Weighted => Self::Weighted(Weighted::new(replicas)),
        }
    }

    /// An open replica and why it; `None` if none is open.
    pub fn choose(&mut self, view: &View) -> Option<(usize, Reason)> {
        match self {
            Self::Jbsq(rule) => rule.choose(view),
            Self::RoundRobin(rule) => rule.choose(view),
            Self::Random(rule) => rule.choose(view),
            Self::PowerOfTwo(rule) => rule.choose(view),
            Self::JoinShortest(rule) => rule.choose(view),
            Self::LeastConnection(rule) => rule.choose(view),
            Self::Weighted(rule) => rule.choose(view),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Policy, PolicyName, Reason, Replica, View};

    fn replicas(counts: &[(u32, u32)]) -> Vec<Replica> {
        counts.iter().map(|&(outstanding, depth)| Replica { outstanding, depth, available: true }).collect()
    }

    fn choices(name: PolicyName, replicas: &[Replica], local: Option<u8>, cap: u32, count: usize) -> Vec<usize> {
        let mut policy = Policy::new(name, 1, replicas.len());
        let view = View { replicas, local, cap, now_ns: 0 };
        (0..count).filter_map(|_| policy.choose(&view)).map(|(index, _)| index).collect()
    }

    #[test]
    fn names_round_trip_and_a_wrong_one_lists_them() {
        for name in PolicyName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let error = "fastest".parse::<PolicyName>().unwrap_err();
        assert!(error.contains("`fastest`") && error.contains("jbsq, round-robin, random"), "{error}");
    }

    #[test]
    fn no_policy_chooses_a_closed_replica() {
        let mut all = replicas(&[(2, 0), (0, 0), (1, 0), (2, 0)]);
        all[1].available = false;
        for name in PolicyName::ALL {
            assert_eq!(choices(name, &all, Some(0), 2, 20), [2; 20], "{name}");
            assert_eq!(choices(name, &all, Some(0), 1, 20), [0; 0], "{name}");
            assert_eq!(choices(name, &[], None, 9, 1), [0; 0], "{name}");
            assert_eq!(choices(name, &all, Some(200), 2, 1), [2], "{name}");
        }
    }

    #[test]
    fn jbsq_is_local_first_then_credit_then_depth_then_turn() {
        let mut rule = Policy::new(PolicyName::Jbsq, 0, 3);
        let local = View { replicas: &replicas(&[(1, 90), (0, 0)]), local: Some(0), cap: 2, now_ns: 0 };
        assert_eq!(rule.choose(&local), Some((0, Reason::Local)));
        let full = View { replicas: &replicas(&[(2, 0), (1, 0), (0, 9)]), local: Some(0), cap: 2, now_ns: 0 };
        assert_eq!(rule.choose(&full), Some((2, Reason::MostCredit)));
        assert_eq!(choices(PolicyName::Jbsq, &replicas(&[(1, 5), (1, 4), (1, 5)]), None, 2, 2), [1, 1]);
        assert_eq!(choices(PolicyName::Jbsq, &replicas(&[(0, 0); 3]), None, 2, 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_other_policies_follow_their_count() {
        let all = replicas(&[(5, 1), (3, 2), (4, 0)]);
        assert_eq!(choices(PolicyName::RoundRobin, &all, None, 9, 5), [0, 1, 2, 0, 1]);
        assert_eq!(choices(PolicyName::JoinShortest, &all, None, 9, 3), [2; 3]);
        assert_eq!(choices(PolicyName::LeastConnection, &all, None, 9, 3), [1; 3]);
        assert_eq!(choices(PolicyName::JoinShortest, &replicas(&[(0, 1); 2]), None, 9, 4), [0, 1, 0, 1]);
        let two = choices(PolicyName::PowerOfTwo, &all, None, 9, 300);
        assert!(!two.contains(&1), "the deepest of three loses every pair");
        assert!(two.contains(&0) && two.contains(&2));
    }

    #[test]
    fn lots_are_fair_and_reproducible() {
        let all = replicas(&[(0, 0); 4]);
        let lots = choices(PolicyName::Random, &all, None, 9, 4000);
        assert_eq!(lots, choices(PolicyName::Random, &all, None, 9, 4000));
        for replica in 0..4 {
            let count = lots.iter().filter(|&&lot| lot == replica).count();
            assert!((850..1150).contains(&count), "replica {replica} was drawn {count} times of 4000");
        }
    }
}
