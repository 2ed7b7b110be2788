//! Requests that wait for an upstream server with room: in, served in turn, and out again.

use crate::engine::Engine;

use super::FrontServer;
use super::connection::Downstream;
use super::exchange::State;
use super::server::Ticket;
use super::upstream::affinity;
use super::upstream::group::SharedGroup;
use super::upstream::pool::{Choice, Wish};

impl FrontServer {
    /// Chooses a server for the exchange; `is_next` says that its turn has come.
    pub(super) fn choose_server(&mut self, group: &SharedGroup, down: &Downstream, is_next: bool, now: u64) -> Choice {
        let exchange = &down.exchange;
        let mut group = group.borrow_mut();
        let cookie = group.affinity.take();
        let sent =
            cookie.as_deref().and_then(|name| affinity::sent(&exchange.head, exchange.head_bytes.as_slice(), name));
        let choice =
            self.pools.choose(&mut group, Wish { affinity: sent, tried: &exchange.course.tried, is_next }, now);
        group.affinity = cookie;
        choice
    }

    /// Lets the exchange wait for a server with room; answers 503 if too many do.
    pub(super) fn wait_for_server<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, group: &SharedGroup) {
        let ticket = Ticket { conn: down.conn, exchange: down.exchange.number };
        let mut group = group.borrow_mut();
        let deadline = engine.now_ns() + group.wait_ns;
        match group.queue.push(ticket, deadline, |ticket| self.is_waiting(ticket)) {
            Some(place) => {
                down.exchange.state = State::Waiting;
                down.exchange.course.place = Some(place);
            }
            None => {
                drop(group);
                self.counters.queue_refused += 1;
                self.refuse(engine, down, 503, "every upstream server is busy and the queue is full");
            }
        }
    }

    /// Serves those that wait as far as servers have room, and refuses those that have waited too long.
    pub(super) fn serve_waiting<E: Engine>(&mut self, engine: &mut E) {
        let mut at = 0;
        while let Some(group) = self.pools.groups().get(at).cloned() {
            at += 1;
            if !group.borrow().queue.is_empty() {
                self.serve_group(engine, &group);
            }
        }
    }

    fn serve_group<E: Engine>(&mut self, engine: &mut E, group: &SharedGroup) {
        let now = engine.now_ns();
        loop {
            let Some((ticket, expired)) = group.borrow().queue.front(now) else { return };
            // Its browser has left: the work is dropped before it costs anything.
            let Some(mut down) = self.take_waiting(ticket) else {
                group.borrow_mut().queue.pop();
                continue;
            };
            if expired {
                group.borrow_mut().queue.pop();
                group.borrow_mut().queue.note_expired();
                self.counters.queue_expired += 1;
                self.refuse(engine, &mut down, 503, "no upstream server became free in time");
            } else {
                match self.choose_server(group, &down, true, now) {
                    Choice::Wait => {
                        self.put_downstream(down);
                        return;
                    }
                    Choice::Nobody => {
                        group.borrow_mut().queue.pop();
                        self.refuse(engine, &mut down, 503, "every upstream server drains");
                    }
                    Choice::Server(grant) => {
                        group.borrow_mut().queue.pop();
                        down.exchange.course.place = None;
                        down.exchange.state = State::Relay;
                        self.ask_server(engine, &mut down, group, grant);
                    }
                }
            }
            self.advance(engine, &mut down);
            self.put_downstream(down);
        }
    }

    fn take_waiting(&mut self, ticket: Ticket) -> Option<Box<Downstream>> {
        if self.is_waiting(ticket) { self.take_downstream(ticket.conn) } else { None }
    }
}
