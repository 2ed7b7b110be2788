//! The first sessions of a run as an HTTP archive.
//!
//! Times are monotonic stamps; they become dates only when the archive is made, all from one reference point.

use chrono::{DateTime, SecondsFormat};

use super::{
    Archive, CacheState, CacheUse, Content, Cookie, Creator, Entry, Log, Page, PageTimings, Pair, Param, PostData,
    Request, Response, Timings, url_pairs,
};
use crate::recorder::Stamps;

/// Entries of an archive; what comes behind them is left out, and the archive says so.
pub const ENTRIES_MAX: usize = 10_000;

/// A request of a recorded session.
#[derive(Debug)]
struct Exchange {
    session: usize,
    page: usize,
    kind: &'static str,
    path: String,
    stamps: Stamps,
    /// When the connect that it needed was done; 0 if it needed none.
    connected_ns: u64,
    end_ns: u64,
    connection: Option<u32>,
    head: String,
    body: String,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// It was wanted and has no end yet.
    Open,
    /// The cache had it.
    Spared,
    Answered {
        status: u16,
        headers: Vec<(String, String)>,
        body_bytes: u64,
    },
    Failed {
        status: Option<u16>,
        why: &'static str,
    },
}

#[derive(Debug)]
struct Visit {
    session: usize,
    started_ns: u64,
    title: String,
    document_ns: Option<u64>,
    loaded_ns: Option<u64>,
}

/// What is written down about the first sessions of a run.
#[derive(Debug)]
pub struct Recording {
    sessions_max: usize,
    sessions: usize,
    pages: Vec<Visit>,
    exchanges: Vec<Exchange>,
    dropped: u64,
}

/// How a request ended, for [`Recording::ended`].
#[derive(Debug)]
pub struct End<'e> {
    pub stamps: Stamps,
    pub connected_ns: u64,
    pub end_ns: u64,
    pub connection: Option<u32>,
    pub status: Option<u16>,
    /// `None` for a complete and right response.
    pub why: Option<&'static str>,
    pub headers: &'e [(String, String)],
    pub body_bytes: u64,
}

/// What a session of a recording is known by.
pub type SessionId = usize;

impl Recording {
    pub fn new(sessions_max: usize) -> Self {
        Self { sessions_max, sessions: 0, pages: Vec::new(), exchanges: Vec::new(), dropped: 0 }
    }

    /// A session begins; its number here if it is recorded.
    pub fn begin_session(&mut self) -> Option<SessionId> {
        let number = self.sessions;
        (number < self.sessions_max).then(|| {
            self.sessions += 1;
            number
        })
    }

    /// A page of a session begins.
    pub fn begin_page(&mut self, session: SessionId, path: &str, started_ns: u64) {
        if self.exchanges.len() < ENTRIES_MAX {
            let title = path.to_owned();
            self.pages.push(Visit { session, started_ns, title, document_ns: None, loaded_ns: None });
        }
    }

    /// The present page of a session has its document; later it has everything.
    pub fn page_reached(&mut self, session: SessionId, now_ns: u64, loaded: bool) {
        if let Some(page) = self.pages.iter_mut().rev().find(|page| page.session == session) {
            if loaded {
                page.loaded_ns.get_or_insert(now_ns);
            } else {
                page.document_ns.get_or_insert(now_ns);
            }
        }
    }

    /// A session wants something; its entry here, unless the archive is full.
    pub fn wanted(&mut self, session: SessionId, kind: &'static str, path: &str, planned_ns: u64) -> Option<usize> {
        if self.exchanges.len() >= ENTRIES_MAX {
            self.dropped += 1;
            return None;
        }
        let page = self.pages.iter().rposition(|page| page.session == session)?;
        self.exchanges.push(Exchange {
            session,
            page,
            kind,
            path: path.to_owned(),
            stamps: Stamps { planned_ns, ..Stamps::default() },
            connected_ns: 0,
            end_ns: planned_ns,
            connection: None,
            head: String::new(),
            body: String::new(),
            outcome: Outcome::Open,
        });
        Some(self.exchanges.len() - 1)
    }

    /// A session had something in its cache.
    pub fn spared(&mut self, session: SessionId, path: &str, now_ns: u64) {
        if let Some(entry) = self.wanted(session, "other", path, now_ns) {
            self.exchanges[entry].outcome = Outcome::Spared;
        }
    }

    /// The request of an entry, as it is sent.
    pub fn sent(&mut self, entry: usize, request: &[u8]) {
        let text = String::from_utf8_lossy(request);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        (self.exchanges[entry].head, self.exchanges[entry].body) = (head.to_owned(), body.to_owned());
    }

    pub fn ended(&mut self, entry: usize, end: &End<'_>) {
        let exchange = &mut self.exchanges[entry];
        exchange.stamps = end.stamps;
        exchange.connected_ns = end.connected_ns;
        exchange.end_ns = end.end_ns;
        exchange.connection = end.connection;
        exchange.outcome = match (end.status, end.why) {
            // A response that the scenario does not like is a response.
            (Some(status), None | Some("status" | "validation" | "redirect_circle")) => {
                Outcome::Answered { status, headers: end.headers.to_vec(), body_bytes: end.body_bytes }
            }
            (status, why) => Outcome::Failed { status, why: why.unwrap_or("no response") },
        };
    }

    /// The archive. `unix_offset_ns` is Unix time minus monotonic time.
    pub fn archive(&self, authority: &str, unix_offset_ns: u64) -> Archive {
        let writer = Writer { authority, unix_offset_ns };
        let dropped = self.dropped;
        let comment =
            if dropped > 0 { format!("{dropped} entries above {ENTRIES_MAX} were left out") } else { String::new() };
        Archive {
            log: Log {
                version: "1.2".into(),
                creator: Creator { name: "loadgen".into(), version: env!("CARGO_PKG_VERSION").into() },
                pages: self.pages.iter().enumerate().map(|(place, page)| writer.page(place, page)).collect(),
                entries: self.exchanges.iter().map(|exchange| writer.entry(exchange)).collect(),
                comment,
            },
        }
    }
}

struct Writer<'w> {
    authority: &'w str,
    unix_offset_ns: u64,
}

impl Writer<'_> {
    fn date(&self, monotonic_ns: u64) -> String {
        let unix_ns = monotonic_ns.saturating_add(self.unix_offset_ns);
        let unix_ns = i64::try_from(unix_ns).unwrap_or(i64::MAX);
        DateTime::from_timestamp_nanos(unix_ns).to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    fn page(&self, place: usize, page: &Visit) -> Page {
        let since = |at: Option<u64>| Some(at.map_or(-1.0, |at| ms(at.saturating_sub(page.started_ns))));
        Page {
            started_date_time: self.date(page.started_ns),
            id: page_id(place),
            title: format!("session {}: {}", page.session + 1, page.title),
            page_timings: PageTimings { on_content_load: since(page.document_ns), on_load: since(page.loaded_ns) },
        }
    }

    fn entry(&self, exchange: &Exchange) -> Entry {
        let timings = timings(exchange);
        let parts = [timings.blocked, timings.connect, timings.send, timings.wait, timings.receive];
        let spared = matches!(exchange.outcome, Outcome::Spared);
        let last_access = self.date(exchange.stamps.planned_ns);
        Entry {
            pageref: Some(page_id(exchange.page)),
            started_date_time: self.date(exchange.stamps.planned_ns),
            time: parts.iter().filter(|part| **part > 0.0).sum(),
            request: self.request(exchange),
            response: self.response(exchange),
            cache: CacheUse {
                before_request: spared.then(|| CacheState { last_access, e_tag: String::new(), hit_count: 1 }),
            },
            timings,
            connection: exchange.connection.map(|line| format!("{}.{line}", exchange.session + 1)),
            resource_type: Some(exchange.kind.to_owned()),
            from_cache: spared.then(|| "memory".to_owned()),
        }
    }

    fn request(&self, exchange: &Exchange) -> Request {
        let mut lines = exchange.head.split("\r\n");
        let method = lines.next().and_then(|line| line.split(' ').next()).filter(|method| !method.is_empty());
        let headers: Vec<Pair> = lines.filter_map(|line| line.split_once(": ")).map(pair).collect();
        let find = |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        let cookies = find("Cookie").map_or(Vec::new(), |header| {
            let pairs = header.value.split("; ").filter_map(|pair| pair.split_once('='));
            pairs.map(|(name, value)| cookie(name, value)).collect()
        });
        let mime_type = find("Content-Type").map(|header| header.value.clone());
        let param = |(name, value)| Param { name, value, file_name: None };
        let post_data = mime_type.map(|mime_type| PostData {
            params: if mime_type.starts_with("multipart/") {
                Vec::new()
            } else {
                url_pairs(&exchange.body).into_iter().map(param).collect()
            },
            text: exchange.body.clone(),
            mime_type,
        });
        let query = exchange.path.split_once('?').map_or("", |(_, query)| query);
        Request {
            method: method.unwrap_or("GET").to_owned(),
            url: format!("http://{}{}", self.authority, exchange.path),
            http_version: "HTTP/1.1".into(),
            cookies,
            query_string: url_pairs(query).into_iter().map(|(name, value)| Pair { name, value }).collect(),
            post_data,
            // With the empty line; nothing was sent of what the cache had.
            headers_size: if exchange.head.is_empty() { -1 } else { signed(exchange.head.len() + 4) },
            body_size: signed(exchange.body.len()),
            headers,
        }
    }

    fn response(&self, exchange: &Exchange) -> Response {
        let empty = |status: i64, error: Option<&str>| Response {
            status,
            http_version: "HTTP/1.1".into(),
            content: Content { mime_type: "x-unknown".into(), ..Content::default() },
            headers_size: -1,
            body_size: -1,
            error: error.map(str::to_owned),
            ..Response::default()
        };
        match &exchange.outcome {
            Outcome::Open => empty(0, Some("in flight at the end")),
            Outcome::Spared => Response { body_size: 0, ..empty(200, None) },
            Outcome::Failed { status, why } => empty(status.map_or(0, i64::from), Some(why)),
            Outcome::Answered { status, headers, body_bytes } => {
                let find = |wanted: &str| {
                    let found = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                    found.map_or(String::new(), |(_, value)| value.clone())
                };
                let set = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Set-Cookie"));
                let bytes = i64::try_from(*body_bytes).unwrap_or(i64::MAX);
                Response {
                    status: i64::from(*status),
                    http_version: "HTTP/1.1".into(),
                    cookies: set.filter_map(|(_, value)| set_cookie(value)).collect(),
                    headers: headers.iter().map(|(name, value)| pair((name, value))).collect(),
                    content: Content { size: bytes, mime_type: find("Content-Type"), ..Content::default() },
                    redirect_url: find("Location"),
                    headers_size: -1,
                    body_size: bytes,
                    ..Response::default()
                }
            }
        }
    }
}

/// What the stamps say: blocked until it was handed over, then the connect that it needed, then the wait for the first
/// byte. Handing bytes to the kernel takes no time that could be told.
fn timings(exchange: &Exchange) -> Timings {
    let Stamps { planned_ns, submitted_ns, first_byte_ns, .. } = exchange.stamps;
    let until = |from: u64, to: u64| ms(to.saturating_sub(from));
    if submitted_ns == 0 {
        return Timings { blocked: until(planned_ns, exchange.end_ns), ..Timings::default() };
    }
    let ready_ns = exchange.connected_ns.max(submitted_ns);
    let first_ns = if first_byte_ns == 0 { exchange.end_ns } else { first_byte_ns };
    Timings {
        blocked: until(planned_ns, submitted_ns),
        connect: if exchange.connected_ns > 0 { until(submitted_ns, ready_ns) } else { -1.0 },
        wait: until(ready_ns, first_ns),
        receive: until(first_ns, exchange.end_ns),
        ..Timings::default()
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn page_id(place: usize) -> String {
    format!("page_{}", place + 1)
}

fn pair<T: AsRef<str>, U: AsRef<str>>((name, value): (T, U)) -> Pair {
    Pair { name: name.as_ref().to_owned(), value: value.as_ref().to_owned() }
}

fn cookie(name: &str, value: &str) -> Cookie {
    Cookie { name: name.trim().to_owned(), value: value.trim().to_owned(), ..Cookie::default() }
}

fn set_cookie(field: &str) -> Option<Cookie> {
    let mut parts = field.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let mut found = cookie(name, value);
    for part in parts {
        let (key, text) = part.split_once('=').unwrap_or((part, ""));
        match key.trim().to_ascii_lowercase().as_str() {
            "path" => found.path = Some(text.trim().to_owned()),
            "domain" => found.domain = Some(text.trim().to_owned()),
            "httponly" => found.http_only = Some(true),
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::{End, Recording};
    use crate::recorder::Stamps;

    fn stamps(planned_ns: u64, submitted_ns: u64, first_byte_ns: u64) -> Stamps {
        Stamps { planned_ns, noticed_ns: planned_ns, free_ns: planned_ns, submitted_ns, first_byte_ns }
    }

    #[test]
    fn stamps_become_timings_whose_sum_is_the_time() {
        let mut recording = Recording::new(1);
        let session = recording.begin_session().unwrap();
        assert_eq!(recording.begin_session(), None);
        recording.begin_page(session, "/a?b=c+d", 1_000_000);
        let entry = recording.wanted(session, "document", "/a?b=c+d", 1_000_000).unwrap();
        recording.sent(entry, b"POST /a?b=c+d HTTP/1.1\r\nHost: h\r\nCookie: x=1; y=2=3\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\nq=%26&r");
        let headers =
            [("Set-Cookie".into(), "s=1; Path=/; HttpOnly".into()), ("Content-Type".into(), "text/html".into())];
        let end = End {
            stamps: stamps(1_000_000, 3_000_000, 9_000_000),
            connected_ns: 4_000_000,
            end_ns: 10_000_000,
            connection: Some(2),
            status: Some(200),
            why: None,
            headers: &headers,
            body_bytes: 7,
        };
        recording.ended(entry, &end);
        recording.page_reached(session, 10_000_000, false);
        recording.spared(session, "/b.css", 10_000_000);
        recording.page_reached(session, 11_000_000, true);
        let archive = recording.archive("h:80", 1_760_000_000_000_000_000);
        let entry = &archive.log.entries[0];
        assert_eq!(entry.started_date_time, "2025-10-09T08:53:20.001000Z");
        let timings = entry.timings;
        assert_eq!((timings.blocked, timings.connect, timings.wait, timings.receive), (2.0, 1.0, 5.0, 1.0));
        assert_eq!(entry.time, 9.0);
        assert_eq!((entry.request.method.as_str(), entry.request.url.as_str()), ("POST", "http://h:80/a?b=c+d"));
        assert_eq!(entry.request.cookies[1].value, "2=3");
        assert_eq!((entry.request.query_string[0].value.as_str(), entry.request.body_size), ("c d", 7));
        assert_eq!(entry.request.post_data.as_ref().unwrap().params[0].value, "&");
        assert_eq!(
            (entry.response.cookies[0].path.as_deref(), entry.response.cookies[0].http_only),
            (Some("/"), Some(true))
        );
        assert_eq!((entry.response.content.size, entry.connection.as_deref()), (7, Some("1.2")));
        let page = &archive.log.pages[0];
        assert_eq!((page.page_timings.on_content_load, page.page_timings.on_load), (Some(9.0), Some(10.0)));
        let spared = &archive.log.entries[1];
        assert_eq!((spared.from_cache.as_deref(), spared.time), (Some("memory"), 0.0));
        assert!(spared.cache.before_request.is_some());
    }

    #[test]
    fn what_failed_or_did_not_end_says_so_and_an_archive_is_bounded() {
        let mut recording = Recording::new(1);
        let session = recording.begin_session().unwrap();
        recording.begin_page(session, "/", 5);
        let entry = recording.wanted(session, "document", "/", 5).unwrap();
        let end = |status, why| End {
            stamps: stamps(5, 0, 0),
            connected_ns: 0,
            end_ns: 1_000_005,
            connection: None,
            status,
            why: Some(why),
            headers: &[],
            body_bytes: 0,
        };
        recording.ended(entry, &end(None, "refused"));
        let wrong = recording.wanted(session, "document", "/", 5).unwrap();
        recording.ended(wrong, &end(Some(500), "status"));
        recording.wanted(session, "document", "/", 5);
        let log = recording.archive("h", 0).log;
        assert_eq!((log.entries[0].response.status, log.entries[0].response.error.as_deref()), (0, Some("refused")));
        assert_eq!((log.entries[0].time, log.entries[0].timings.connect), (1.0, -1.0));
        assert_eq!((log.entries[1].response.status, log.entries[1].response.error.as_deref()), (500, None));
        assert_eq!(log.entries[2].response.error.as_deref(), Some("in flight at the end"));
        for _ in 0..super::ENTRIES_MAX {
            recording.wanted(session, "other", "/", 5);
        }
        let log = recording.archive("h", 0).log;
        assert_eq!(
            (log.entries.len(), log.comment.as_str()),
            (super::ENTRIES_MAX, "3 entries above 10000 were left out")
        );
    }
}
