//! By lot, from a seed.

use super::{Reason, View};

#[derive(Clone, Debug)]
pub(in crate::dispatch) struct Random {
    lots: Lots,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { lots: Lots(seed) }
    }

    pub fn choose(&mut self, view: &View) -> Option<(usize, Reason)> {
        let lot = self.lots.below(view.open().count())?;
        view.open().nth(lot).map(|index| (index, Reason::Lot))
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): any seed is good, and a lot costs three multiplications.
#[derive(Clone, Debug)]
pub(super) struct Lots(pub u64);

impl Lots {
    /// A number below `bound`, each equally likely up to a bias of bound / 2⁶⁴; `None` if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> Option<usize> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let scaled = (u128::from(mixed) * u128::try_from(bound).ok()?) >> 64;
        usize::try_from(scaled).ok().filter(|&lot| lot < bound)
    }
}
