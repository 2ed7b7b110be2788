//! Arrivals a second.

use std::fmt;
use std::str::FromStr;

/// Arrivals a second, held in millionths so that plans are integer arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate {
    micro_per_s: u64,
}

impl Rate {
    /// The highest rate: one arrival every hundred nanoseconds, more than a core can send.
    pub const PER_S_MAX: f64 = 1e7;
    pub const ZERO: Self = Self { micro_per_s: 0 };

    /// The rate nearest to a number within 0 and [`Rate::PER_S_MAX`]; `None` outside.
    pub fn of(per_s: f64) -> Option<Self> {
        // The bounds were checked: not negative and below 2^53.
        (0.0..=Self::PER_S_MAX).contains(&per_s).then(|| Self { micro_per_s: (per_s * 1e6).round() as u64 })
    }

    pub fn per_s(self) -> f64 {
        // At most 1e13 millionths: exact in an f64.
        self.micro_per_s as f64 / 1e6
    }

    pub fn micro_per_s(self) -> u64 {
        self.micro_per_s
    }
}

impl FromStr for Rate {
    type Err = String;

    /// A rate of its own: above 0.
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().ok().and_then(Self::of).filter(|rate| *rate > Self::ZERO).ok_or_else(|| {
            format!(
                "`{text}` is no rate: write arrivals a second above 0 and up to {}, such as 5000 or 0.5",
                Self::PER_S_MAX
            )
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.per_s())
    }
}

#[cfg(test)]
mod tests {
    use super::Rate;

    #[test]
    fn rates_that_make_no_sense_are_refused() {
        for text in ["0", "-1", "nan", "inf", "1e8", "fast", "", "0.0000001"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert_eq!("0.5".parse::<Rate>().unwrap().to_string(), "0.5");
    }
}
