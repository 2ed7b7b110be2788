//! Who was woken: what glommio's reactor rings, and what of the engine each bell stands for.
//!
//! The reactor keeps wakers of sockets over many turns, but the task of a turn lives for that turn only. So a socket is
//! given a bell of its own: it notes its place and wakes the task that runs now.
//!
//! A waker must be `Send`, hence the mutex. The reactor rings from the engine's own thread only, so it is never
//! contended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// What a bell stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Slot(u32),
    Listener(usize),
    /// The engine's own waker was rung by another thread.
    Doorbell,
    /// A timer: it only has to end the sleep.
    Timer,
}

#[derive(Default)]
struct Notes {
    rung: Vec<Place>,
    /// The task of the turn that runs.
    task: Option<Waker>,
}

/// All bells of one engine.
#[derive(Clone, Default)]
pub(super) struct Board {
    notes: Arc<Mutex<Notes>>,
}

struct Bell {
    place: Place,
    board: Board,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut notes = self.board.notes();
            notes.rung.push(self.place);
            notes.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Board {
    /// A bell for `place`.
    pub(super) fn bell(&self, place: Place) -> Waker {
        Waker::from(Arc::new(Bell { place, board: self.clone() }))
    }

    /// The next bell that rings wakes `task`.
    pub(super) fn attend(&self, task: &Waker) {
        let mut notes = self.notes();
        if !notes.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            notes.task = Some(task.clone());
        }
    }

    /// The turn is over: bells are noted and wake nobody.
    pub(super) fn leave(&self) {
        let task = self.notes().task.take();
        drop(task);
    }

    /// Swaps what was rung against an empty list.
    pub(super) fn take(&self, empty: &mut Vec<Place>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut self.notes().rung, empty);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Board, Place};

    #[test]
    fn a_bell_outlives_the_task_that_it_would_have_woken() {
        let board = Board::default();
        let bell = board.bell(Place::Slot(7));
        board.attend(std::task::Waker::noop());
        bell.wake_by_ref();
        board.leave();
        bell.wake_by_ref();
        let mut rung = Vec::new();
        board.take(&mut rung);
        assert_eq!(rung, [Place::Slot(7), Place::Slot(7)]);
        rung.clear();
        board.take(&mut rung);
        assert!(rung.is_empty());
    }
}
