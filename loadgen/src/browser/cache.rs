//! The asset cache of one user (RFC 9111, a private cache that keeps validators and freshness, not bodies).

use std::collections::HashMap;

/// What is known of one asset.
#[derive(Clone, Debug)]
struct Entry {
    etag: Option<String>,
    last_modified: Option<String>,
    fresh_until_ns: u64,
}

/// What the cache says about an asset that a page needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Fresh: no request.
    Fresh,
    /// Stale with a validator: ask with this field and its value.
    Revalidate(&'static str, String),
    Miss,
}

/// The fields of a response that a cache looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub max_age_s: Option<u64>,
    pub no_store: bool,
    pub no_cache: bool,
}

impl Freshness {
    /// Takes a field of a response head.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        let text = || String::from_utf8_lossy(value).into_owned();
        if name.eq_ignore_ascii_case(b"etag") {
            self.etag = Some(text());
        } else if name.eq_ignore_ascii_case(b"last-modified") {
            self.last_modified = Some(text());
        } else if name.eq_ignore_ascii_case(b"cache-control") {
            for directive in text().to_ascii_lowercase().split(',').map(str::trim) {
                match directive.split_once('=') {
                    Some(("max-age", seconds)) => self.max_age_s = seconds.trim_matches('"').parse().ok(),
                    Some(_) => {}
                    None => {
                        self.no_store |= directive == "no-store";
                        self.no_cache |= directive == "no-cache";
                    }
                }
            }
        }
    }
}

/// Assets by path and query.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    entries: HashMap<String, Entry>,
}

/// More assets than this are not remembered.
const ENTRIES_MAX: usize = 4096;

impl Cache {
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn lookup(&self, path: &str, now_ns: u64) -> Lookup {
        match self.entries.get(path) {
            None => Lookup::Miss,
            Some(entry) if entry.fresh_until_ns > now_ns => Lookup::Fresh,
            Some(Entry { etag: Some(etag), .. }) => Lookup::Revalidate("If-None-Match", etag.clone()),
            Some(Entry { last_modified: Some(date), .. }) => Lookup::Revalidate("If-Modified-Since", date.clone()),
            Some(_) => Lookup::Miss,
        }
    }

    /// Takes the response for an asset: 200 stores, 304 makes fresh again, anything else forgets.
    pub fn store(&mut self, path: &str, status: u16, freshness: &Freshness, now_ns: u64) {
        let age_ns =
            if freshness.no_cache { 0 } else { freshness.max_age_s.unwrap_or(0).saturating_mul(1_000_000_000) };
        let fresh_until_ns = now_ns.saturating_add(age_ns);
        let room = self.entries.len() < ENTRIES_MAX || self.entries.contains_key(path);
        match (status, self.entries.get_mut(path)) {
            (304, Some(entry)) => {
                entry.fresh_until_ns = fresh_until_ns;
                if freshness.etag.is_some() {
                    entry.etag.clone_from(&freshness.etag);
                }
            }
            (200, _) if !freshness.no_store && room => {
                let Freshness { etag, last_modified, .. } = freshness.clone();
                self.entries.insert(path.to_owned(), Entry { etag, last_modified, fresh_until_ns });
            }
            _ => {
                self.entries.remove(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cache, Freshness, Lookup};

    const SECOND_NS: u64 = 1_000_000_000;

    fn freshness(fields: &[(&str, &str)]) -> Freshness {
        let mut freshness = Freshness::default();
        for (name, value) in fields {
            freshness.header(name.as_bytes(), value.as_bytes());
        }
        freshness
    }

    #[test]
    fn fresh_then_revalidated_then_fresh_again() {
        let mut cache = Cache::default();
        assert_eq!(cache.lookup("/a", 0), Lookup::Miss);
        cache.store("/a", 200, &freshness(&[("ETag", "\"v1\""), ("Cache-Control", "public, max-age=10")]), 0);
        assert_eq!(cache.lookup("/a", 10 * SECOND_NS - 1), Lookup::Fresh);
        assert_eq!(cache.lookup("/a", 10 * SECOND_NS), Lookup::Revalidate("If-None-Match", "\"v1\"".into()));
        cache.store("/a", 304, &freshness(&[("cache-control", "max-age=5")]), 10 * SECOND_NS);
        assert_eq!(cache.lookup("/a", 14 * SECOND_NS), Lookup::Fresh);
        assert_eq!(cache.lookup("/a", 15 * SECOND_NS), Lookup::Revalidate("If-None-Match", "\"v1\"".into()));
    }

    #[test]
    fn what_must_not_be_kept_is_not() {
        let mut cache = Cache::default();
        cache.store("/a", 200, &freshness(&[("Cache-Control", "no-store, max-age=10"), ("ETag", "x")]), 0);
        assert_eq!(cache.lookup("/a", 0), Lookup::Miss);
        cache.store("/a", 200, &freshness(&[("Cache-Control", "no-cache, max-age=10"), ("Last-Modified", "then")]), 0);
        assert_eq!(cache.lookup("/a", 0), Lookup::Revalidate("If-Modified-Since", "then".into()));
        cache.store("/a", 404, &freshness(&[]), 0);
        assert_eq!(cache.lookup("/a", 0), Lookup::Miss);
        cache.store("/b", 304, &freshness(&[]), 0);
        assert_eq!(cache.lookup("/b", 0), Lookup::Miss);
    }
}
