//! Days and times of the proleptic Gregorian calendar in UTC, as people write them (ISO 8601), and money.

const DAY_MS: i64 = 86_400_000;

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// `2026-11-23` of Unix milliseconds.
pub fn date(unix_ms: i64) -> String {
    let (year, month, day) = civil(unix_ms.div_euclid(DAY_MS));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-23 13:18` of Unix milliseconds, in UTC.
pub fn date_time(unix_ms: i64) -> String {
    let minutes = unix_ms.rem_euclid(DAY_MS) / 60_000;
    format!("{} {:02}:{:02}", date(unix_ms), minutes / 60, minutes % 60)
}

/// Unix milliseconds of `2026-11-23`, `2026-11-23T13:18`, `2026-11-23 13:18:05` or a plain number of milliseconds.
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(unix_ms) = text.parse() {
        return Some(unix_ms);
    }
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut parts = day.splitn(3, '-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if !(1..=12).contains(&month) || civil(days(year, month, day)) != (year, month, day) {
        return None;
    }
    let mut parts = time.splitn(3, ':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |second| digits(second, 2))?;
    let valid = hour < 24 && minute < 60 && second < 60;
    valid.then(|| days(year, month, day) * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1_000)
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `12.34` of cents.
pub fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let cents = cents.unsigned_abs();
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

/// Cents of `12`, `12.3`, `12.34` or `-12.34`.
pub fn parse_money(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || fraction.len() > 2 {
        return None;
    }
    let scale = if fraction.len() == 1 { 10 } else { 1 };
    let cents = whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(fraction.parse::<i64>().ok()? * scale)?;
    Some(if negative { -cents } else { cents })
}

#[cfg(test)]
mod tests {
    use super::{date, date_time, money, parse_money, parse_time};

    #[test]
    fn times_there_and_back() {
        for (unix_ms, text) in [
            (0, "1970-01-01 00:00"),
            (951_782_400_000, "2000-02-29 00:00"),
            (1_795_440_180_000, "2026-11-23 13:23"),
            (-60_000, "1969-12-31 23:59"),
        ] {
            assert_eq!(date_time(unix_ms), text);
            assert_eq!(parse_time(text), Some(unix_ms), "{text}");
        }
        assert_eq!(date(1_795_440_180_000), "2026-11-23");
        assert_eq!(parse_time("1795440180000"), Some(1_795_440_180_000));
        for wrong in ["", "2026-02-30", "2026-13-01", "2026-1-1", "2026-01-01T24:00", "now", "2026-01-01T1:2"] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_day_of_four_centuries() {
        for day in -73_000..73_000_i64 {
            assert_eq!(parse_time(&date(day * super::DAY_MS)), Some(day * super::DAY_MS));
        }
    }

    #[test]
    fn amounts() {
        for (cents, text) in
            [(0, "0.00"), (5, "0.05"), (1234, "12.34"), (-5, "-0.05"), (i64::MAX, "92233720368547758.07")]
        {
            assert_eq!(money(cents), text);
            assert_eq!(parse_money(text), Some(cents));
        }
        assert_eq!(parse_money("7"), Some(700));
        assert_eq!(parse_money("7.5"), Some(750));
        for wrong in ["", "-", ".5", "5.", "1.234", "1,5", "+1", "92233720368547758.08", "999999999999999999999"] {
            assert_eq!(parse_money(wrong), None, "{wrong}");
        }
    }
}
