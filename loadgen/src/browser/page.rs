//! From a response to a page that is complete: redirects, assets, and what a step checks.

use std::rc::Rc;

use super::cache::Lookup;
use super::html::{Asset, Page};
use super::url::resolve;
use super::values::json_text;
use super::{Browser, Effect, Fetch, Incoming, Purpose, REDIRECTS_MAX, Role, State, World, Wrong, css, wrong};
use crate::failure::Failure;
use crate::scenario::Operation;

/// Characters of an address that a reason quotes.
const QUOTED_CHARS_MAX: usize = 120;

impl Browser {
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
        // The cookie that was sent, before the response changes it.
        let varies = incoming.freshness.varies_by_cookie();
        let cookie = if varies { self.cookie(world, &fetch.path, now_ns) } else { None };
        for cookie in &incoming.cookies {
            self.jar.set(cookie, world.authority, &fetch.path, world.now(now_ns).unix_s);
        }
        match fetch.role {
            Role::Asset | Role::Sheet => {
                let outcome = self.asset(world, fetch, (status, cookie), incoming, now_ns, out);
                self.page_whole &= outcome.is_ok();
                self.asset_ended(world, now_ns, out);
                outcome
            }
            Role::Document => self.document(world, fetch, status, incoming, now_ns, out).map_err(|wrong| {
                self.fail(fetch.step, wrong.why, now_ns, out);
                wrong.failure
            }),
        }
    }

    fn document(
        &mut self,
        world: &World<'_>,
        fetch: &Fetch,
        status: u16,
        incoming: &mut Incoming,
        now_ns: u64,
        out: &mut Vec<Effect>,
    ) -> Result<(), Wrong> {
        let State::Document(purpose) = self.state else {
            return Err(wrong(Failure::Validation, "a document that nobody waits for"));
        };
        let redirect = is_redirect(status, incoming);
        let expect: &[u16] = match purpose {
            Purpose::Get if !redirect => world.scenario.operations[self.at].expect(),
            Purpose::FormAnswer => world.scenario.operations[self.at].expect(),
            Purpose::Get | Purpose::FormPage | Purpose::FormRedirect | Purpose::Poll => &[],
        };
        if !(if expect.is_empty() { status < 400 } else { expect.contains(&status) }) {
            return Err(wrong(Failure::Status, format!("status {status}")));
        }
        if redirect {
            let purpose = if purpose == Purpose::FormAnswer { Purpose::FormRedirect } else { purpose };
            let next = redirected(world, fetch, status, incoming)?;
            self.state = State::Document(purpose);
            out.push(Effect::Fetch(next));
            return Ok(());
        }
        if let Some(checks) = fetch.checks.map(|index| &world.scenario.checks[index])
            && let Some(unmet) = incoming.checker.first_unmet(checks)
        {
            let name = checks.names().nth(unmet).unwrap_or_default();
            return Err(wrong(Failure::Validation, format!("no {name}")));
        }
        self.address.clone_from(&fetch.path);
        std::mem::swap(&mut self.body, &mut incoming.body);
        if purpose == Purpose::Poll {
            return self.polled(world, fetch.step, now_ns, out);
        }
        self.page = Page::default();
        self.page_whole = true;
        if incoming.is_html() {
            let html = String::from_utf8_lossy(&self.body);
            self.page = Page::read(&html, world.authority, &self.address);
        }
        self.extract(world, purpose)?;
        let mut left = 0;
        if world.scenario.assets {
            self.foreign_assets += self.page.foreign_assets;
            left = self.request(world, fetch.step, self.page.assets.clone(), now_ns, out);
        }
        self.state = State::Assets { purpose, left };
        if left == 0 {
            self.page_complete(world, fetch.step, purpose, now_ns, out);
        }
        Ok(())
    }

    /// Asks for assets, unless the cache spares it; how many were asked for. A style sheet that is fresh in the cache
    /// leads to its own assets at once.
    fn request(
        &mut self,
        world: &World<'_>,
        step: usize,
        assets: Vec<Asset>,
        now_ns: u64,
        out: &mut Vec<Effect>,
    ) -> usize {
        let mut count = 0;
        let mut waiting = assets;
        waiting.reverse();
        while let Some(Asset { path, sheet }) = waiting.pop() {
            let now = world.now(now_ns);
            let (cache, jar) = (&mut self.cache, &self.jar);
            let condition = match cache.lookup(&path, || jar.field(&path, now.unix_s), now) {
                Lookup::Fresh(references) => {
                    if let Some(references) = references {
                        waiting.extend(self.referenced(world, &path, &references).into_iter().rev());
                    }
                    out.push(Effect::CacheHit { path });
                    continue;
                }
                Lookup::Revalidate(name, value) => Some((name, value)),
                Lookup::Miss => None,
            };
            count += 1;
            let role = if sheet { Role::Sheet } else { Role::Asset };
            out.push(Effect::Fetch(Fetch { step, role, path, post: None, condition, redirects: 0, checks: None }));
        }
        count
    }

    /// The assets of a style sheet that the page does not have yet.
    fn referenced(&mut self, world: &World<'_>, path: &str, references: &css::References) -> Vec<Asset> {
        let before = self.page.foreign_assets;
        let new = self.page.add_references(world.authority, path, references);
        self.foreign_assets += self.page.foreign_assets - before;
        new
    }

    fn asset(
        &mut self,
        world: &World<'_>,
        fetch: &Fetch,
        (status, cookie): (u16, Option<String>),
        incoming: &Incoming,
        now_ns: u64,
        out: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let more = |browser: &mut Self, count: usize| {
            if let State::Assets { left, .. } = &mut browser.state {
                *left += count;
            }
        };
        if is_redirect(status, incoming) {
            match redirected(world, fetch, status, incoming) {
                Ok(next) => {
                    out.push(Effect::Fetch(next));
                    more(self, 1);
                }
                Err(Wrong { failure: failure @ Failure::RedirectCircle, .. }) => return Err(failure),
                // Off to another host, as with an asset that was there from the beginning.
                Err(_) => self.foreign_assets += 1,
            }
            return Ok(());
        }
        let read = || {
            let sheet = fetch.role == Role::Sheet;
            sheet.then(|| Rc::new(css::references(&String::from_utf8_lossy(&incoming.body))))
        };
        let now = world.now(now_ns);
        let references = self.cache.store(&fetch.path, status, &incoming.freshness, cookie.as_deref(), now, read);
        if let Some(references) = references {
            let new = self.referenced(world, &fetch.path, &references);
            let count = self.request(world, fetch.step, new, now_ns, out);
            more(self, count);
        }
        if status < 400 { Ok(()) } else { Err(Failure::Status) }
    }

    pub(super) fn asset_ended(&mut self, world: &World<'_>, now_ns: u64, out: &mut Vec<Effect>) {
        let State::Assets { purpose, left } = self.state else { return };
        let left = left.saturating_sub(1);
        self.state = State::Assets { purpose, left };
        if left == 0 {
            let step = world.scenario.operations[self.at].step().unwrap_or(0);
            self.page_complete(world, step, purpose, now_ns, out);
        }
    }

    fn page_complete(&mut self, world: &World<'_>, step: usize, purpose: Purpose, now_ns: u64, out: &mut Vec<Effect>) {
        out.push(Effect::PageLoaded { step, started_ns: self.page_started_ns, whole: self.page_whole });
        if let (Purpose::FormPage, Operation::Form { step, form }) = (purpose, &world.scenario.operations[self.at]) {
            if let Err(why) = self.submit(world, *step, form, now_ns, out) {
                self.fail(*step, why, now_ns, out);
            }
            return;
        }
        self.at += 1;
        self.advance(world, now_ns, out);
    }

    /// Looks at the answer to a poll: goes on, asks again later, or gives up.
    fn polled(&mut self, world: &World<'_>, step: usize, now_ns: u64, out: &mut Vec<Effect>) -> Result<(), Wrong> {
        let Operation::Poll { poll, .. } = &world.scenario.operations[self.at] else {
            return Err(wrong(Failure::Validation, "no poll"));
        };
        let text = String::from_utf8_lossy(&self.body);
        let done = match &poll.pointer {
            Some(pointer) => json_text(&text, pointer).is_some_and(|value| poll.until.contains(&value)),
            None => poll.until.iter().any(|wanted| text.contains(wanted.as_str())),
        };
        if done {
            out.push(Effect::PageLoaded { step, started_ns: self.page_started_ns, whole: true });
            self.at += 1;
            self.advance(world, now_ns, out);
            return Ok(());
        }
        if now_ns + poll.every_ns > self.poll_deadline_ns {
            let wanted = poll.until.join("` or `");
            return Err(wrong(Failure::Validation, format!("still not `{wanted}` when its `timeout_s` was over")));
        }
        self.state = State::Waiting;
        out.push(Effect::Wait { until_ns: now_ns + poll.every_ns });
        Ok(())
    }
}

fn is_redirect(status: u16, incoming: &Incoming) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308) && incoming.location.is_some()
}

/// The fetch that a redirect leads to. 307 and 308 repeat the request, the others turn it into a GET (RFC 9110 section
/// 15.4).
fn redirected(world: &World<'_>, fetch: &Fetch, status: u16, incoming: &Incoming) -> Result<Fetch, Wrong> {
    let location = incoming.location.as_deref().unwrap_or("");
    let quoted: String = location.chars().take(QUOTED_CHARS_MAX).collect();
    let path = resolve(world.authority, &fetch.path, location)
        .ok_or_else(|| wrong(Failure::Validation, format!("redirected to another host: {quoted}")))?;
    if fetch.redirects >= REDIRECTS_MAX {
        let why = format!("more than {REDIRECTS_MAX} redirects, the last one to {quoted}");
        return Err(wrong(Failure::RedirectCircle, why));
    }
    let post = fetch.post.clone().filter(|_| matches!(status, 307 | 308));
    Ok(Fetch { path, post, condition: None, redirects: fetch.redirects + 1, ..fetch.clone() })
}
