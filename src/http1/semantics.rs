//! What the fields of a head mean for its message: host, framing, connection. Everything that could mislead is
//! refused here, after the lines themselves were found sound.

use std::net::Ipv6Addr;

use super::head::{
    self, Framing, Header, Known, Method, RequestHead, ResponseHead, Span, TargetForm, Version, content_length, list,
};
use super::parse::Reject;
use super::scan;

/// Fields that `Connection` may name. Each is compared with each field when a message is passed on, so a long list
/// would be work without bytes; browsers name at most one, `HTTP2-Settings`.
const CONNECTION_FIELDS_MAX: usize = 16;

/// What `Connection` says (RFC 9110 section 7.6.1).
#[derive(Clone, Copy, Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Options that name fields.
    field_count: usize,
}

impl Options {
    /// RFC 9112 section 9.3: `close` wins; without it 1.1 lives on, and 1.0 only if asked to.
    fn keep_alive(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// The framing fields of either direction, gathered in one pass.
#[derive(Clone, Copy, Default)]
struct Fields {
    length: Option<(u64, usize)>,
    coding: Option<Span>,
    options: Options,
}

impl Fields {
    fn take(&mut self, bytes: &[u8], header: &Header, status: u16) -> Result<(), Reject> {
        let offset = header.value.range().start;
        if header.known == Known::ContentLength {
            // RFC 9112 section 6.3 lets equal lengths be merged; two fields are two chances to disagree.
            if self.length.is_some() {
                return Err(Reject::new(status, "Content-Length is repeated", header.name.range().start));
            }
            self.length = Some((content_length(header.value.of(bytes), offset, status)?, offset));
        } else if header.known == Known::TransferEncoding {
            if self.coding.is_some() {
                return Err(Reject::new(status, "Transfer-Encoding is repeated", header.name.range().start));
            }
            self.coding = Some(header.value);
        } else if header.known == Known::Connection {
            connection(header.value.of(bytes), offset, status, &mut self.options)?;
        }
        Ok(())
    }

    /// RFC 9112 section 6.1 and 6.3. `unknown` is the status for codings that we do not have.
    fn framing(&self, bytes: &[u8], version: Version, status: u16, unknown: u16) -> Result<Option<Framing>, Reject> {
        let Some(coding) = self.coding else {
            return Ok(self.length.map(|(length, _)| Framing::Length(length)));
        };
        let offset = coding.range().start;
        if let Some((_, length_offset)) = self.length {
            // RFC 9112 section 6.3 rule 3 and section 11.2: this is how requests are smuggled.
            return Err(Reject::new(status, "Content-Length beside Transfer-Encoding", offset.max(length_offset)));
        }
        if version == Version::Http10 {
            // RFC 9112 section 6.1: such a message has faulty framing, even where chunked is written.
            return Err(Reject::new(status, "Transfer-Encoding in HTTP/1.0", offset));
        }
        let value = coding.of(bytes);
        if value.eq_ignore_ascii_case(b"chunked") {
            return Ok(Some(Framing::Chunked));
        }
        let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
        // RFC 9112 section 6.3 rule 4 (chunked must be the last) and section 7.1 (it has no parameters, and comes once).
        if !value.rsplit(|byte| *byte == b',').next().map(head::trim).as_ref().is_some_and(is_chunked) {
            return Err(Reject::new(status, "the last transfer coding is not chunked", offset));
        }
        if list(value).filter(is_chunked).count() > 1 {
            return Err(Reject::new(status, "chunked is applied more than once", offset));
        }
        if list(value).count() == 1 {
            return Err(Reject::new(status, "empty element in Transfer-Encoding", offset));
        }
        // RFC 9112 section 6.1: a transfer coding that the server does not understand.
        Err(Reject::new(unknown, "unknown transfer coding", offset))
    }
}

fn connection(value: &[u8], offset: usize, status: u16, options: &mut Options) -> Result<(), Reject> {
    for option in list(value) {
        if option.eq_ignore_ascii_case(b"close") {
            options.close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            options.keep_alive = true;
        } else if option.eq_ignore_ascii_case(b"upgrade") {
            options.upgrade = true;
        } else if option.eq_ignore_ascii_case(b"host") || option.eq_ignore_ascii_case(b"content-length") {
            // RFC 9110 section 7.6.1: fields for all recipients must not be named; dropping these changes the message.
            return Err(Reject::new(status, "Connection names a field that every recipient needs", offset));
        } else if !option.iter().copied().all(scan::is_token) {
            return Err(Reject::new(status, "Connection option is no token", offset));
        } else {
            options.field_count += 1;
            if options.field_count > CONNECTION_FIELDS_MAX {
                return Err(Reject::new(status, "Connection names more fields than the limit", offset));
            }
        }
    }
    Ok(())
}

/// Fills host, framing, persistence, expectation and upgrade of a head whose lines are parsed.
pub(super) fn of_request(bytes: &[u8], head: &mut RequestHead) -> Result<(), Reject> {
    let mut fields = Fields::default();
    let modern = head.version == Version::Http11;
    let (mut host, mut expect, mut upgrade) = (None, false, false);
    for header in &head.headers {
        if header.known == Known::Other {
            continue;
        }
        fields.take(bytes, header, 400)?;
        if header.known == Known::Host {
            // RFC 9112 section 3.2: more than one Host is answered with 400.
            if host.is_some() {
                return Err(Reject::new(400, "Host is repeated", header.name.range().start));
            }
            host = Some(header.value);
        } else if header.known == Known::Upgrade {
            upgrade |= !header.value.is_empty();
        } else if header.known == Known::Expect && modern {
            // RFC 9110 section 10.1.1: ignored in HTTP/1.0; 417 for anything but 100-continue.
            if !header.value.of(bytes).eq_ignore_ascii_case(b"100-continue") {
                return Err(Reject::new(417, "unknown expectation", header.value.range().start));
            }
            expect = true;
        } else if header.known == Known::FramingMimic {
            // What RFC 3875 section 4.1.18 makes of both names is the same.
            return Err(Reject::new(400, "name that a gateway takes for a framing field", header.name.range().start));
        }
    }
    request_host(bytes, head, host)?;
    // RFC 9112 section 6.3 rule 7: a request without either field has no body; it is never delimited by the close.
    head.framing = fields.framing(bytes, head.version, 400, 501)?.unwrap_or(Framing::None);
    if head.method == Method::Trace && head.framing.has_body() {
        // RFC 9110 section 9.3.8: a client must not send content in a TRACE request.
        return Err(Reject::new(400, "TRACE with a body", 0));
    }
    // RFC 1945 section 8.3: a body without a length may follow all the same, until the close. It is not read as another
    // request: the answer to this one is the connection's last.
    let may_hide_a_body = head.version == Version::Http10
        && head.framing == Framing::None
        && !matches!(head.method, Method::Get | Method::Head | Method::Options | Method::Delete);
    head.keep_alive = fields.options.keep_alive(head.version) && !may_hide_a_body;
    head.connection_names_fields = fields.options.field_count > 0;
    // RFC 9110 section 7.8: Upgrade counts only with its connection option, and is ignored in HTTP/1.0.
    head.upgrade = modern && upgrade && fields.options.upgrade;
    head.expect_continue = expect && head.framing.has_body();
    Ok(())
}

/// RFC 9112 section 3.2 and RFC 9110 section 7.2.
fn request_host(bytes: &[u8], head: &mut RequestHead, field: Option<Span>) -> Result<(), Reject> {
    let Some(field) = field else {
        if head.version == Version::Http11 {
            return Err(Reject::new(400, "Host is missing", head.head_bytes));
        }
        return Ok(());
    };
    let offset = field.range().start;
    let value = field.of(bytes);
    check_host(value, offset, 400)?;
    if head.host.is_empty() {
        head.host = field;
    }
    // RFC 9112 section 3.2.2: an absolute target has named the host already, and the field is ignored.
    debug_assert!(head.form != TargetForm::Absolute || !head.host.is_empty());
    Ok(())
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2, RFC 3986 section 3.2): a name, an IPv4 address or a bracketed IPv6
/// address. An http URI has a host (RFC 9110 section 4.2.1), so an empty one is refused, as are percent-encoding,
/// userinfo, paths, lists and port 0.
pub(super) fn check_host(value: &[u8], offset: usize, status: u16) -> Result<(), Reject> {
    if value.is_empty() {
        return Err(Reject::new(status, "host is empty", offset));
    }
    let name_end = if value[0] == b'[' {
        let Some(close) = value.iter().position(|byte| *byte == b']') else {
            return Err(Reject::new(status, "IPv6 address without `]`", offset));
        };
        let address = std::str::from_utf8(&value[1..close]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        if address.is_none() {
            return Err(Reject::new(status, "no IPv6 address between the brackets", offset + 1));
        }
        close + 1
    } else {
        value.iter().position(|byte| !scan::is_host(*byte)).unwrap_or(value.len())
    };
    match value[name_end..] {
        [] if name_end > 0 => Ok(()),
        [b':', ref port @ ..] if name_end > 0 => check_port(port, offset + name_end + 1, status),
        _ => Err(Reject::new(status, "byte that a host may not have", offset + name_end)),
    }
}

/// `*DIGIT` (RFC 3986 section 3.2.3) that names a TCP port.
fn check_port(port: &[u8], offset: usize, status: u16) -> Result<(), Reject> {
    let mut number = 0u32;
    for (index, byte) in port.iter().enumerate() {
        if !byte.is_ascii_digit() {
            return Err(Reject::new(status, "port is no number", offset + index));
        }
        number = number.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
    }
    if !port.is_empty() && !(1..=65535).contains(&number) {
        return Err(Reject::new(status, "port is not from 1 to 65535", offset));
    }
    Ok(())
}

/// Fills framing and persistence of a response whose lines are parsed (RFC 9112 section 6.3, in the order of its rules).
pub(super) fn of_response(bytes: &[u8], request_method: Method, head: &mut ResponseHead) -> Result<(), Reject> {
    let mut fields = Fields::default();
    for header in &head.headers {
        if header.known != Known::Other {
            fields.take(bytes, header, 502)?;
        }
    }
    let declared = fields.framing(bytes, head.version, 502, 502)?;
    let bodiless_status = matches!(head.status, 100..=199 | 204);
    if bodiless_status && fields.coding.is_some() {
        // RFC 9112 section 6.1: a server must not send Transfer-Encoding in 1xx and 204.
        return Err(Reject::new(502, "Transfer-Encoding in a response without a body", 0));
    }
    if let Some((1.., offset)) = fields.length.filter(|_| bodiless_status) {
        // RFC 9110 section 8.6: neither has a length. Zero is what some servers write, and it misleads nobody.
        return Err(Reject::new(502, "Content-Length in a response without a body", offset));
    }
    let bodiless = bodiless_status || head.status == 304 || request_method == Method::Head;
    head.framing = if bodiless { Framing::None } else { declared.unwrap_or(Framing::UntilClose) };
    head.connection_names_fields = fields.options.field_count > 0;
    // 101 hands the connection to another protocol (RFC 9110 section 15.2.2): no further exchange of ours follows.
    head.keep_alive =
        fields.options.keep_alive(head.version) && head.framing != Framing::UntilClose && head.status != 101;
    Ok(())
}
