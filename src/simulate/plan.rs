//! What goes wrong in a seed: every fault alone and every pair, dealt by the seed's number; when and where is drawn.

use std::fmt;

use crate::engine::sim::Random;

/// Something that happens to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The process ends as by SIGKILL, and is started again on what the database has.
    Kill,
    /// One replica is stopped, and started again.
    ReplicaStop,
    /// One replica panics outside its handlers, and joins again.
    ReplicaCrash,
    /// A worker stands still.
    Pause,
    /// A worker takes a hundred times as long for everything.
    Slow,
    /// Rings of the fewest slots, emptied one message at a time.
    RingFull,
    /// The messages of some rings are held back.
    RingStalled,
    /// The wall clock jumps ahead.
    ClockForward,
    /// The wall clock jumps back.
    ClockBack,
    /// The database answers nothing.
    DatabaseDown,
    /// The database takes long for each transaction.
    DatabaseSlow,
    /// The database refuses every write, as on a full disk.
    DatabaseFull,
    /// An agent panics.
    AgentCrash,
    /// The process is killed while a deploy is under way.
    DeployKill,
    /// Browsers leave in the middle of a request's body.
    ClientGone,
}

impl Fault {
    pub const ALL: [Self; 15] = [
        Self::Kill,
        Self::ReplicaStop,
        Self::ReplicaCrash,
        Self::Pause,
        Self::Slow,
        Self::RingFull,
        Self::RingStalled,
        Self::ClockForward,
        Self::ClockBack,
        Self::DatabaseDown,
        Self::DatabaseSlow,
        Self::DatabaseFull,
        Self::AgentCrash,
        Self::DeployKill,
        Self::ClientGone,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::ReplicaStop => "replica-stop",
            Self::ReplicaCrash => "replica-crash",
            Self::Pause => "pause",
            Self::Slow => "slow",
            Self::RingFull => "ring-full",
            Self::RingStalled => "ring-stalled",
            Self::ClockForward => "clock-forward",
            Self::ClockBack => "clock-back",
            Self::DatabaseDown => "database-down",
            Self::DatabaseSlow => "database-slow",
            Self::DatabaseFull => "database-full",
            Self::AgentCrash => "agent-crash",
            Self::DeployKill => "deploy-kill",
            Self::ClientGone => "client-gone",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// Which faults a seed has: none, one, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Combination {
    pub first: Option<Fault>,
    pub second: Option<Fault>,
}

impl Combination {
    /// No fault, each alone, and each pair.
    pub const COUNT: u64 = 1 + 15 + 15 * 14 / 2;

    /// Consecutive seeds go through all of them.
    pub fn of(seed: u64) -> Self {
        let mut left = usize::try_from(seed % Self::COUNT).unwrap_or(0);
        if left == 0 {
            return Self { first: None, second: None };
        }
        left -= 1;
        if left < Fault::ALL.len() {
            return Self { first: Some(Fault::ALL[left]), second: None };
        }
        left -= Fault::ALL.len();
        for (place, first) in Fault::ALL.iter().enumerate() {
            let others = &Fault::ALL[place + 1..];
            if let Some(second) = others.get(left) {
                return Self { first: Some(*first), second: Some(*second) };
            }
            left -= others.len();
        }
        Self { first: None, second: None }
    }

    pub fn faults(self) -> impl Iterator<Item = Fault> {
        self.first.into_iter().chain(self.second)
    }

    pub fn has(self, fault: Fault) -> bool {
        self.faults().any(|one| one == fault)
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.second) {
            (Some(first), Some(second)) => write!(out, "{first} and {second}"),
            (Some(one), None) | (None, Some(one)) => one.fmt(out),
            (None, None) => out.write_str("no fault"),
        }
    }
}

/// One fault of a seed, in steps of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub fault: Fault,
    pub begins: u64,
    pub ends: u64,
    /// Drawn for whatever the fault has to choose.
    pub lot: u64,
}

/// When a seed's faults come. Two of them overlap more often than not.
pub fn troubles(combination: Combination, steps: u64, random: &mut Random) -> Vec<Trouble> {
    let mut troubles: Vec<Trouble> = Vec::new();
    for fault in combination.faults() {
        let begins = match troubles.first() {
            Some(first) if random.chance(700) => first.begins + random.below(first.ends - first.begins + 1),
            Some(_) | None => steps / 10 + random.below(steps / 2),
        };
        let ends = begins + steps / 50 + random.below(steps / 4 + 1);
        troubles.push(Trouble { fault, begins, ends, lot: random.next() });
        // One that is over in a moment may come again.
        if matches!(
            fault,
            Fault::Kill | Fault::ReplicaCrash | Fault::ClockForward | Fault::ClockBack | Fault::AgentCrash
        ) && random.chance(300)
        {
            let begins = ends + random.below(steps / 8 + 1);
            troubles.push(Trouble { fault, begins, ends: begins + 1, lot: random.next() });
        }
    }
    troubles
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Combination, Fault};

    #[test]
    fn consecutive_seeds_have_every_fault_alone_and_every_pair() {
        let all: BTreeSet<Combination> = (7..7 + Combination::COUNT).map(Combination::of).collect();
        assert_eq!(all.len(), 121);
        for one in Fault::ALL {
            assert!(all.contains(&Combination { first: Some(one), second: None }));
            for other in Fault::ALL {
                let has_both = |pair: &Combination| pair.has(one) && pair.has(other);
                assert!(all.iter().any(has_both), "{one} and {other}");
            }
        }
    }
}
