//! One user: a state machine that walks a scenario, page by page, as a browser would.
//!
//! ```text
//!   begin ─▶ advance ──▶ Document ──redirect──▶ Document ──▶ Assets ──▶ page done ─▶ advance ─▶ … ─▶ End
//!               │                                                           ▲
//!               └──▶ Waiting (think, poll) ──woken──────────────────────────┘
//! ```
//! It asks for fetches, waits and ends by [`Effect`]s; it opens no connection and reads no clock. Within a page the
//! loop is closed (assets follow the document); sessions arrive by plan: the partly-open model.

pub mod cache;
pub mod cookies;
pub mod html;
pub mod url;
mod values;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use self::cache::{Cache, Freshness, Lookup};
use self::cookies::Jar;
use self::html::Page;
use self::url::{encode_form, resolve};
use self::values::json_text;
use crate::arrivals::{below, exponential};
use crate::failure::Failure;
use crate::response::Sink;
use crate::scenario::{FormStep, Operation, PollStep, Scenario};

/// Redirects that are followed for one page.
const REDIRECTS_MAX: u32 = 10;
/// Operations that may follow each other without a request or a wait: an empty loop ends the session.
const OPERATIONS_MAX: u32 = 100_000;
/// Bytes of a document that are kept; the rest is counted and dropped.
pub const DOCUMENT_BYTES_MAX: usize = 8 << 20;

/// What all users of a run share.
#[derive(Clone, Copy, Debug)]
pub struct World<'w> {
    pub scenario: &'w Scenario,
    /// The host of the system under test, as in URLs.
    pub authority: &'w str,
    pub seed: u64,
    /// Unix time minus monotonic time, for the expiry of cookies.
    pub unix_offset_ns: u64,
}

/// What a user wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Fetch(Fetch),
    /// Nothing until then.
    Wait {
        until_ns: u64,
    },
    /// A page and its assets are complete.
    PageLoaded {
        step: usize,
        started_ns: u64,
    },
    /// An asset needed no request.
    CacheHit,
    End(Ending),
}

/// A request that a user makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub step: usize,
    pub role: Role,
    pub post: bool,
    pub path: String,
    pub body: String,
    /// A validator of the cache.
    pub condition: Option<(&'static str, String)>,
}

/// What a fetch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Document,
    Asset,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Completed,
    /// A step did not do what the scenario says.
    Failed {
        step: usize,
    },
}

/// What a user keeps of a response.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    location: Option<String>,
    html: bool,
    cookies: Vec<String>,
    freshness: Freshness,
    body: Vec<u8>,
    keeps_body: bool,
}

impl Incoming {
    /// Makes room for the next response; the body of an asset is not kept.
    pub fn expect(&mut self, role: Role) {
        self.location = None;
        self.html = false;
        self.cookies.clear();
        self.freshness = Freshness::default();
        self.body.clear();
        self.keeps_body = role == Role::Document;
    }
}

impl Sink for Incoming {
    fn header(&mut self, name: &[u8], value: &[u8]) {
        let text = || String::from_utf8_lossy(value).into_owned();
        if name.eq_ignore_ascii_case(b"location") {
            self.location = Some(text());
        } else if name.eq_ignore_ascii_case(b"set-cookie") {
            self.cookies.push(text());
        } else if name.eq_ignore_ascii_case(b"content-type") {
            self.html = text().to_ascii_lowercase().starts_with("text/html");
        } else {
            self.freshness.header(name, value);
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        if self.keeps_body {
            let room = DOCUMENT_BYTES_MAX.saturating_sub(self.body.len());
            self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

/// Why a document is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Get,
    /// The page that holds the form.
    FormPage,
    /// The answer to the form itself.
    FormAnswer,
    /// Where that answer redirects to.
    FormRedirect,
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No session.
    Away,
    Document {
        purpose: Purpose,
        redirects: u32,
    },
    Assets {
        purpose: Purpose,
        left: usize,
    },
    /// Thinking, or before the next question of a poll.
    Waiting,
}

/// One user.
#[derive(Debug)]
pub struct Browser {
    state: State,
    jar: Jar,
    cache: Cache,
    random: Xoshiro256PlusPlus,
    /// Index of the user in the scenario.
    user: usize,
    /// The operation that is being performed.
    at: usize,
    variables: Vec<String>,
    loops: Vec<u32>,
    /// Where the current page was found, and what it is.
    address: String,
    page: Page,
    body: Vec<u8>,
    page_started_ns: u64,
    poll_deadline_ns: u64,
    /// Assets on other hosts, over all sessions.
    pub foreign_assets: u64,
    /// Assets that were answered 304, over all sessions.
    pub revalidated: u64,
}

impl Browser {
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            state: State::Away,
            jar: Jar::default(),
            cache: Cache::default(),
            random: Xoshiro256PlusPlus::seed_from_u64(0),
            user: 0,
            at: 0,
            variables: vec![String::new(); scenario.variable_count],
            loops: vec![0; scenario.loop_count],
            address: "/".to_owned(),
            page: Page::default(),
            body: Vec::new(),
            page_started_ns: 0,
            poll_deadline_ns: 0,
            foreign_assets: 0,
            revalidated: 0,
        }
    }

    /// Starts a session. Its number decides who the user is and everything random in it, whichever slot it runs in.
    pub fn begin(&mut self, world: &World<'_>, number: u64, now_ns: u64, out: &mut Vec<Effect>) {
        assert!(self.state == State::Away, "invariant: one session at a time");
        self.random = Xoshiro256PlusPlus::seed_from_u64(world.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let users = u64::try_from(world.scenario.users.len()).expect("invariant: a usize fits");
        self.user = usize::try_from(number % users).expect("invariant: below a usize");
        self.jar.clear();
        if !world.scenario.returning {
            self.cache.clear();
        }
        self.at = 0;
        self.variables.iter_mut().for_each(String::clear);
        self.loops.fill(0);
        "/".clone_into(&mut self.address);
        self.page = Page::default();
        self.advance(world, now_ns, out);
    }

    /// A wait is over.
    pub fn woken(&mut self, world: &World<'_>, now_ns: u64, out: &mut Vec<Effect>) {
        if self.state != State::Waiting {
            return;
        }
        match world.scenario.operations.get(self.at) {
            Some(Operation::Poll { step, poll }) => self.ask(world, *step, poll, now_ns, out),
            Some(_) | None => {
                self.at += 1;
                self.advance(world, now_ns, out);
            }
        }
    }

    /// The value of `Cookie` for a fetch.
    pub fn cookie(&self, world: &World<'_>, path: &str, now_ns: u64) -> Option<String> {
        self.jar.field(path, unix_s(world, now_ns))
    }

    /// A response is complete. What is wrong with it is the failure of its request.
    ///
    /// # Errors
    /// An unexpected status, or a page that does not hold what the scenario needs.
    pub fn answered(
        &mut self,
        world: &World<'_>,
        fetch: &Fetch,
        status: u16,
        incoming: &mut Incoming,
        now_ns: u64,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        for cookie in &incoming.cookies {
            self.jar.set(cookie, &fetch.path, unix_s(world, now_ns));
        }
        match fetch.role {
            Role::Asset => {
                self.revalidated += u64::from(status == 304);
                self.cache.store(&fetch.path, status, &incoming.freshness, now_ns);
                self.asset_ended(world, now_ns, out);
                if status < 400 { Ok(()) } else { Err(Failure::Status) }
            }
            Role::Document => {
                let outcome = self.document(world, fetch, status, incoming, now_ns, out);
                if outcome.is_err() {
                    self.fail(fetch.step, out);
                }
                outcome
            }
        }
    }

    /// A fetch failed on its way. A missing asset leaves the page, a missing document ends the session.
    pub fn failed(&mut self, world: &World<'_>, fetch: &Fetch, now_ns: u64, out: &mut Vec<Effect>) {
        match fetch.role {
            Role::Asset => self.asset_ended(world, now_ns, out),
            Role::Document => self.fail(fetch.step, out),
        }
    }

    fn fail(&mut self, step: usize, out: &mut Vec<Effect>) {
        self.state = State::Away;
        out.push(Effect::End(Ending::Failed { step }));
    }

    /// Performs operations until one needs a response or time.
    fn advance(&mut self, world: &World<'_>, now_ns: u64, out: &mut Vec<Effect>) {
        for _ in 0..OPERATIONS_MAX {
            let Some(operation) = world.scenario.operations.get(self.at) else {
                self.state = State::Away;
                out.push(Effect::End(Ending::Completed));
                return;
            };
            match operation {
                Operation::Get { step, path, .. } => {
                    let path = self.fill(world, path, true);
                    return self.fetch_page(*step, Purpose::Get, path, now_ns, out);
                }
                Operation::Form { step, form } => match &form.path {
                    Some(path) => {
                        let path = self.fill(world, path, true);
                        return self.fetch_page(*step, Purpose::FormPage, path, now_ns, out);
                    }
                    None => {
                        if self.submit(world, *step, form, now_ns, out).is_err() {
                            self.fail(*step, out);
                        }
                        return;
                    }
                },
                Operation::Poll { step, poll } => {
                    self.poll_deadline_ns = now_ns + poll.timeout_ns;
                    return self.ask(world, *step, poll, now_ns, out);
                }
                Operation::Think { mean_ns, constant } => {
                    let factor = if *constant { 1.0 } else { exponential(&mut self.random) };
                    self.state = State::Waiting;
                    // At most 37 times 1e15: far below 2^63.
                    out.push(Effect::Wait { until_ns: now_ns + (*mean_ns as f64 * factor) as u64 });
                    return;
                }
                Operation::Choose { targets } => {
                    let total = targets.last().map_or(1, |(weight, _)| *weight);
                    let drawn = below(&mut self.random, total);
                    self.at = targets.iter().find(|(weight, _)| drawn < *weight).map_or(self.at + 1, |(_, to)| *to);
                }
                Operation::Jump { to } => self.at = *to,
                Operation::Begin { counter, times: [low, high] } => {
                    let extra = below(&mut self.random, u64::from(high - low) + 1);
                    self.loops[*counter] = low + u32::try_from(extra).expect("invariant: within the bounds");
                    self.at += 1;
                }
                Operation::Again { counter, to } => match self.loops[*counter].checked_sub(1) {
                    Some(left) => {
                        self.loops[*counter] = left;
                        self.at = *to;
                    }
                    None => self.at += 1,
                },
            }
        }
        // A scenario that only jumps: nothing it does could be measured.
        self.fail(0, out);
    }

    fn fetch_page(&mut self, step: usize, purpose: Purpose, path: String, now_ns: u64, out: &mut Vec<Effect>) {
        self.page_started_ns = now_ns;
        self.state = State::Document { purpose, redirects: 0 };
        out.push(Effect::Fetch(Fetch {
            step,
            role: Role::Document,
            post: false,
            path,
            body: String::new(),
            condition: None,
        }));
    }

    fn ask(&mut self, world: &World<'_>, step: usize, poll: &PollStep, now_ns: u64, out: &mut Vec<Effect>) {
        let path = self.fill(world, &poll.path, true);
        self.fetch_page(step, Purpose::Poll, path, now_ns, out);
    }

    /// Fills and sends a form of the current page.
    fn submit(
        &mut self,
        world: &World<'_>,
        step: usize,
        form: &FormStep,
        now_ns: u64,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let action = self.fill(world, &form.action, true);
        let mut filled =
            self.page.forms.iter().find(|form| form.action.contains(&action)).cloned().ok_or(Failure::Validation)?;
        for (name, text) in &form.fields {
            let value = self.fill(world, text, false);
            filled.fill(name, value);
        }
        let encoded = encode_form(&filled.fields);
        let (path, body) = if filled.post {
            (filled.action, encoded)
        } else {
            (format!("{}?{encoded}", filled.action.split('?').next().unwrap_or("/")), String::new())
        };
        self.page_started_ns = now_ns;
        self.state = State::Document { purpose: Purpose::FormAnswer, redirects: 0 };
        out.push(Effect::Fetch(Fetch { step, role: Role::Document, post: filled.post, path, body, condition: None }));
        Ok(())
    }

    fn document(
        &mut self,
        world: &World<'_>,
        fetch: &Fetch,
        status: u16,
        incoming: &mut Incoming,
        now_ns: u64,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let State::Document { purpose, redirects } = self.state else { return Err(Failure::Validation) };
        let redirect = matches!(status, 301 | 302 | 303 | 307 | 308) && incoming.location.is_some();
        let expect: &[u16] = match purpose {
            Purpose::Get if !redirect => world.scenario.operations[self.at].expect(),
            Purpose::FormAnswer => world.scenario.operations[self.at].expect(),
            Purpose::Get | Purpose::FormPage | Purpose::FormRedirect | Purpose::Poll => &[],
        };
        if !(if expect.is_empty() { status < 400 } else { expect.contains(&status) }) {
            return Err(Failure::Status);
        }
        if redirect {
            return self.redirect(world, fetch, status, incoming, (purpose, redirects), out);
        }
        self.address.clone_from(&fetch.path);
        std::mem::swap(&mut self.body, &mut incoming.body);
        if purpose == Purpose::Poll {
            return self.polled(world, fetch.step, now_ns, out);
        }
        self.page = Page::default();
        let mut fetches = Vec::new();
        if incoming.html {
            let html = String::from_utf8_lossy(&self.body);
            self.page = Page::read(&html, world.authority, &self.address);
            if world.scenario.assets {
                self.foreign_assets += self.page.foreign_assets;
                fetches = self.assets(fetch.step, now_ns, out);
            }
        }
        self.extract(world, purpose)?;
        self.state = State::Assets { purpose, left: fetches.len() };
        if fetches.is_empty() {
            self.page_complete(world, fetch.step, purpose, now_ns, out);
        } else {
            out.extend(fetches.into_iter().map(Effect::Fetch));
        }
        Ok(())
    }

    fn redirect(
        &mut self,
        world: &World<'_>,
        fetch: &Fetch,
        status: u16,
        incoming: &Incoming,
        (purpose, redirects): (Purpose, u32),
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let location = incoming.location.as_deref().unwrap_or("");
        // Round in a circle, or off to a host that is not under test.
        let path = resolve(world.authority, &fetch.path, location)
            .filter(|_| redirects < REDIRECTS_MAX)
            .ok_or(Failure::Validation)?;
        let purpose = if purpose == Purpose::FormAnswer { Purpose::FormRedirect } else { purpose };
        self.state = State::Document { purpose, redirects: redirects + 1 };
        // 307 and 308 repeat the request, the others turn it into a GET (RFC 9110 section 15.4).
        let repeats = fetch.post && matches!(status, 307 | 308);
        let body = if repeats { fetch.body.clone() } else { String::new() };
        out.push(Effect::Fetch(Fetch {
            step: fetch.step,
            role: Role::Document,
            post: repeats,
            path,
            body,
            condition: None,
        }));
        Ok(())
    }

    /// The assets of the current page that the cache does not spare.
    fn assets(&self, step: usize, now_ns: u64, out: &mut Vec<Effect>) -> Vec<Fetch> {
        let mut fetches = Vec::new();
        for path in &self.page.assets {
            let condition = match self.cache.lookup(path, now_ns) {
                Lookup::Fresh => {
                    out.push(Effect::CacheHit);
                    continue;
                }
                Lookup::Revalidate(name, value) => Some((name, value)),
                Lookup::Miss => None,
            };
            fetches.push(Fetch {
                step,
                role: Role::Asset,
                post: false,
                path: path.clone(),
                body: String::new(),
                condition,
            });
        }
        fetches
    }

    fn asset_ended(&mut self, world: &World<'_>, now_ns: u64, out: &mut Vec<Effect>) {
        let State::Assets { purpose, left } = self.state else { return };
        let left = left.saturating_sub(1);
        self.state = State::Assets { purpose, left };
        if left == 0 {
            let step = world.scenario.operations[self.at].step().unwrap_or(0);
            self.page_complete(world, step, purpose, now_ns, out);
        }
    }

    fn page_complete(&mut self, world: &World<'_>, step: usize, purpose: Purpose, now_ns: u64, out: &mut Vec<Effect>) {
        out.push(Effect::PageLoaded { step, started_ns: self.page_started_ns });
        if let (Purpose::FormPage, Operation::Form { step, form }) = (purpose, &world.scenario.operations[self.at]) {
            if self.submit(world, *step, form, now_ns, out).is_err() {
                self.fail(*step, out);
            }
            return;
        }
        self.at += 1;
        self.advance(world, now_ns, out);
    }

    /// Looks at the answer to a poll: goes on, asks again later, or gives up.
    fn polled(&mut self, world: &World<'_>, step: usize, now_ns: u64, out: &mut Vec<Effect>) -> Result<(), Failure> {
        let Operation::Poll { poll, .. } = &world.scenario.operations[self.at] else { return Err(Failure::Validation) };
        let text = String::from_utf8_lossy(&self.body);
        let done = match &poll.pointer {
            Some(pointer) => json_text(&text, pointer).is_some_and(|value| poll.until.contains(&value)),
            None => poll.until.iter().any(|wanted| text.contains(wanted.as_str())),
        };
        if done {
            out.push(Effect::PageLoaded { step, started_ns: self.page_started_ns });
            self.at += 1;
            self.advance(world, now_ns, out);
            return Ok(());
        }
        if now_ns + poll.every_ns > self.poll_deadline_ns {
            return Err(Failure::Validation);
        }
        self.state = State::Waiting;
        out.push(Effect::Wait { until_ns: now_ns + poll.every_ns });
        Ok(())
    }
}

fn unix_s(world: &World<'_>, now_ns: u64) -> u64 {
    (now_ns + world.unix_offset_ns) / 1_000_000_000
}

#[cfg(test)]
mod tests;
