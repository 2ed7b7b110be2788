//! What samples say about a quantile: whether they support one at all, and between which values it lies.

mod blocks;

pub use self::blocks::Blocks;

/// The fewest samples that say anything about a quantile: with fewer, the chance that not even one of them lies above it
/// is more than 5 % (`n >= ln 0.05 / ln q`), so the highest sample may be below the true value.
pub fn samples_min(quantile: f64) -> u64 {
    // The small margin keeps a whole quotient whole; the result is below 2^53 for every quantile below 1 - 1e-12.
    (0.05_f64.ln() / quantile.ln() - 1e-9).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::samples_min;

    #[test]
    fn the_numbers_of_the_rule() {
        assert_eq!([0.5, 0.9, 0.99, 0.999, 0.9999].map(samples_min), [5, 29, 299, 2_995, 29_956]);
    }
}
