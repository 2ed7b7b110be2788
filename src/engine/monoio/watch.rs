//! Readiness from monoio: one small task for each direction that is watched.
//!
//! ```text
//!   engine ──arm──▶ Watch ──▶ task: readable().await ──▶ Board: "this is ready" ──▶ turn
//!          ──end──▶         (lives as long as the connection)          │
//!                                                              wakes the future that `turn` blocks on
//! ```
//! A task tells of readiness once and then waits to be armed again, so that a slow turn is never flooded. It moves no
//! bytes: the engine does that itself, with calls that never wait. So nothing is lost when a task ends early, which is
//! what monoio's own reads cannot promise.
//!
//! monoio's wakers and descriptors work within `block_on` only. Everything here that touches them says so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use ::monoio::net::TcpStream;

use crate::engine::Conn;

/// A direction of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Read,
    Write,
}

/// Who is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Another thread rang the bell.
    Waker,
    /// The time that a turn waits for has come.
    Timer,
    /// A connection waits to be accepted.
    Listener(u32),
    Conn(Conn, Side),
}

/// What all tasks share with the engine. Each watch has at most one entry in `ready`.
pub(super) struct Board {
    ready: RefCell<VecDeque<Key>>,
    /// The future that a turn blocks on.
    sleeper: Cell<Option<Waker>>,
    /// The driver has been asked since the turn began.
    pulsed: Cell<bool>,
    /// Tasks that have not ended.
    tasks: Cell<usize>,
}

impl Board {
    pub(super) fn new(capacity: usize) -> Rc<Self> {
        Rc::new(Self {
            ready: RefCell::new(VecDeque::with_capacity(capacity)),
            sleeper: Cell::new(None),
            pulsed: Cell::new(false),
            tasks: Cell::new(0),
        })
    }

    /// The next one that is ready.
    pub(super) fn next(&self) -> Option<Key> {
        self.ready.borrow_mut().pop_front()
    }

    /// How many are ready.
    pub(super) fn len(&self) -> usize {
        self.ready.borrow().len()
    }

    /// Tasks that have not ended.
    pub(super) fn tasks(&self) -> usize {
        self.tasks.get()
    }

    fn tell(&self, key: Key) {
        self.ready.borrow_mut().push_back(key);
        self.wake();
    }

    fn wake(&self) {
        if let Some(sleeper) = self.sleeper.take() {
            sleeper.wake();
        }
    }
}

/// Counts a task for as long as it lives.
struct Alive(Rc<Board>);

impl Alive {
    fn new(board: &Rc<Board>) -> Self {
        board.tasks.set(board.tasks.get() + 1);
        Self(Rc::clone(board))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
    }
}

/// What a task is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Nothing until it is armed.
    Rest,
    /// Tell when it is ready.
    Armed,
    /// End.
    End,
}

/// The engine's end of a task.
pub(super) struct Watch {
    order: Cell<Order>,
    task: Cell<Option<Waker>>,
}

impl Watch {
    fn new() -> Rc<Self> {
        Rc::new(Self { order: Cell::new(Order::Armed), task: Cell::new(None) })
    }

    /// A task that is armed already. Within the runtime only.
    pub(super) fn spawn(board: &Rc<Board>, stream: Rc<TcpStream>, side: Side, key: Key) -> Rc<Self> {
        let watch = Self::new();
        let (alive, own, board) = (Alive::new(board), Rc::clone(&watch), Rc::clone(board));
        drop(::monoio::spawn(async move {
            let _alive = alive;
            while own.armed().await {
                // An error is readiness, too: the call that follows shows it.
                let ready = async {
                    match side {
                        Side::Read => stream.readable(false).await.ok(),
                        Side::Write => stream.writable(false).await.ok(),
                    }
                };
                if !own.until_ended(ready).await {
                    return;
                }
                own.order.set(Order::Rest);
                board.tell(key);
            }
        }));
        watch
    }

    /// Asks to be told once more. Within the runtime only.
    pub(super) fn arm(&self) {
        self.give(Order::Armed);
    }

    /// Ends the task; the descriptor is free of it once the runtime has run. Within the runtime only.
    pub(super) fn end(&self) {
        self.give(Order::End);
    }

    fn give(&self, order: Order) {
        self.order.set(order);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Waits to be armed; false when the task is to end.
    async fn armed(&self) -> bool {
        poll_fn(|context| match self.order.get() {
            Order::Armed => Poll::Ready(true),
            Order::End => Poll::Ready(false),
            Order::Rest => {
                self.task.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// Waits for `ready`; false when the task is to end before.
    async fn until_ended(&self, ready: impl Future) -> bool {
        let mut ready = pin!(ready);
        poll_fn(|context| {
            if self.order.get() == Order::End {
                return Poll::Ready(false);
            }
            self.task.set(Some(context.waker().clone()));
            ready.as_mut().poll(context).map(|_| true)
        })
        .await
    }
}

/// A task whose only purpose is to be runnable: monoio asks its driver without waiting only while a task is.
pub(super) struct Pulse(Rc<Watch>);

impl Pulse {
    /// Within the runtime only.
    pub(super) fn spawn(board: &Rc<Board>) -> Self {
        let watch = Watch::new();
        watch.order.set(Order::Rest);
        let (alive, own, board) = (Alive::new(board), Rc::clone(&watch), Rc::clone(board));
        drop(::monoio::spawn(async move {
            let _alive = alive;
            while own.armed().await {
                own.order.set(Order::Rest);
                board.pulsed.set(true);
                board.wake();
            }
        }));
        Self(watch)
    }

    /// Within the runtime only.
    pub(super) fn end(&self) {
        self.0.end();
    }
}

/// Asks the driver once, waiting for readiness if `wait` and if nothing is ready already. This is the future that a
/// turn blocks on.
///
/// The driver is asked in every case: a connection that is always ready must not keep the others from being seen.
pub(super) async fn pass(board: &Board, pulse: &Pulse, wait: bool) {
    board.pulsed.set(false);
    let mut begun = false;
    poll_fn(|context| {
        let ready = board.len() > 0;
        if !begun {
            begun = true;
            if !wait || ready {
                pulse.0.arm();
            }
        } else if board.pulsed.get() || (wait && ready) {
            return Poll::Ready(());
        }
        board.sleeper.set(Some(context.waker().clone()));
        Poll::Pending
    })
    .await;
}
