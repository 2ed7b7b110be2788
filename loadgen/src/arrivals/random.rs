//! Random numbers that are the same on every machine: integers of a seeded generator, and a logarithm that is computed
//! here instead of by whatever C library the machine has.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;

/// An exponential variate of mean 1.
pub fn exponential(random: &mut Xoshiro256PlusPlus) -> f64 {
    -libm::log(unit(random))
}

/// A uniform variate in (0, 1].
pub fn unit(random: &mut Xoshiro256PlusPlus) -> f64 {
    // 53 random bits are exact in an f64; the +1 keeps the logarithm finite.
    ((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

/// A uniform number below `bound`, which is not 0.
pub fn below(random: &mut Xoshiro256PlusPlus, bound: u64) -> u64 {
    // The high half of the product lies below `bound`.
    u64::try_from((u128::from(random.next_u64()) * u128::from(bound)) >> 64).expect("invariant: below the bound")
}

/// A uniform index below `count`, which is not 0.
pub fn index_below(random: &mut Xoshiro256PlusPlus, count: usize) -> usize {
    let bound = u64::try_from(count).expect("invariant: a usize fits");
    usize::try_from(below(random, bound)).expect("invariant: below a usize")
}
