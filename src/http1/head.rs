//! The parts of a message head. A head owns no text: every part is a [`Span`] of the bytes it was parsed from, so
//! parsing copies nothing and a head that is used again allocates nothing.

use std::ops::Range;

use super::parse::Reject;

/// Request methods. `Other` keeps unknown methods apart from known ones without keeping their text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 section 9.1): `get` is [`Method::Other`].
    pub fn from_bytes(text: &[u8]) -> Self {
        match text {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// The method's text; `OTHER` for methods whose text only the head's span knows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
            Self::Connect => "CONNECT",
            Self::Other => "OTHER",
        }
    }

    /// The client asks for no change of state (RFC 9110 section 9.2.1).
    pub const fn is_safe(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Options | Self::Trace => true,
            Self::Post | Self::Put | Self::Delete | Self::Patch | Self::Connect | Self::Other => false,
        }
    }

    /// Twice has the effect of once (RFC 9110 section 9.2.2): may be retried after a failure.
    pub const fn is_idempotent(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Options | Self::Trace | Self::Put | Self::Delete => true,
            Self::Post | Self::Patch | Self::Connect | Self::Other => false,
        }
    }
}

/// The protocol version of a message. A later 1.x counts as 1.1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// A part of the bytes that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Offsets of a window that the parser keeps below 4 GiB, see [`super::parse::ParseLimits`].
    pub(super) fn new(start: usize, end: usize) -> Self {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: offset(start), end: offset(end) }
    }

    /// The text, given the bytes that were parsed. Empty if they are not long enough.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or(&[])
    }

    /// The offsets as a range: no loss, as `usize` has at least 32 bits wherever io_uring exists.
    pub const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Bytes of the part.
    pub const fn bytes(self) -> u32 {
        self.end - self.start
    }
}

/// Header names that the proxy treats in a special way; everything else is passed on as [`Known::Other`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Known {
    Accept,
    AcceptEncoding,
    Allow,
    Authorization,
    CacheControl,
    Connection,
    ContentEncoding,
    ContentLength,
    ContentRange,
    ContentType,
    Cookie,
    Date,
    Etag,
    Expect,
    Forwarded,
    Host,
    IfMatch,
    IfModifiedSince,
    IfNoneMatch,
    IfRange,
    IfUnmodifiedSince,
    KeepAlive,
    LastModified,
    Location,
    MaxForwards,
    Origin,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Range,
    RetryAfter,
    Server,
    ServerTiming,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XCsrfToken,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XRealIp,
    /// A framing field's name with `_` for a `-`, such as `Content_Length`: servers behind a gateway interface see no
    /// difference, so a request that has it is refused.
    FramingMimic,
    /// The same for a field that tells where a request came from: it is not passed on.
    ForwardingMimic,
    #[default]
    Other,
}

impl Known {
    /// Names are case-insensitive (RFC 9110 section 5.1). The length alone excludes almost every candidate.
    pub fn from_name(name: &[u8]) -> Self {
        let candidates: &[(&[u8], Self)] = match name.len() {
            2 => &[(b"te", Self::Te)],
            3 => &[(b"via", Self::Via)],
            4 => &[(b"host", Self::Host), (b"date", Self::Date), (b"etag", Self::Etag)],
            5 => &[(b"range", Self::Range), (b"allow", Self::Allow)],
            6 => &[
                (b"accept", Self::Accept),
                (b"cookie", Self::Cookie),
                (b"expect", Self::Expect),
                (b"server", Self::Server),
                (b"origin", Self::Origin),
            ],
            7 => &[(b"upgrade", Self::Upgrade), (b"trailer", Self::Trailer)],
            8 => &[(b"if-range", Self::IfRange), (b"if-match", Self::IfMatch), (b"location", Self::Location)],
            9 => &[(b"forwarded", Self::Forwarded), (b"x-real-ip", Self::XRealIp)],
            10 => &[
                (b"connection", Self::Connection),
                (b"user-agent", Self::UserAgent),
                (b"keep-alive", Self::KeepAlive),
                (b"set-cookie", Self::SetCookie),
            ],
            11 => &[(b"retry-after", Self::RetryAfter)],
            12 => &[
                (b"content-type", Self::ContentType),
                (b"x-csrf-token", Self::XCsrfToken),
                (b"max-forwards", Self::MaxForwards),
            ],
            13 => &[
                (b"authorization", Self::Authorization),
                (b"cache-control", Self::CacheControl),
                (b"content-range", Self::ContentRange),
                (b"if-none-match", Self::IfNoneMatch),
                (b"last-modified", Self::LastModified),
                (b"server-timing", Self::ServerTiming),
            ],
            14 => &[(b"content-length", Self::ContentLength)],
            15 => &[(b"accept-encoding", Self::AcceptEncoding), (b"x-forwarded-for", Self::XForwardedFor)],
            16 => &[
                (b"content-encoding", Self::ContentEncoding),
                (b"x-forwarded-host", Self::XForwardedHost),
                (b"proxy-connection", Self::ProxyConnection),
            ],
            17 => &[
                (b"transfer-encoding", Self::TransferEncoding),
                (b"if-modified-since", Self::IfModifiedSince),
                (b"x-forwarded-proto", Self::XForwardedProto),
            ],
            18 => &[(b"proxy-authenticate", Self::ProxyAuthenticate)],
            19 => {
                &[(b"if-unmodified-since", Self::IfUnmodifiedSince), (b"proxy-authorization", Self::ProxyAuthorization)]
            }
            _ => &[],
        };
        let [first, .., last] = name else { return Self::Other };
        let (first, last) = (first | 0x20, last | 0x20);
        // Two bytes tell almost all names of one length apart; only then is the rest worth comparing.
        let same = |text: &&(&[u8], Self)| {
            text.0[0] == first && text.0.ends_with(&[last]) && name.eq_ignore_ascii_case(text.0)
        };
        match candidates.iter().find(same) {
            Some((_, known)) => *known,
            None if matches!(name.len(), 9 | 14..=17) && name.contains(&b'_') => Self::mimic(name),
            None => Self::Other,
        }
    }

    /// A name that is a known one but for `_` in the place of `-`.
    fn mimic(name: &[u8]) -> Self {
        let is = |text: &[u8]| {
            name.len() == text.len()
                && name
                    .iter()
                    .zip(text)
                    .all(|(byte, expected)| byte.eq_ignore_ascii_case(expected) || (*byte == b'_' && *expected == b'-'))
        };
        if is(b"content-length") || is(b"transfer-encoding") {
            Self::FramingMimic
        } else if is(b"x-forwarded-for")
            || is(b"x-forwarded-host")
            || is(b"x-forwarded-proto")
            || is(b"x-forwarded-port")
            || is(b"x-real-ip")
        {
            Self::ForwardingMimic
        } else {
            Self::Other
        }
    }

    /// Fields about one connection that a proxy consumes and never passes on (RFC 9110 section 7.6.1, RFC 9112
    /// section 9.6 and appendix C.2.2). Fields that `Connection` names besides these: [`RequestHead::is_hop_by_hop`].
    /// `Trailer` is none: it announces what follows a body, and goes as far as the body's chunks do.
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub name: Span,
    /// Without the white space around it; may be empty.
    pub value: Span,
    pub known: Known,
}

/// How the end of the body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Everything until the peer closes; responses only.
    UntilClose,
}

impl Framing {
    /// At least one body byte or chunk follows the head.
    pub const fn has_body(self) -> bool {
        match self {
            Self::None | Self::Length(0) => false,
            Self::Length(_) | Self::Chunked | Self::UntilClose => true,
        }
    }
}

/// The form of the request target (RFC 9112 section 3.2). The authority form is CONNECT's, which is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    #[default]
    Origin,
    /// `http://host/path?query`.
    Absolute,
    /// `OPTIONS *`, or OPTIONS of an absolute URI with neither path nor query, which is passed on as `*`.
    Asterisk,
}

/// A parsed request head. All spans refer to the bytes that were given to the parser.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    pub method: Method,
    pub method_text: Span,
    /// The request target as received.
    pub target: Span,
    pub form: TargetForm,
    /// The path as received, never empty: `/` also where an absolute URI has none (then also if the form counts as
    /// asterisk), `*` for `OPTIONS *`.
    pub path: Span,
    /// Behind `?`; empty if absent, see [`RequestHead::query_text`].
    pub query: Span,
    pub version: Version,
    pub headers: Vec<Header>,
    /// Host and port of the target URI, else of the `Host` field; empty only for HTTP/1.0 without `Host`. An absolute
    /// target overrules the field (RFC 9112 section 3.2.2): pass on this one.
    pub host: Span,
    pub framing: Framing,
    /// The client expects the connection to live on (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// `Connection` names fields of this message (RFC 9110 section 7.6.1), see [`RequestHead::is_hop_by_hop`].
    pub connection_names_fields: bool,
    /// The client waits for a 100 before it sends its body (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// The client offers to change the protocol (RFC 9110 section 7.8).
    pub upgrade: bool,
    /// Bytes of the head with the empty line; the body starts here.
    pub head_bytes: usize,
}

impl RequestHead {
    /// Forgets the last request and keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = Self { headers, ..Self::default() };
    }

    /// The query, which may be empty; `None` if the target has no `?`. A proxy passes on which of both it is (RFC 9110
    /// section 7.7).
    pub fn query_text<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        // A query begins behind a method and a path, never at the first byte.
        (self.query.end > 0).then(|| self.query.of(bytes))
    }

    /// The first field of this name.
    pub fn find(&self, known: Known) -> Option<&Header> {
        self.headers.iter().find(|header| header.known == known)
    }

    /// The value of the first field of this name.
    pub fn value<'b>(&self, bytes: &'b [u8], known: Known) -> Option<&'b [u8]> {
        self.find(known).map(|header| header.value.of(bytes))
    }

    /// The field concerns this connection only: by its name, or because `Connection` names it (RFC 9110 section 7.6.1).
    pub fn is_hop_by_hop(&self, bytes: &[u8], header: &Header) -> bool {
        header.known.is_hop_by_hop()
            || (self.connection_names_fields && is_named_by_connection(&self.headers, bytes, header))
    }
}

/// A parsed response head. All spans refer to the bytes that were given to the parser.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    pub version: Version,
    /// 100 to 599.
    pub status: u16,
    /// May be empty.
    pub reason: Span,
    pub headers: Vec<Header>,
    pub framing: Framing,
    /// The connection may carry another exchange once the body was read to its end.
    pub keep_alive: bool,
    /// `Connection` names fields of this message (RFC 9110 section 7.6.1), see [`ResponseHead::is_hop_by_hop`].
    pub connection_names_fields: bool,
    /// Bytes of the head with the empty line; the body starts here.
    pub head_bytes: usize,
}

impl ResponseHead {
    /// Forgets the last response and keeps the memory.
    pub fn clear(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = Self { headers, ..Self::default() };
    }

    /// Another response to the same request follows (RFC 9110 section 15.2); 101 is the last of its kind.
    pub const fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// The first field of this name.
    pub fn find(&self, known: Known) -> Option<&Header> {
        self.headers.iter().find(|header| header.known == known)
    }

    /// The value of the first field of this name.
    pub fn value<'b>(&self, bytes: &'b [u8], known: Known) -> Option<&'b [u8]> {
        self.find(known).map(|header| header.value.of(bytes))
    }

    /// The field concerns this connection only: by its name, or because `Connection` names it (RFC 9110 section 7.6.1).
    pub fn is_hop_by_hop(&self, bytes: &[u8], header: &Header) -> bool {
        header.known.is_hop_by_hop()
            || (self.connection_names_fields && is_named_by_connection(&self.headers, bytes, header))
    }
}

fn is_named_by_connection(headers: &[Header], bytes: &[u8], header: &Header) -> bool {
    let name = header.name.of(bytes);
    headers
        .iter()
        .filter(|each| each.known == Known::Connection)
        .any(|each| list(each.value.of(bytes)).any(|option| option.eq_ignore_ascii_case(name)))
}

/// The non-empty elements of a comma-separated list (RFC 9110 section 5.6.1), for fields without quoted strings.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Without optional white space around it (RFC 9110 section 5.6.3).
pub fn trim(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let [b' ' | b'\t', tail @ ..] = rest {
        rest = tail;
    }
    while let [front @ .., b' ' | b'\t'] = rest {
        rest = front;
    }
    rest
}

/// `1*DIGIT` without sign, white space or overflow (RFC 9110 section 8.6).
pub(super) fn content_length(value: &[u8], offset: usize, status: u16) -> Result<u64, Reject> {
    if value.is_empty() {
        return Err(Reject::new(status, "Content-Length is empty", offset));
    }
    let mut length = 0u64;
    for (index, byte) in value.iter().enumerate() {
        if !byte.is_ascii_digit() {
            return Err(Reject::new(status, "Content-Length is no plain number", offset + index));
        }
        length = length
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
            .ok_or(Reject::new(status, "Content-Length is too large to be true", offset + index))?;
    }
    Ok(length)
}
