//! The storage thread without a thread: its tasks run when a simulation turns them, in the simulation's time and on
//! its network.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::engine;
use crate::engine::sim::{Peer, Read, World};
use crate::storage::backend::Address;

use super::{ExecutorKind, KIND};

/// Pauses between two looks at a connection of which nothing is known.
const LOOK_MIN: Duration = Duration::from_micros(200);
const LOOK_MAX: Duration = Duration::from_millis(5);

/// A future that a task and its owner share; empty once it has ended.
type Work = Rc<RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>>;

/// Tells that its task can go on.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // One thread: the order is that of the program.
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Spawned {
    work: Work,
    flag: Arc<Flag>,
    waker: Waker,
}

struct State {
    world: World,
    unix_ms: Cell<u64>,
    tasks: RefCell<Vec<Spawned>>,
    /// Begun while tasks run.
    begun: RefCell<Vec<Spawned>>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    timers_made: Cell<u64>,
    /// The next connection that an agent makes is its end.
    crash: Cell<bool>,
}

thread_local! {
    static STATE: RefCell<Option<Rc<State>>> = const { RefCell::new(None) };
}

fn state() -> Rc<State> {
    STATE.with_borrow(Clone::clone).expect("invariant: a simulated executor is entered before its tasks run")
}

pub fn unix_ms() -> u64 {
    state().unix_ms.get()
}

/// An executor of a simulation. Dropping it ends its tasks where they are, as a crash does.
pub struct Executor {
    state: Rc<State>,
    main: Option<Task>,
}

impl Executor {
    /// On a simulated network; `main` is its first task.
    pub fn new(world: &World, main: impl Future<Output = ()> + 'static) -> Self {
        let state = Rc::new(State {
            world: world.clone(),
            unix_ms: Cell::new(0),
            tasks: RefCell::default(),
            begun: RefCell::default(),
            timers: RefCell::default(),
            timers_made: Cell::new(0),
            crash: Cell::new(false),
        });
        let mut new = Self { state, main: None };
        new.enter();
        new.main = Some(spawn(main));
        new
    }

    fn enter(&self) {
        KIND.set(ExecutorKind::Simulated);
        STATE.set(Some(Rc::clone(&self.state)));
    }

    /// Runs every task that can go on, until none can.
    pub fn turn(&mut self, unix_ms: u64) {
        self.enter();
        let state = &self.state;
        state.unix_ms.set(unix_ms);
        let now_ns = state.world.now_ns();
        let later = state.timers.borrow_mut().split_off(&(now_ns, u64::MAX));
        for waker in state.timers.replace(later).into_values() {
            waker.wake();
        }
        loop {
            state.tasks.borrow_mut().append(&mut state.begun.borrow_mut());
            let mut tasks = state.tasks.take();
            let mut ran = false;
            tasks.retain(|task| {
                if task.flag.0.swap(false, Ordering::Relaxed) {
                    ran = true;
                    let mut work = task.work.borrow_mut();
                    let ready = work
                        .as_mut()
                        .is_some_and(|future| future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_ready());
                    if ready {
                        *work = None;
                    }
                }
                task.work.borrow().is_some()
            });
            *state.tasks.borrow_mut() = tasks;
            if !ran && state.begun.borrow().is_empty() {
                return;
            }
        }
    }

    /// The next task that connects to anything panics.
    pub fn crash_next(&self) {
        self.state.crash.set(true);
    }

    /// When a turn has something to do, as far as is known: 0 if a task can go on now.
    pub fn due_ns(&self) -> u64 {
        let state = &self.state;
        let ready = |task: &Spawned| task.flag.0.load(Ordering::Relaxed);
        if !state.begun.borrow().is_empty() || state.tasks.borrow().iter().any(ready) {
            return 0;
        }
        state.timers.borrow().first_key_value().map_or(u64::MAX, |((at_ns, _), _)| *at_ns)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.enter();
        self.main = None;
        // Tasks own tasks: what is dropped first may drop others.
        for task in self.state.tasks.take().into_iter().chain(self.state.begun.take()) {
            let work = task.work.borrow_mut().take();
            drop(work);
        }
        STATE.set(None);
    }
}

/// A task whose future is dropped with this.
pub struct Task(Work);

impl Drop for Task {
    fn drop(&mut self) {
        // No task drops itself: the desk drops those that have said that they are at their end.
        let work = self.0.borrow_mut().take();
        drop(work);
    }
}

pub fn spawn(task: impl Future<Output = ()> + 'static) -> Task {
    let work: Work = Rc::new(RefCell::new(Some(Box::pin(task))));
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    state().begun.borrow_mut().push(Spawned { work: Rc::clone(&work), flag, waker });
    Task(work)
}

/// Ready once its time is over.
pub struct Timer {
    at_ns: u64,
    /// Its place among the executor's timers, once it has been polled.
    number: Option<u64>,
}

impl Timer {
    pub fn new(time: Duration) -> Self {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self { at_ns: state().world.now_ns().saturating_add(ns), number: None }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let state = state();
        if state.world.now_ns() >= self.at_ns {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| {
            state.timers_made.set(state.timers_made.get() + 1);
            state.timers_made.get()
        });
        self.number = Some(number);
        state.timers.borrow_mut().insert((self.at_ns, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        // The executor may be gone before what it ran.
        if let Some(state) = STATE.with_borrow(Clone::clone) {
            state.timers.borrow_mut().remove(&(self.at_ns, number));
        }
    }
}

/// A connection of the simulated network.
pub struct Stream {
    world: World,
    peer: Peer,
}

impl Stream {
    pub async fn connect(address: &Address) -> io::Result<Self> {
        let to = match address {
            Address::Tcp(address) => engine::Address::Tcp(*address),
            Address::Unix(path) => engine::Address::Unix(path.clone()),
        };
        assert!(!state().crash.replace(false), "told to crash");
        let world = state().world.clone();
        let stream = Self { peer: world.connect(&to), world };
        let mut pause = LOOK_MIN;
        loop {
            match stream.world.connected(stream.peer) {
                Some(true) => return Ok(stream),
                Some(false) => return Err(io::ErrorKind::ConnectionRefused.into()),
                None => look_again(&mut pause).await,
            }
        }
    }

    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pause = LOOK_MIN;
        loop {
            match self.world.read(self.peer, buffer.len()) {
                Read::Bytes(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    return Ok(bytes.len());
                }
                Read::Eof => return Ok(0),
                Read::Reset => return Err(io::ErrorKind::ConnectionReset.into()),
                Read::Pending => look_again(&mut pause).await,
            }
        }
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        let mut pause = LOOK_MIN;
        while !rest.is_empty() {
            let Some(count) = self.world.write(self.peer, rest) else {
                return Err(io::ErrorKind::ConnectionReset.into());
            };
            rest = &rest[count..];
            if count == 0 {
                look_again(&mut pause).await;
            }
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.world.close(self.peer);
    }
}

async fn look_again(pause: &mut Duration) {
    let mut timer = Timer::new(*pause);
    poll_fn(|context| Pin::new(&mut timer).poll(context)).await;
    *pause = (*pause * 2).min(LOOK_MAX);
}
