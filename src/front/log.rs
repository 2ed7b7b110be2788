//! The front's end of the access log: fixed-size lines into a bounded queue, from which a thread of its own writes.
//!
//! A full queue means that the disk is behind: the line is dropped and counted, and the request goes on.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::engine::Address;

use super::record::{Record, Text, UPSTREAM_BYTES_MAX};

/// Lines kept for reuse; as many requests as may be in progress without allocating.
const LINES_KEPT_MAX: usize = 1024;

/// One front server's queue to the log's thread.
pub type Queue = ArrayQueue<Record>;

/// One front server's end of the access log.
#[derive(Debug)]
pub struct Log {
    pub(super) front: u16,
    queue: Arc<Queue>,
    /// Lines given to the queue.
    pub pushed: u64,
    /// Lines dropped because the queue was full.
    pub dropped: u64,
    /// Empty lines, in the boxes in which they wait for their exchange's end.
    #[allow(clippy::vec_box)]
    lines: Vec<Box<Record>>,
    /// Names of upstream servers, by the front's index of them, with the address that each is the name of.
    upstreams: Vec<Option<(Address, Text<UPSTREAM_BYTES_MAX>)>>,
}

impl Log {
    pub fn new(front: u16, queue: Arc<Queue>) -> Self {
        Self { front, queue, pushed: 0, dropped: 0, lines: Vec::new(), upstreams: Vec::new() }
    }

    /// An empty line to fill.
    pub(super) fn line(&mut self) -> Box<Record> {
        self.lines.pop().unwrap_or_default()
    }

    /// Hands a line over, or drops it.
    pub(super) fn push(&mut self, mut line: Box<Record>) {
        match self.queue.push((*line).clone()) {
            Ok(()) => self.pushed += 1,
            Err(_) => self.dropped += 1,
        }
        if self.lines.len() < LINES_KEPT_MAX {
            line.clear();
            self.lines.push(line);
        }
    }

    /// The name of the upstream server with this index and address; it is made once for each.
    pub(super) fn upstream(&mut self, server: usize, address: &Address) -> Text<UPSTREAM_BYTES_MAX> {
        if server >= self.upstreams.len() {
            self.upstreams.resize_with(server + 1, || None);
        }
        match &self.upstreams[server] {
            Some((known, text)) if known == address => *text,
            Some(_) | None => {
                let mut text = Text::EMPTY;
                text.set(address.to_string().as_bytes());
                self.upstreams[server] = Some((address.clone(), text));
                text
            }
        }
    }
}
