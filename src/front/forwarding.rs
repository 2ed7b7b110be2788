//! The request as it goes upstream: what concerns this hop only is taken out, the request's way is told.
//!
//! Architecture invariant: an upstream server reads nothing about a request's way that neither this front nor a peer
//! in `forwarding.trusted` has said.

use std::io::Write as _;
use std::net::IpAddr;

use crate::http1::encode::{self, Sink};
use crate::http1::head::{Framing, Header, Known, Method, RequestHead, TargetForm, Version};
use crate::profile::forwarding::Forwarding;

use super::respond::VIA;

/// What an upstream server is asked, and by whom.
pub(super) struct Asked<'a> {
    pub head: &'a RequestHead,
    /// What the head's spans point into.
    pub bytes: &'a [u8],
    /// `None` for a peer on a Unix socket.
    pub peer: Option<IpAddr>,
    /// The browser offers to change the protocol, and the offer is passed on.
    pub upgrade: bool,
}

impl Asked<'_> {
    /// Writes the head: hop-by-hop fields taken out (RFC 9110 section 7.6.1), `Expect` too, which the front answers
    /// itself (section 10.1.1), and ours put in.
    pub fn encode<S: Sink>(&self, out: &mut S, policy: &Forwarding) {
        let (head, bytes) = (self.head, self.bytes);
        let trusted = policy.trusts(self.peer);
        let path = if head.form == TargetForm::Asterisk { b"*" } else { head.path.of(bytes) };
        encode::request_line(out, head.method_text.of(bytes), path, head.query_text(bytes));
        // First, as RFC 9110 section 7.2 advises; an absolute target has overruled the field (RFC 9112 section 3.2.2).
        encode::header(out, b"host", if head.host.is_empty() { b"upstream" } else { head.host.of(bytes) });
        for header in &head.headers {
            self.field(out, header, trusted);
        }
        if self.upgrade
            && let Some(protocols) = head.value(bytes, Known::Upgrade)
        {
            encode::header(out, b"connection", b"upgrade");
            encode::header(out, b"upgrade", protocols);
        }
        if policy.headers.has_x_forwarded() {
            self.x_forwarded(out, trusted);
        } else if trusted {
            self.keep(out, &[Known::XForwardedFor, Known::XForwardedProto, Known::XForwardedHost]);
        }
        if policy.headers.has_forwarded() {
            self.forwarded(out, trusted);
        } else if trusted {
            self.keep(out, &[Known::Forwarded]);
        }
        let version: &[u8] = if head.version == Version::Http10 { b"1.0 " } else { b"1.1 " };
        out.put(b"via: ");
        self.earlier(out, Known::Via);
        out.put(version);
        out.put(VIA);
        out.put(b"\r\n\r\n");
    }

    fn field<S: Sink>(&self, out: &mut S, header: &Header, trusted: bool) {
        let (head, bytes) = (self.head, self.bytes);
        match header.known {
            // Written already, or written at the end.
            Known::Host
            | Known::Via
            | Known::Forwarded
            | Known::XForwardedFor
            | Known::XForwardedHost
            | Known::XForwardedProto => return,
            Known::Expect | Known::ForwardingMimic => return,
            Known::XRealIp if !trusted => return,
            Known::Other if !trusted && is_about_the_way(header.name.of(bytes)) => return,
            Known::TransferEncoding => {}
            Known::ContentLength => {
                if let Framing::Length(length) = head.framing {
                    // Without leading zeros, which some take for octal.
                    return encode::content_length(out, length);
                }
            }
            Known::MaxForwards if head.method == Method::Options => {
                if let Some(hops) = max_forwards(header.value.of(bytes)) {
                    // RFC 9110 section 7.6.2.
                    return encode::header_integer(out, b"max-forwards", hops.saturating_sub(1));
                }
            }
            _ if head.is_hop_by_hop(bytes, header) => return,
            _ => {}
        }
        encode::header(out, header.name.of(bytes), header.value.of(bytes));
    }

    /// The values of all fields of this name, each with a comma behind it (RFC 9110 section 5.3).
    fn earlier<S: Sink>(&self, out: &mut S, known: Known) -> bool {
        let mut found = false;
        for header in self.head.headers.iter().filter(|header| header.known == known && !header.value.is_empty()) {
            out.put(header.value.of(self.bytes));
            out.put(b", ");
            found = true;
        }
        found
    }

    /// Passes on what a trusted peer says in fields that this front does not write.
    fn keep<S: Sink>(&self, out: &mut S, names: &[Known]) {
        for header in self.head.headers.iter().filter(|header| names.contains(&header.known)) {
            encode::header(out, header.name.of(self.bytes), header.value.of(self.bytes));
        }
    }

    fn x_forwarded<S: Sink>(&self, out: &mut S, trusted: bool) {
        if let Some(peer) = self.peer {
            out.put(b"x-forwarded-for: ");
            if trusted {
                self.earlier(out, Known::XForwardedFor);
            }
            let mut text = [0; ADDRESS_BYTES];
            out.put(display(&mut text, peer));
            out.put(b"\r\n");
        } else if trusted {
            // A peer on a Unix socket has no address to add.
            self.keep(out, &[Known::XForwardedFor]);
        }
        // These two are about the first hop: a trusted peer knows it, and one value is all that readers expect.
        for (known, name, ours) in [
            (Known::XForwardedProto, &b"x-forwarded-proto"[..], &b"http"[..]),
            (Known::XForwardedHost, b"x-forwarded-host", self.head.host.of(self.bytes)),
        ] {
            let theirs = if trusted { self.head.value(self.bytes, known) } else { None };
            let value = theirs.filter(|value| !value.is_empty()).unwrap_or(ours);
            if !value.is_empty() {
                encode::header(out, name, value);
            }
        }
    }

    /// RFC 7239 section 4: an IPv6 address is bracketed and quoted, and so is what has a port.
    fn forwarded<S: Sink>(&self, out: &mut S, trusted: bool) {
        out.put(b"forwarded: ");
        if trusted {
            self.earlier(out, Known::Forwarded);
        }
        let mut text = [0; ADDRESS_BYTES];
        match self.peer.map(|peer| peer.to_canonical()) {
            Some(peer @ IpAddr::V4(_)) => {
                out.put(b"for=");
                out.put(display(&mut text, peer));
            }
            Some(peer @ IpAddr::V6(_)) => {
                out.put(b"for=\"[");
                out.put(display(&mut text, peer));
                out.put(b"]\"");
            }
            // Section 6.2.
            None => out.put(b"for=unknown"),
        }
        if !self.head.host.is_empty() {
            // The parser lets no quote or backslash into a host.
            out.put(b";host=\"");
            out.put(self.head.host.of(self.bytes));
            out.put(b"\"");
        }
        out.put(b";proto=http\r\n");
    }
}

/// Fields of the family that tells where a request came from, whatever they are called in the end.
fn is_about_the_way(name: &[u8]) -> bool {
    const FAMILY: &[u8] = b"x-forwarded-";
    name.len() > FAMILY.len()
        && name
            .iter()
            .zip(FAMILY)
            .all(|(byte, expected)| byte.eq_ignore_ascii_case(expected) || (*byte == b'_' && *expected == b'-'))
}

/// How many more hops `Max-Forwards` allows (RFC 9110 section 7.6.2); `None` if it is no number.
pub(super) fn max_forwards(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Bytes that hold every IPv6 address, also with an embedded IPv4 one.
const ADDRESS_BYTES: usize = 48;

/// An address as text, without allocating; an IPv4 address that came over IPv6 as what it is.
fn display(text: &mut [u8; ADDRESS_BYTES], address: IpAddr) -> &[u8] {
    let address = address.to_canonical();
    if let IpAddr::V4(address) = address {
        // Every proxied request has one, and formatting it the general way costs more than its whole request line.
        let mut end = 0;
        for (index, octet) in address.octets().into_iter().enumerate() {
            if index > 0 {
                text[end] = b'.';
                end += 1;
            }
            for divisor in [100, 10, 1] {
                if octet >= divisor || divisor == 1 {
                    text[end] = b'0' + octet / divisor % 10;
                    end += 1;
                }
            }
        }
        return &text[..end];
    }
    let mut rest = &mut text[..];
    let _ = write!(rest, "{address}");
    let left = rest.len();
    &text[..ADDRESS_BYTES - left]
}

#[cfg(test)]
mod tests {
    use super::{ADDRESS_BYTES, Asked, display, max_forwards};
    use crate::http1::head::RequestHead;
    use crate::http1::parse::{ParseLimits, Progress, parse_request};
    use crate::profile::forwarding::{ForwardedHeaders, Forwarding, Network};

    /// What goes upstream, a line each, without the request line.
    fn lines(request: &str, peer: &str, headers: ForwardedHeaders, upgrade: bool) -> Vec<String> {
        let mut head = RequestHead::default();
        let bytes = request.as_bytes();
        assert_eq!(parse_request(bytes, &ParseLimits::default(), &mut head), Ok(Progress::Complete), "{request}");
        let policy = Forwarding {
            trusted: vec![Network::try_from("10.0.0.0/8".to_owned()).unwrap()],
            headers,
            server_timing: false,
        };
        let mut out = Vec::new();
        Asked { head: &head, bytes, peer: peer.parse().ok(), upgrade }.encode(&mut out, &policy);
        let text = String::from_utf8(out).unwrap();
        let mut again = RequestHead::default();
        assert_eq!(
            parse_request(text.as_bytes(), &ParseLimits::default(), &mut again),
            Ok(Progress::Complete),
            "what goes upstream is sound: {text}"
        );
        text.strip_suffix("\r\n\r\n").unwrap().split("\r\n").map(str::to_owned).collect()
    }

    fn with(fields: &str) -> String {
        format!("GET /a HTTP/1.1\r\nHost: site:80\r\n{fields}\r\n")
    }

    const SPOOFED: &str = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX_Forwarded_For: 3\r\nX-Real-IP: 4\r\n\
        Forwarded: for=5\r\n";

    #[test]
    fn addresses_are_written_as_the_library_writes_them() {
        for text in ["0.0.0.0", "1.20.255.100", "10.9.8.101", "::1", "2001:db8::ff", "fe80::1:2:3:4"] {
            let address: std::net::IpAddr = text.parse().unwrap();
            assert_eq!(display(&mut [0; ADDRESS_BYTES], address), text.as_bytes());
        }
        let mapped = "::ffff:192.0.2.10".parse().unwrap();
        assert_eq!(display(&mut [0; ADDRESS_BYTES], mapped), b"192.0.2.10");
    }

    #[test]
    fn an_untrusted_peers_word_is_replaced() {
        assert_eq!(
            lines(&with(SPOOFED), "203.0.113.7", ForwardedHeaders::Both, false),
            [
                "GET /a HTTP/1.1",
                "host: site:80",
                "x-forwarded-for: 203.0.113.7",
                "x-forwarded-proto: http",
                "x-forwarded-host: site:80",
                "forwarded: for=203.0.113.7;host=\"site:80\";proto=http",
                "via: 1.1 twintier",
            ]
        );
        assert_eq!(
            lines(&with(SPOOFED), "203.0.113.7", ForwardedHeaders::None, false),
            ["GET /a HTTP/1.1", "host: site:80", "via: 1.1 twintier"]
        );
    }

    #[test]
    fn a_trusted_peers_word_is_added_to() {
        assert_eq!(
            lines(&with(SPOOFED), "10.0.0.9", ForwardedHeaders::Both, false),
            [
                "GET /a HTTP/1.1",
                "host: site:80",
                "X-Forwarded-Port: 1",
                "X-Real-IP: 4",
                "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.9",
                "x-forwarded-proto: https",
                "x-forwarded-host: evil",
                "forwarded: for=5, for=10.0.0.9;host=\"site:80\";proto=http",
                "via: 1.1 twintier",
            ]
        );
        let none = lines(&with(SPOOFED), "10.0.0.9", ForwardedHeaders::None, false);
        assert!(none.contains(&"Forwarded: for=5".to_owned()) && none.contains(&"X-Forwarded-For: 1.1.1.1".to_owned()));
    }

    #[test]
    fn addresses_are_written_as_rfc_7239_wants_them() {
        let last = |peer: &str| lines(&with(""), peer, ForwardedHeaders::Forwarded, false)[2].clone();
        assert_eq!(last("2001:db8::1"), "forwarded: for=\"[2001:db8::1]\";host=\"site:80\";proto=http");
        assert_eq!(last("::ffff:192.0.2.1"), "forwarded: for=192.0.2.1;host=\"site:80\";proto=http");
        assert_eq!(last("unix"), "forwarded: for=unknown;host=\"site:80\";proto=http");
        let x = lines(&with(""), "2001:db8::1", ForwardedHeaders::XForwarded, false);
        assert_eq!(x[2], "x-forwarded-for: 2001:db8::1");
    }

    #[test]
    fn what_concerns_one_hop_stays_here() {
        let fields = "Connection: keep-alive, X-Mine, x-forwarded-for\r\nKeep-Alive: 5\r\nX-Mine: 1\r\nTE: trailers\r\n\
            Proxy-Connection: close\r\nProxy-Authorization: b\r\nUpgrade: websocket\r\nX-Yours: 2\r\nVia: 1.0 a\r\n\
            Via: 1.1 b\r\nTrailer: x\r\nCookie: c\r\n";
        assert_eq!(
            lines(&with(fields), "203.0.113.7", ForwardedHeaders::XForwarded, false)[2..],
            [
                "X-Yours: 2",
                "Trailer: x",
                "Cookie: c",
                "x-forwarded-for: 203.0.113.7",
                "x-forwarded-proto: http",
                "x-forwarded-host: site:80",
                "via: 1.0 a, 1.1 b, 1.1 twintier",
            ]
        );
    }

    #[test]
    fn the_target_is_passed_on_in_origin_form() {
        let request = "OPTIONS http://a:1?b HTTP/1.1\r\nHost: other\r\nMax-Forwards: 3\r\n\r\n";
        let sent = lines(request, "unix", ForwardedHeaders::None, false);
        assert_eq!(sent, ["OPTIONS /?b HTTP/1.1", "host: a:1", "max-forwards: 2", "via: 1.1 twintier"]);
        let request = "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(lines(request, "unix", ForwardedHeaders::None, false)[0], "OPTIONS * HTTP/1.1");
        let request = "POST /p? HTTP/1.0\r\nContent-Length: 007\r\nVia: 1.0 x\r\n\r\n";
        let sent = lines(request, "unix", ForwardedHeaders::None, false);
        assert_eq!(sent, ["POST /p? HTTP/1.1", "host: upstream", "content-length: 7", "via: 1.0 x, 1.0 twintier"]);
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
        let sent = lines(request, "unix", ForwardedHeaders::None, false);
        assert_eq!(sent[2..], ["Transfer-Encoding: chunked", "via: 1.1 twintier"]);
    }

    #[test]
    fn an_offer_to_change_the_protocol_is_passed_on_when_it_is_to_be() {
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
        let sent = lines(&with(fields), "unix", ForwardedHeaders::None, true);
        assert_eq!(
            sent[2..],
            ["Sec-WebSocket-Key: k", "connection: upgrade", "upgrade: websocket", "via: 1.1 twintier"]
        );
        let sent = lines(&with(fields), "unix", ForwardedHeaders::None, false);
        assert_eq!(sent[2..], ["Sec-WebSocket-Key: k", "via: 1.1 twintier"]);
    }

    #[test]
    fn max_forwards_is_a_plain_number() {
        assert_eq!([max_forwards(b"0"), max_forwards(b"17")], [Some(0), Some(17)]);
        for value in [&b""[..], b"-1", b"+1", b"1 ", b"1, 2", b"99999999999999999999"] {
            assert_eq!(max_forwards(value), None);
        }
    }
}
