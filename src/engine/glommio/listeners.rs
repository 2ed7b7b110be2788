//! Accepting: one accept of glommio's in flight on every listener.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use glommio::net::{TcpListener, TcpStream};

use super::slots::Socket;
use super::{Core, Due};
use crate::engine::life::Phase;
use crate::engine::{Event, ListenerId, clock_monotonic_ns, socket};

/// How long a listener rests after an accept failed for want of descriptors or memory.
const ACCEPT_REST_NS: u64 = 10_000_000;

type Accept = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

/// A listening socket.
pub(super) struct Listener {
    state: State,
    bell: Waker,
    /// Rung or ordered: the next pass looks at it.
    pub(super) listed: bool,
    /// An accept failed for want of descriptors or memory: a timer ends the rest.
    resting: bool,
    stopping: bool,
}

enum State {
    /// Not known to glommio yet.
    Plain(OwnedFd),
    Open {
        /// As with connections, this stands for Unix sockets as well.
        listener: Rc<TcpListener>,
        descriptor: RawFd,
        accept: Option<Accept>,
    },
    Closed,
}

/// What one look at a listener found.
enum Found {
    Connection(TcpStream),
    Nothing,
    /// No descriptor or no memory.
    Exhausted,
}

impl Listener {
    /// A listener whose accepts ring `bell`.
    pub(super) fn new(socket: OwnedFd, bell: Waker) -> Self {
        Self { state: State::Plain(socket), bell, listed: true, resting: false, stopping: false }
    }

    /// Ends it in the next pass. An accept in flight is not taken back, because it may have a connection already that
    /// nobody would close: the socket is shut down, and the accept ends by itself.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.listed = true;
        if let State::Open { descriptor, .. } = &self.state {
            // SAFETY: the listener in the same state owns the descriptor.
            socket::shutdown_listening(unsafe { BorrowedFd::borrow_raw(*descriptor) });
        }
    }

    pub(super) fn end_rest(&mut self) {
        self.resting = false;
        self.listed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Takes one connection if there is one. Only while the executor runs.
    fn look(&mut self) -> Found {
        if self.resting && !self.stopping {
            return Found::Nothing;
        }
        if let State::Plain(_) = self.state
            && let State::Plain(socket) = std::mem::replace(&mut self.state, State::Closed)
            && !self.stopping
        {
            let descriptor = socket.as_fd().as_raw_fd();
            // SAFETY: the descriptor is a listening socket's and nobody else owns it.
            let listener = Rc::new(unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) });
            self.state = State::Open { listener, descriptor, accept: None };
        }
        let State::Open { listener, accept, .. } = &mut self.state else { return Found::Nothing };
        if self.stopping && accept.is_none() {
            self.state = State::Closed;
            return Found::Nothing;
        }
        let pending = accept.get_or_insert_with(|| {
            let listener = Rc::clone(listener);
            Box::pin(async move { listener.accept().await.map_err(io::Error::from) })
        });
        let Poll::Ready(outcome) = pending.as_mut().poll(&mut Context::from_waker(&self.bell)) else {
            return Found::Nothing;
        };
        *accept = None;
        // There may be more, or the end of a stop.
        self.listed = true;
        match outcome {
            Ok(stream) => Found::Connection(stream),
            Err(error) => match error.raw_os_error() {
                Some(libc::ECONNABORTED | libc::EINTR | libc::EAGAIN) => Found::Nothing,
                Some(_) | None if self.stopping => Found::Nothing,
                Some(_) | None => Found::Exhausted,
            },
        }
    }
}

impl Core {
    /// Looks at every listener that was rung, until nothing is left or there is no room for events.
    pub(super) fn accept(&mut self, events: &mut Vec<Event>, length_max: usize) {
        for number in 0..self.listeners.len() {
            while events.len() < length_max && std::mem::take(&mut self.listeners[number].listed) {
                match self.listeners[number].look() {
                    Found::Connection(stream) => self.accepted(number, stream, events),
                    Found::Nothing => {}
                    Found::Exhausted => {
                        self.listeners[number].resting = true;
                        self.statistics.accept_failures += 1;
                        let at_ns = clock_monotonic_ns().saturating_add(ACCEPT_REST_NS);
                        self.wheel.insert(at_ns, Due::Accept(number));
                    }
                }
            }
        }
    }

    fn accepted(&mut self, number: usize, stream: TcpStream, events: &mut Vec<Event>) {
        self.statistics.submissions += 1;
        self.statistics.completions += 1;
        match self.slots.claim(Socket::Stream(stream), Phase::Open) {
            Ok(conn) => {
                self.statistics.accepted += 1;
                let listener = ListenerId(u32::try_from(number).expect("invariant: fewer than 2^32 listeners"));
                events.push(Event::Accepted { listener, conn });
            }
            // Dropping the stream closes it.
            Err(_) => self.statistics.refused += 1,
        }
    }
}
