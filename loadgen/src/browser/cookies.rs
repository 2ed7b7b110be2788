//! The cookie jar of one user (RFC 6265, for a single host).

/// Cookies of one host. Time is Unix seconds and an argument.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    cookies: Vec<Cookie>,
}

#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    value: String,
    path: String,
    /// `u64::MAX` for a session cookie.
    expires_unix_s: u64,
}

/// More cookies than this from one host are not kept, as in browsers.
const COOKIES_MAX: usize = 180;

impl Jar {
    pub fn clear(&mut self) {
        self.cookies.clear();
    }

    /// Takes the value of a `Set-Cookie` field that came with the response for `request_path`.
    pub fn set(&mut self, field: &str, request_path: &str, now_unix_s: u64) {
        let mut parts = field.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() {
            return;
        }
        let mut path = default_path(request_path);
        let (mut max_age, mut expires) = (None, None);
        for attribute in parts {
            let (key, text) = attribute.split_once('=').unwrap_or((attribute, ""));
            let text = text.trim();
            match key.trim().to_ascii_lowercase().as_str() {
                "path" if text.starts_with('/') => path = text,
                "max-age" => max_age = text.parse::<i64>().ok(),
                "expires" => expires = parse_date(text),
                _ => {}
            }
        }
        // Max-Age wins over Expires (section 5.3 step 3); zero and negative ages are in the past.
        let expires_unix_s = match (max_age, expires) {
            (Some(age), _) => {
                u64::try_from(age).map_or(0, |age| if age == 0 { 0 } else { now_unix_s.saturating_add(age) })
            }
            (None, Some(at)) => at,
            (None, None) => u64::MAX,
        };
        self.cookies.retain(|cookie| !(cookie.name == name && cookie.path == path));
        if expires_unix_s > now_unix_s && self.cookies.len() < COOKIES_MAX {
            self.cookies.push(Cookie {
                name: name.to_owned(),
                value: value.to_owned(),
                path: path.to_owned(),
                expires_unix_s,
            });
        }
    }

    /// The value of `Cookie` for a request, longest path first; `None` if there is nothing to send.
    pub fn field(&self, request_path: &str, now_unix_s: u64) -> Option<String> {
        let path = request_path.split('?').next().unwrap_or("/");
        let matches = |cookie: &&Cookie| cookie.expires_unix_s > now_unix_s && path_matches(path, &cookie.path);
        let mut sent: Vec<&Cookie> = self.cookies.iter().filter(matches).collect();
        sent.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> = sent.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// Section 5.1.4.
fn default_path(request_path: &str) -> &str {
    let path = request_path.split('?').next().unwrap_or("/");
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

fn path_matches(path: &str, cookie_path: &str) -> bool {
    path.strip_prefix(cookie_path)
        .is_some_and(|rest| rest.is_empty() || cookie_path.ends_with('/') || rest.starts_with('/'))
}

/// Unix seconds of `Thu, 01 Jan 1970 00:00:00 GMT` and its older spelling with dashes.
fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let words: Vec<&str> = text.split([' ', '-', ',']).filter(|word| !word.is_empty()).collect();
    let [_, day, month, year, time, ..] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| month.to_ascii_lowercase().starts_with(name))?;
    let (day, mut year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    if year < 100 {
        year += if year < 70 { 2000 } else { 1900 };
    }
    let mut clock = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1..=31).contains(&day) || !(1601..=9999).contains(&year) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days from the civil calendar, with years that begin in March.
    let month = i64::try_from(month).ok()? + 1;
    let march_year = if month <= 2 { year - 1 } else { year };
    let month_index = (month + 9) % 12;
    let days =
        march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400 + (month_index * 153 + 2) / 5 + day
            - 1
            - 719_468;
    Some(u64::try_from(days).map_or(0, |days| days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::{Jar, parse_date};

    const NOW: u64 = 1_760_000_000;

    #[test]
    fn cookies_go_back_where_they_belong() {
        let mut jar = Jar::default();
        jar.set("session=abc=; Path=/; HttpOnly; SameSite=Lax", "/directory/sign-in", NOW);
        jar.set("view = list ", "/reqcat/items/1?x", NOW);
        jar.set("deep=1; path=/reqcat", "/x", NOW);
        assert_eq!(jar.field("/reqcat/items/2", NOW).unwrap(), "view=list; deep=1; session=abc=");
        assert_eq!(jar.field("/reqcatalog", NOW).unwrap(), "session=abc=");
        assert_eq!(jar.field("/reqcat?page=2", NOW).unwrap(), "deep=1; session=abc=");
    }

    #[test]
    fn cookies_are_replaced_expire_and_are_deleted() {
        let mut jar = Jar::default();
        jar.set("a=1", "/", NOW);
        jar.set("a=2; Max-Age=10", "/", NOW);
        assert_eq!(jar.field("/", NOW + 9).unwrap(), "a=2");
        assert_eq!(jar.field("/", NOW + 10), None);
        for gone in [
            "a=; Max-Age=0",
            "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "a=; Max-Age=-5; Expires=Fri, 01 Jan 2100 00:00:00 GMT",
        ] {
            jar.set("a=1", "/", NOW);
            jar.set(gone, "/", NOW);
            assert_eq!(jar.field("/", NOW), None, "{gone}");
        }
        jar.set("nonsense", "/", NOW);
        jar.set("=x", "/", NOW);
        assert_eq!(jar.field("/", NOW), None);
    }

    #[test]
    fn dates_are_read_in_both_spellings() {
        assert_eq!(parse_date("Thu, 09 Oct 2025 08:53:20 GMT"), Some(NOW));
        assert_eq!(parse_date("Thursday, 09-Oct-25 08:53:20 GMT"), Some(NOW));
        assert_eq!(parse_date("Tue, 29 Feb 2000 00:00:00 GMT"), Some(951_782_400));
        assert_eq!(parse_date("soon"), None);
    }
}
