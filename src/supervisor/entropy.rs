//! Chance for everything whose seed is an argument.

use crate::clock;

pub(super) fn random_seed() -> u64 {
    let mut bytes = [0; 8];
    let read =
        std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if read.is_err() { clock::monotonic_ns() } else { u64::from_le_bytes(bytes) }
}

pub(super) fn random_seed_wide() -> u128 {
    u128::from(random_seed()) << 64 | u128::from(random_seed())
}
