//! What the storage thread runs on: glommio, or monoio on epoll where io_uring is blocked.
//!
//! ```text
//!   desk, agents, imports, watches ──▶ sleep, spawn, breathe, File, Stream
//!                                          │
//!                          ┌───────────────┴───────────────┬──────────────────────────┐
//!                    glommio: shares,                 local: one queue,          simulated: virtual time,
//!                    ring, block reads                epoll, plain reads         the simulated network
//! ```
//! A thread has one executor for its life, and everything here asks the thread which. The second one has no shares:
//! file work and agents take turns as they come, and a piece of a file is read with a call that may wait for the disk.
//!
//! Architecture invariant: nothing outside this folder names either runtime.

mod glommio;
mod local;
pub mod simulated;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::backend::Address;
use crate::clock;
use crate::engine::probe;

/// Which executor a storage thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutorKind {
    /// On io_uring, with shares.
    Glommio,
    /// On epoll.
    Local,
    /// On nothing but what a simulation says.
    Simulated,
}

impl ExecutorKind {
    /// The one that works on this machine, and why if it is the second best: one sentence with the cure.
    pub fn choose() -> (Self, Option<String>) {
        match probe::ring() {
            Ok(()) => (Self::Glommio, None),
            Err(error) => (Self::Local, Some(format!("the storage thread runs on epoll without shares: {error}"))),
        }
    }

    /// The name that the status shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Glommio => "glommio",
            Self::Local => "monoio-epoll",
            Self::Simulated => "simulated",
        }
    }
}

impl fmt::Display for ExecutorKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

thread_local! {
    static KIND: Cell<ExecutorKind> = const { Cell::new(ExecutorKind::Glommio) };
}

fn kind() -> ExecutorKind {
    KIND.get()
}

/// Runs `main` on the calling thread until it is ready; tells `ready` once the executor works.
///
/// # Errors
/// What the kernel refused, as one sentence with the cure.
pub fn run<F: Future<Output = ()>>(
    executor: ExecutorKind,
    ready: impl FnOnce(),
    main: impl FnOnce() -> F,
) -> io::Result<()> {
    KIND.set(executor);
    match executor {
        ExecutorKind::Glommio => glommio::run(ready, main),
        ExecutorKind::Local => local::run(ready, main),
        ExecutorKind::Simulated => Err(io::Error::other("a simulated executor is turned by its simulation")),
    }
}

/// Unix milliseconds, as the work rows record them.
pub fn unix_ms() -> i64 {
    let unix_ms = match kind() {
        ExecutorKind::Glommio | ExecutorKind::Local => clock::unix_ms(),
        ExecutorKind::Simulated => simulated::unix_ms(),
    };
    i64::try_from(unix_ms).unwrap_or(i64::MAX)
}

/// The queue that a task belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Watches of files: light, and soon.
    Files,
    /// Submissions and imports.
    Agents,
}

/// A running task. Dropping it ends the task.
pub enum Task {
    Glommio(glommio::Task),
    Local(local::Task),
    Simulated(simulated::Task),
}

impl Task {
    /// Ends the task; returns when everything that it held is dropped.
    pub async fn cancel(self) {
        match self {
            Self::Glommio(task) => drop(task.cancel().await),
            Self::Local(task) => drop(task),
            Self::Simulated(task) => drop(task),
        }
    }
}

/// Starts a task.
pub fn spawn(queue: Queue, task: impl Future<Output = ()> + 'static) -> Task {
    match kind() {
        ExecutorKind::Glommio => Task::Glommio(glommio::spawn(queue, task)),
        ExecutorKind::Local => Task::Local(local::spawn(task)),
        ExecutorKind::Simulated => Task::Simulated(simulated::spawn(task)),
    }
}

/// The shares of a queue, and the time that it has run since this was asked last. Without shares there are no queues:
/// 0 and no time.
pub fn observe(queue: Queue) -> (u64, Duration) {
    match kind() {
        ExecutorKind::Glommio => glommio::observe(queue),
        ExecutorKind::Local | ExecutorKind::Simulated => (0, Duration::ZERO),
    }
}

/// Lets other tasks run if this one has run for long.
pub async fn breathe() {
    match kind() {
        ExecutorKind::Glommio => glommio::breathe().await,
        ExecutorKind::Local | ExecutorKind::Simulated => local::breathe().await,
    }
}

/// Ready once its time is over.
pub enum Timer {
    Glommio(glommio::Timer),
    Local(local::Timer),
    Simulated(simulated::Timer),
}

impl Timer {
    pub fn new(time: Duration) -> Self {
        match kind() {
            ExecutorKind::Glommio => Self::Glommio(glommio::Timer::new(time)),
            ExecutorKind::Local => Self::Local(local::timer(time)),
            ExecutorKind::Simulated => Self::Simulated(simulated::Timer::new(time)),
        }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.get_mut() {
            Self::Glommio(timer) => Pin::new(timer).poll(context).map(drop),
            Self::Local(timer) => timer.as_mut().poll(context),
            Self::Simulated(timer) => Pin::new(timer).poll(context),
        }
    }
}

/// Waits for a time.
pub async fn sleep(time: Duration) {
    Timer::new(time).await;
}

/// A waker of the task of `context` that other threads may use. A thread hands one task's waker to others: the desk's.
pub fn shared_waker(context: &Context<'_>) -> Waker {
    match kind() {
        ExecutorKind::Glommio | ExecutorKind::Simulated => context.waker().clone(),
        ExecutorKind::Local => local::shared_waker(context),
    }
}

/// A file that is read from the front.
pub enum File {
    Glommio(glommio::File),
    Local(local::File),
}

impl File {
    pub async fn open(path: &Path) -> io::Result<Self> {
        match kind() {
            ExecutorKind::Glommio => glommio::File::open(path).await.map(Self::Glommio),
            ExecutorKind::Local | ExecutorKind::Simulated => local::File::open(path).map(Self::Local),
        }
    }

    /// Its length in bytes.
    pub async fn length(&self) -> io::Result<u64> {
        match self {
            Self::Glommio(file) => file.length().await,
            Self::Local(file) => file.length(),
        }
    }

    /// Reads up to `bytes` at `position` into `piece`; empty at the end.
    pub async fn read_at(&self, position: u64, bytes: usize, piece: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Glommio(file) => file.read_at(position, bytes, piece).await,
            Self::Local(file) => file.read_at(position, bytes, piece),
        }
    }

    pub async fn close(self) -> io::Result<()> {
        match self {
            Self::Glommio(file) => file.close().await,
            Self::Local(_) => Ok(()),
        }
    }
}

/// A connection to a back-end server.
pub enum Stream {
    Glommio(glommio::Stream),
    Local(local::Stream),
    Simulated(simulated::Stream),
}

impl Stream {
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match kind() {
            ExecutorKind::Glommio => glommio::Stream::connect(address).await.map(Self::Glommio),
            ExecutorKind::Local => local::Stream::connect(address).await.map(Self::Local),
            ExecutorKind::Simulated => simulated::Stream::connect(address).await.map(Self::Simulated),
        }
    }

    /// Reads what is there; zero at the end.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Glommio(stream) => stream.read(buffer).await,
            Self::Local(stream) => stream.read(buffer).await,
            Self::Simulated(stream) => stream.read(buffer).await,
        }
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Glommio(stream) => stream.write_all(bytes).await,
            Self::Local(stream) => stream.write_all(bytes).await,
            Self::Simulated(stream) => stream.write_all(bytes).await,
        }
    }
}
