//! Runs in virtual time: the real driver on the simulated engine, against a server that a test scripts. Hours pass in a
//! moment, and no other load of the machine shows in the figures: virtual time waits for the reporter, which is a thread
//! of this machine.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;

use crossbeam::channel::{Receiver, Sender};
use twintier::clock::Clocks;
use twintier::engine::sim::{Faults, Peer, Read, Sim, World};
use twintier::engine::{Address, Chunk, Close, Config, Conn, Engine, Event, Lease, ListenerId, Statistics, Waker};

use super::{Request, Variant, run, tag_names};
use crate::arrivals::{Plan, Process};
use crate::check::Checks;
use crate::live::Live;
use crate::recorder::{Exchange, Interval};
use crate::report::{Totals, collect};
use crate::schedule::Window;
use crate::stage::{Finished, Ready, Stage};

/// When the server answers a request, and with what; nothing at all, or a close.
pub enum Reply {
    At(u64, Vec<u8>),
    Never,
    Close,
}

/// Decides by the number of the request and the time at which it came.
pub type Script = Box<dyn FnMut(u64, u64) -> Reply + Send>;

/// A plain answer.
pub fn ok() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
}

/// An answer without a body.
pub fn status(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

struct Server {
    world: World,
    listener: usize,
    script: Script,
    /// With what they have sent so far; in order of their numbers, which answers to come refer to.
    peers: Vec<(Peer, Vec<u8>)>,
    /// The numbers of those that have not gone.
    present: Vec<usize>,
    /// Answers to come: when, in which order, to which peer; `None` closes.
    due: BinaryHeap<Reverse<(u64, u64, usize, Option<Vec<u8>>)>>,
    requests: u64,
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
    static REPORTER: RefCell<Option<Reporter>> = const { RefCell::new(None) };
    /// How late the machine wakes a thread that sleeps until a time.
    static TIMER_LATE_NS: Cell<u64> = const { Cell::new(0) };
}

/// The thread that takes the intervals, from when the run begins.
struct Reporter {
    started: Receiver<(Window, Exchange)>,
    tag_names: Vec<String>,
    running: Option<Running>,
}

struct Running {
    /// Its end of the empty intervals, and how many those are when it has nothing to do.
    free: Sender<Box<Interval>>,
    free_count: usize,
    thread: thread::JoinHandle<Totals>,
}

impl Reporter {
    /// Waits until every interval that was handed over is back.
    fn catch_up(&mut self) {
        if self.running.is_none()
            && let Ok((window, exchange)) = self.started.try_recv()
        {
            let (free, tag_names) = (exchange.free.clone(), self.tag_names.clone());
            let report = move || {
                let (totals, failure) = collect(&exchange, &window, &tag_names, None, &mut Live::silent());
                assert!(failure.is_none(), "nothing is written");
                totals
            };
            self.running = Some(Running { free_count: free.len(), free, thread: thread::spawn(report) });
        }
        if let Some(Running { free, free_count, thread }) = &self.running {
            while free.len() < *free_count && !thread.is_finished() {
                thread::yield_now();
            }
        }
    }
}

impl Server {
    /// Does everything that is possible now and sets the alarm for the next thing.
    fn step(&mut self) {
        while let Some(peer) = self.world.accept(self.listener) {
            self.present.push(self.peers.len());
            self.peers.push((peer, Vec::new()));
        }
        let mut present = std::mem::take(&mut self.present);
        present.retain(|&index| self.read(index));
        self.present = present;
        let now_ns = self.world.now_ns();
        while self.due.peek().is_some_and(|Reverse((at_ns, ..))| *at_ns <= now_ns)
            && let Some(Reverse((_, _, index, answer))) = self.due.pop()
        {
            let peer = self.peers[index].0;
            match answer {
                Some(bytes) => assert_ne!(self.world.write(peer, &bytes), Some(0), "small answers fit"),
                None => self.world.close(peer),
            }
        }
        let arrivals = self.present.iter().filter_map(|&index| self.world.readable_at(self.peers[index].0));
        let due = self.due.peek().map(|Reverse((at_ns, ..))| *at_ns);
        let next = arrivals.filter(|&at_ns| at_ns > now_ns).chain(due).chain(self.world.acceptable_at(self.listener));
        self.world.set_alarm(next.min().unwrap_or(u64::MAX));
    }

    /// Whether the peer is still there.
    fn read(&mut self, index: usize) -> bool {
        let peer = self.peers[index].0;
        let present = loop {
            match self.world.read(peer, 65_536) {
                Read::Bytes(bytes) => self.peers[index].1.extend(bytes),
                Read::Pending => break true,
                Read::Eof | Read::Reset => break false,
            }
        };
        let now_ns = self.world.now_ns();
        while let Some(end) = self.peers[index].1.windows(4).position(|window| window == b"\r\n\r\n") {
            self.peers[index].1.drain(..end + 4);
            let (at_ns, answer) = match (self.script)(self.requests, now_ns) {
                Reply::At(at_ns, bytes) => (at_ns, Some(bytes)),
                Reply::Close => (now_ns, None),
                Reply::Never => (u64::MAX, None),
            };
            self.due.push(Reverse((at_ns, self.requests, index, answer)));
            self.requests += 1;
        }
        present
    }
}

fn step_server() {
    SERVER.with(|server| {
        if let Some(server) = &mut *server.borrow_mut() {
            server.step();
        }
    });
}

/// Does something whose allocations are not the driver's.
fn opt_out_of<T>(work: impl FnOnce() -> T) -> T {
    let mut done = None;
    allocation_counter::opt_out(|| done = Some(work()));
    done.expect("invariant: it was done")
}

/// The simulated engine, whose turns are the server's as well.
struct Scripted(Sim);

impl Engine for Scripted {
    const NAME: &'static str = "scripted";

    fn new(config: &Config, waker: Waker) -> io::Result<Self> {
        Sim::new(config, waker).map(Self)
    }

    fn listen(&mut self, socket: OwnedFd) -> io::Result<ListenerId> {
        self.0.listen(socket)
    }

    fn stop_listening(&mut self) {
        self.0.stop_listening();
    }

    fn connect(&mut self, to: &Address) -> io::Result<Conn> {
        opt_out_of(|| self.0.connect(to))
    }

    fn adopt(&mut self, socket: OwnedFd) -> io::Result<Conn> {
        self.0.adopt(socket)
    }

    fn detach(&mut self, conn: Conn) -> Option<OwnedFd> {
        self.0.detach(conn)
    }

    fn receive(&mut self, conn: Conn, on: bool) {
        opt_out_of(|| self.0.receive(conn, on));
    }

    fn send(&mut self, conn: Conn, chunk: Chunk) {
        opt_out_of(|| self.0.send(conn, chunk));
    }

    fn queued_bytes(&self, conn: Conn) -> usize {
        self.0.queued_bytes(conn)
    }

    fn shutdown_send(&mut self, conn: Conn) {
        self.0.shutdown_send(conn);
    }

    fn close(&mut self, conn: Conn, how: Close) {
        opt_out_of(|| self.0.close(conn, how));
    }

    fn lease(&mut self) -> Option<Lease> {
        self.0.lease()
    }

    fn timer(&mut self, at_ns: u64, token: u64) {
        self.0.timer(at_ns, token);
    }

    fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    fn peer(&self, conn: Conn) -> Option<SocketAddr> {
        self.0.peer(conn)
    }

    fn turn(&mut self, until_ns: u64, events: &mut Vec<Event>) -> io::Result<()> {
        opt_out_of(|| {
            REPORTER.with(|reporter| {
                if let Some(reporter) = &mut *reporter.borrow_mut() {
                    reporter.catch_up();
                }
            });
            step_server();
            // Only who sleeps is woken late.
            let late_ns = if until_ns > self.0.now_ns() { TIMER_LATE_NS.get() } else { 0 };
            self.0.turn(until_ns.saturating_add(late_ns), events)?;
            step_server();
            Ok(())
        })
    }

    fn statistics(&self) -> Statistics {
        self.0.statistics()
    }
}

/// The world's time. The wall clock runs backwards: whatever is measured by it is wrong at once.
struct VirtualClocks(World);

impl Clocks for VirtualClocks {
    fn unix_ms(&self) -> u64 {
        1_760_000_000_000 - self.0.now_ns() / 1_000_000
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.now_ns()
    }

    fn cpu_ns(&self) -> u64 {
        0
    }
}

/// A run of so many seconds at a rate (0: closed), as `change` wants it.
pub fn stage(rate: &str, duration_s: f64, connections: u32) -> Stage {
    let ns = |seconds: f64| (seconds * 1e9) as u64;
    Stage {
        plan: (rate != "0").then(|| Plan::steady(Process::Constant, rate.parse().expect("a rate"), 1)),
        duration_ns: ns(duration_s),
        warmup_ns: 0,
        timeout_ns: ns(10.0),
        connections,
        tag_names: tag_names(),
        ..Stage::default()
    }
}

/// What a simulated run found.
pub struct Outcome {
    pub totals: Totals,
    pub finished: Finished,
    /// Requests that the server saw.
    pub served: u64,
    /// Allocations of the driver, from before its start to its end.
    pub allocations: u64,
}

/// Performs a run; `script` is made with the time at which virtual time begins.
pub fn simulate(seed: u64, stage: &Stage, script: impl FnOnce(u64) -> Script + Send) -> Outcome {
    simulate_late(seed, stage, 0, script)
}

/// The same on a machine that wakes a sleeping thread `timer_late_ns` too late.
pub fn simulate_late(
    seed: u64,
    stage: &Stage,
    timer_late_ns: u64,
    script: impl FnOnce(u64) -> Script + Send,
) -> Outcome {
    let (ready, started) = Ready::new(stage, None);
    let perform = move || {
        let calm = Faults { latency_ns_max: 50_000, late: 0, cut: 0, exhaust: 0, ..Faults::default() };
        let world = World::new(seed, calm);
        world.enter();
        let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 80)));
        let server = Server {
            listener: world.listen(&address),
            script: script(world.now_ns()),
            world: world.clone(),
            peers: Vec::new(),
            present: Vec::new(),
            due: BinaryHeap::new(),
            requests: 0,
        };
        SERVER.set(Some(server));
        REPORTER.set(Some(Reporter { started, tag_names: stage.tag_names.clone(), running: None }));
        TIMER_LATE_NS.set(timer_late_ns);
        let request = Request {
            address,
            variants: vec![Variant {
                bytes: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                closing_bytes: b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                head: false,
            }],
            connection_requests_max: u32::MAX,
            expected: Vec::new(),
            checks: Checks::default(),
            check_every: 1,
            server_timing: false,
        };
        let mut finished = None;
        let allocations = allocation_counter::measure(|| {
            finished = Some(run::<Scripted>(stage, &request, &ready, &VirtualClocks(world)).expect("a simulated run"));
        });
        let running = REPORTER.take().and_then(|reporter| reporter.running).expect("the run began");
        Outcome {
            totals: running.thread.join().expect("the reporter ends with the run"),
            finished: finished.expect("invariant: it was set above"),
            served: SERVER.take().expect("invariant: the server was set above").requests,
            allocations: allocations.count_total,
        }
    };
    // A thread of its own, because the world and the server are the thread's.
    thread::scope(|scope| scope.spawn(perform).join().expect("the timing thread ends"))
}
