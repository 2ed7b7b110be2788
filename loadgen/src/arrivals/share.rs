//! One generator's part of a plan that several generators offer together.
//!
//! Arrival k, counted from 0 over the whole run with its warm-up, belongs to share k mod n + 1. Every generator computes
//! the whole plan from the same arguments and takes its own arrivals, so the shares together are the plan exactly, and
//! no two of them have an arrival in common.

use std::fmt;
use std::str::FromStr;

/// Generators of one plan.
pub const SHARES_MAX: u64 = 1000;

/// `number` of `count`, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    number: u64,
    count: u64,
}

impl Share {
    pub const WHOLE: Self = Self { number: 1, count: 1 };

    pub fn number(self) -> u64 {
        self.number
    }

    pub fn count(self) -> u64 {
        self.count
    }

    /// Whether an arrival of the whole plan is one of this share.
    pub fn has(self, arrival: u64) -> bool {
        arrival % self.count + 1 == self.number
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match parsed {
            Some((0, _)) => Err(format!(
                "`{text}`: shares count from 1; where an index counts from 0, add one, as in \
                 --share $((JOB_COMPLETION_INDEX + 1))/5"
            )),
            Some((number, count)) if number <= count && count <= SHARES_MAX => Ok(Self { number, count }),
            Some(_) | None => {
                Err(format!("`{text}` is no share: write 2/5 for the second of five, up to {SHARES_MAX}"))
            }
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.number, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn shares_are_read_from_one() {
        let share: Share = "2/5".parse().unwrap();
        assert_eq!((share.number(), share.count(), share.to_string()), (2, 5, "2/5".to_owned()));
        let own: Vec<u64> = (0..12).filter(|&arrival| share.has(arrival)).collect();
        assert_eq!(own, [1, 6, 11]);
        for text in ["0/5", "6/5", "1/0", "1/1001", "2", "a/b", "-1/5", ""] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert!("0/5".parse::<Share>().unwrap_err().contains("+ 1"));
    }
}
