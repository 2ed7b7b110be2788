//! Routing: a whole head leads to the replica cluster of an application, to upstream servers, or to a file.

use std::rc::Rc;

use crate::engine::{Chunk, Engine};
use crate::http1::body::BodyReader;
use crate::http1::encode::reason;
use crate::http1::form;
use crate::http1::head::{Framing, Known, Method, TargetForm};
use crate::http1::parse::Reject;
use crate::storage::files;
use crate::storage::site::Target;

use super::FrontServer;
use super::connection::Downstream;
use super::respond::{self, Context};
use super::{forwarding, tunnel};

/// What `Allow` says where no statement decides.
const METHODS: &[u8] = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

impl FrontServer {
    /// A whole head is there: routes it.
    pub(super) fn begin_exchange<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        self.begin_counting(engine, down);
        let exchange = &mut down.exchange;
        exchange.keep_alive = exchange.head.keep_alive
            && !self.admission.is_draining()
            && down.requests < self.settings.connection_requests_max;
        // A copy, because a request may wait long for its answer and must not keep a receive buffer that long.
        let head_bytes = exchange.head.head_bytes;
        exchange.head_bytes.clear();
        exchange.head_bytes.extend_from_slice(&down.input.front()[..head_bytes]);
        down.input.skip(head_bytes);
        exchange.body = BodyReader::new(exchange.head.framing, self.settings.body_bytes_max);
        exchange.body_done = !exchange.head.framing.has_body();
        down.deadline_ns = engine.now_ns() + self.settings.body.base_ns;
        if let Framing::Length(bytes) = exchange.head.framing
            && bytes > self.settings.body_bytes_max
        {
            return self.refuse(engine, down, 413, "the body is larger than limits.body_bytes_max");
        }
        if self.answer_here(engine, down) {
            return;
        }
        let exchange = &mut down.exchange;
        let bytes = exchange.head_bytes.as_slice();
        let mut path = std::mem::take(&mut self.path);
        let decoded = form::decode_path(exchange.head.path.of(bytes), &mut path);
        if let Err(reject) = decoded {
            self.path = path;
            return self.reject(engine, down, &reject);
        }
        let site = Rc::clone(&self.site);
        let route = site.0.table.lookup(exchange.head.host.of(bytes), &path);
        let found = route.map(|route| (route.index, route.mount.len()));
        match found {
            None => self.refuse(engine, down, 404, "no statement maps this host and path"),
            Some((index, mount)) => {
                down.exchange.route = index;
                self.follow(engine, down, &site.0.targets[index], &path, mount);
            }
        }
        self.path = path;
    }

    /// Answers what is for this server itself, whatever the statements say; true if it was.
    fn answer_here<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) -> bool {
        let head = &down.exchange.head;
        match head.method {
            Method::Trace => {
                // RFC 9110 section 9.3.8: a reflected request shows its reader what others have put into it.
                self.short(engine, down, 405, &[(b"allow", METHODS)], "TRACE is not answered");
                self.counters.requests_refused += 1;
                self.end_early(engine, down);
                return true;
            }
            Method::Options => {}
            Method::Get
            | Method::Head
            | Method::Post
            | Method::Put
            | Method::Delete
            | Method::Patch
            | Method::Connect
            | Method::Other => return false,
        }
        // RFC 9110 section 7.6.2: at zero the request goes no further.
        let mut last = false;
        for field in head.headers.iter().filter(|header| header.known == Known::MaxForwards) {
            match forwarding::max_forwards(field.value.of(&down.exchange.head_bytes)) {
                Some(hops) => last |= hops == 0,
                None => {
                    let offset = field.value.range().start;
                    self.reject(engine, down, &Reject::new(400, "Max-Forwards is no plain number", offset));
                    return true;
                }
            }
        }
        // RFC 9110 section 9.3.7: `*` asks the server in general.
        if last || head.form == TargetForm::Asterisk {
            self.short(engine, down, 200, &[(b"allow", METHODS)], "");
            self.counters.requests_answered += 1;
            self.end_early(engine, down);
            return true;
        }
        false
    }

    fn follow<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream, target: &Target, path: &str, mount: usize) {
        match target {
            Target::Cluster { application } => self.begin_job(engine, down, application, path, mount),
            Target::Upstream { .. } => {
                down.exchange.upgrade = tunnel::is_offered(&down.exchange.head, &down.exchange.head_bytes);
                self.begin_relay(engine, down);
            }
            Target::Files { objects } => self.send_object(engine, down, objects, path.get(mount..).unwrap_or("")),
            Target::Fail { status } => {
                self.short(engine, down, *status, &[], reason(*status));
                self.counters.requests_answered += 1;
                self.end_early(engine, down);
            }
            Target::Redirect { location, status } => {
                self.short(engine, down, *status, &[(b"location", location.as_bytes())], reason(*status));
                self.counters.requests_answered += 1;
                self.end_early(engine, down);
            }
        }
    }

    /// Asks for the body of a request that waits for that (RFC 9110 section 10.1.1): once, not when it comes anyway,
    /// and for a relay only when an upstream server has the head.
    pub(super) fn expect_continue<E: Engine>(&mut self, engine: &mut E, down: &mut Downstream) {
        const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        let exchange = &mut down.exchange;
        if exchange.head.expect_continue
            && !exchange.continued
            && !exchange.body_done
            && !exchange.answered
            && !exchange.is_http10()
            && down.input.is_empty()
        {
            exchange.continued = true;
            engine.send(down.conn, Chunk::Static(CONTINUE));
            self.given(engine, down, CONTINUE.len());
        }
    }

    fn send_object<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        objects: &files::ObjectStore,
        path: &str,
    ) {
        self.counters.to_files += 1;
        let exchange = &down.exchange;
        let Some(object) = objects.get(path) else {
            return self.refuse(engine, down, 404, "there is no such file");
        };
        if !matches!(exchange.head.method, Method::Get | Method::Head) {
            self.short(engine, down, 405, &[(b"allow", b"GET, HEAD")], "files can be read only");
            self.counters.requests_refused += 1;
            return self.end_early(engine, down);
        }
        let bytes = exchange.head_bytes.as_slice();
        let value = |known| exchange.head.value(bytes, known);
        let plan = files::plan(
            object,
            exchange.head.method,
            value(Known::IfNoneMatch),
            value(Known::IfModifiedSince),
            value(Known::Range),
            value(Known::IfRange),
        );
        let context = Context::of(&exchange.head, exchange.keep_alive && exchange.body_done);
        let bytes = respond::object(engine, down.conn, context, object, &plan, &mut self.now);
        self.given(engine, down, bytes);
        self.counters.status(plan.status());
        self.counters.requests_answered += 1;
        self.end_early(engine, down);
    }
}
