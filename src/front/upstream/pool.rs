//! All upstream servers and groups of one front. They stay when the statements change: servers are known by their
//! address, groups by their host and pattern, so that health, counts, idle connections and queues survive a reload.

use std::cell::RefCell;
use std::rc::Rc;

use crate::authority::session::SessionKey;
use crate::engine::{Address, Conn};
use crate::front::settings::UpstreamSettings;
use crate::statements::table::Route;
use crate::statements::upstream::Upstream;

use super::check::CheckPlan;
use super::course::Tried;
use super::group::{Group, Member, SharedGroup};
use super::health::{Outcome, Readiness};
use super::pick::Candidate;
use super::server::{Grant, UpstreamServer};

/// What became of the wish for a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    Server(Grant),
    /// Those that may be asked have no room, or others wait already.
    Wait,
    /// The statement's servers all drain.
    Nobody,
}

/// What a request wants of its server.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Names the server of the browser's session, as its cookie has it.
    pub affinity: Option<&'a [u8]>,
    pub tried: &'a Tried,
    /// It has waited, and nobody before it waits any more.
    pub is_next: bool,
}

/// The upstream servers of one front.
#[derive(Debug, Default)]
pub struct Pools {
    servers: Vec<UpstreamServer>,
    groups: Vec<SharedGroup>,
    /// By the route's index; `None` for routes that lead elsewhere.
    by_route: Vec<Option<SharedGroup>>,
    /// A place at a server became free since [`Self::take_freed`].
    freed: bool,
}

/// What the statements say together about one server.
#[derive(Default)]
struct Said {
    max: Option<u32>,
    check: Option<(CheckPlan, u32, u32)>,
    eject: Option<u32>,
}

impl Pools {
    /// Takes over changed statements: one item for each route, in order. A server that is no longer named drains: its
    /// requests end, and its idle connections are [surplus](Self::surplus).
    pub fn publish<'s>(
        &mut self,
        routes: impl Iterator<Item = (&'s Route, Option<&'s Upstream>)> + Clone,
        defaults: &UpstreamSettings,
        key: &SessionKey,
    ) {
        let named = |address: &Address| {
            let mut servers =
                routes.clone().filter_map(|(_, upstream)| upstream).flat_map(|upstream| &upstream.servers);
            servers.any(|server| server.address == *address)
        };
        for server in &mut self.servers {
            server.named = named(&server.address);
        }
        let mut said: Vec<Said> = Vec::new();
        let by_route = routes
            .map(|(route, upstream)| upstream.map(|upstream| self.group_of(route, upstream, defaults, key, &mut said)))
            .collect();
        self.by_route = by_route;
        self.forget_groups();
        said.resize_with(self.servers.len(), Said::default);
        for (server, said) in self.servers.iter_mut().zip(said) {
            server.set_outstanding_max(defaults.share(said.max.unwrap_or(defaults.outstanding_max)));
            server.breaker.failures_max = said.eject.unwrap_or(defaults.eject_failures);
            if let Some((plan, rise, fall)) = said.check {
                (server.watch.rise, server.watch.fall) = (rise, fall);
                server.checks.set_plan(Some(plan));
            } else {
                server.watch.forget();
                server.checks.set_plan(None);
            }
        }
        // Caps may have risen.
        self.freed = true;
    }

    /// The group of a statement, with its servers.
    fn group_of(
        &mut self,
        route: &Route,
        upstream: &Upstream,
        defaults: &UpstreamSettings,
        key: &SessionKey,
        said: &mut Vec<Said>,
    ) -> SharedGroup {
        let options = &upstream.options;
        let check = options.check.as_ref().map(|check| {
            let ns = |ms: Option<u64>, default_ns| ms.map_or(default_ns, |ms: u64| ms * 1_000_000);
            let plan = CheckPlan {
                check: check.clone(),
                interval_ns: ns(options.interval_ms, defaults.check_interval_ns),
                timeout_ns: ns(options.timeout_ms, defaults.check_timeout_ns),
            };
            (plan, options.rise.unwrap_or(defaults.check_rise), options.fall.unwrap_or(defaults.check_fall))
        });
        let mut members = Vec::with_capacity(upstream.servers.len());
        for server in &upstream.servers {
            let index = self.resolve(&server.address, key);
            if said.len() <= index {
                said.resize_with(index + 1, Said::default);
            }
            let about = &mut said[index];
            about.max = about.max.or(upstream.max_of(server));
            about.check = about.check.take().or_else(|| check.clone());
            about.eject = [about.eject, options.eject].into_iter().flatten().min();
            let cookie = options.affinity.as_deref();
            let set_cookie = cookie.map(|cookie| self.servers[index].name.set_cookie(cookie, &route.mount));
            members.push(Member {
                server: index,
                weight: server.weight,
                drain: server.drain,
                set_cookie: set_cookie.unwrap_or_default(),
            });
        }
        let known = self.groups.iter().find(|group| group.borrow().is_of(route)).cloned();
        let group = known.unwrap_or_else(|| {
            let group = Rc::new(RefCell::new(Group::new(route)));
            self.groups.push(Rc::clone(&group));
            group
        });
        group.borrow_mut().update(members, options, defaults);
        group
    }

    /// The server's index; a new server takes the place of one that is forgotten.
    fn resolve(&mut self, address: &Address, key: &SessionKey) -> usize {
        if let Some(index) = self.servers.iter().position(|server| server.address == *address) {
            return index;
        }
        let server = UpstreamServer::new(address, key);
        // A group of earlier statements may still have requests that wait for its old servers.
        let referred = |index: usize| {
            let refers = |group: &SharedGroup| group.borrow().members.iter().any(|member| member.server == index);
            self.groups.iter().any(refers)
        };
        let free = (0..self.servers.len()).find(|&index| self.servers[index].is_forgotten() && !referred(index));
        match free {
            Some(index) => {
                self.servers[index] = server;
                index
            }
            None => {
                self.servers.push(server);
                self.servers.len() - 1
            }
        }
    }

    /// Lets go of groups that no statement has and no request holds.
    pub fn forget_groups(&mut self) {
        let Self { groups, by_route, .. } = self;
        groups.retain(|group| {
            let named = by_route.iter().flatten().any(|other| Rc::ptr_eq(group, other));
            named || Rc::strong_count(group) > 1 || !group.borrow().queue.is_empty()
        });
    }

    /// The group of a route; `None` if it leads elsewhere.
    pub fn group(&self, route: usize) -> Option<SharedGroup> {
        self.by_route.get(route)?.clone()
    }

    /// All groups, also those that only requests under way still hold.
    pub fn groups(&self) -> &[SharedGroup] {
        &self.groups
    }

    /// Chooses a server of the group and takes a place there.
    pub fn choose(&mut self, group: &mut Group, wish: Wish<'_>, now_ns: u64) -> Choice {
        let Group { members, turns, queue, .. } = group;
        let servers = &self.servers;
        if let Some(name) = wish.affinity
            && let Some(member) = members.iter().find(|member| servers[member.server].name == *name)
        {
            let server = &servers[member.server];
            let good = server.readiness(now_ns) != Readiness::Out && !wish.tried.contains(member.server);
            if good && server.has_room() {
                return self.grant(member.server, true, now_ns);
            }
        }
        if !wish.is_next && queue.waiting() > 0 {
            return Choice::Wait;
        }
        // Healthy ones before others, untried ones before others. When all are out, all are tried: a request is better
        // tried than refused.
        for (healthy, untried) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut any = false;
            let candidates = members.iter().enumerate().filter_map(|(place, member)| {
                let server = &servers[member.server];
                let fits = !member.drain
                    && (!healthy || server.readiness(now_ns) != Readiness::Out)
                    && (!untried || !wish.tried.contains(member.server));
                any |= fits;
                (fits && server.has_room()).then_some(Candidate {
                    place,
                    outstanding: server.outstanding(),
                    weight: member.weight,
                })
            });
            if let Some(place) = turns.pick(candidates) {
                let server = members[place].server;
                return self.grant(server, false, now_ns);
            }
            if any {
                return Choice::Wait;
            }
        }
        Choice::Nobody
    }

    fn grant(&mut self, server: usize, affinity: bool, now_ns: u64) -> Choice {
        let probe = self.servers[server].acquire(now_ns);
        Choice::Server(Grant { server, affinity, probe })
    }

    /// Gives a place back, with what the request found out.
    pub fn release(&mut self, grant: Grant, outcome: Outcome, now_ns: u64) {
        self.servers[grant.server].release(now_ns, grant.probe, outcome);
        self.freed = true;
    }

    /// Whether somebody who waits may be served now.
    pub fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    pub fn server(&mut self, index: usize) -> &mut UpstreamServer {
        &mut self.servers[index]
    }

    pub fn servers(&self) -> &[UpstreamServer] {
        &self.servers
    }

    /// The server whose check has this connection.
    pub fn checked_by(&self, conn: Conn) -> Option<usize> {
        self.servers.iter().position(|server| server.checks.conn() == Some(conn))
    }

    /// An idle connection to a server that no statement names any more, taken out of its pool.
    pub fn surplus(&mut self) -> Option<Conn> {
        self.servers.iter_mut().filter(|server| !server.named).find_map(UpstreamServer::take_idle)
    }
}
