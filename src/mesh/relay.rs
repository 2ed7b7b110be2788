//! A mesh with a relay in every ring: whoever holds the relays decides when messages go on.
//!
//! ```text
//!   worker 0 ── ring ──▶ relay 0→1 ── ring ──▶ worker 1
//! ```
//! For simulations: a relay that is not pumped is a ring that has stalled, and soon one that is full. The workers'
//! ports are those of a plain [`grid`](super::grid::grid).

use super::grid::{Bell, Port, Wake, joined};
use super::ring::{Consumer, Producer, ring};

/// What lies between a sender's ring and a receiver's.
pub struct Relay<T, W> {
    pub from: usize,
    pub to: usize,
    incoming: Consumer<T>,
    outgoing: Producer<T>,
    bell: Bell<W>,
}

/// Makes the ports of `workers` workers and the relays between them. Each of a pair's two rings has `slots` slots.
///
/// # Panics
/// If `wakers` are not as many as `workers`, or `slots` is no power of two.
pub fn relayed<T, W: Wake>(workers: usize, slots: usize, wakers: Vec<W>) -> (Vec<Port<T, W>>, Vec<Relay<T, W>>) {
    let mut relays = Vec::with_capacity(workers * workers.saturating_sub(1));
    let ports = joined(workers, wakers, |from, to, bell| {
        let (producer, incoming) = ring(slots);
        let (outgoing, consumer) = ring(slots);
        relays.push(Relay { from, to, incoming, outgoing, bell: bell.clone() });
        (producer, consumer)
    });
    (ports, relays)
}

impl<T, W: Wake> Relay<T, W> {
    /// Passes on at most `limit` messages, as far as the receiver's ring has room. Returns how many.
    pub fn pump(&mut self, limit: usize) -> usize {
        let mut moved = 0;
        while moved < limit && self.outgoing.free() > 0 {
            let Some(message) = self.incoming.pop() else { break };
            // There is room: a slot was counted above, and nobody else fills it.
            drop(self.outgoing.stage(message));
            moved += 1;
        }
        self.incoming.release();
        if self.outgoing.publish() {
            self.bell.ring();
        }
        moved
    }

    /// Whether a message waits here that the receiver's ring has room for.
    pub fn can_pump(&mut self) -> bool {
        !self.incoming.is_empty() && self.outgoing.free() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::relayed;

    #[test]
    fn a_relay_passes_on_what_it_is_told_to() {
        let wakers = vec![std::thread::current(), std::thread::current()];
        let (mut ports, mut relays) = relayed::<u32, _>(2, 2, wakers);
        let relay = relays.iter_mut().find(|relay| relay.from == 0).expect("a relay for each direction");
        let (sender, receiver) = ports.split_at_mut(1);
        let (sender, receiver) = (&mut sender[0], &mut receiver[0]);
        for message in [1, 2] {
            sender.send(1, message).expect("room for two");
        }
        assert_eq!(sender.send(1, 3), Err(3), "nothing was passed on yet");
        sender.flush();
        assert!(!receiver.has_pending() && relay.can_pump());
        assert_eq!(relay.pump(1), 1);
        let mut seen = Vec::new();
        receiver.receive(8, |from, message| seen.push((from, message)));
        assert_eq!(seen, [(0, 1)]);
        sender.send(1, 3).expect("a slot is free again");
        sender.flush();
        assert_eq!(relay.pump(8), 2);
        assert!(!relay.can_pump());
        receiver.receive(8, |from, message| seen.push((from, message)));
        assert_eq!(seen, [(0, 1), (0, 2), (0, 3)]);
    }
}
