//! Dates of HTTP and of cookies, as Unix seconds.

use std::ops::RangeInclusive;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// A date as cookies write it, with the parts in any order (RFC 6265 section 5.1.1). All three spellings of HTTP dates
/// are among them. A date before 1970 is 0.
pub fn parse(text: &str) -> Option<u64> {
    let (mut clock, mut day, mut month, mut year) = (None, None, None, None);
    for word in text.split(is_delimiter).filter(|word| !word.is_empty()) {
        if clock.is_none() && parse_clock(word).is_some() {
            clock = parse_clock(word);
        } else if day.is_none() && leading_number(word, 1..=2).is_some() {
            day = leading_number(word, 1..=2);
        } else if month.is_none() && parse_month(word).is_some() {
            month = parse_month(word);
        } else if year.is_none() && leading_number(word, 2..=4).is_some() {
            year = leading_number(word, 2..=4);
        }
    }
    let ((hour, minute, second), day, month, mut year) = (clock?, day?, month?, year?);
    match year {
        70..=99 => year += 1900,
        0..=69 => year += 2000,
        _ => {}
    }
    let in_month = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=in_month).contains(&day) || year < 1601 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from the civil calendar, with years that begin in March.
    let march_year = if month <= 2 { year - 1 } else { year };
    let month_index = (month + 9) % 12;
    let days =
        march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400 + (month_index * 153 + 2) / 5 + day - 1;
    Some(days.checked_sub(719_468).map_or(0, |days| days * 86_400 + hour * 3600 + minute * 60 + second))
}

fn is_delimiter(c: char) -> bool {
    matches!(c, '\t' | ' '..='/' | ';'..='@' | '['..='`' | '{'..='~')
}

/// The number that a word begins with, of so many digits; what follows is no digit.
fn leading_number(word: &str, digits: RangeInclusive<usize>) -> Option<u64> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    if digits.contains(&end) { word[..end].parse().ok() } else { None }
}

fn parse_clock(word: &str) -> Option<(u64, u64, u64)> {
    let mut parts = word.splitn(3, ':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let whole =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| leading_number(part, 1..=2)).flatten();
    Some((whole(hour)?, whole(minute)?, leading_number(second, 1..=2)?))
}

fn parse_month(word: &str) -> Option<u64> {
    let name = word.get(..3)?.to_ascii_lowercase();
    let index = MONTHS.iter().position(|month| *month == name)?;
    u64::try_from(index).ok().map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dates_are_read_in_every_spelling() {
        const NOW: u64 = 1_760_000_000;
        for text in [
            "Thu, 09 Oct 2025 08:53:20 GMT",
            "Thursday, 09-Oct-25 08:53:20 GMT",
            "Thu Oct  9 08:53:20 2025",
            "9 October 2025 08:53:20",
            "08:53:20 2025 9 oct",
        ] {
            assert_eq!(parse(text), Some(NOW), "{text}");
        }
        assert_eq!(parse("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        assert_eq!(parse("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse("Mon, 01 Jan 1601 00:00:00 GMT"), Some(0));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "soon",
            "",
            "Thu, 09 Oct 2025",
            "Thu, 31 Feb 2025 08:53:20 GMT",
            "Thu, 09 Oct 2025 24:00:00 GMT",
            "Thu, 09 Foo 2025 08:53:20 GMT",
            "é, 09 Oct é 08:53:20",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
