//! A plain, strict reader of HTTP/1.1 messages. Text is Latin-1, so that no byte is lost.

/// A head cut into its first line and its fields with names in lower case.
#[derive(Clone, Debug)]
pub struct Head {
    pub line: String,
    pub fields: Vec<(String, String)>,
    pub bytes: usize,
}

/// A whole request, as the server behind the proxy received it.
#[derive(Clone, Debug)]
pub struct Request {
    pub head: Head,
    pub method: String,
    pub target: String,
    /// `none`, `length=N` or `chunked`.
    pub framing: String,
    /// Without the chunked coding.
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

/// A response, as the client received it.
#[derive(Clone, Debug)]
pub struct Response {
    pub head: Head,
    pub status: u16,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The body ended as its framing says.
    pub whole: bool,
}

pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The values of all fields of a name, in order.
pub fn values<'f>(fields: &'f [(String, String)], name: &str) -> Vec<&'f str> {
    fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n")
}

/// Field lines up to and with the empty line, and how many bytes they took.
fn fields(bytes: &[u8]) -> Result<Option<(Vec<(String, String)>, usize)>, String> {
    let (mut at, mut fields) = (0, Vec::new());
    loop {
        let Some(end) = line_end(&bytes[at..]) else { return Ok(None) };
        let line = &bytes[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Ok(Some((fields, at)));
        }
        let text = latin1(line);
        if line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(format!("a control byte in a field line: {text:?}"));
        }
        let (name, value) = text.split_once(':').ok_or_else(|| format!("a field line without colon: {text:?}"))?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(format!("white space in a field name: {text:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// `None` until the head is whole.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = line_end(bytes) else { return Ok(None) };
    let line = latin1(&bytes[..end]);
    if line.contains(['\r', '\n', '\0']) {
        return Err(format!("a control byte in the first line: {line:?}"));
    }
    let Some((fields, taken)) = fields(&bytes[end + 2..])? else { return Ok(None) };
    Ok(Some(Head { line, fields, bytes: end + 2 + taken }))
}

/// Payload, trailers and bytes taken.
type Chunked = (Vec<u8>, Vec<(String, String)>, Option<usize>);

/// The payload of a chunked body as far as it is there; the bytes taken once it is whole.
fn dechunk(bytes: &[u8]) -> Result<Chunked, String> {
    let (mut at, mut payload) = (0, Vec::new());
    loop {
        let Some(line) = line_end(&bytes[at..]) else { return Ok((payload, Vec::new(), None)) };
        let text = latin1(&bytes[at..at + line]);
        let digits = text.split(';').next().unwrap_or("").trim_end_matches([' ', '\t']);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("a chunk size that is none: {text:?}"));
        }
        let size =
            usize::from_str_radix(digits, 16).map_err(|_| format!("a chunk size beyond all bounds: {text:?}"))?;
        at += line + 2;
        if size == 0 {
            let Some((trailers, taken)) = fields(&bytes[at..])? else { return Ok((payload, Vec::new(), None)) };
            return Ok((payload, trailers, Some(at + taken)));
        }
        let there = (bytes.len() - at).min(size);
        payload.extend_from_slice(&bytes[at..at + there]);
        if bytes.len() < at + size + 2 {
            return Ok((payload, Vec::new(), None));
        }
        if &bytes[at + size..at + size + 2] != b"\r\n" {
            return Err("a chunk that is longer than its size".into());
        }
        at += size + 2;
    }
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

/// What the fields say; two of them are an error whatever they say.
fn framing(fields: &[(String, String)]) -> Result<Framing, String> {
    match (&values(fields, "content-length")[..], &values(fields, "transfer-encoding")[..]) {
        ([], []) => Ok(Framing::None),
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            length.parse().map(Framing::Length).map_err(|_| format!("a length beyond all bounds: {length}"))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (lengths, codings) => {
            Err(format!("ambiguous framing: content-length {lengths:?}, transfer-encoding {codings:?}"))
        }
    }
}

/// A request and how many bytes it took; `None` until it is whole.
pub fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some(head) = head(bytes)? else { return Ok(None) };
    let parts: Vec<&str> = head.line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return Err(format!("no request line: {:?}", head.line)) };
    if method.is_empty() || target.is_empty() {
        return Err(format!("no request line: {:?}", head.line));
    }
    let (method, target) = (method.to_owned(), target.to_owned());
    let rest = &bytes[head.bytes..];
    let whole = |framing: String, body: Vec<u8>, trailers, taken: usize| {
        let taken = head.bytes + taken;
        Ok(Some((
            Request { head: head.clone(), method: method.clone(), target: target.clone(), framing, body, trailers },
            taken,
        )))
    };
    match framing(&head.fields)? {
        Framing::None => whole("none".into(), Vec::new(), Vec::new(), 0),
        Framing::Length(length) if rest.len() >= length => {
            whole(format!("length={length}"), rest[..length].to_vec(), Vec::new(), length)
        }
        Framing::Length(_) => Ok(None),
        Framing::Chunked => match dechunk(rest)? {
            (body, trailers, Some(taken)) => whole("chunked".into(), body, trailers, taken),
            (_, _, None) => Ok(None),
        },
    }
}

/// A response and how many bytes it took; `None` until it is whole or the connection has ended.
pub fn response(bytes: &[u8], to_head: bool, ended: bool) -> Result<Option<(Response, usize)>, String> {
    let Some(head) = head(bytes)? else { return Ok(None) };
    let mut parts = head.line.splitn(3, ' ');
    let (version, status, reason) = (parts.next(), parts.next(), parts.next());
    let status = status.and_then(|status| status.parse::<u16>().ok()).filter(|status| (100..600).contains(status));
    let (Some("HTTP/1.1"), Some(status), Some(_)) = (version, status, reason) else {
        return Err(format!("no status line: {:?}", head.line));
    };
    let rest = &bytes[head.bytes..];
    let framing = framing(&head.fields)?;
    let start = head.bytes;
    let made = |body: &[u8], trailers, whole, taken: usize| {
        Ok(Some((Response { head, status, body: body.to_vec(), trailers, whole }, start + taken)))
    };
    if to_head || status < 200 || status == 204 || status == 304 {
        return made(&[], Vec::new(), true, 0);
    }
    match framing {
        Framing::Length(length) if rest.len() >= length => made(&rest[..length], Vec::new(), true, length),
        Framing::Length(_) if ended => made(rest, Vec::new(), false, rest.len()),
        Framing::Chunked => match dechunk(rest)? {
            (body, trailers, Some(taken)) => made(&body, trailers, true, taken),
            (body, _, None) if ended => made(&body, Vec::new(), false, rest.len()),
            (_, _, None) => Ok(None),
        },
        Framing::None if ended => made(rest, Vec::new(), true, rest.len()),
        Framing::Length(_) | Framing::None => Ok(None),
    }
}
