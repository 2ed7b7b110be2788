//! Interim responses of an upstream server on their way to the browser (RFC 9110 section 15.2).

use crate::engine::Engine;
use crate::limits;

use super::FrontServer;
use super::connection::Downstream;
use super::respond::{self, Writer};
use super::upstream::UpstreamConnection;

impl FrontServer {
    /// The head in `up` is an interim one: passes it on without its hop-by-hop fields.
    ///
    /// A 100 is dropped, because the front has answered `Expect` itself; and so is everything for HTTP/1.0, which knows
    /// no interim responses.
    ///
    /// # Errors
    /// Why the upstream server's answer is given up.
    pub(super) fn relay_interim<E: Engine>(
        &mut self,
        engine: &mut E,
        down: &mut Downstream,
        up: &mut UpstreamConnection,
    ) -> Result<(), &'static str> {
        let head = up.input.take(up.head.head_bytes);
        down.exchange.interims += 1;
        if down.exchange.interims > limits::INTERIM_RESPONSES_MAX {
            return Err("the upstream server sends one interim response after the other");
        }
        if up.head.status != 100 && !down.exchange.is_http10() {
            let mut out = Writer::new(engine, down.conn);
            respond::interim(&mut out, &up.head, head.as_slice());
            let bytes = out.finish();
            self.given(engine, down, bytes);
        }
        // It says that the server is at work.
        up.deadline_ns = self.answer_deadline_ns(engine.now_ns(), &down.exchange, up);
        Ok(())
    }
}
