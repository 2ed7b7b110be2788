//! Numbers with units, as tools print them.

/// Nanoseconds of `47.31ms`, `349us`, `1.02s`, or of several such parts behind each other, as in Go's `1m2.5s`.
pub fn duration_ns(text: &str) -> Option<f64> {
    let mut rest = text.trim();
    let mut sum = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let scale = match &rest[digits..unit_end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        sum = Some(sum.unwrap_or(0.0) + value * scale);
        rest = &rest[unit_end..];
    }
    sum
}

/// The same as a whole number.
pub fn duration_whole_ns(text: &str) -> Option<u64> {
    duration_ns(text).map(whole)
}

/// The nearest whole number; tools print nothing near 2^53.
pub fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// Bytes of `40.10KB`, by powers of 1024 as wrk counts them; as exact as it is printed.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let value: f64 = text[..digits].parse().ok()?;
    let power = ["B", "KB", "MB", "GB", "TB"].iter().position(|unit| *unit == &text[digits..])?;
    Some(whole(value * 1024_f64.powi(i32::try_from(power).ok()?)))
}

/// The number before a word: 400 in `400 total`.
pub fn count_before(text: &str, word: &str) -> Option<u64> {
    let mut words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = words.next() {
        if words.peek() == Some(&word) {
            return part.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{bytes, count_before, duration_whole_ns};

    #[test]
    fn units_are_converted() {
        let found = ["47.31ms", "349us", "1.02s", "1.5m", "1m2.5s", "145.082066ms", "7ns", "3µs", "5", "ms", "5x", ""]
            .map(duration_whole_ns);
        let expected = [47_310_000, 349_000, 1_020_000_000, 90_000_000_000, 62_500_000_000, 145_082_066, 7, 3_000];
        assert_eq!(found[..8], expected.map(Some));
        assert_eq!(found[8..], [None; 4]);
        assert_eq!(["40.10KB", "19.81MB", "7B", "7"].map(bytes), [Some(41_062), Some(20_772_291), Some(7), None]);
        assert_eq!(count_before("400 total, 360 succeeded, 40 failed", "succeeded"), Some(360));
        assert_eq!(count_before("400 total", "started"), None);
    }
}
