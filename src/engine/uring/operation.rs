//! What a completion belongs to: the 64 bits that travel with every operation.
//!
//! ```text
//!   user_data   63 ─ 56   55 ───────── 32   31 ─────────── 0
//!               kind      generation        slot
//! ```

/// What was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Multishot accept; the slot is the listener's number.
    Accept,
    Connect,
    /// Multishot receive into provided buffers.
    Receive,
    Send,
    /// Cancels an operation of its slot. Posts a completion only if it found none.
    Cancel,
    /// Closes a descriptor; nobody waits for it.
    Close,
    /// The read of the waker's eventfd.
    Wake,
    /// An alarm that ends a wait; the slot is the alarm's number.
    Alarm,
}

impl Kind {
    /// In the order of their numbers.
    const ALL: [Self; 8] =
        [Self::Accept, Self::Connect, Self::Receive, Self::Send, Self::Cancel, Self::Close, Self::Wake, Self::Alarm];
}

/// An operation's kind and the life of the slot that it was submitted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) kind: Kind,
    /// The low 24 bits of the slot's generation. A slot is free only after its operations have completed, so this
    /// cannot wrap around unnoticed: it guards against our own mistakes, not against time.
    pub(super) generation: u32,
    pub(super) slot: u32,
}

impl Operation {
    pub(super) const GENERATION_MASK: u32 = (1 << 24) - 1;

    pub(super) fn new(kind: Kind, slot: u32, generation: u32) -> Self {
        Self { kind, generation: generation & Self::GENERATION_MASK, slot }
    }

    pub(super) fn encode(self) -> u64 {
        u64::from(self.kind as u8) << 56 | u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// `None` for a number that `encode` never makes.
    pub(super) fn decode(user_data: u64) -> Option<Self> {
        let [kind, g2, g1, g0, s3, s2, s1, s0] = user_data.to_be_bytes();
        let kind = *Kind::ALL.get(usize::from(kind))?;
        Some(Self { kind, generation: u32::from_be_bytes([0, g2, g1, g0]), slot: u32::from_be_bytes([s3, s2, s1, s0]) })
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Operation};

    #[test]
    fn every_operation_survives_its_64_bits() {
        for kind in Kind::ALL {
            for (slot, generation) in [(0, 0), (u32::MAX, Operation::GENERATION_MASK), (77, 0x0012_3456)] {
                let operation = Operation::new(kind, slot, generation);
                assert_eq!(Operation::decode(operation.encode()), Some(operation));
            }
        }
        assert_eq!(Operation::decode(u64::MAX), None);
    }

    #[test]
    fn generations_count_modulo_24_bits() {
        assert_eq!(Operation::new(Kind::Send, 1, 0xFF00_0001), Operation::new(Kind::Send, 1, 1));
    }
}
