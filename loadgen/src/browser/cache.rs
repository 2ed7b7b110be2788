//! The cache of one user (RFC 9111, a private cache): what is known of each asset, and no bodies. Of a style sheet it
//! remembers what it asks for, because a sheet that costs no request still leads to images.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use super::css::References;
use super::date;

/// What is known of one asset.
#[derive(Clone, Debug)]
struct Entry {
    etag: Option<String>,
    last_modified: Option<String>,
    fresh_until_ns: u64,
    /// The cookie that the response depends on, if it says that it does.
    vary: Vary,
    references: Option<Rc<References>>,
    /// When it was used last, in lookups.
    used: u64,
}

/// Which of a request's fields a response depends on. Other fields than `Cookie` are the same in all requests for one
/// asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vary {
    Nothing,
    /// The cookie, with the hash of its value.
    Cookie(u64),
    /// `*`: on something that nobody can see.
    Everything,
}

/// What the cache says about an asset that a page needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Fresh: no request. A style sheet comes with what it asks for.
    Fresh(Option<Rc<References>>),
    /// Stale with a validator: ask with this field and its value.
    Revalidate(&'static str, String),
    Miss,
}

/// The fields of a response that a cache looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    etag: Option<String>,
    last_modified: Option<String>,
    max_age_s: Option<u64>,
    age_s: u64,
    date_unix_s: Option<u64>,
    /// `Some(None)` is a date that is none, which means the past.
    expires_unix_s: Option<Option<u64>>,
    no_store: bool,
    no_cache: bool,
    vary_cookie: bool,
    vary_everything: bool,
}

impl Freshness {
    /// Takes a field of a response head.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let text = || String::from_utf8_lossy(value).into_owned();
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("etag") {
            self.etag = Some(text());
        } else if is("last-modified") {
            self.last_modified = Some(text());
        } else if is("age") {
            self.age_s = text().trim().parse().unwrap_or(0);
        } else if is("date") {
            self.date_unix_s = date::parse(&text());
        } else if is("expires") {
            self.expires_unix_s = Some(date::parse(&text()));
        } else if is("cache-control") {
            for directive in text().to_ascii_lowercase().split(',').map(str::trim) {
                let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
                match name.trim() {
                    // A value that is no number makes the response stale (section 4.2.1).
                    "max-age" => self.max_age_s = Some(value.trim().trim_matches('"').parse().unwrap_or(0)),
                    "no-store" => self.no_store = true,
                    "no-cache" => self.no_cache = true,
                    _ => {}
                }
            }
        } else if is("vary") {
            for field in text().split(',').map(str::trim) {
                self.vary_everything |= field == "*";
                self.vary_cookie |= field.eq_ignore_ascii_case("cookie");
            }
        }
    }

    /// For how many seconds the response is fresh from now on (section 4.2). Without a word from the server it is so for
    /// a tenth of the time since it was changed, as in browsers.
    fn lifetime_s(&self, now_unix_s: u64) -> u64 {
        if self.no_cache || self.vary_everything {
            return 0;
        }
        let date_s = self.date_unix_s.unwrap_or(now_unix_s);
        let total_s = match (self.max_age_s, self.expires_unix_s) {
            (Some(max_age_s), _) => max_age_s,
            (None, Some(expires)) => expires.map_or(0, |at| at.saturating_sub(date_s)),
            (None, None) => {
                let changed = self.last_modified.as_deref().and_then(date::parse);
                changed.map_or(0, |at| date_s.saturating_sub(at) / 10)
            }
        };
        total_s.saturating_sub(self.age_s)
    }

    /// Whether the response depends on the cookie that was sent.
    pub fn varies_by_cookie(&self) -> bool {
        self.vary_cookie
    }

    fn vary(&self, cookie: Option<&str>) -> Vary {
        match (self.vary_everything, self.vary_cookie) {
            (true, _) => Vary::Everything,
            (false, true) => Vary::Cookie(hash(cookie)),
            (false, false) => Vary::Nothing,
        }
    }
}

fn hash(cookie: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    cookie.hash(&mut hasher);
    hasher.finish()
}

/// Assets by path and query.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    entries: HashMap<String, Entry>,
    lookups: u64,
}

/// Assets of one user; the one that was not used for longest makes room for another.
const ENTRIES_MAX: usize = 1024;

/// The moment of a lookup or a response.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub monotonic_ns: u64,
    pub unix_s: u64,
}

impl Cache {
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// `cookie` is what a request for it would carry; few entries want to know.
    pub fn lookup(&mut self, path: &str, cookie: impl FnOnce() -> Option<String>, now: Now) -> Lookup {
        self.lookups += 1;
        let Some(entry) = self.entries.get_mut(path) else { return Lookup::Miss };
        entry.used = self.lookups;
        let same = match entry.vary {
            Vary::Nothing => true,
            Vary::Cookie(known) => known == hash(cookie().as_deref()),
            Vary::Everything => false,
        };
        match entry {
            entry if same && entry.fresh_until_ns > now.monotonic_ns => Lookup::Fresh(entry.references.clone()),
            Entry { etag: Some(etag), .. } => Lookup::Revalidate("If-None-Match", etag.clone()),
            // A date says nothing about a variant for somebody else.
            Entry { last_modified: Some(date), .. } if same => Lookup::Revalidate("If-Modified-Since", date.clone()),
            _ => Lookup::Miss,
        }
    }

    /// Takes the response for an asset: 200 stores, 304 makes fresh again, anything else forgets. Returns what the style
    /// sheet that it is about asks for: `read` looks, if it is a new one.
    pub fn store(
        &mut self,
        path: &str,
        status: u16,
        freshness: &Freshness,
        cookie: Option<&str>,
        now: Now,
        read: impl FnOnce() -> Option<Rc<References>>,
    ) -> Option<Rc<References>> {
        let lifetime_ns = freshness.lifetime_s(now.unix_s).saturating_mul(1_000_000_000);
        let fresh_until_ns = now.monotonic_ns.saturating_add(lifetime_ns);
        match (status, self.entries.get_mut(path)) {
            (304, Some(entry)) => {
                entry.fresh_until_ns = fresh_until_ns;
                entry.vary = freshness.vary(cookie);
                if freshness.etag.is_some() {
                    entry.etag.clone_from(&freshness.etag);
                }
                if freshness.last_modified.is_some() {
                    entry.last_modified.clone_from(&freshness.last_modified);
                }
                entry.references.clone()
            }
            (200, known) => {
                let references = read();
                if freshness.no_store {
                    self.entries.remove(path);
                    return references;
                }
                if known.is_none() && self.entries.len() >= ENTRIES_MAX {
                    self.make_room();
                }
                let Freshness { etag, last_modified, .. } = freshness.clone();
                let vary = freshness.vary(cookie);
                let used = self.lookups;
                let entry = Entry { etag, last_modified, fresh_until_ns, vary, references: references.clone(), used };
                self.entries.insert(path.to_owned(), entry);
                references
            }
            _ => {
                self.entries.remove(path);
                None
            }
        }
    }

    fn make_room(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(path, _)| path.clone());
        if let Some(path) = oldest {
            self.entries.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{Cache, ENTRIES_MAX, Freshness, Lookup, Now};
    use crate::browser::css::References;

    const UNIX_S: u64 = 1_760_000_000;

    fn at(s: u64) -> Now {
        Now { monotonic_ns: s * 1_000_000_000, unix_s: UNIX_S + s }
    }

    fn freshness(fields: &[(&str, &str)]) -> Freshness {
        let mut freshness = Freshness::default();
        for (name, value) in fields {
            freshness.header(name.as_bytes(), value.as_bytes());
        }
        freshness
    }

    fn store(cache: &mut Cache, status: u16, fields: &[(&str, &str)], s: u64) {
        cache.store("/a", status, &freshness(fields), None, at(s), || None);
    }

    fn etag(value: &str) -> Lookup {
        Lookup::Revalidate("If-None-Match", value.into())
    }

    /// For how many seconds a response with these fields is fresh.
    fn fresh_s(fields: &[(&str, &str)]) -> u64 {
        freshness(fields).lifetime_s(UNIX_S)
    }

    #[test]
    fn fresh_then_revalidated_then_fresh_again() {
        let mut cache = Cache::default();
        assert_eq!(cache.lookup("/a", || None, at(0)), Lookup::Miss);
        store(&mut cache, 200, &[("ETag", "\"v1\""), ("Cache-Control", "public, max-age=10")], 0);
        assert_eq!(cache.lookup("/a", || None, at(9)), Lookup::Fresh(None));
        assert_eq!(cache.lookup("/a", || None, at(10)), etag("\"v1\""));
        store(&mut cache, 304, &[("cache-control", "max-age=5")], 10);
        assert_eq!(cache.lookup("/a", || None, at(14)), Lookup::Fresh(None));
        assert_eq!(cache.lookup("/a", || None, at(15)), etag("\"v1\""));
    }

    #[test]
    fn what_must_not_be_kept_is_not() {
        let mut cache = Cache::default();
        store(&mut cache, 200, &[("Cache-Control", "no-store, max-age=10"), ("ETag", "x")], 0);
        assert_eq!(cache.lookup("/a", || None, at(0)), Lookup::Miss);
        store(&mut cache, 200, &[("Cache-Control", "no-cache, max-age=10"), ("Last-Modified", "then")], 0);
        assert_eq!(cache.lookup("/a", || None, at(0)), Lookup::Revalidate("If-Modified-Since", "then".into()));
        store(&mut cache, 404, &[], 0);
        assert_eq!(cache.lookup("/a", || None, at(0)), Lookup::Miss);
        store(&mut cache, 304, &[], 0);
        assert_eq!(cache.lookup("/a", || None, at(0)), Lookup::Miss);
    }

    #[test]
    fn freshness_counts_from_what_the_server_says() {
        let date = ("Date", "Thu, 09 Oct 2025 08:53:20 GMT");
        assert_eq!(fresh_s(&[("Cache-Control", "max-age=100"), ("Age", "30")]), 70);
        assert_eq!(fresh_s(&[("Cache-Control", "max-age=100"), ("Expires", "0")]), 100);
        assert_eq!(fresh_s(&[("Cache-Control", "max-age=soon")]), 0);
        assert_eq!(fresh_s(&[("Cache-Control", "max-age=\"7\", private")]), 7);
        assert_eq!(fresh_s(&[date, ("Expires", "Thu, 09 Oct 2025 08:54:20 GMT")]), 60);
        assert_eq!(fresh_s(&[date, ("Expires", "0")]), 0);
        assert_eq!(fresh_s(&[date, ("Last-Modified", "Thu, 09 Oct 2025 08:43:20 GMT")]), 60);
        assert_eq!(fresh_s(&[("Cache-Control", "no-cache"), ("Last-Modified", "Thu, 09 Oct 2020 08:43:20 GMT")]), 0);
        assert_eq!(fresh_s(&[("Vary", "*"), ("Cache-Control", "max-age=100")]), 0);
        assert_eq!(fresh_s(&[]), 0);
    }

    #[test]
    fn a_variant_for_another_cookie_is_not_taken() {
        let mut cache = Cache::default();
        let vary = freshness(&[("Vary", "Accept-Encoding, Cookie"), ("Cache-Control", "max-age=10"), ("ETag", "e")]);
        cache.store("/a", 200, &vary, Some("s=1"), at(0), || None);
        assert_eq!(cache.lookup("/a", || Some("s=1".to_owned()), at(1)), Lookup::Fresh(None));
        assert_eq!(cache.lookup("/a", || Some("s=2".to_owned()), at(1)), etag("e"));
        assert_eq!(cache.lookup("/a", || None, at(1)), etag("e"));
        cache.store("/a", 304, &vary, Some("s=2"), at(1), || None);
        assert_eq!(cache.lookup("/a", || Some("s=2".to_owned()), at(2)), Lookup::Fresh(None));
    }

    #[test]
    fn a_sheet_is_remembered_with_what_it_asks_for() {
        let sheet = Rc::new(References { sheets: vec!["x.css".into()], files: vec![] });
        let mut cache = Cache::default();
        let fields = freshness(&[("Cache-Control", "max-age=10"), ("ETag", "e")]);
        let new = cache.store("/a", 200, &fields, None, at(0), || Some(Rc::clone(&sheet)));
        assert_eq!(new.as_ref(), Some(&sheet));
        assert_eq!(cache.lookup("/a", || None, at(1)), Lookup::Fresh(Some(Rc::clone(&sheet))));
        assert_eq!(cache.store("/a", 304, &fields, None, at(10), || panic!("it has no body")), Some(sheet));
    }

    #[test]
    fn a_full_cache_forgets_what_was_not_used_for_longest() {
        let mut cache = Cache::default();
        let fields = freshness(&[("Cache-Control", "max-age=1000")]);
        for number in 0..ENTRIES_MAX {
            cache.store(&format!("/{number}"), 200, &fields, None, at(0), || None);
            cache.lookup(&format!("/{number}"), || None, at(0));
        }
        cache.lookup("/0", || None, at(1));
        cache.store("/new", 200, &fields, None, at(1), || None);
        assert_eq!(cache.entries.len(), ENTRIES_MAX);
        assert_eq!(cache.lookup("/0", || None, at(1)), Lookup::Fresh(None));
        assert_eq!(cache.lookup("/1", || None, at(1)), Lookup::Miss);
        assert_eq!(cache.lookup("/new", || None, at(1)), Lookup::Fresh(None));
    }
}
