//! What each fuzz target does with its bytes: one source for `cargo fuzz` and for the smoke test of `make test`.
//!
//! A target returns on every input or panics with what does not hold. `subject` is the code under test; whoever
//! includes this file says where it comes from.

use std::path::Path;

use super::subject::http1::body::BodyReader;
use super::subject::http1::encode::{self, Sink};
use super::subject::http1::form;
use super::subject::http1::head::{Framing, Known, Method, RequestHead, ResponseHead};
use super::subject::http1::parse::{ParseLimits, Progress, Reject, parse_request, parse_response};
use super::subject::statements::grammar;

/// A target's function.
pub type Target = fn(&[u8]);

/// All targets by the names of their corpus folders.
pub const TARGETS: [(&str, Target); 5] = [
    ("request_head", request_head),
    ("response_head", response_head),
    ("body_framing", body_framing),
    ("statement_grammar", statement_grammar),
    ("form_decoding", form_decoding),
];

const LIMITS: ParseLimits = ParseLimits { head_bytes_max: 2048, header_count_max: 24 };
const BODY_BYTES_MAX: u64 = 4096;

/// The verdict on a growing head: every proper prefix is incomplete or has the verdict of the whole.
fn one_verdict(bytes: &[u8], parse: impl Fn(&[u8]) -> Result<Progress, Reject>) -> Result<Progress, Reject> {
    let whole = parse(bytes);
    if let Err(reject) = whole {
        assert!(reject.offset <= bytes.len() && (400..=505).contains(&reject.status), "{reject:?}");
    }
    // All places of a short head, some of a long one.
    let step = 1 + bytes.len() / 64;
    for end in (0..bytes.len()).step_by(step) {
        let part = parse(&bytes[..end]);
        assert!(part == Ok(Progress::Incomplete) || part == whole, "after {end} bytes {part:?}, in the end {whole:?}");
    }
    whole
}

/// Parses, and writes what was understood: it must be understood again, and as the same.
pub fn request_head(bytes: &[u8]) {
    let verdict = one_verdict(bytes, |bytes| parse_request(bytes, &LIMITS, &mut RequestHead::default()));
    let mut head = RequestHead::default();
    if verdict != Ok(Progress::Complete) {
        return;
    }
    assert_eq!(parse_request(bytes, &LIMITS, &mut head), verdict);
    assert!(head.head_bytes <= bytes.len());
    let bytes = &bytes[..head.head_bytes];
    let mut written = Vec::new();
    written.put(head.method_text.of(bytes));
    written.put(b" ");
    written.put(head.path.of(bytes));
    if head.query.end > 0 {
        written.put(b"?");
        written.put(head.query.of(bytes));
    }
    written.put(b" HTTP/1.1\r\n");
    encode::header(&mut written, b"host", if head.host.is_empty() { b"none" } else { head.host.of(bytes) });
    for header in head.headers.iter().filter(|header| header.known != Known::Host) {
        encode::header(&mut written, header.name.of(bytes), header.value.of(bytes));
    }
    encode::end(&mut written);
    let mut again = RequestHead::default();
    let roomy = ParseLimits { head_bytes_max: 8192, header_count_max: 64 };
    // `/` stands for the path of `OPTIONS http://a`, and HTTP/1.0 expects less than HTTP/1.1.
    let verdict = parse_request(&written, &roomy, &mut again);
    if let Err(reject) = verdict {
        assert!(reject.status == 417, "{reject:?} for {:?}", String::from_utf8_lossy(&written));
        return;
    }
    assert_eq!(verdict, Ok(Progress::Complete));
    assert_eq!(again.head_bytes, written.len());
    assert_eq!(again.method_text.of(&written), head.method_text.of(bytes));
    assert_eq!(again.path.of(&written), head.path.of(bytes));
    assert_eq!(again.query.of(&written), head.query.of(bytes));
    assert_eq!(again.framing, head.framing);
    let fields = |head: &RequestHead, bytes: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
        let others = head.headers.iter().filter(|header| header.known != Known::Host);
        others.map(|header| (header.name.of(bytes).to_vec(), header.value.of(bytes).to_vec())).collect()
    };
    assert_eq!(fields(&again, &written), fields(&head, bytes));
}

/// The first byte chooses the method that was asked with.
pub fn response_head(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Post, Method::Connect][usize::from(choice % 4)];
    let verdict = one_verdict(bytes, |bytes| parse_response(bytes, method, &LIMITS, &mut ResponseHead::default()));
    let mut head = ResponseHead::default();
    if verdict != Ok(Progress::Complete) {
        return;
    }
    assert_eq!(parse_response(bytes, method, &LIMITS, &mut head), verdict);
    assert!((100..=599).contains(&head.status) && head.head_bytes <= bytes.len());
    let bytes = &bytes[..head.head_bytes];
    let mut written = Vec::new();
    encode::status_line_with(&mut written, head.status, head.reason.of(bytes));
    for header in &head.headers {
        encode::header(&mut written, header.name.of(bytes), header.value.of(bytes));
    }
    encode::end(&mut written);
    let mut again = ResponseHead::default();
    let roomy = ParseLimits { head_bytes_max: 8192, header_count_max: 64 };
    assert_eq!(parse_response(&written, method, &roomy, &mut again), Ok(Progress::Complete));
    assert_eq!((again.status, again.framing, again.head_bytes), (head.status, head.framing, written.len()));
    assert_eq!(again.reason.of(&written), head.reason.of(bytes));
}

/// Payload, whether it is done, and bytes behind it; the status if it is refused.
type Read = Result<(Vec<u8>, bool, usize), u16>;

fn read(framing: Framing, parts: &mut dyn Iterator<Item = &[u8]>) -> Read {
    let mut reader = BodyReader::new(framing, BODY_BYTES_MAX);
    let (mut payload, mut behind) = (Vec::new(), 0);
    for part in parts {
        let mut at = 0;
        while at < part.len() && !reader.is_done() {
            let step = reader.read(&part[at..]).map_err(|reject| reject.status)?;
            assert!(step.consumed > 0 || step.done, "a step that takes nothing would hang its caller");
            payload.extend_from_slice(&part[at..][step.data.clone()]);
            at += step.consumed;
        }
        behind += part.len() - at;
    }
    Ok((payload, reader.is_done(), behind))
}

/// The first byte chooses the framing, the second one the cuts.
pub fn body_framing(bytes: &[u8]) {
    let [choice, cut, bytes @ ..] = bytes else { return };
    let framing = match choice % 8 {
        0 => Framing::None,
        1 => Framing::UntilClose,
        2 => Framing::Length(u64::from(*cut)),
        3 => Framing::Length(u64::MAX - u64::from(*cut)),
        _ => Framing::Chunked,
    };
    let whole = read(framing, &mut std::iter::once(bytes));
    let pieces = read(framing, &mut bytes.chunks(1 + usize::from(cut % 13)));
    assert_eq!(whole, pieces, "cut into pieces of {}", 1 + cut % 13);
    if let Ok((payload, true, _)) = &whole
        && framing == Framing::Chunked
    {
        // What the encoder makes of the payload reads as the same payload.
        let mut written = Vec::new();
        for chunk in payload.chunks(1 + usize::from(*cut)) {
            encode::chunk_head(&mut written, u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            written.put(chunk);
            encode::chunk_end(&mut written);
        }
        encode::last_chunk(&mut written);
        assert_eq!(read(framing, &mut std::iter::once(&written[..])), Ok((payload.clone(), true, 0)));
    }
}

/// Statements that are understood are written as they are read.
pub fn statement_grammar(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let file = Path::new("fuzz.statements");
    let statements = match grammar::parse(file, &text) {
        Ok(statements) => statements,
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            return faults.iter().for_each(|fault| assert!(!fault.to_string().is_empty()));
        }
    };
    for statement in &statements {
        let base: &str = &statement.pattern.base;
        assert!(base.is_empty() || base.starts_with('/'), "{statement:?}");
        assert!(statement.line >= 1 && statement.column >= 1);
        assert!(statement.pattern.matches(if base.is_empty() { "/" } else { base }), "{statement:?}");
        assert!(statement.pattern.covers(&statement.pattern));
    }
}

/// Text that was decoded and encoded decodes to the same; a decoded path has one reading.
pub fn form_decoding(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (name, value) in form::pairs(&text) {
        let mut written = String::new();
        form::encode(&name, &mut written);
        written.push('=');
        form::encode(&value, &mut written);
        let pairs: Vec<_> = form::pairs(&written).collect();
        assert_eq!(pairs, [(name, value)], "{written}");
    }
    let mut path = String::new();
    if form::decode_path(bytes, &mut path).is_err() {
        return;
    }
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains('\\'), "{path:?}");
    assert!(!path.bytes().any(|byte| byte < b' ' || byte == 0x7f), "{path:?}");
    assert!(!path.split('/').any(|segment| segment == "." || segment == ".."), "{path:?}");
    let mut written = String::new();
    for (index, segment) in path.split('/').enumerate() {
        written.push_str(if index > 0 { "/" } else { "" });
        form::encode(segment, &mut written);
    }
    let mut again = String::new();
    assert_eq!(form::decode_path(written.as_bytes(), &mut again), Ok(()), "{written}");
    assert_eq!(again, path);
}
