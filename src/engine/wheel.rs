//! A hierarchical timer wheel with ticks of one millisecond. Pure: times are arguments.
//!
//! ```text
//!   level 0   64 slots of 1 ms            a timer lies in the lowest level whose
//!   level 1   64 slots of 64 ms           turn still tells its tick from now; when a
//!   level 2   64 slots of 4 s   …         slot of a higher level comes, its timers
//!   level 5   64 slots of 12 days         move down
//! ```
//! Inserting is O(1), finding the next deadline is one look at a bitmap per level, and each timer moves at most once
//! per level. Timers of one tick come out in the order in which they were inserted.

const LEVELS: usize = 6;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;
/// Ticks that the wheel can tell apart; farther timers wait in the last slot and are put in again from there.
const HORIZON_TICKS: u64 = 1 << (SLOT_BITS * 6);
const TICK_NS: u64 = 1_000_000;
const NONE: u32 = u32::MAX;

/// Timers with tokens of type `T`.
pub struct Wheel<T> {
    /// Ticks before this one are over.
    tick: u64,
    levels: [Level; LEVELS],
    /// Timers that are due and wait to be taken.
    due: List,
    nodes: Vec<Node<T>>,
    /// First of the unused nodes, which are chained by `next`.
    unused: u32,
    length: usize,
}

#[derive(Clone, Copy)]
struct Level {
    /// Bit `n` is set if slot `n` holds timers.
    occupied: u64,
    slots: [List; SLOTS],
}

#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE };
}

struct Node<T> {
    tick: u64,
    token: T,
    next: u32,
}

impl<T: Copy> Wheel<T> {
    /// A wheel that starts at `now_ns` and has room for `capacity` timers before it grows.
    pub fn new(now_ns: u64, capacity: usize) -> Self {
        Self {
            tick: now_ns / TICK_NS,
            levels: [Level { occupied: 0, slots: [List::EMPTY; SLOTS] }; LEVELS],
            due: List::EMPTY,
            nodes: Vec::with_capacity(capacity),
            unused: NONE,
            length: 0,
        }
    }

    /// Puts in a timer for `at_ns`; a time that is over is due at once. It never fires early, and at most one tick late.
    pub fn insert(&mut self, at_ns: u64, token: T) {
        let node = Node { tick: at_ns.div_ceil(TICK_NS), token, next: NONE };
        let index = if self.unused == NONE {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("invariant: fewer than 2^32 timers")
        } else {
            let index = self.unused;
            self.unused = self.node(index).next;
            *self.node_mut(index) = node;
            index
        };
        self.length += 1;
        self.place(index);
    }

    /// Takes the next timer that is due at `now_ns`.
    pub fn pop(&mut self, now_ns: u64) -> Option<T> {
        if self.due.first == NONE {
            self.advance(now_ns / TICK_NS);
        }
        let index = self.due.first;
        if index == NONE {
            return None;
        }
        let next = self.node(index).next;
        self.due.first = next;
        if next == NONE {
            self.due.last = NONE;
        }
        self.length -= 1;
        self.node_mut(index).next = self.unused;
        self.unused = index;
        Some(self.node(index).token)
    }

    /// When [`Wheel::pop`] has to be called next, in nanoseconds: never later than the next timer, but possibly
    /// earlier, when far timers have to move down. `None` without timers.
    pub fn deadline_ns(&self) -> Option<u64> {
        if self.due.first != NONE {
            return Some(0);
        }
        self.next_slot().map(|(_, _, tick)| tick.saturating_mul(TICK_NS))
    }

    /// Timers that were put in and not taken yet.
    pub fn len(&self) -> usize {
        self.length
    }

    /// True without timers.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Moves to `tick` slot by slot until timers are due.
    fn advance(&mut self, tick: u64) {
        while self.due.first == NONE {
            match self.next_slot() {
                Some((level, slot, at)) if at <= tick => {
                    self.tick = self.tick.max(at);
                    let mut index = self.levels[level].slots[slot].first;
                    self.levels[level].slots[slot] = List::EMPTY;
                    self.levels[level].occupied &= !(1 << slot);
                    while index != NONE {
                        let next = self.node(index).next;
                        self.node_mut(index).next = NONE;
                        self.place(index);
                        index = next;
                    }
                }
                Some(_) | None => {
                    self.tick = self.tick.max(tick);
                    return;
                }
            }
        }
    }

    /// Appends a node to the list where it belongs as seen from the current tick.
    fn place(&mut self, index: u32) {
        let tick = self.node(index).tick;
        let list = if tick <= self.tick {
            &mut self.due
        } else {
            let tick = tick.min(self.tick + (HORIZON_TICKS - 1));
            // The highest bit in which the ticks differ names the level; the bits of that level name the slot.
            let bit = 63 - (self.tick ^ tick).leading_zeros();
            // A tick beyond the next carry out of the top level differs in higher bits: it waits in the top level.
            let level = (bit / SLOT_BITS).min(5);
            let slot = (tick >> (level * SLOT_BITS)) % 64;
            let level = &mut self.levels[usize::try_from(level).expect("invariant: below six")];
            level.occupied |= 1 << slot;
            &mut level.slots[usize::try_from(slot).expect("invariant: below 64")]
        };
        let last = list.last;
        list.last = index;
        if last == NONE {
            list.first = index;
        } else {
            self.node_mut(last).next = index;
        }
    }

    /// The occupied slot that comes first, and the tick when it comes. Lower levels always come before higher ones.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let mut shift = 0;
        for (number, level) in self.levels.iter().enumerate() {
            if level.occupied != 0 {
                let position = self.tick >> shift;
                let current = position % 64;
                // Rotated so that bit 0 is the slot of the current tick.
                let rotated = level.occupied.rotate_right(u32::try_from(current).expect("invariant: below 64"));
                let mut ahead = u64::from(rotated.trailing_zeros());
                if ahead == 0 && number == LEVELS - 1 {
                    // Only the top level can hold timers of its next round in the current slot.
                    let others = rotated & !1;
                    ahead = if others == 0 { 64 } else { u64::from(others.trailing_zeros()) };
                }
                let tick = (position + ahead) << shift;
                let slot = usize::try_from((current + ahead) % 64).expect("invariant: below 64");
                return Some((number, slot, tick));
            }
            shift += SLOT_BITS;
        }
        None
    }

    fn node(&self, index: u32) -> &Node<T> {
        &self.nodes[usize::try_from(index).expect("invariant: pointers have at least 32 bits")]
    }

    fn node_mut(&mut self, index: u32) -> &mut Node<T> {
        &mut self.nodes[usize::try_from(index).expect("invariant: pointers have at least 32 bits")]
    }
}

#[cfg(test)]
mod tests {
    use super::{HORIZON_TICKS, TICK_NS, Wheel};

    fn drain(wheel: &mut Wheel<u64>, now_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| wheel.pop(now_ns)).collect()
    }

    #[test]
    fn timers_come_in_order_and_never_early() {
        let mut wheel = Wheel::new(0, 8);
        for at in [30, 10, 20, 10] {
            wheel.insert(at * TICK_NS, at);
        }
        assert!(drain(&mut wheel, 10 * TICK_NS - 1).is_empty());
        assert_eq!(wheel.deadline_ns(), Some(10 * TICK_NS));
        assert_eq!(drain(&mut wheel, 25 * TICK_NS), [10, 10, 20]);
        assert_eq!(drain(&mut wheel, 30 * TICK_NS), [30]);
        assert!(wheel.is_empty() && wheel.deadline_ns().is_none());
    }

    #[test]
    fn timers_of_one_tick_keep_the_order_of_insertion() {
        let mut wheel = Wheel::new(0, 8);
        for token in 0..100 {
            wheel.insert(5_000 * TICK_NS, token);
        }
        assert_eq!(drain(&mut wheel, 5_000 * TICK_NS), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_time_that_is_over_is_due_at_once() {
        let mut wheel = Wheel::new(1_000 * TICK_NS, 1);
        wheel.insert(3, 7);
        assert_eq!(wheel.deadline_ns(), Some(0));
        assert_eq!(wheel.pop(1_000 * TICK_NS), Some(7));
    }

    #[test]
    fn parts_of_a_tick_round_up() {
        let mut wheel = Wheel::new(0, 1);
        wheel.insert(TICK_NS + 1, 1);
        assert_eq!(wheel.pop(2 * TICK_NS - 1), None);
        assert_eq!(wheel.pop(2 * TICK_NS), Some(1));
    }

    #[test]
    fn far_timers_move_down_and_none_is_lost() {
        // Starting just below a carry of every level makes ticks cross all of them.
        for start in [0, 1, 63, 4_095, (1 << 24) - 3, HORIZON_TICKS - 5] {
            let mut wheel = Wheel::new(start * TICK_NS, 0);
            let ahead: Vec<u64> =
                (0..36).flat_map(|bit| [1 << bit, (1 << bit) + 1, (1 << bit) - 1]).filter(|&ticks| ticks > 0).collect();
            for &ticks in &ahead {
                wheel.insert((start + ticks) * TICK_NS, start + ticks);
            }
            let mut sorted: Vec<u64> = ahead.iter().map(|ticks| start + ticks).collect();
            sorted.sort_unstable();
            let mut seen = Vec::new();
            let mut rounds = 0;
            while let Some(deadline) = wheel.deadline_ns() {
                while let Some(tick) = wheel.pop(deadline) {
                    assert_eq!(deadline, tick * TICK_NS, "a timer fires at its own tick");
                    seen.push(tick);
                    if wheel.deadline_ns() != Some(0) {
                        break;
                    }
                }
                // A pop that found nothing has moved timers down, which happens at most once per timer and level.
                rounds += 1;
                assert!(rounds < 2_000, "no progress");
            }
            seen.sort_unstable();
            assert_eq!(seen, sorted);
        }
    }

    #[test]
    fn timers_beyond_the_horizon_wait_for_their_time() {
        let mut wheel = Wheel::new(0, 1);
        let far = 3 * HORIZON_TICKS + 17;
        wheel.insert(far * TICK_NS, 1);
        let mut now = 0;
        let mut rounds = 0;
        loop {
            now = wheel.deadline_ns().unwrap().max(now);
            if wheel.pop(now).is_some() {
                break;
            }
            rounds += 1;
            assert!(rounds < 1_000, "no progress");
        }
        assert_eq!(now, far * TICK_NS);
    }

    #[test]
    fn a_long_sleep_hands_over_everything_in_order() {
        let mut wheel = Wheel::new(0, 0);
        let mut state = 88_172_645_463_325_252_u64;
        let mut ticks = Vec::new();
        for _ in 0..5_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let tick = state % 10_000_000;
            ticks.push(tick);
            wheel.insert(tick * TICK_NS, tick);
        }
        ticks.sort_unstable();
        assert_eq!(wheel.len(), 5_000);
        assert_eq!(drain(&mut wheel, 10_000_000 * TICK_NS), ticks);
    }
}
