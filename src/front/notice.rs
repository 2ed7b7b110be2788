//! What a front says by itself, instead of an answer of the application: a small page for those who read pages, and the
//! same sentence as a line of text for everybody else.
//!
//! Nothing is allocated for it: a page is constant pieces around a status and a sentence of the program's own.

use crate::http1::encode::{self, Sink};

/// So much of a head that is not sound is searched for what its sender reads; browsers say it early.
pub const LOOK_BYTES_MAX: usize = 4096;

const PAGE: &[u8] = b"<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
    <style>\n\
    html { font: 100%/1.55 system-ui, sans-serif; color: #18211f; background: #f4f6f5 }\n\
    main { max-width: 34rem; margin: 12vh auto; padding: 0 1.25rem; overflow-wrap: anywhere }\n\
    h1 { font-size: 1.65rem; line-height: 1.2; margin: 0 0 .6rem }\n\
    small { color: #56646a; font-weight: 400; font-size: .6em }\n\
    .why { color: #56646a; font-size: .92rem }\n\
    a { display: inline-block; margin-top: .4rem; padding: .5rem 1.1rem; border-radius: .45rem; font-weight: 600; \
    text-decoration: none; color: #fff; background: #0f6670 }\n\
    a:focus-visible { outline: 3px solid #0f6670; outline-offset: 2px }\n\
    @media (prefers-color-scheme: dark) {\n\
    html { color: #e5ecea; background: #0f1518 } small, .why { color: #a3b2b4 }\n\
    a { color: #06191c; background: #78cdd6 } a:focus-visible { outline-color: #78cdd6 } }\n\
    @media (forced-colors: active) { a { border: 1px solid } }\n\
    </style>\n<title>";
const AGAIN: &[u8] = b"<p><a href=\"\">Try again</a></p>\n";
const END: &[u8] = b"</main>\n</body>\n</html>\n";

/// One answer of a front's own.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    pub status: u16,
    /// Why, in the program's own words.
    pub text: &'a str,
    /// The request asks for no change, so that it may be repeated without a thought.
    pub is_safe: bool,
    /// Its sender reads pages.
    pub is_page: bool,
}

impl Notice<'_> {
    pub fn content_type(&self) -> &'static [u8] {
        if self.is_page { b"text/html; charset=utf-8" } else { b"text/plain; charset=utf-8" }
    }

    /// Bytes of the body.
    pub fn bytes(&self) -> usize {
        let mut counted = Counted(0);
        self.encode(&mut counted);
        counted.0
    }

    /// The body.
    pub fn encode(&self, out: &mut impl Sink) {
        if !self.is_page {
            out.put(self.text.as_bytes());
            return out.put(b"\n");
        }
        let reason = encode::reason(self.status);
        let (title, advice) = words(self.status, self.is_safe);
        let title = if title.is_empty() { reason } else { title };
        out.put(PAGE);
        escaped(out, title);
        out.put(b"</title>\n</head>\n<body>\n<main>\n<h1>");
        escaped(out, title);
        out.put(b" <small>");
        encode::integer(out, u64::from(self.status));
        out.put(b"</small></h1>\n");
        if !advice.is_empty() {
            out.put(b"<p role=\"alert\">");
            escaped(out, advice);
            out.put(b"</p>\n");
        }
        if self.text != reason && !self.text.is_empty() {
            out.put(b"<p class=\"why\">The server says: ");
            escaped(out, self.text);
            out.put(b".</p>\n");
        }
        if self.is_safe && matches!(self.status, 408 | 500..=599) {
            out.put(AGAIN);
        }
        out.put(END);
    }
}

/// Whether this field `Accept` (or, of a head that is not sound, the head as it came) asks for pages.
pub fn asks_for_pages(bytes: &[u8]) -> bool {
    const PAGES: &[u8] = b"text/html";
    let bytes = &bytes[..bytes.len().min(LOOK_BYTES_MAX)];
    bytes.windows(PAGES.len()).any(|window| window.eq_ignore_ascii_case(PAGES))
}

/// A headline, and what whoever sees it can do; empty where the status says all there is.
fn words(status: u16, is_safe: bool) -> (&'static str, &'static str) {
    const LOOK: &str = "It is not known whether what you sent was done. Look before you send it again.";
    match status {
        400 => {
            ("This request cannot be read", "The browser, or something on its way here, sent what is no sound request.")
        }
        404 => ("Not found", "There is nothing at this address."),
        405 => ("Not allowed", "This address does not take such a request."),
        408 => ("Too slow", "The request took too long to arrive. Nothing was done."),
        413 => ("Too large", "What was sent is larger than this server takes. Nothing was done."),
        414 | 431 => (
            "Too long",
            "The address, or the cookies that the browser sends with it, are longer than this server takes.",
        ),
        501 => ("Not possible here", "This server does not know such a request."),
        502 if is_safe => ("No answer", "The server that has this page gave no answer. Try again in a moment."),
        502 => ("No answer", LOOK),
        503 => ("Busy just now", "The site has more to do than it can. Nothing was done: try again in a moment."),
        504 if is_safe => ("No answer in time", "The server that has this page took too long. Try again in a moment."),
        504 => ("No answer in time", LOOK),
        _ => ("", ""),
    }
}

/// Text that no browser takes for markup.
fn escaped(out: &mut impl Sink, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'&' | b'<' | b'>')) {
        out.put(&rest[..at]);
        out.put(match rest[at] {
            b'&' => b"&amp;",
            b'<' => b"&lt;",
            _ => b"&gt;",
        });
        rest = &rest[at + 1..];
    }
    out.put(rest);
}

/// Counts what would be written.
struct Counted(usize);

impl Sink for Counted {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::{LOOK_BYTES_MAX, Notice, asks_for_pages};

    fn body(notice: Notice) -> String {
        let mut out = Vec::new();
        notice.encode(&mut out);
        assert_eq!(out.len(), notice.bytes(), "{notice:?}");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_program_gets_a_line_and_a_person_a_page_with_the_same_words() {
        let line = Notice { status: 503, text: "no replica became free in time", is_safe: true, is_page: false };
        assert_eq!(body(line), "no replica became free in time\n");
        let page = body(Notice { is_page: true, ..line });
        assert!(page.contains("<h1>Busy just now <small>503</small></h1>"), "{page}");
        assert!(page.contains("The server says: no replica became free in time.</p>"), "{page}");
    }

    #[test]
    fn only_what_asks_for_no_change_is_offered_again() {
        for status in [400, 404, 405, 408, 413, 414, 418, 431, 500, 501, 502, 503, 504] {
            let unsafe_one = Notice { status, text: "why", is_safe: false, is_page: true };
            assert!(!body(unsafe_one).contains("Try again</a>"), "{status}");
            let offered = body(Notice { is_safe: true, ..unsafe_one }).contains("<a href=\"\">Try again</a>");
            assert_eq!(offered, status == 408 || status >= 500, "{status}");
        }
        for status in [502, 504] {
            let page = body(Notice { status, text: "why", is_safe: false, is_page: true });
            assert!(page.contains("not known whether") && !page.contains("Nothing was done"), "{page}");
        }
    }

    #[test]
    fn words_are_never_markup_and_a_status_is_not_said_twice() {
        let page = body(Notice { status: 502, text: "a <b> & c", is_safe: true, is_page: true });
        assert!(page.contains("a &lt;b&gt; &amp; c."), "{page}");
        let page = body(Notice { status: 410, text: "Gone", is_safe: true, is_page: true });
        assert!(page.contains("<h1>Gone <small>410</small></h1>\n</main>"), "{page}");
    }

    #[test]
    fn who_reads_pages() {
        assert!(asks_for_pages(b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"));
        assert!(asks_for_pages(b"Text/HTML"));
        assert!(!asks_for_pages(b"*/*") && !asks_for_pages(b"") && !asks_for_pages(b"text/htm"));
        let far = format!("{}text/html", "a".repeat(LOOK_BYTES_MAX));
        assert!(!asks_for_pages(far.as_bytes()));
    }
}
