//! Which engine runs, and why: found out by letting it work, not by a version number.
//!
//! ```text
//!   auto:  uring ──fails──▶ monoio on io_uring ──fails──▶ monoio on epoll
//! ```
//! A trial is a small engine of the very kind on the thread that asks. It is given a socket pair and must deliver what
//! the data plane needs: more bytes than its buffers hold (the receive ends for want of buffers and is armed again when
//! they come back), the end of input that directly follows the last bytes, an answer, and a wake. A kernel, a container
//! or a limit that allows less fails here, within [`PATIENCE_NS`], and not under load.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::kind::{EngineChoice, EngineKind};
use super::{
    Chunk, Close, Config, Engine, Event, Lease, MonoioEpoll, MonoioUring, Uring, Waker, clock_monotonic_ns, uring,
};

/// The engine that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub kind: EngineKind,
    /// One sentence for people, with the cure if a better engine does not work.
    pub reason: String,
    /// A better engine does not work here.
    pub fallback: bool,
}

/// How long a trial may take.
const PATIENCE_NS: u64 = 2_000_000_000;

/// What the peer sends: several times what the trial's buffers hold.
const QUESTION_BYTES: usize = 512;

/// What the engine answers.
const ANSWER: &[u8] = b"probed";

/// Turns what the user asks for into an engine; the caller says so if it is not the best one.
///
/// # Errors
/// No engine works here: what each one says, with the cures.
pub fn choose(choice: EngineChoice) -> io::Result<Chosen> {
    match choice {
        EngineChoice::Auto => first_that_works(&[
            (EngineKind::Uring, trial::<Uring>),
            (EngineKind::Monoio, trial::<MonoioUring>),
            (EngineKind::MonoioEpoll, trial::<MonoioEpoll>),
        ]),
        EngineChoice::Only(kind) => Ok(Chosen { kind, reason: format!("`{kind}` was asked for"), fallback: false }),
    }
}

/// Whether io_uring is there at all, for threads that are no workers.
///
/// # Errors
/// What the kernel refused, as one sentence with the cure.
pub fn ring() -> io::Result<()> {
    uring::ring_works()
}

/// A trial of one engine.
type Trial = fn() -> io::Result<()>;

fn first_that_works(ladder: &[(EngineKind, Trial)]) -> io::Result<Chosen> {
    let mut failures: Vec<String> = Vec::new();
    for &(kind, trial) in ladder {
        let failure = match trial() {
            Ok(()) if failures.is_empty() => {
                let reason = format!("`{kind}` passed its trial");
                return Ok(Chosen { kind, reason, fallback: false });
            }
            Ok(()) => {
                let reason = format!("the engine is `{kind}`, because {}", failures.join("; and "));
                return Ok(Chosen { kind, reason, fallback: true });
            }
            Err(error) => error.to_string(),
        };
        // The engines on io_uring fail for the same reason, which one cure removes.
        let same = failures.first_mut().filter(|first| first.ends_with(&format!(": {failure}")));
        match same {
            Some(first) => *first = first.replacen(" fails:", &format!(" and `{kind}` fail:"), 1),
            None => failures.push(format!("`{kind}` fails: {failure}")),
        }
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("no engine works here: {}", failures.join("; and "))))
}

/// Few and small buffers, so that they run out.
fn small() -> Config {
    Config {
        connections_max: 4,
        receive_buffers: 2,
        receive_buffer_bytes: 64,
        send_buffers: 2,
        send_buffer_bytes: 64,
        submission_entries: 32,
        completion_entries: 128,
        linger_ms: 100,
        ..Config::default()
    }
}

/// Lets an engine work on a socket pair, as the module's head describes.
fn trial<E: Engine>() -> io::Result<()> {
    let waker = Waker::new()?;
    let mut engine = E::new(&small(), waker.clone())?;
    let (mut peer, ours) = UnixStream::pair()?;
    peer.set_read_timeout(Some(Duration::from_nanos(PATIENCE_NS)))?;
    let conn = engine.adopt(OwnedFd::from(ours))?;
    let question: Vec<u8> = (0..=u8::MAX).cycle().take(QUESTION_BYTES).collect();
    peer.write_all(&question)?;
    peer.shutdown(Shutdown::Write)?;
    waker.wake();
    engine.receive(conn, true);
    let mut progress = Progress::default();
    let mut events = Vec::new();
    let deadline_ns = clock_monotonic_ns() + PATIENCE_NS;
    while !progress.closed {
        let until_ns = clock_monotonic_ns() + 1_000_000;
        if until_ns > deadline_ns {
            return Err(failed::<E>(progress.missing()));
        }
        engine.turn(until_ns, &mut events)?;
        if events.is_empty() {
            // Everything that the buffers hold has come: now they may be filled again.
            progress.held.clear();
        }
        for event in events.drain(..) {
            progress.take(&mut engine, event);
        }
    }
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer)?;
    if progress.got != question || answer != ANSWER || !progress.woken {
        return Err(failed::<E>(if progress.woken { "bytes that arrive as they were sent" } else { "a wake" }));
    }
    Ok(())
}

/// How far a trial is.
#[derive(Default)]
struct Progress {
    got: Vec<u8>,
    held: Vec<Lease>,
    ended: bool,
    woken: bool,
    closed: bool,
}

impl Progress {
    fn take<E: Engine>(&mut self, engine: &mut E, event: Event) {
        match event {
            Event::Data { bytes, .. } => {
                self.got.extend_from_slice(&bytes);
                self.held.push(bytes);
            }
            Event::Eof { conn } => {
                self.ended = true;
                engine.send(conn, Chunk::Static(ANSWER));
                engine.close(conn, Close::Flush);
            }
            Event::Woken => self.woken = true,
            Event::Closed { .. } => self.closed = true,
            Event::Accepted { .. } | Event::Connected { .. } | Event::Sent { .. } | Event::Timer { .. } => {}
        }
    }

    fn missing(&self) -> &'static str {
        if self.got.len() < QUESTION_BYTES {
            "bytes after its buffers had come back"
        } else if self.ended {
            "the close"
        } else {
            "the end of input"
        }
    }
}

fn failed<E: Engine>(missing: &str) -> io::Error {
    let message =
        format!("its trial waited in vain for {missing}; the kernel does not do what it says, use Linux 6.1 or newer");
    io::Error::new(io::ErrorKind::TimedOut, format!("{}: {message}", E::NAME))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Chosen, EngineChoice, EngineKind, choose, first_that_works, trial};
    use crate::engine::{MonoioEpoll, MonoioUring, Uring};

    #[test]
    fn every_engine_of_the_ladder_passes_its_trial() {
        trial::<Uring>().unwrap();
        trial::<MonoioUring>().unwrap();
        trial::<MonoioEpoll>().unwrap();
    }

    #[test]
    fn what_is_asked_for_is_taken_without_a_trial() {
        let chosen = choose(EngineChoice::Only(EngineKind::MonoioEpoll)).unwrap();
        let reason = "`monoio-epoll` was asked for".into();
        assert_eq!(chosen, Chosen { kind: EngineKind::MonoioEpoll, reason, fallback: false });
    }

    fn works() -> io::Result<()> {
        Ok(())
    }

    fn is_blocked() -> io::Result<()> {
        Err(io::Error::other("it is blocked; allow it"))
    }

    fn is_old() -> io::Result<()> {
        Err(io::Error::other("it is old; update it"))
    }

    #[test]
    fn the_first_that_works_is_taken() {
        let chosen = first_that_works(&[(EngineKind::Uring, works), (EngineKind::Monoio, is_old)]).unwrap();
        assert_eq!((chosen.kind, chosen.fallback), (EngineKind::Uring, false));
    }

    #[test]
    fn a_fallback_says_why_and_names_each_cure_once() {
        let chosen = first_that_works(&[
            (EngineKind::Uring, is_blocked),
            (EngineKind::Monoio, is_blocked),
            (EngineKind::MonoioEpoll, works),
        ])
        .unwrap();
        assert_eq!((chosen.kind, chosen.fallback), (EngineKind::MonoioEpoll, true));
        assert_eq!(
            chosen.reason,
            "the engine is `monoio-epoll`, because `uring` and `monoio` fail: it is blocked; allow it"
        );
        let nothing = first_that_works(&[(EngineKind::Uring, is_blocked), (EngineKind::Monoio, is_old)]).unwrap_err();
        assert_eq!(
            nothing.to_string(),
            "no engine works here: `uring` fails: it is blocked; allow it; and `monoio` fails: it is old; update it"
        );
    }
}
