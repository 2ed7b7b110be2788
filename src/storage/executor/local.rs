//! The storage thread on monoio's epoll driver: for machines that block io_uring.
//!
//! monoio's wakers belong to their thread. What other threads are given writes to a socket pair instead, and a task
//! here reads it and wakes the desk.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ::monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use ::monoio::net::{TcpStream, UnixStream};
use ::monoio::{LegacyDriver, RuntimeBuilder};

use crate::storage::backend::Address;

/// Readiness that one call of epoll reports at most.
const EPOLL_EVENTS: u32 = 256;
/// Rings that the bell's task takes at once.
const RINGS_MAX: usize = 64;

thread_local! {
    static BELL: RefCell<Option<Bell>> = const { RefCell::new(None) };
}

/// How other threads wake the task that listens.
struct Bell {
    shared: Waker,
    listener: Option<Waker>,
}

/// The end of the bell that other threads pull.
struct Rope(StdUnixStream);

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A full socket says that the bell rings already; a closed one that nobody listens any more.
        let _ = (&self.0).write(&[1]);
    }
}

pub fn run<F: Future<Output = ()>>(ready: impl FnOnce(), main: impl FnOnce() -> F) -> io::Result<()> {
    let failed = |error: io::Error| {
        io::Error::new(error.kind(), format!("the storage thread's executor cannot start: {error}; raise `ulimit -n`"))
    };
    let mut runtime =
        RuntimeBuilder::<LegacyDriver>::new().enable_timer().with_entries(EPOLL_EVENTS).build().map_err(failed)?;
    let (rope, bell) = StdUnixStream::pair().map_err(failed)?;
    rope.set_nonblocking(true).map_err(failed)?;
    bell.set_nonblocking(true).map_err(failed)?;
    BELL.set(Some(Bell { shared: Waker::from(Arc::new(Rope(rope))), listener: None }));
    let outcome = runtime.block_on(async {
        let listening = spawn(listen(UnixStream::from_std(bell).map_err(failed)?));
        ready();
        main().await;
        drop(listening);
        Ok(())
    });
    // What is left in there belongs to the runtime's tasks.
    runtime.block_on(async { BELL.set(None) });
    outcome
}

/// Wakes the listener whenever another thread rings.
async fn listen(mut bell: UnixStream) {
    let mut rings = vec![0; RINGS_MAX];
    loop {
        let (outcome, buffer) = bell.read(rings).await;
        rings = buffer;
        if !outcome.is_ok_and(|count| count > 0) {
            return;
        }
        BELL.with_borrow(|bell| {
            if let Some(listener) = bell.as_ref().and_then(|bell| bell.listener.as_ref()) {
                listener.wake_by_ref();
            }
        });
    }
}

pub fn shared_waker(context: &Context<'_>) -> Waker {
    BELL.with_borrow_mut(|bell| {
        let bell = bell.as_mut().expect("invariant: the bell is there while the executor runs");
        if !bell.listener.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            bell.listener = Some(context.waker().clone());
        }
        bell.shared.clone()
    })
}

/// A future that a task and its owner share; empty once it has ended.
type Work = Rc<RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>>;

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
    let running = Rc::clone(&work);
    drop(::monoio::spawn(poll_fn(move |context| {
        let mut work = running.borrow_mut();
        let Some(task) = work.as_mut() else { return Poll::Ready(()) };
        let poll = task.as_mut().poll(context);
        if poll.is_ready() {
            *work = None;
        }
        poll
    })));
    Task(work)
}

/// Lets every other runnable task run once.
pub async fn breathe() {
    let mut begun = false;
    poll_fn(|context| {
        if begun {
            return Poll::Ready(());
        }
        begun = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

pub type Timer = Pin<Box<::monoio::time::Sleep>>;

pub fn timer(time: Duration) -> Timer {
    Box::pin(::monoio::time::sleep(time))
}

/// A file read with plain calls.
pub struct File(std::fs::File);

impl File {
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::File::open(path).map(Self)
    }

    pub fn length(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    pub fn read_at(&self, position: u64, bytes: usize, piece: &mut Vec<u8>) -> io::Result<()> {
        piece.resize(bytes, 0);
        let count = self.0.read_at(piece, position)?;
        piece.truncate(count);
        Ok(())
    }
}

/// A connection.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_addr(*address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let own = vec![0; buffer.len()];
        let (outcome, own) = match self {
            Self::Tcp(stream) => stream.read(own).await,
            Self::Unix(stream) => stream.read(own).await,
        };
        let count = outcome?;
        buffer[..count].copy_from_slice(&own[..count]);
        Ok(count)
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let own = bytes.to_vec();
        let (outcome, _) = match self {
            Self::Tcp(stream) => stream.write_all(own).await,
            Self::Unix(stream) => stream.write_all(own).await,
        };
        outcome.map(drop)
    }
}
