//! What the supervisor sees of the running cluster between two looks, told as log lines: lives of replicas, workers that
//! hang, and how the database does. And whether the process as a whole is alive, for systemd's watchdog.
//!
//! It only reads boards that others keep; what comes and goes between two looks is in the counters of `/status`.

use std::sync::Arc;

use crate::database::health::{Health, State};
use crate::mesh::beats::Beat;
use crate::mesh::lives::{Life, Standing};
use crate::worker::watch::Vitals;

/// A worker that has not turned for so long is told of. Shorter stops are counted only: on a busy machine they come and
/// go.
const HUNG_TOLD_NS: u64 = 250_000_000;

/// Something that is new since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    Life { replica: usize, was: Standing, is: Standing },
    Hung { worker: usize, for_ns: u64 },
    Turns { worker: usize, hung_ns: u64 },
    Database { was: State, is: State, error: Option<String> },
}

/// What the last look saw.
#[derive(Debug)]
pub(super) struct Vigil {
    vitals: Arc<Vitals>,
    standings: Vec<Standing>,
    /// The beat after which each worker hung, where that was told.
    hung: Vec<Option<Beat>>,
    database: State,
}

impl Vigil {
    pub fn new(vitals: Arc<Vitals>) -> Self {
        let standings = (0..vitals.lives.replicas()).map(|replica| vitals.lives.read(replica)).collect();
        Self { standings, hung: vec![None; vitals.beats.workers()], database: State::Up, vitals }
    }

    pub fn look(&mut self, database: &Health, now_ns: u64) -> Vec<News> {
        let mut news = Vec::new();
        for (replica, was) in self.standings.iter_mut().enumerate() {
            let is = self.vitals.lives.read(replica);
            if is != *was {
                news.push(News::Life { replica, was: std::mem::replace(was, is), is });
            }
        }
        for (worker, hung) in self.hung.iter_mut().enumerate() {
            let beat = self.vitals.beats.read(worker);
            let over_ns = overdue_ns(beat, self.vitals.patience.hung_ns, now_ns);
            match hung {
                None if over_ns >= HUNG_TOLD_NS => {
                    *hung = Some(beat);
                    news.push(News::Hung { worker, for_ns: now_ns.saturating_sub(beat.at_ns) });
                }
                Some(last) if *last != beat => {
                    news.push(News::Turns { worker, hung_ns: beat.at_ns.saturating_sub(last.at_ns) });
                    *hung = None;
                }
                Some(_) | None => {}
            }
        }
        if database.state != self.database {
            let error = database.last_error.as_ref().map(|(sentence, _)| sentence.clone());
            let was = std::mem::replace(&mut self.database, database.state);
            news.push(News::Database { was, is: database.state, error });
        }
        news
    }

    /// Whether every worker has turned within `patience_ns`: a thread that never turns again serves nobody, and only a
    /// new process helps.
    pub fn is_alive(&self, patience_ns: u64, now_ns: u64) -> bool {
        (0..self.hung.len()).all(|worker| overdue_ns(self.vitals.beats.read(worker), patience_ns, now_ns) == 0)
    }
}

/// How long a beat is overdue; 0 if it is not, or its worker has not begun.
fn overdue_ns(beat: Beat, turn_ns_max: u64, now_ns: u64) -> u64 {
    if beat.at_ns == 0 { 0 } else { now_ns.saturating_sub(beat.due_ns(turn_ns_max)) }
}

impl News {
    pub fn tell(&self) {
        match self {
            Self::Life { replica, was, is } => {
                let (state, before, incarnation) = (is.life.as_str(), was.life.as_str(), is.incarnation);
                match is.life {
                    Life::Fenced => {
                        log::error!(replica, state, before, incarnation; "the replica is taken for dead");
                    }
                    Life::Running => log::info!(replica, state, before, incarnation; "the replica runs"),
                    Life::Stopping | Life::Stopped | Life::Joining => {
                        log::info!(replica, state, before, incarnation; "the replica's life has changed");
                    }
                }
            }
            Self::Hung { worker, for_ns } => {
                log::warn!(worker, hung_ms = for_ns / 1_000_000; "the worker hangs: its replica gets no jobs");
            }
            Self::Turns { worker, hung_ns } => {
                log::info!(worker, hung_ms = hung_ns / 1_000_000; "the worker turns again");
            }
            Self::Database { was, is, error } => {
                let (state, before, error) = (is.name(), was.name(), error.as_deref().unwrap_or(""));
                match is {
                    State::Up => log::info!(state, before; "the database takes writes"),
                    State::Slow => log::warn!(state, before; "the database is slow: writes wait"),
                    State::Full | State::Locked | State::Down => {
                        log::error!(state, before, error; "the database takes no writes: reads go on");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Beat, HUNG_TOLD_NS, Health, Life, News, State, Vigil, Vitals};
    use crate::worker::watch::Patience;
    use std::sync::Arc;

    const HUNG_NS: u64 = 10_000_000;

    fn watched() -> (Arc<Vitals>, Vigil) {
        let patience = Patience { hung_ns: HUNG_NS, dead_ns: 1_000_000_000 };
        let vitals = Arc::new(Vitals::new(2, &[0, 1], patience));
        let vigil = Vigil::new(Arc::clone(&vitals));
        (vitals, vigil)
    }

    #[test]
    fn a_change_is_told_once() {
        let (vitals, mut vigil) = watched();
        let well = Health::default();
        assert_eq!(vigil.look(&well, 0), []);
        let was = vitals.lives.read(1);
        vitals.lives.advance(1, was, was.to(Life::Fenced)).unwrap();
        assert_eq!(vigil.look(&well, 0), [News::Life { replica: 1, was, is: was.to(Life::Fenced) }]);
        assert_eq!(vigil.look(&well, 0), []);
        let full = Health { state: State::Full, last_error: Some(("no room".into(), 1)), ..Health::default() };
        let told = News::Database { was: State::Up, is: State::Full, error: Some("no room".into()) };
        assert_eq!(vigil.look(&full, 0), [told]);
        assert_eq!(vigil.look(&full, 0), []);
        assert_eq!(vigil.look(&well, 0).len(), 1, "and that it is over");
    }

    #[test]
    fn a_worker_hangs_until_it_beats() {
        let (vitals, mut vigil) = watched();
        let well = Health::default();
        vitals.beats.publish(0, Beat { at_ns: 1_000, asleep: false });
        let told_ns = 1_000 + HUNG_NS + HUNG_TOLD_NS;
        assert_eq!(vigil.look(&well, told_ns - 1), [], "and worker 1 has not begun");
        assert_eq!(vigil.look(&well, told_ns), [News::Hung { worker: 0, for_ns: told_ns - 1_000 }]);
        assert_eq!(vigil.look(&well, told_ns * 2), [], "told once");
        assert!(!vigil.is_alive(told_ns, told_ns * 2) && vigil.is_alive(told_ns * 2, told_ns * 2));
        vitals.beats.publish(0, Beat { at_ns: told_ns * 2, asleep: false });
        assert_eq!(vigil.look(&well, told_ns * 2), [News::Turns { worker: 0, hung_ns: told_ns * 2 - 1_000 }]);
        assert!(vigil.is_alive(told_ns, told_ns * 2));
    }
}
