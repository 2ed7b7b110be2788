//! One user: a state machine that walks a scenario, page by page, as a browser would.
//!
//! ```text
//!   begin ─▶ advance ──▶ Document ──redirect──▶ Document ──▶ Assets ──▶ page done ─▶ advance ─▶ … ─▶ End
//!               │                                             ▲ │           ▲
//!               │                          a style sheet asks ─┘           │
//!               └──▶ Waiting (think, poll) ──woken──────────────────────────┘
//! ```
//! It asks for fetches, waits and ends by [`Effect`]s; it opens no connection and reads no clock. Within a page the
//! loop is closed (assets follow the document); sessions arrive by plan: the partly-open model.

pub mod cache;
pub mod cookies;
mod css;
mod date;
pub mod html;
mod incoming;
mod page;
mod submit;
pub mod url;
mod values;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use self::cache::{Cache, Now};
use self::cookies::Jar;
use self::html::Page;
pub use self::incoming::{Incoming, Reading};
pub use self::values::percent_decoded;
use crate::arrivals::{below, exponential};
use crate::failure::Failure;
use crate::scenario::{Operation, PollStep, Scenario};

/// Redirects that are followed for one document or asset, as in browsers.
const REDIRECTS_MAX: u32 = 20;
/// Operations that may follow each other without a request or a wait: an empty loop ends the session.
const OPERATIONS_MAX: u32 = 100_000;

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

impl World<'_> {
    fn now(&self, monotonic_ns: u64) -> Now {
        Now { monotonic_ns, unix_s: (monotonic_ns + self.unix_offset_ns) / 1_000_000_000 }
    }
}

/// What a user wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Fetch(Fetch),
    /// Nothing until then.
    Wait {
        until_ns: u64,
    },
    /// A page and its assets are complete; `whole` if none of them failed.
    PageLoaded {
        step: usize,
        started_ns: u64,
        whole: bool,
    },
    /// An asset needed no request.
    CacheHit {
        path: String,
    },
    End(Ending),
}

/// A request that a user makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub step: usize,
    pub role: Role,
    pub path: String,
    /// A form that is sent: the type of its body, and the body. Everything else is a GET.
    pub post: Option<(&'static str, String)>,
    /// A validator of the cache.
    pub condition: Option<(&'static str, String)>,
    /// Redirects that led here.
    pub redirects: u32,
    /// The checks of the scenario that the response must meet, by index.
    pub checks: Option<usize>,
}

/// What a fetch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Document,
    /// A style sheet, which may ask for more.
    Sheet,
    Asset,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Completed,
    /// A step did not do what the scenario says: its page, which was wanted at that time, never came.
    Failed {
        step: usize,
        started_ns: u64,
        why: String,
    },
}

/// What is wrong with a response: the failure of its request, and the words for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub failure: Failure,
    pub why: String,
}

fn wrong(failure: Failure, why: impl Into<String>) -> Wrong {
    Wrong { failure, why: why.into() }
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
    Document(Purpose),
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
    /// No asset of the current page has failed.
    page_whole: bool,
    poll_deadline_ns: u64,
    /// Assets on other hosts, over all sessions.
    pub foreign_assets: u64,
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
            variables: vec![String::new(); scenario.variables.len()],
            loops: vec![0; scenario.loop_count],
            address: "/".to_owned(),
            page: Page::default(),
            body: Vec::new(),
            page_started_ns: 0,
            page_whole: true,
            poll_deadline_ns: 0,
            foreign_assets: 0,
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
        self.jar.field(path, world.now(now_ns).unix_s)
    }

    /// The path of the page that a fetch comes from, which browsers tell: assets and forms have one, and a page that is
    /// opened by its address has none.
    pub fn referer(&self, fetch: &Fetch) -> Option<&str> {
        (fetch.role != Role::Document || fetch.post.is_some()).then_some(self.address.as_str())
    }

    /// When the page was wanted that is being loaded.
    pub fn loading_since_ns(&self) -> Option<u64> {
        matches!(self.state, State::Document(_) | State::Assets { .. }).then_some(self.page_started_ns)
    }

    /// A fetch failed on its way. A missing asset leaves the page, a missing document ends the session.
    pub fn failed(&mut self, world: &World<'_>, fetch: &Fetch, why: Failure, now_ns: u64, out: &mut Vec<Effect>) {
        match fetch.role {
            Role::Asset | Role::Sheet => {
                self.page_whole = false;
                self.asset_ended(world, now_ns, out);
            }
            Role::Document => self.fail(fetch.step, why.name().to_owned(), now_ns, out),
        }
    }

    fn fail(&mut self, step: usize, why: String, now_ns: u64, out: &mut Vec<Effect>) {
        // A page that never began, because there was no form to send, was wanted now.
        let started_ns = if matches!(self.state, State::Document(_)) { self.page_started_ns } else { now_ns };
        self.state = State::Away;
        out.push(Effect::End(Ending::Failed { step, started_ns, why }));
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
                Operation::Get { step, path, checks, .. } => {
                    let path = self.fill(world, path, true);
                    return self.fetch_page(*step, Purpose::Get, path, *checks, now_ns, out);
                }
                Operation::Form { step, form } => match &form.path {
                    Some(path) => {
                        let path = self.fill(world, path, true);
                        return self.fetch_page(*step, Purpose::FormPage, path, None, now_ns, out);
                    }
                    None => {
                        if let Err(why) = self.submit(world, *step, form, now_ns, out) {
                            self.fail(*step, why, now_ns, out);
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
        self.fail(0, "a loop without a request or a wait".to_owned(), now_ns, out);
    }

    fn fetch_page(
        &mut self,
        step: usize,
        purpose: Purpose,
        path: String,
        checks: Option<usize>,
        now_ns: u64,
        out: &mut Vec<Effect>,
    ) {
        self.page_started_ns = now_ns;
        self.state = State::Document(purpose);
        let role = Role::Document;
        out.push(Effect::Fetch(Fetch { step, role, path, post: None, condition: None, redirects: 0, checks }));
    }

    fn ask(&mut self, world: &World<'_>, step: usize, poll: &PollStep, now_ns: u64, out: &mut Vec<Effect>) {
        let path = self.fill(world, &poll.path, true);
        self.fetch_page(step, Purpose::Poll, path, None, now_ns, out);
    }
}

#[cfg(test)]
mod tests;
