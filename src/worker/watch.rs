//! What a worker makes of the others' beats and lives: which replicas may be given jobs, which hang, which are dead.
//!
//! ```text
//!   beat overdue ──first look──▶ suspect ──second look, same beat──▶ hung ──dead_ns──▶ fenced (on the board)
//!        ▲                          │                                  │
//!        └────────── it beats ──────┴──────────────────────────────────┘
//! ```
//! Two looks, a good part of the patience apart, because the one who looks may have been the one who stood still: when
//! a whole machine pauses, everybody's beat is old for a moment. A false alarm does no harm: the replica gets no new
//! jobs until it beats again.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::mesh::beats::{Beat, BeatBoard};
use crate::mesh::lives::{Life, LifeBoard, Standing};
use crate::tables::ServerId;
use crate::tables::code::CodeVersion;

/// Looks at beats within the time that a turn may take: a miss is seen that much later at most, twice.
const LOOKS_PER_TURN_MAX: u64 = 4;

/// How long others wait for a worker's beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A turn that takes longer is a missed beat: the replica is hung.
    pub hung_ns: u64,
    /// One that has been hung for so long is declared dead: nobody waits for its acknowledgement, and it has to join
    /// again.
    pub dead_ns: u64,
}

impl Patience {
    fn look_ns(self) -> u64 {
        (self.hung_ns / LOOKS_PER_TURN_MAX).max(1)
    }
}

/// The boards of beats and lives, shared by all workers.
#[derive(Debug)]
pub struct Vitals {
    /// By worker.
    pub beats: BeatBoard,
    /// By replica.
    pub lives: LifeBoard,
    /// The worker that carries each replica.
    pub replica_workers: Vec<usize>,
    pub patience: Patience,
    /// The code that was deployed last, for replicas that come to life.
    code: Mutex<Option<Arc<CodeVersion>>>,
}

impl Vitals {
    pub fn new(workers: usize, replica_workers: &[usize], patience: Patience) -> Self {
        Self {
            beats: BeatBoard::new(workers),
            lives: LifeBoard::new(replica_workers.len()),
            replica_workers: replica_workers.to_vec(),
            patience,
            code: Mutex::default(),
        }
    }

    /// Makes new code known to replicas that are no part of the cluster now: before a deploy looks who is.
    pub fn publish_code(&self, code: &Arc<CodeVersion>) {
        *self.code.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(code));
    }

    /// The code that was deployed last; none if nothing was deployed since the start.
    pub fn code(&self) -> Option<Arc<CodeVersion>> {
        self.code.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a worker's beat is overdue at this moment, for reports.
    pub fn is_late(&self, worker: usize, now_ns: u64) -> bool {
        let beat = self.beats.read(worker);
        beat.at_ns > 0 && now_ns > beat.due_ns(self.patience.hung_ns)
    }
}

/// What a beat says at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It came in time, or its worker has not begun yet.
    Well,
    /// Overdue for so many nanoseconds.
    Late { by_ns: u64 },
}

fn judge(beat: Beat, now_ns: u64, patience: Patience) -> Verdict {
    let due_ns = beat.due_ns(patience.hung_ns);
    if beat.at_ns == 0 || now_ns <= due_ns { Verdict::Well } else { Verdict::Late { by_ns: now_ns - due_ns } }
}

/// One worker as another one sees it.
#[derive(Clone, Copy, Debug, Default)]
struct Pulse {
    hung: bool,
    /// The overdue beat that the last look found.
    suspect: Option<Beat>,
}

/// Since the start of the worker that watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Overdue beats that were seen at two looks: workers taken out.
    pub taken_out: u64,
    /// Workers that beat again after they were taken out.
    pub back_in: u64,
    /// From the moment at which a beat was missed until its worker was taken out: the longest, and the last.
    pub take_out_max_ns: u64,
    pub take_out_last_ns: u64,
    /// Incarnations that this worker declared dead.
    pub fenced: u64,
}

/// The others as one worker sees them.
#[derive(Debug)]
pub struct Watch {
    vitals: Arc<Vitals>,
    /// This worker, which does not judge itself.
    me: usize,
    /// By worker.
    pulses: Box<[Pulse]>,
    /// By replica.
    standings: Box<[Standing]>,
    /// The standings at the last look at beats.
    judged: Box<[Standing]>,
    changes: u64,
    next_look_ns: u64,
    pub counters: Counters,
}

impl Watch {
    pub fn new(vitals: Arc<Vitals>, me: usize) -> Self {
        Self {
            me,
            pulses: vec![Pulse::default(); vitals.beats.workers()].into(),
            standings: (0..vitals.lives.replicas()).map(|replica| vitals.lives.read(replica)).collect(),
            judged: vec![Standing::default(); vitals.lives.replicas()].into(),
            changes: vitals.lives.changes(),
            next_look_ns: 0,
            counters: Counters::default(),
            vitals,
        }
    }

    /// Once a turn: looks at lives if one has changed, and at beats if it is time. True if something is different now.
    pub fn look(&mut self, now_ns: u64) -> bool {
        let mut different = self.read_lives();
        if now_ns >= self.next_look_ns {
            self.next_look_ns = now_ns + self.vitals.patience.look_ns();
            different |= self.judge_all(now_ns);
            // A declaration of death is a change of a life.
            different |= self.read_lives();
        }
        different
    }

    /// When the next look at beats is due, for a worker that waits for another one.
    pub fn next_look_ns(&self) -> u64 {
        self.next_look_ns
    }

    /// Whether the replica may be given jobs.
    pub fn is_open(&self, replica: ServerId) -> bool {
        self.standing(replica).life == Life::Running && !self.is_hung(replica)
    }

    /// Whether the replica's worker has missed its beat.
    pub fn is_hung(&self, replica: ServerId) -> bool {
        self.is_worker_hung(self.vitals.replica_workers[usize::from(replica)])
    }

    pub fn is_worker_hung(&self, worker: usize) -> bool {
        self.pulses[worker].hung
    }

    pub fn standing(&self, replica: ServerId) -> Standing {
        self.standings[usize::from(replica)]
    }

    /// All replicas by number.
    pub fn replicas(&self) -> impl Iterator<Item = ServerId> + use<> {
        (0..self.standings.len()).filter_map(|replica| ServerId::try_from(replica).ok())
    }

    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Takes over the standings if one has changed.
    fn read_lives(&mut self) -> bool {
        let changes = self.vitals.lives.changes();
        if changes == self.changes {
            return false;
        }
        self.changes = changes;
        for (replica, standing) in self.standings.iter_mut().enumerate() {
            *standing = self.vitals.lives.read(replica);
        }
        true
    }

    fn judge_all(&mut self, now_ns: u64) -> bool {
        let patience = self.vitals.patience;
        let mut different = false;
        let me = self.me;
        for worker in (0..self.pulses.len()).filter(|worker| *worker != me) {
            let beat = self.vitals.beats.read(worker);
            let pulse = &mut self.pulses[worker];
            match judge(beat, now_ns, patience) {
                Verdict::Well => {
                    pulse.suspect = None;
                    if std::mem::take(&mut pulse.hung) {
                        self.counters.back_in += 1;
                        different = true;
                    }
                }
                Verdict::Late { by_ns } => {
                    let seen_before = pulse.suspect.replace(beat) == Some(beat);
                    if seen_before && !pulse.hung {
                        pulse.hung = true;
                        self.counters.taken_out += 1;
                        self.counters.take_out_last_ns = by_ns;
                        self.counters.take_out_max_ns = self.counters.take_out_max_ns.max(by_ns);
                        different = true;
                    }
                    if seen_before && by_ns >= patience.dead_ns {
                        self.declare_dead(worker);
                    }
                }
            }
        }
        self.judged.copy_from_slice(&self.standings);
        different
    }

    /// Only a life that was there at the last look as well: an old beat is not the fault of a new one.
    fn declare_dead(&mut self, worker: usize) {
        let carried = self.vitals.replica_workers.iter().position(|carrier| *carrier == worker);
        let Some(replica) = carried else { return };
        let seen = self.standings[replica];
        if seen == self.judged[replica] && self.vitals.lives.fence(replica, seen) {
            self.counters.fenced += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { hung_ns: 8_000, dead_ns: 100_000 };

    /// Worker 0 watches; worker 1 carries replica 0, worker 2 replica 1.
    fn watched() -> (Arc<Vitals>, Watch) {
        let vitals = Arc::new(Vitals::new(3, &[1, 2], PATIENCE));
        let watch = Watch::new(Arc::clone(&vitals), 0);
        (vitals, watch)
    }

    fn beat(at_ns: u64) -> Beat {
        Beat { at_ns, asleep: false }
    }

    #[test]
    fn a_missed_beat_takes_out_and_the_next_one_brings_back() {
        let (vitals, mut watch) = watched();
        vitals.beats.publish(1, beat(1_000));
        assert!(!watch.look(9_000), "a turn may take as long as this");
        assert!(watch.is_open(0));
        assert!(!watch.look(11_000), "the first look that finds it late only suspects");
        assert!(!watch.look(12_999), "not every turn is a look");
        assert!(watch.look(13_000));
        assert!(!watch.is_open(0) && watch.is_hung(0) && watch.is_worker_hung(1));
        assert!(watch.is_open(1), "one that has not begun is not late");
        assert_eq!((watch.counters.taken_out, watch.counters.take_out_max_ns), (1, 4_000));
        vitals.beats.publish(1, beat(14_500));
        assert!(watch.look(15_000));
        assert!(watch.is_open(0));
        assert_eq!((watch.counters.back_in, watch.counters.fenced), (1, 0));
    }

    #[test]
    fn one_who_stood_still_itself_blames_nobody() {
        let (vitals, mut watch) = watched();
        vitals.beats.publish(1, beat(1_000));
        watch.look(2_000);
        // The whole machine pauses; then this worker is the first to run.
        assert!(!watch.look(90_000_000));
        vitals.beats.publish(1, beat(90_000_500));
        assert!(!watch.look(90_002_500));
        assert_eq!(watch.counters, Counters::default());
        // Another beat that is late is suspected anew.
        assert!(!watch.look(90_010_000));
        vitals.beats.publish(1, beat(90_010_500));
        assert!(!watch.look(90_020_000), "late again, but by another beat");
    }

    #[test]
    fn a_sleeper_is_not_late_before_its_sleep_is_over() {
        let (vitals, mut watch) = watched();
        vitals.beats.publish(1, Beat { at_ns: 1_000, asleep: true });
        let over_ns = 1_000 + crate::mesh::beats::SLEEP_NS_MAX + PATIENCE.hung_ns;
        assert!(!watch.look(over_ns - 2_000) && !watch.look(over_ns));
        assert!(!watch.look(over_ns + 2_000));
        assert!(watch.look(over_ns + 4_000));
        assert!(watch.is_hung(0));
    }

    #[test]
    fn a_new_life_is_not_judged_by_an_old_beat() {
        let (vitals, mut watch) = watched();
        vitals.beats.publish(1, beat(1_000));
        let dead_ns = 9_000 + PATIENCE.dead_ns;
        watch.look(dead_ns - 4_000);
        watch.look(dead_ns - 2_000);
        let old = vitals.lives.read(0);
        vitals.lives.advance(0, old, old.reborn()).unwrap();
        watch.look(dead_ns);
        assert_eq!((watch.standing(0), watch.counters.fenced), (old.reborn(), 0));
        vitals.beats.publish(1, beat(dead_ns + 1_000));
        watch.look(dead_ns + 2_000);
        assert_eq!((watch.is_hung(0), watch.counters.fenced), (false, 0));
    }

    #[test]
    fn the_dead_are_fenced_once_and_stay_out_until_they_run_again() {
        let (vitals, mut watch) = watched();
        let mut other = Watch::new(Arc::clone(&vitals), 2);
        vitals.beats.publish(1, beat(1_000));
        let dead_ns = 9_000 + PATIENCE.dead_ns;
        assert!(!watch.look(dead_ns - 4_000) && !other.look(dead_ns - 4_000));
        assert!(watch.look(dead_ns - 2_000));
        assert_eq!(vitals.lives.read(0).life, Life::Running);
        assert!(watch.look(dead_ns) && other.look(dead_ns));
        assert_eq!((watch.standing(0).life, watch.counters.fenced), (Life::Fenced, 1));
        assert_eq!((other.standing(0).life, other.counters.fenced), (Life::Fenced, 0));
        vitals.beats.publish(1, beat(dead_ns + 1_000));
        assert!(watch.look(dead_ns + 2_000));
        assert!(!watch.is_hung(0) && !watch.is_open(0), "it beats, but what it holds is old");
        let fenced = vitals.lives.read(0);
        vitals.lives.advance(0, fenced, fenced.reborn()).unwrap();
        vitals.lives.advance(0, fenced.reborn(), fenced.reborn().to(Life::Running)).unwrap();
        assert!(watch.look(dead_ns + 2_001), "a change of a life is seen in the same turn");
        assert!(watch.is_open(0));
    }
}
