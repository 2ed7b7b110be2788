//! A request to the admin interface, read within limits of bytes, of time, and of how many there are at once.
//!
//! ```text
//!   accepted ──────────▶ head ──▶ body ──▶ asked ──▶ answered ──▶ idle ──first byte──▶ head …
//!       └── head_max ──────┘        └ body_max          └ take_max  └ idle_max
//! ```
//! Whoever stays longer in a state than its patience is answered 408, or just closed where nothing was asked.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::io::AsyncReadRent;

use crate::http1::body::BodyReader;
use crate::http1::head::{Known, Method, RequestHead};
use crate::http1::parse::{ParseLimits, Progress, parse_request};

use super::console;
use super::guard::{self, Asker};
use super::server::{Asked, Reply};

/// Connections at the same time, consoles among them.
pub const CONNECTIONS_MAX: usize = 128;
/// Deploys that are read at the same time: each may be [`DEPLOY_BYTES_MAX`] large.
const DEPLOYS_MAX: usize = 4;
/// Bytes of a deploy at most: it carries all sources of an application.
const DEPLOY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes of the body of any other request. None needs one; it is read only so that the answer arrives.
const BODY_BYTES_MAX: u64 = 64 * 1024;
const LIMITS: ParseLimits = ParseLimits { head_bytes_max: 16 * 1024, header_count_max: 100 };

/// How long a peer may take for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From one answer to the first byte of the next request.
    pub idle_max: Duration,
    /// For a head, the first one from the moment of the accept.
    pub head_max: Duration,
    /// For a body.
    pub body_max: Duration,
    /// For taking an answer.
    pub take_max: Duration,
}

/// An operator's programs are on this machine or on a line of some kind; nobody needs minutes.
pub const PATIENCE: Patience = Patience {
    idle_max: Duration::from_secs(60),
    head_max: Duration::from_secs(10),
    body_max: Duration::from_secs(60),
    take_max: Duration::from_secs(30),
};

/// Places for something of which there may be so many at once.
#[derive(Clone, Debug)]
pub struct Places(Rc<Cell<usize>>);

/// One place, free again when it is dropped.
#[derive(Debug)]
pub struct Place(Rc<Cell<usize>>);

impl Places {
    pub fn new(count: usize) -> Self {
        Self(Rc::new(Cell::new(count)))
    }

    /// One of them; `None` if all are taken.
    pub fn take(&self) -> Option<Place> {
        self.0.set(self.0.get().checked_sub(1)?);
        Some(Place(Rc::clone(&self.0)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// A request that was read to its end.
#[derive(Debug)]
pub struct Incoming {
    pub asked: Asked,
    pub keep_alive: bool,
    /// What is answered instead of what was asked for.
    pub refused: Option<Reply>,
}

/// Reads requests of all connections of one thread.
#[derive(Clone, Debug)]
pub struct Reader {
    pub patience: Patience,
    token: Rc<str>,
    deploys: Places,
}

/// How a read ended that gave nothing.
enum Ended {
    /// The peer has gone.
    Gone,
    /// The peer was too slow.
    Late,
}

impl Reader {
    pub fn new(token: &str, patience: Patience) -> Self {
        Self { patience, token: token.into(), deploys: Places::new(DEPLOYS_MAX) }
    }

    /// The next request of a connection, `bytes` being what was read of it already; `None` when the peer has gone.
    /// `is_first`: no request was read on this connection before.
    ///
    /// # Errors
    /// What is answered before the connection is closed.
    pub async fn next(
        &self,
        stream: &mut impl AsyncReadRent,
        bytes: &mut Vec<u8>,
        is_first: bool,
    ) -> Result<Option<Incoming>, Reply> {
        if bytes.is_empty() && !is_first && more(stream, bytes, Instant::now() + self.patience.idle_max).await.is_err()
        {
            return Ok(None);
        }
        let mut head = RequestHead::default();
        let until = Instant::now() + self.patience.head_max;
        loop {
            match parse_request(bytes, &LIMITS, &mut head) {
                Ok(Progress::Complete) => break,
                Ok(Progress::Incomplete) => match more(stream, bytes, until).await {
                    Ok(()) => {}
                    Err(Ended::Late) if !bytes.is_empty() => return Err(late("head", self.patience.head_max)),
                    Err(Ended::Gone | Ended::Late) => return Ok(None),
                },
                Err(reject) => return Err(Reply::text(reject.status, reject.reason)),
            }
        }
        let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        let path = text(head.path.of(bytes));
        let query = text(head.query.of(bytes));
        let refused = guard::check(&self.token, &asker(&head, bytes, &path)).err();
        let (method, keep_alive) = (head.method, head.keep_alive);
        bytes.drain(..head.head_bytes);
        let is_deploy = refused.is_none() && method == Method::Post && path == "/deploy";
        let place = if is_deploy { self.deploys.take() } else { None };
        if is_deploy && place.is_none() {
            return Err(Reply::text(503, format!("{DEPLOYS_MAX} deploys are under way already; try again")));
        }
        let mut reader = BodyReader::new(head.framing, if is_deploy { DEPLOY_BYTES_MAX } else { BODY_BYTES_MAX });
        let mut body = Vec::new();
        let until = Instant::now() + self.patience.body_max;
        while !reader.is_done() {
            let step = reader.read(bytes).map_err(|reject| Reply::text(reject.status, reject.reason))?;
            body.extend_from_slice(&bytes[step.data]);
            bytes.drain(..step.consumed);
            if !step.done && bytes.is_empty() {
                match more(stream, bytes, until).await {
                    Ok(()) => {}
                    Err(Ended::Late) => return Err(late("body", self.patience.body_max)),
                    Err(Ended::Gone) => return Ok(None),
                }
            }
        }
        Ok(Some(Incoming { asked: Asked { method, path, query, body }, keep_alive, refused }))
    }
}

fn late(what: &str, patience: Duration) -> Reply {
    Reply::text(408, format!("the {what} of a request must be here within {} s", patience.as_secs_f64()))
}

/// Who asks, by the head of the request.
fn asker(head: &RequestHead, bytes: &[u8], path: &str) -> Asker {
    let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    let field = |name: &[u8]| {
        let mut fields = head.headers.iter();
        let found = fields.find(|header| header.name.of(bytes).eq_ignore_ascii_case(name));
        found.map(|header| text(header.value.of(bytes)))
    };
    let is_order = !head.method.is_safe();
    Asker {
        is_order,
        is_console: !is_order && console::file(path).is_some(),
        host: Some(text(head.host.of(bytes))),
        origin: head.value(bytes, Known::Origin).map(text),
        fetch_site: field(b"sec-fetch-site"),
        fetch_mode: field(b"sec-fetch-mode"),
        fetch_dest: field(b"sec-fetch-dest"),
        bearer: field(b"authorization").and_then(|value| value.strip_prefix("Bearer ").map(Into::into)),
    }
}

/// Reads on, until a moment at most.
async fn more(stream: &mut impl AsyncReadRent, bytes: &mut Vec<u8>, until: Instant) -> Result<(), Ended> {
    let left = until.saturating_duration_since(Instant::now());
    let Ok((outcome, buffer)) = monoio::time::timeout(left, stream.read(vec![0; 16 * 1024])).await else {
        return Err(Ended::Late);
    };
    match outcome {
        Ok(count) if count > 0 => {
            bytes.extend_from_slice(&buffer[..count]);
            Ok(())
        }
        Ok(_) | Err(_) => Err(Ended::Gone),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Duration;

    use monoio::net::TcpStream;
    use monoio::{LegacyDriver, RuntimeBuilder};

    use super::{DEPLOYS_MAX, Patience, Places, Reader};

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(20);
    const PATIENT: Patience = Patience { idle_max: LONG, head_max: LONG, body_max: LONG, take_max: LONG };

    /// What a reader makes of a peer that sends this and then nothing: the path, or the status of the refusal.
    fn read(patience: Patience, sent: &[u8], is_first: bool) -> Result<Option<String>, u16> {
        let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut far = listener.accept().unwrap().0;
            far.write_all(sent).unwrap();
            let reader = Reader::new("", patience);
            let found = reader.next(&mut near, &mut Vec::new(), is_first).await;
            found.map(|found| found.map(|found| found.asked.path)).map_err(|reply| reply.status)
        })
    }

    #[test]
    fn who_stops_in_the_middle_is_not_waited_for() {
        let hasty_head = Patience { head_max: SHORT, ..PATIENT };
        let hasty_body = Patience { body_max: SHORT, ..PATIENT };
        assert_eq!(read(hasty_head, b"", true), Ok(None), "nothing at all");
        assert_eq!(read(Patience { idle_max: SHORT, ..PATIENT }, b"", false), Ok(None), "nothing more");
        assert_eq!(read(hasty_head, b"GET /status HTTP/1.1\r\nhost: localhost\r\n", true), Err(408));
        let half = b"POST /deploy HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf";
        assert_eq!(read(hasty_body, half, true), Err(408));
        let whole = b"POST /deploy HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nhalf";
        assert_eq!(read(PATIENT, whole, false), Ok(Some("/deploy".into())));
    }

    #[test]
    fn only_a_deploy_may_be_large() {
        let large = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 70000\r\n\r\n");
        assert_eq!(read(PATIENT, large("/servers/front/0/drain").as_bytes(), true), Err(413));
        let deploy = large("/deploy") + &"x".repeat(70_000);
        assert_eq!(read(PATIENT, deploy.as_bytes(), true), Ok(Some("/deploy".into())));
    }

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let places = Places::new(DEPLOYS_MAX);
        let mut taken: Vec<_> = (0..DEPLOYS_MAX).map(|_| places.take().unwrap()).collect();
        assert!(places.clone().take().is_none(), "all are taken");
        taken.pop();
        assert!(places.take().is_some());
    }
}
