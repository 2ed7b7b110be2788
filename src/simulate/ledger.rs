//! What the browsers were told, and what may be seen because of it.
//!
//! ```text
//!   browser ──request──▶ cluster         before: what this browser may see
//!           ◀──answer───                 after: an acknowledged write binds every later read, to the end of the seed
//! ```
//! A row that one browser alone writes is exact: its last acknowledged value, or one whose write had no known outcome.
//! Rows that several write are counters, of which no acknowledged increment may be missing, or are left to the rule.

use std::collections::BTreeMap;

/// How a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Durable,
    All,
    Local,
}

impl Level {
    /// The first segment of the action's path.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::All => "all",
            Self::Local => "local",
        }
    }
}

/// A row that one browser writes. `None` stands for no row.
#[derive(Clone, Debug)]
pub struct Note {
    pub level: Level,
    pub acknowledged: Option<String>,
    /// Of writes whose outcome nobody knows.
    unknown: Vec<Option<String>>,
    /// Values before the last one, all of which a loss may bring back.
    before: Vec<Option<String>>,
    /// A loss that the level allows may have happened since the last acknowledgement.
    weak: bool,
}

impl Note {
    fn new(level: Level) -> Self {
        Self { level, acknowledged: None, unknown: Vec::new(), before: Vec::new(), weak: false }
    }

    pub fn acknowledged(&self) -> Option<&str> {
        self.acknowledged.as_deref()
    }

    /// Whether a reader may see this value now.
    pub fn may_be(&self, value: Option<&str>) -> bool {
        let is = |one: &Option<String>| one.as_deref() == value;
        is(&self.acknowledged) || self.unknown.iter().any(is) || (self.weak && self.before.iter().any(is))
    }

    /// Whether nothing but the acknowledged value may be seen.
    pub fn is_certain(&self) -> bool {
        self.unknown.is_empty() && !self.weak
    }
}

/// A row that every browser increments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub acknowledged: u64,
    /// Increments without a known outcome.
    pub unknown: u64,
}

/// A user's role that is given and taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// What every replica must hold; `None` while a change is under way or its outcome is unknown.
    pub granted: Option<bool>,
    /// Changes that were sent.
    pub changes: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub notes: BTreeMap<String, Note>,
    pub counters: BTreeMap<String, Counter>,
    /// Orders, and whether they were acknowledged.
    pub orders: BTreeMap<String, bool>,
    pub roles: BTreeMap<String, Role>,
    /// The version of the last deploy that returned, and the greatest that was begun.
    pub deployed: u64,
    pub begun: u64,
    /// How often the process was killed, and a replica told to crash.
    pub kills: u64,
    pub crashes: u64,
    pub answers: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    /// A commit may have had no outcome, or one that no replica lived to hear: the database may be ahead until the next
    /// write of the row, or the next start.
    pub doubts: bool,
    /// Rows of which it was, at the end.
    pub unseen: u64,
    /// Acknowledged writes that are gone, as their level allows.
    pub local_lost: u64,
}

impl Ledger {
    pub fn note(&mut self, key: &str, level: Level) -> &mut Note {
        self.notes.entry(key.to_owned()).or_insert_with(|| Note::new(level))
    }

    /// The write of a note was acknowledged; `kills` is what [`Self::kills`] was when it was sent.
    pub fn written(&mut self, key: &str, level: Level, value: Option<String>, kills: u64) {
        let killed = self.kills != kills;
        let note = self.note(key, level);
        let before = std::mem::replace(&mut note.acknowledged, value);
        note.before.push(before);
        // An answer that was on its way when the process was killed acknowledges what is in the database, or nothing.
        note.weak = killed && level != Level::Durable;
    }

    /// Nobody knows what became of the write of a note.
    pub fn unknown(&mut self, key: &str, level: Level, value: Option<String>) {
        self.unknown += 1;
        self.note(key, level).unknown.push(value);
    }

    /// The process was killed: what no database had is gone.
    pub fn killed(&mut self) {
        self.kills += 1;
        for note in self.notes.values_mut().filter(|note| note.level != Level::Durable) {
            note.weak = true;
        }
    }

    pub fn role(&mut self, user: &str) -> &mut Role {
        self.roles.entry(user.to_owned()).or_insert(Role { granted: Some(false), changes: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, Level};

    #[test]
    fn only_what_was_acknowledged_or_is_unknown_may_be_seen() {
        let mut ledger = Ledger::default();
        for (key, level) in [("d", Level::Durable), ("l", Level::Local)] {
            ledger.written(key, level, Some("1".into()), 0);
            ledger.written(key, level, Some("2".into()), 0);
            let note = &ledger.notes[key];
            assert!(note.may_be(Some("2")) && !note.may_be(Some("1")) && !note.may_be(None) && note.is_certain());
        }
        ledger.unknown("d", Level::Durable, None);
        ledger.killed();
        assert!(ledger.notes["d"].may_be(None) && !ledger.notes["d"].may_be(Some("1")));
        assert!(ledger.notes["l"].may_be(Some("1")) && ledger.notes["l"].may_be(None));
        ledger.written("l", Level::Local, Some("3".into()), 1);
        assert!(!ledger.notes["l"].may_be(Some("1")));
        ledger.written("l", Level::Local, Some("4".into()), 0);
        assert!(ledger.notes["l"].may_be(Some("3")), "sent before the kill, acknowledged behind it");
    }
}
