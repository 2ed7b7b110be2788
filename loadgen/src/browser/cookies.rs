//! The cookie jar of one user (RFC 6265, for a single host over plain http).
//!
//! Where browsers have moved on from the RFC, it goes with them: a cookie that is `Secure`, that claims so by a prefix
//! of its name, or that wants `SameSite=None`, is not taken over plain http (RFC 6265bis).

use super::date;

/// Cookies of one host. Time is Unix seconds and an argument.
#[derive(Clone, Debug, Default)]
pub struct Jar {
    /// Earliest first.
    cookies: Vec<Cookie>,
}

#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    value: String,
    path: String,
    /// The host itself, or a domain above it.
    domain: String,
    /// `u64::MAX` for a session cookie.
    expires_unix_s: u64,
}

/// Cookies of one host; the earliest one makes room for another, as in browsers.
const COOKIES_MAX: usize = 180;
/// Bytes of name and value together.
const PAIR_BYTES_MAX: usize = 4096;
/// Bytes of an attribute's value; a longer one is passed over.
const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// The attributes that matter here.
#[derive(Default)]
struct Attributes<'a> {
    /// Of each the last one counts; an empty one takes back those before it.
    path: Option<&'a str>,
    domain: Option<&'a str>,
    max_age: Option<i64>,
    expires: Option<u64>,
    secure: bool,
    cross_site: bool,
}

impl<'a> Attributes<'a> {
    fn read(parts: impl Iterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for part in parts {
            let (key, text) = part.split_once('=').unwrap_or((part, ""));
            let text = text.trim_matches(is_blank);
            if text.len() > ATTRIBUTE_BYTES_MAX {
                continue;
            }
            match key.trim_matches(is_blank).to_ascii_lowercase().as_str() {
                "path" => found.path = Some(text).filter(|path| path.starts_with('/')),
                "domain" => found.domain = Some(text.strip_prefix('.').unwrap_or(text)).filter(|text| !text.is_empty()),
                "max-age" => found.max_age = parse_age(text).or(found.max_age),
                "expires" => found.expires = date::parse(text).or(found.expires),
                "secure" => found.secure = true,
                "samesite" => found.cross_site = text.eq_ignore_ascii_case("none"),
                _ => {}
            }
        }
        found
    }

    /// Max-Age wins over Expires (section 5.3 step 3); zero and negative ages are in the past.
    fn expires_unix_s(&self, now_unix_s: u64) -> u64 {
        match (self.max_age, self.expires) {
            (Some(age), _) => u64::try_from(age).map_or(0, |age| if age == 0 { 0 } else { now_unix_s + age }),
            (None, Some(at)) => at,
            (None, None) => u64::MAX,
        }
    }
}

impl Jar {
    pub fn clear(&mut self) {
        self.cookies.clear();
    }

    /// Takes the value of a `Set-Cookie` field that came with the response of `host` for `request_path`.
    pub fn set(&mut self, field: &str, host: &str, request_path: &str, now_unix_s: u64) {
        // A NUL, CR or LF is no cookie; other control characters are none either, a tab apart.
        if field.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return;
        }
        let mut parts = field.split(';');
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let (name, value) = (name.trim_matches(is_blank), value.trim_matches(is_blank));
        if name.is_empty() || name.len() + value.len() > PAIR_BYTES_MAX {
            return;
        }
        let attributes = Attributes::read(parts);
        let lower = name.to_ascii_lowercase();
        if attributes.secure || attributes.cross_site || lower.starts_with("__secure-") || lower.starts_with("__host-")
        {
            return;
        }
        let host = host_name(host).to_ascii_lowercase();
        let Some(domain) = domain_of(attributes.domain, &host) else { return };
        let path = attributes.path.unwrap_or_else(|| default_path(request_path)).to_owned();
        let expires_unix_s = attributes.expires_unix_s(now_unix_s);
        let same = |cookie: &Cookie| cookie.name == name && cookie.path == path && cookie.domain == domain;
        let place = self.cookies.iter().position(same);
        if expires_unix_s <= now_unix_s {
            if let Some(place) = place {
                self.cookies.remove(place);
            }
            return;
        }
        let value = value.to_owned();
        if let Some(place) = place {
            // It keeps its place in the order: that of when it was first made.
            self.cookies[place].value = value;
            self.cookies[place].expires_unix_s = expires_unix_s;
            return;
        }
        if self.cookies.len() >= COOKIES_MAX {
            self.cookies.retain(|cookie| cookie.expires_unix_s > now_unix_s);
        }
        if self.cookies.len() >= COOKIES_MAX {
            self.cookies.remove(0);
        }
        self.cookies.push(Cookie { name: name.to_owned(), value, path, domain, expires_unix_s });
    }

    /// The value of `Cookie` for a request to the host, longest path first and then earliest first; `None` if there is
    /// nothing to send.
    pub fn field(&self, request_path: &str, now_unix_s: u64) -> Option<String> {
        let path = request_path.split('?').next().unwrap_or("/");
        let matches = |cookie: &&Cookie| cookie.expires_unix_s > now_unix_s && path_matches(path, &cookie.path);
        let mut sent: Vec<&Cookie> = self.cookies.iter().filter(matches).collect();
        sent.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> = sent.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

fn is_blank(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// Digits with perhaps a minus in front; anything else is no age. Ages that no clock reaches are cut.
fn parse_age(text: &str) -> Option<i64> {
    const AGE_S_MAX: i64 = 400 * 86_400;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if digits.len() < text.len() {
        return Some(-1);
    }
    // Browsers keep nothing for longer than 400 days.
    Some(text.parse::<i64>().map_or(AGE_S_MAX, |age| age.min(AGE_S_MAX)))
}

/// The host without its port.
fn host_name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

/// The domain of a cookie, or `None` if the host may not set it (section 5.1.3 and 5.3 steps 5 and 6). Without a list
/// of public suffixes, a domain of one label is held for one.
fn domain_of(attribute: Option<&str>, host: &str) -> Option<String> {
    let Some(domain) = attribute.map(str::to_ascii_lowercase) else { return Some(host.to_owned()) };
    if domain == host {
        return Some(domain);
    }
    let is_address = host.starts_with('[') || host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let above = host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
    (above && !is_address && domain.contains('.')).then_some(domain)
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

#[cfg(test)]
mod tests;
