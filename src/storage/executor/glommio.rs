//! The storage thread on glommio: two task queues whose shares keep agents from starving file work.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use ::glommio::io::BufferedFile;
use ::glommio::net::{TcpStream, UnixStream};
use ::glommio::{
    GlommioError, Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares, TaskQueueHandle, spawn_local,
    spawn_local_into,
};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

pub use ::glommio::timer::Timer;

use super::Queue;
use crate::storage::backend::Address;

/// CPU shares of the two task queues, and how soon file work must get its turn.
const FILES_SHARES: usize = 600;
const AGENTS_SHARES: usize = 100;
const FILES_LATENCY: Duration = Duration::from_millis(2);
/// Memory that glommio registers with each of its three rings: counted against the memlock limit three times. The
/// agents' buffered reads do not come from it.
const IO_MEMORY_BYTES: usize = 1 << 20;
/// Periods in which the executor is woken in any case, without a common divisor so that they do not fall together.
///
/// glommio 0.9 may go to sleep with runnable tasks: its loop skips the task queues if a completion without a waiter
/// (an eventfd read whose wakers ran already, a preemption timer) is in its latency ring at the wrong moment, takes
/// the skipping for idleness, and parks. One wake in some 40,000 is delayed like this under load until the next
/// event, which may never come. A heartbeat is that event; there are three because a heartbeat's own task may be the
/// one that is left runnable. The price is 14 wakes a second: 60 were measured to cost 0.8 % of a core, and each one
/// interrupts the workers' cores (glommio's membarrier).
const HEARTBEATS_MS: [u64; 3] = [199, 211, 223];
/// The cure where io_uring is blocked; glommio has no other way to the kernel.
const ALLOW_URING: &str = "allow io_uring (`sysctl kernel.io_uring_disabled=0`, or the container's seccomp profile)";

pub type Task = ::glommio::Task<()>;

/// The queues of this thread's executor.
#[derive(Clone, Copy)]
struct Queues {
    files: TaskQueueHandle,
    agents: TaskQueueHandle,
}

thread_local! {
    static QUEUES: Cell<Option<Queues>> = const { Cell::new(None) };
}

pub fn run<F: Future<Output = ()>>(ready: impl FnOnce(), main: impl FnOnce() -> F) -> io::Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("storage")
        .io_memory(IO_MEMORY_BYTES)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
        .map_err(|error| cannot_start(&io::Error::from(error)))?;
    ready();
    executor.run(async move {
        let executor = ::glommio::executor();
        QUEUES.set(Some(Queues {
            files: executor.create_task_queue(Shares::Static(FILES_SHARES), Latency::Matters(FILES_LATENCY), "files"),
            agents: executor.create_task_queue(Shares::Static(AGENTS_SHARES), Latency::NotImportant, "agents"),
        }));
        let heartbeats = HEARTBEATS_MS.map(|period| spawn_local(beat(Duration::from_millis(period))));
        main().await;
        for heartbeat in heartbeats {
            heartbeat.cancel().await;
        }
    });
    Ok(())
}

fn cannot_start(error: &io::Error) -> io::Error {
    let cure = match error.kind() {
        io::ErrorKind::OutOfMemory => "raise the memlock limit (`ulimit -l`), it needs 4 MiB",
        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => ALLOW_URING,
        _ => "it needs io_uring and a memlock limit of 4 MiB",
    };
    io::Error::new(error.kind(), format!("the storage thread's executor cannot start: {error}; {cure}"))
}

/// Wakes the executor again and again, see [`HEARTBEATS_MS`].
async fn beat(period: Duration) {
    loop {
        ::glommio::timer::sleep(period).await;
    }
}

pub fn spawn(queue: Queue, task: impl Future<Output = ()> + 'static) -> Task {
    spawn_local_into(task, handle(queue)).expect("invariant: the unit never removes its task queues")
}

fn handle(queue: Queue) -> TaskQueueHandle {
    let queues = QUEUES.get().expect("invariant: the queues are there while the executor runs");
    match queue {
        Queue::Files => queues.files,
        Queue::Agents => queues.agents,
    }
}

pub fn observe(queue: Queue) -> (u64, Duration) {
    ::glommio::executor().task_queue_stats(handle(queue)).map_or((0, Duration::ZERO), |statistics| {
        (u64::try_from(statistics.current_shares()).unwrap_or(u64::MAX), statistics.runtime())
    })
}

pub async fn breathe() {
    ::glommio::executor().yield_if_needed().await;
}

/// A file read through the page cache.
pub struct File(BufferedFile);

impl File {
    pub async fn open(path: &Path) -> io::Result<Self> {
        BufferedFile::open(path).await.map(Self).map_err(plain)
    }

    pub async fn length(&self) -> io::Result<u64> {
        self.0.file_size().await.map_err(plain)
    }

    pub async fn read_at(&self, position: u64, bytes: usize, piece: &mut Vec<u8>) -> io::Result<()> {
        let read = self.0.read_at(position, bytes).await.map_err(plain)?;
        piece.clear();
        piece.extend_from_slice(&read);
        Ok(())
    }

    pub async fn close(self) -> io::Result<()> {
        self.0.close().await.map_err(plain)
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
                let stream = TcpStream::connect(address).await.map_err(plain)?;
                stream.set_nodelay(true).map_err(plain)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix).map_err(plain),
        }
    }

    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer).await,
            Self::Unix(stream) => stream.read(buffer).await,
        }
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
        }
    }
}

fn plain(error: GlommioError<()>) -> io::Error {
    error.into()
}
