//! A scenario out of a recorded session.
//!
//! ```text
//!   entries ─ sort by time ─▶ what each is ─▶ navigations: get and form steps, thinking between them
//!                                        ├──▶ what a page brings with it: left to the browser
//!                                        └──▶ everything else: left out, and said so
//! ```
//! Nothing is dropped in silence: what the scenario does not have is in its notes.

mod anew;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::DateTime;

use self::anew::Anew;
use super::{Archive, Entry, Pair, url_pairs};
use crate::browser::html::{Form, Page};
use crate::browser::percent_decoded;
use crate::browser::url::resolve;

/// Pauses below this are no thinking.
const THINK_MS_MIN: f64 = 10.0;
/// Names that are told of one kind of note.
const NAMED_MAX: usize = 8;

/// How a recording is read.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// The host under test; without one that of the first page.
    pub host: Option<String>,
    /// Requests that scripts made become steps, if they are GET.
    pub scripted: bool,
}

/// A scenario file, and what is to be known about it.
#[derive(Clone, Debug)]
pub struct Made {
    pub toml: String,
    pub notes: Vec<String>,
}

/// What an entry is to the scenario.
enum Kind {
    Navigation,
    Asset,
    Scripted,
    Frame,
    Socket,
}

/// An entry with its parsed address and times.
struct Seen<'a> {
    entry: &'a Entry,
    host: String,
    /// Path and query.
    path: String,
    start_ms: f64,
}

/// Makes a scenario.
///
/// # Errors
/// Nothing in the recording can become a step, or a date is none.
pub fn scenario(archive: &Archive, choices: &Choices) -> Result<Made, String> {
    let mut notes = Notes::default();
    let mut seen = Vec::new();
    for (place, entry) in archive.log.entries.iter().enumerate() {
        let start = DateTime::parse_from_rfc3339(&entry.started_date_time).map_err(|_| {
            format!(
                "entry {place}: startedDateTime `{}` is no date; write it as RFC 3339 has it",
                entry.started_date_time
            )
        })?;
        match split_url(&entry.request.url) {
            Some((host, path)) => {
                let start_ms = start.timestamp_micros() as f64 / 1e3;
                seen.push(Seen { entry, host, path, start_ms });
            }
            None => notes.add("addresses that are no http or https URL", scheme(&entry.request.url)),
        }
    }
    seen.sort_by(|one, two| one.start_ms.total_cmp(&two.start_ms));
    let first = seen.iter().find(|seen| matches!(kind(seen.entry), Kind::Navigation));
    let host = match (&choices.host, first) {
        (Some(host), _) => host.clone(),
        (None, Some(first)) => first.host.clone(),
        (None, None) => {
            return Err("no entry is a page that somebody opened; record a session with its documents".into());
        }
    };
    let mut writer = Writer {
        host: &host,
        steps: String::new(),
        user: None,
        notes,
        scripted: choices.scripted,
        anew: Anew::default(),
    };
    let own: Vec<&Seen<'_>> = seen.iter().filter(|seen| same_host(&seen.host, &host)).collect();
    for other in seen.iter().filter(|seen| !same_host(&seen.host, &host)) {
        writer.notes.add("requests to other hosts", &other.host);
    }
    let count = writer.walk(archive, &own);
    if count == 0 {
        return Err(format!("no page of {host} can become a step; choose another host with --host"));
    }
    let name = archive.log.pages.first().map_or(host.clone(), |page| page.title.clone());
    Ok(writer.end(&name))
}

/// Things that were left out, by kind, with a count by name.
#[derive(Default)]
struct Notes {
    left_out: BTreeMap<&'static str, BTreeMap<String, u64>>,
    said: Vec<String>,
}

impl Notes {
    fn add(&mut self, what: &'static str, name: &str) {
        *self.left_out.entry(what).or_default().entry(name.to_owned()).or_default() += 1;
    }

    fn say(&mut self, words: String) {
        if !self.said.contains(&words) {
            self.said.push(words);
        }
    }

    fn lines(self) -> Vec<String> {
        let left_out = self.left_out.into_iter().map(|(what, names)| {
            let more = names.len().saturating_sub(NAMED_MAX);
            let mut named: Vec<String> =
                names.into_iter().take(NAMED_MAX).map(|(name, count)| format!("{name} ({count})")).collect();
            if more > 0 {
                named.push(format!("and {more} more"));
            }
            format!("left out: {what}: {}", named.join(", "))
        });
        left_out.chain(self.said).collect()
    }
}

struct Writer<'w> {
    host: &'w str,
    steps: String,
    /// Who signed in.
    user: Option<String>,
    notes: Notes,
    scripted: bool,
    anew: Anew,
}

impl Writer<'_> {
    /// Writes the steps; how many make requests.
    fn walk<'a>(&mut self, archive: &Archive, own: &'a [&'a Seen<'a>]) -> usize {
        let mut count = 0;
        // What the last step led to: where its redirect goes, its page, when the last of its requests ended, and when the
        // browser says that it was loaded.
        let (mut expected, mut page): (Option<String>, Option<&Seen<'_>>) = (None, None);
        let (mut complete_ms, mut told_ms): (f64, Option<f64>) = (0.0, None);
        // The last step is a form.
        let mut sends = false;
        for (place, seen) in own.iter().enumerate() {
            let entry = seen.entry;
            self.look_at_headers(entry);
            let is_step = match kind(entry) {
                Kind::Navigation => true,
                Kind::Scripted if self.scripted && entry.request.method == "GET" => true,
                Kind::Scripted => {
                    let method = &entry.request.method;
                    self.notes.add(
                        "requests of scripts (GET ones become steps with --scripted)",
                        &format!("{method} {}", bare(&seen.path)),
                    );
                    false
                }
                Kind::Frame => {
                    self.notes.add("frames", bare(&seen.path));
                    false
                }
                Kind::Socket => {
                    self.notes.add("WebSockets", bare(&seen.path));
                    false
                }
                Kind::Asset => false,
            };
            let end_ms = seen.start_ms + entry.time.max(0.0);
            if !is_step {
                // What came with a page holds it up; what came long after it does not.
                if seen.start_ms <= complete_ms {
                    complete_ms = complete_ms.max(end_ms);
                }
                continue;
            }
            let is_form = entry.request.method == "POST";
            let follows = expected.take().is_some_and(|path| path == seen.path);
            let redirect = redirect_of(self.host, seen);
            if !follows {
                // Some browsers tell of several pages as one, and then of the load of the last one.
                let loaded_ms = told_ms
                    .filter(|told_ms| *told_ms <= seen.start_ms)
                    .map_or(complete_ms, |told_ms| told_ms.max(complete_ms));
                let think_ms = seen.start_ms - loaded_ms;
                if count > 0 && think_ms >= THINK_MS_MIN {
                    let _ = writeln!(self.steps, "\n[[steps]]\nkind = \"think\"\nmean_s = {:.3}", think_ms / 1e3);
                }
                let status = final_status(self.host, &own[place..]);
                count += usize::from(match entry.request.method.as_str() {
                    "GET" => self.get(seen, status),
                    "POST" => self.form(seen, page),
                    method => {
                        self.notes.add("methods other than GET and POST", &format!("{method} {}", bare(&seen.path)));
                        false
                    }
                });
            }
            sends = is_form || follows && sends;
            if follows && sends && redirect.is_none() {
                let paths = |entries: &'a [&'a Seen<'a>]| entries.iter().map(|seen| seen.path.as_str());
                let extract = self.anew.found(&seen.path, paths(&own[..place]), paths(&own[place + 1..]));
                if let Some(extract) = extract {
                    let _ = writeln!(self.steps, "{extract}");
                }
            }
            expected = redirect;
            page = Some(seen);
            complete_ms = end_ms;
            told_ms = loaded_ms(archive, entry, seen.start_ms);
        }
        count
    }

    fn get(&mut self, seen: &Seen<'_>, status: i64) -> bool {
        let path = self.path(&seen.path);
        let _ = writeln!(self.steps, "\n[[steps]]\nkind = \"get\"\npath = {}", quoted(&path));
        self.expect(status);
        true
    }

    /// A form is on the page before it. Fields that the page fills in are left to the page.
    fn form(&mut self, seen: &Seen<'_>, page: Option<&Seen<'_>>) -> bool {
        let Some(data) = &seen.entry.request.post_data else {
            self.notes.add("POST requests without a recorded body", bare(&seen.path));
            return false;
        };
        let multipart = data.mime_type.starts_with("multipart/form-data");
        if !multipart && !data.mime_type.starts_with("application/x-www-form-urlencoded") {
            self.notes.add("POST bodies that no form sends", &format!("{} {}", data.mime_type, bare(&seen.path)));
            return false;
        }
        let files = data.params.iter().filter(|param| param.file_name.is_some());
        files.for_each(|param| self.notes.add("files that a form sent", &param.name));
        let given: Vec<(&str, &str)> = data
            .params
            .iter()
            .filter(|param| param.file_name.is_none())
            .map(|param| (param.name.as_str(), param.value.as_str()))
            .collect();
        // Some browsers keep parameters encoded and some decoded; the text is what was sent.
        let fields: Vec<(String, String)> = if !multipart && !data.text.is_empty() {
            url_pairs(&data.text)
        } else if !multipart && given.iter().any(|(_, value)| percent_decoded(value) != *value) {
            given.iter().map(|(name, value)| (decoded(name), decoded(value))).collect()
        } else {
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let form = page.and_then(|page| form_of(self.host, page, &seen.path));
        if form.is_none() {
            self.notes.say(format!(
                "the form of {} is not in the recording (no content of the page before it): its fields are told apart by their names",
                bare(&seen.path)
            ));
        }
        let _ = writeln!(
            self.steps,
            "\n[[steps]]\nkind = \"form\"\naction = {}",
            quoted(&self.anew.used_in(bare(&seen.path), encoded))
        );
        let filled = self.fields(&fields, form.as_ref());
        if !filled.is_empty() {
            let _ = writeln!(self.steps, "fields = {{ {} }}", filled.join(", "));
        }
        self.expect(seen.entry.response.status);
        true
    }

    /// The fields that somebody filled in, as TOML.
    fn fields(&mut self, fields: &[(String, String)], form: Option<&Form>) -> Vec<String> {
        let mut filled = Vec::new();
        let has_password = fields.iter().any(|(name, _)| is_password(name));
        let mut user_seen = false;
        for (name, value) in fields {
            let value = value.replace("\r\n", "\n");
            let on_page = form.map(|form| {
                form.fields.iter().any(|field| field.name == *name && field.value.replace("\r\n", "\n") == value)
            });
            let text = if is_password(name) {
                self.notes.say("passwords are not taken from recordings: write them below [[users]]".to_owned());
                "{password}".to_owned()
            } else if has_password && !user_seen && is_user(name) {
                user_seen = true;
                self.user.get_or_insert_with(|| value.clone());
                "{user}".to_owned()
            } else if on_page.unwrap_or_else(|| is_token(name)) {
                continue;
            } else {
                self.anew.value(&value).unwrap_or_else(|| braced(&value))
            };
            filled.push(format!("{} = {}", quoted(name), quoted(&text)));
        }
        filled
    }

    fn expect(&mut self, status: i64) {
        // What the browser had in its cache is a page as well.
        let status = if status == 304 { 200 } else { status };
        if (200..=599).contains(&status) {
            let _ = writeln!(self.steps, "expect = [{status}]");
        } else {
            self.notes.say("a page without a recorded status has no `expect`".to_owned());
        }
    }

    /// A path as a template, with passwords in its query taken out.
    fn path(&mut self, path: &str) -> String {
        let Some((bare, query)) = path.split_once('?') else { return self.anew.used_in(path, encoded) };
        let pairs: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) if is_password(name) && !value.is_empty() => {
                    self.notes.say("passwords are not taken from recordings: write them below [[users]]".to_owned());
                    format!("{}={{password}}", encoded(name))
                }
                Some((name, value)) if self.anew.value(value).is_some() => {
                    format!("{}={}", encoded(name), self.anew.value(value).unwrap_or_default())
                }
                Some(_) | None => encoded(pair),
            })
            .collect();
        format!("{}?{}", self.anew.used_in(bare, encoded), pairs.join("&"))
    }

    fn look_at_headers(&mut self, entry: &Entry) {
        for Pair { name, .. } in &entry.request.headers {
            if name.eq_ignore_ascii_case("authorization") {
                self.notes.say("requests carried `Authorization`, which a scenario cannot send".to_owned());
            }
        }
    }

    fn end(self, name: &str) -> Made {
        let user = self.user;
        let notes = self.notes.lines();
        let mut toml = String::from("# Made by `loadgen scenario from-har`: a recorded session as a scenario.\n");
        let _ = writeln!(
            toml,
            "# Style sheets, scripts and images are left to the browser, which finds them in the pages."
        );
        for note in &notes {
            let _ = writeln!(toml, "# {}", note.replace(|c: char| c.is_control(), " "));
        }
        let _ = writeln!(toml, "\nname = {}", quoted(name));
        if let Some(user) = user {
            let _ = writeln!(toml, "\n[[users]]\nname = {}\npassword = \"\"", quoted(&user));
        }
        toml.push_str(&self.steps);
        Made { toml, notes }
    }
}

/// What an entry is: as the browser says, or by what it asked for.
fn kind(entry: &Entry) -> Kind {
    let header = |wanted: &str| {
        let found = entry.request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(wanted));
        found.map_or("", |header| header.value.as_str())
    };
    let destination = header("sec-fetch-dest");
    match entry.resource_type.as_deref().unwrap_or("") {
        "websocket" => return Kind::Socket,
        "xhr" | "fetch" | "eventsource" | "preflight" | "ping" | "beacon" => return Kind::Scripted,
        "document" if matches!(destination, "iframe" | "frame") => return Kind::Frame,
        "document" => return Kind::Navigation,
        "" => {}
        _ => return Kind::Asset,
    }
    match destination {
        "document" => return Kind::Navigation,
        "iframe" | "frame" => return Kind::Frame,
        "empty" => return Kind::Scripted,
        "websocket" => return Kind::Socket,
        "" => {}
        _ => return Kind::Asset,
    }
    let scripted = header("x-requested-with").eq_ignore_ascii_case("xmlhttprequest");
    let accepts_pages = header("accept").contains("text/html");
    let is_page = entry.response.content.mime_type.starts_with("text/html");
    if scripted {
        Kind::Scripted
    } else if accepts_pages || is_page {
        Kind::Navigation
    } else if entry.request.method == "GET" {
        Kind::Asset
    } else {
        Kind::Scripted
    }
}

/// The path that an answer redirects to on the same host.
fn redirect_of(host: &str, seen: &Seen<'_>) -> Option<String> {
    let response = &seen.entry.response;
    if !(300..400).contains(&response.status) || response.status == 304 {
        return None;
    }
    let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("location"));
    let location = header.map_or(response.redirect_url.as_str(), |header| header.value.as_str());
    // An archive of a site behind TLS is replayed without it.
    let location = location.strip_prefix("https:").filter(|rest| rest.starts_with("//")).unwrap_or(location);
    resolve(host, &seen.path, location).filter(|_| !location.is_empty())
}

/// The status at the end of the redirects that begin at the first of these entries.
fn final_status(host: &str, entries: &[&Seen<'_>]) -> i64 {
    let Some(first) = entries.first() else { return 0 };
    let (mut status, mut expected) = (first.entry.response.status, redirect_of(host, first));
    for seen in &entries[1..] {
        if expected.as_ref().is_some_and(|path| *path == seen.path) {
            (status, expected) = (seen.entry.response.status, redirect_of(host, seen));
        }
    }
    status
}

/// When the page of an entry was loaded, if the browser says so.
fn loaded_ms(archive: &Archive, entry: &Entry, start_ms: f64) -> Option<f64> {
    let id = entry.pageref.as_ref()?;
    let page = archive.log.pages.iter().find(|page| page.id == *id)?;
    // Chromium keeps one page for several navigations: then its load time is of the first one only.
    let page_ms = DateTime::parse_from_rfc3339(&page.started_date_time).ok()?.timestamp_micros() as f64 / 1e3;
    let load_ms = page.page_timings.on_load.filter(|ms| *ms > 0.0)?;
    ((start_ms - page_ms).abs() < 1000.0).then_some(page_ms + load_ms)
}

/// The form of a recorded page that sends to this path.
fn form_of(host: &str, page: &Seen<'_>, path: &str) -> Option<Form> {
    use base64::Engine as _;
    let content = &page.entry.response.content;
    let text = content.text.as_ref()?;
    let text = match content.encoding.as_deref() {
        Some("base64") => {
            String::from_utf8_lossy(&base64::engine::general_purpose::STANDARD.decode(text).ok()?).into_owned()
        }
        Some(_) | None => text.clone(),
    };
    let forms = Page::read(&text, host, &page.path).forms;
    forms.into_iter().find(|form| form.action.as_deref().is_some_and(|action| bare(action) == bare(path)))
}

fn is_password(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "pwd"].iter().any(|word| name.contains(word)) || name == "pass"
}

fn is_user(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["user", "login", "email", "mail", "account"].iter().any(|word| name.contains(word)) || name == "name"
}

/// Fields that pages fill in with something of their own.
fn is_token(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["csrf", "xsrf", "token", "nonce", "__viewstate", "__eventvalidation"].iter().any(|word| name.contains(word))
}

/// Host and path of an http or https URL.
fn split_url(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("http://").map(|rest| (rest, ":80"));
    let (rest, port) = rest.or_else(|| url.strip_prefix("https://").map(|rest| (rest, ":443")))?;
    let rest = rest.split('#').next().unwrap_or("");
    let split = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(split);
    let host = host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    (!host.is_empty()).then(|| (host, if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }))
}

fn scheme(url: &str) -> &str {
    url.split(':').next().unwrap_or("")
}

fn same_host(one: &str, two: &str) -> bool {
    one.eq_ignore_ascii_case(two.strip_suffix(":80").or(two.strip_suffix(":443")).unwrap_or(two))
}

/// Without the query.
fn bare(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

fn decoded(text: &str) -> String {
    percent_decoded(&text.replace('+', " "))
}

/// Text in which braces are no holes.
fn braced(text: &str) -> String {
    text.replace('{', "{{")
}

/// A path in which nothing is a hole.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '{' => out.push_str("%7B"),
            '}' => out.push_str("%7D"),
            c if c.is_ascii_graphic() => out.push(c),
            c => out.push_str(&crate::browser::url::encode(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests;
