//! Letters in pictures: how wide a text is about, since nobody is there to measure it, and values with their units.

/// Size of the letters in a picture's units.
pub const LETTERS: f64 = 13.0;

/// About the width of a text in the fonts of screens; rather too wide than too narrow.
pub fn width(text: &str, letters: f64) -> f64 {
    let units: f64 = text.chars().map(units).sum();
    units * letters
}

/// Width of a letter in its size.
fn units(letter: char) -> f64 {
    match letter {
        'i' | 'l' | 'j' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | '[' | ']' | '(' | ')' | ' ' => 0.3,
        'f' | 't' | 'r' | '/' | '-' | '·' => 0.4,
        'm' | 'w' | 'M' | 'W' | '%' | '—' => 0.88,
        'A'..='Z' | '÷' | '≤' | '≥' => 0.68,
        _ => 0.57,
    }
}

/// Breaks a text between words so that no line is wider than `room`; a word that is wider stands alone.
pub fn wrap(text: &str, room: f64, letters: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line, letters) + width(word, letters) + 0.3 * letters <= room => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// What an axis measures, which decides how its values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds, shown in the unit that suits.
    Duration,
    /// Whole numbers in groups, thousands as `k`.
    Count,
    /// A quotient.
    Ratio,
    /// `1 / (1 - quantile)`, shown as percentile.
    Tail,
    Seconds,
    Microseconds,
    /// Ordinal numbers: there is nothing between two of them.
    Number,
}

impl Unit {
    /// A tick's text.
    pub fn tick(self, value: f64) -> String {
        match self {
            Self::Duration => {
                let (scaled, unit) = match value {
                    value if value < 999.5 => (value, "ns"),
                    value if value < 999.5e3 => (value / 1e3, "µs"),
                    value if value < 999.5e6 => (value / 1e6, "ms"),
                    value => (value / 1e9, "s"),
                };
                format!("{} {unit}", plain(scaled))
            }
            Self::Count if value.abs() >= 1e6 => format!("{} M", plain(value / 1e6)),
            Self::Count if value.abs() >= 1e4 => format!("{} k", plain(value / 1e3)),
            Self::Count | Self::Seconds | Self::Microseconds | Self::Number => plain(value),
            Self::Ratio => format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
            Self::Tail => percentile(1.0 - 1.0 / value),
        }
    }
}

/// Up to three decimals, without zeros at the end.
fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// `99.9 %`.
pub fn percentile(quantile: f64) -> String {
    let text = format!("{:.5}", quantile * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::{Unit, percentile, width, wrap};

    #[test]
    fn values_carry_their_unit() {
        let durations = [500.0, 1e3, 2.5e5, 1e6, 5e9].map(|value| Unit::Duration.tick(value));
        assert_eq!(durations, ["500 ns", "1 µs", "250 µs", "1 ms", "5 s"]);
        assert_eq!([0.0, 5000.0, 40_000.0, 2.5e6].map(|value| Unit::Count.tick(value)), ["0", "5000", "40 k", "2.5 M"]);
        assert_eq!([0.5, 1.0, 1.05].map(|value| Unit::Ratio.tick(value)), ["0.5", "1", "1.05"]);
        assert_eq!(
            [1.0, 2.0, 10.0, 1e3, 1e5].map(|value| Unit::Tail.tick(value)),
            ["0 %", "50 %", "90 %", "99.9 %", "99.999 %"]
        );
        assert_eq!(percentile(0.999), "99.9 %");
    }

    #[test]
    fn lines_fit_where_they_can() {
        let lines = wrap("requests per second of a system that is not there", 120.0, 13.0);
        assert!(lines.len() > 2 && lines.iter().all(|line| width(line, 13.0) <= 120.0), "{lines:?}");
        assert_eq!(lines.join(" "), "requests per second of a system that is not there");
        assert_eq!(wrap("averyveryverylongword", 10.0, 13.0), ["averyveryverylongword"]);
    }
}
