//! Where a body ends (RFC 9112 sections 6 and 7).
//!
//! ```text
//!   Length:  Counted ──0 left──▶ Done            UntilClose: until end_of_input
//!   Chunked: Size ▶ (extension) ▶ SizeLf ▶ Data ▶ DataCr ▶ DataLf ▶ Size …
//!                                   └─ size 0 ▶ trailer lines ▶ LastLf ▶ Done
//! ```
//! One reader serves two callers: [`BodyReader::read`] yields payload without its framing, [`BodyReader::relay`] says
//! how many framed bytes are sound, so that a proxy may pass chunks on as they came.

use std::ops::Range;

use super::head::Framing;
use super::parse::Reject;
use super::scan;

/// Bytes of all chunk extensions of a body: nobody uses them, and each byte is work without payload.
const EXTENSION_BYTES_MAX: u32 = 4096;
/// Bytes of all trailer lines of a body.
const TRAILER_BYTES_MAX: u32 = 8192;
/// Hexadecimal digits of a chunk size, zeros included: 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Bytes of the longest name that a trailer must not have, see [`FORBIDDEN_TRAILERS`].
const TRAILER_NAME_BYTES: usize = 19;
/// Fields that frame, route or authorize a message or tell its way, and so must stand in its head (RFC 9110 section
/// 6.5.1). A name that has `_` for `-` counts as the same.
const FORBIDDEN_TRAILERS: [&str; 28] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// One step of [`BodyReader::read`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyStep {
    /// Bytes that are dealt with; the next call begins behind them.
    pub consumed: usize,
    /// Payload among the consumed bytes; may be empty.
    pub data: Range<usize>,
    /// The body is complete; bytes behind `consumed` belong to the next message.
    pub done: bool,
}

/// One step of [`BodyReader::relay`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStep {
    /// Bytes, framing included, that may be passed on unchanged.
    pub pass: usize,
    /// Bytes behind them that are not passed on: a part of a chunk extension, which is for this connection only
    /// (RFC 9112 section 7.1.1) and which two parsers may end at different bytes.
    pub skip: usize,
    /// The body is complete; bytes behind `pass` belong to the next message.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A body of known length with so many bytes to come.
    Counted(u64),
    UntilClose,
    /// The declared length is beyond the limit: the first read says so.
    TooLarge,
    /// In the chunk size; so many digits were read.
    Size(u8),
    Extension(Extension),
    SizeLf,
    /// So many bytes of the chunk to come, at least one.
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line or of the last, empty one.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// Where in `*( BWS ";" BWS name [ BWS "=" BWS value ] )` (RFC 9112 section 7.1.1) the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    BeforeSemicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    QuotedPair,
    AfterQuoted,
}

/// Follows one body through however many pieces it arrives in. After an error the reader must not be used again.
#[derive(Clone, Debug)]
pub struct BodyReader {
    state: State,
    /// Size of the chunk that is being read.
    size: u64,
    payload_bytes: u64,
    payload_bytes_max: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
    /// Lower-case start of the trailer's name and its full length.
    name: [u8; TRAILER_NAME_BYTES],
    name_bytes: u32,
}

impl Default for BodyReader {
    fn default() -> Self {
        Self::new(Framing::None, 0)
    }
}

impl BodyReader {
    /// `body_bytes_max` bounds the payload, not the framing around it.
    pub fn new(framing: Framing, body_bytes_max: u64) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) if length > body_bytes_max => State::TooLarge,
            Framing::Length(length) => State::Counted(length),
            Framing::Chunked => State::Size(0),
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            state,
            size: 0,
            payload_bytes: 0,
            payload_bytes_max: body_bytes_max,
            extension_bytes: 0,
            trailer_bytes: 0,
            name: [0; TRAILER_NAME_BYTES],
            name_bytes: 0,
        }
    }

    /// The declared length is acceptable. Ask before a 100 (Continue) is sent.
    ///
    /// # Errors
    /// 413 if the declared length exceeds the limit (RFC 9110 section 15.5.14).
    pub fn check(&self) -> Result<(), Reject> {
        if self.state == State::TooLarge {
            return Err(Reject::new(413, "declared length exceeds the limit", 0));
        }
        Ok(())
    }

    /// The body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Payload bytes so far.
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// The peer sends no more: ends a body that is delimited by the close.
    ///
    /// # Errors
    /// 400 if the body is not complete (RFC 9112 section 8); a proxy that reads a response answers 502 or resets.
    pub fn end_of_input(&mut self) -> Result<(), Reject> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Counted(_)
            | State::TooLarge
            | State::Size(_)
            | State::Extension(_)
            | State::SizeLf
            | State::Data(_)
            | State::DataCr
            | State::DataLf
            | State::Trailer
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::LastLf => Err(Reject::new(400, "body ends early", 0)),
        }
    }

    /// Takes framing up to and with the next run of payload, or all bytes. To be called with the bytes behind
    /// `consumed` until they are used up or the body is done.
    ///
    /// # Errors
    /// 400 for malformed chunks, 413 beyond the limit; the offset counts from the start of `bytes`.
    pub fn read(&mut self, bytes: &[u8]) -> Result<BodyStep, Reject> {
        self.step(bytes, false)
    }

    /// [`BodyReader::read`], which may stop in front of a chunk extension.
    fn step(&mut self, bytes: &[u8], stops: bool) -> Result<BodyStep, Reject> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let rest = bytes.len() - at;
            match self.state {
                State::Done => break,
                State::TooLarge => return self.check().map(|()| BodyStep::default()),
                State::Counted(left) => {
                    let (taken, left) = take(left, rest);
                    self.state = if left == 0 { State::Done } else { State::Counted(left) };
                    return self.payload(at, taken);
                }
                State::UntilClose => return self.payload(at, rest),
                State::Data(left) => {
                    let (taken, left) = take(left, rest);
                    self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                    return self.payload(at, taken);
                }
                State::Size(_)
                | State::Extension(_)
                | State::SizeLf
                | State::DataCr
                | State::DataLf
                | State::Trailer
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerLf
                | State::LastLf => {
                    if stops && self.is_extension(*byte) {
                        break;
                    }
                    self.frame_at(*byte, at)?;
                }
            }
            at += 1;
        }
        // An over-long body is refused even before its first byte.
        self.check()?;
        Ok(BodyStep { consumed: at, data: at..at, done: self.is_done() })
    }

    /// How many of these bytes belong to the body and are sound: up to its end, the end of the bytes, or the next
    /// chunk extension, which is left out. To be called again with what is behind `pass + skip`.
    ///
    /// # Errors
    /// As [`BodyReader::read`]; then none of `bytes` may be passed on, and the message must be cut off.
    pub fn relay(&mut self, bytes: &[u8]) -> Result<RelayStep, Reject> {
        let mut pass = 0;
        loop {
            let step =
                self.step(&bytes[pass..], true).map_err(|reject| Reject { offset: reject.offset + pass, ..reject })?;
            pass += step.consumed;
            if step.done || pass == bytes.len() {
                return Ok(RelayStep { pass, skip: 0, done: step.done });
            }
            let mut end = pass;
            while let Some(byte) = bytes.get(end).filter(|byte| self.is_extension(**byte)) {
                self.frame_at(*byte, end)?;
                end += 1;
            }
            if end > pass {
                return Ok(RelayStep { pass, skip: end - pass, done: false });
            }
        }
    }

    /// The next byte begins or continues a chunk extension.
    fn is_extension(&self, byte: u8) -> bool {
        match self.state {
            State::Size(digits) => digits > 0 && matches!(byte, b';' | b' ' | b'\t'),
            State::Extension(_) => byte != b'\r',
            State::Counted(_)
            | State::UntilClose
            | State::TooLarge
            | State::SizeLf
            | State::Data(_)
            | State::DataCr
            | State::DataLf
            | State::Trailer
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::LastLf
            | State::Done => false,
        }
    }

    fn frame_at(&mut self, byte: u8, at: usize) -> Result<(), Reject> {
        self.frame(byte).map_err(|(status, reason)| Reject::new(status, reason, at))
    }

    fn payload(&mut self, at: usize, taken: usize) -> Result<BodyStep, Reject> {
        self.payload_bytes = self.payload_bytes.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
        if self.payload_bytes > self.payload_bytes_max {
            return Err(Reject::new(413, "body exceeds the limit", at));
        }
        Ok(BodyStep { consumed: at + taken, data: at..at + taken, done: self.is_done() })
    }

    /// One byte of chunked framing; never called in a state that takes payload.
    fn frame(&mut self, byte: u8) -> Result<(), (u16, &'static str)> {
        self.state = match self.state {
            State::Size(digits) => self.size_byte(byte, digits)?,
            State::Extension(place) => self.extension_byte(byte, place)?,
            State::SizeLf => match byte {
                // RFC 9112 section 7.1: the last chunk has size zero.
                b'\n' if self.size == 0 => State::Trailer,
                b'\n' => {
                    let size = std::mem::take(&mut self.size);
                    // Refused when announced, not only when the bytes came: they need not be relayed first.
                    if size > self.payload_bytes_max - self.payload_bytes.min(self.payload_bytes_max) {
                        return Err((413, "chunk exceeds the body limit"));
                    }
                    State::Data(size)
                }
                _ => return Err((400, "CR without LF behind the chunk size")),
            },
            State::DataCr => match byte {
                b'\r' => State::DataLf,
                // RFC 9112 section 7.1: the data ends where its size says, and CRLF follows.
                _ => return Err((400, "chunk is longer than its size")),
            },
            State::DataLf => match byte {
                b'\n' => State::Size(0),
                _ => return Err((400, "CR without LF behind the chunk")),
            },
            State::Trailer | State::TrailerName | State::TrailerValue | State::TrailerLf => self.trailer_byte(byte)?,
            State::LastLf => match byte {
                b'\n' => State::Done,
                _ => return Err((400, "CR without LF behind the trailers")),
            },
            State::Counted(_) | State::UntilClose | State::TooLarge | State::Data(_) | State::Done => self.state,
        };
        Ok(())
    }

    /// `1*HEXDIG` (RFC 9112 section 7.1), which warns of overflow.
    fn size_byte(&mut self, byte: u8, digits: u8) -> Result<State, (u16, &'static str)> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if digits >= SIZE_DIGITS_MAX {
                return Err((400, "chunk size has too many digits"));
            }
            self.size = self.size << 4 | u64::from(digit);
            return Ok(State::Size(digits + 1));
        }
        match byte {
            _ if digits == 0 => Err((400, "chunk size is no hexadecimal number")),
            b'\r' => Ok(State::SizeLf),
            b';' => Ok(State::Extension(Extension::BeforeName)),
            b' ' | b'\t' => Ok(State::Extension(Extension::BeforeSemicolon)),
            b'\n' => Err((400, "bare LF behind the chunk size")),
            _ => Err((400, "chunk size is no hexadecimal number")),
        }
    }

    /// Extensions are checked and otherwise ignored (RFC 9112 section 7.1.1): a parser that stops at any LF in them
    /// would see another chunk.
    fn extension_byte(&mut self, byte: u8, place: Extension) -> Result<State, (u16, &'static str)> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err((400, "chunk extensions exceed the limit"));
        }
        let token = scan::is_token(byte);
        let next = match (place, byte) {
            (Extension::Name | Extension::Token | Extension::AfterQuoted, b'\r') => return Ok(State::SizeLf),
            (Extension::BeforeSemicolon, b' ' | b'\t') => Extension::BeforeSemicolon,
            (Extension::BeforeSemicolon | Extension::AfterName, b';') => Extension::BeforeName,
            (Extension::Name | Extension::Token | Extension::AfterQuoted, b';') => Extension::BeforeName,
            (Extension::BeforeName, b' ' | b'\t') => Extension::BeforeName,
            (Extension::BeforeName | Extension::Name, _) if token => Extension::Name,
            (Extension::Name | Extension::AfterName, b' ' | b'\t') => Extension::AfterName,
            (Extension::Name | Extension::AfterName, b'=') => Extension::BeforeValue,
            (Extension::BeforeValue, b' ' | b'\t') => Extension::BeforeValue,
            (Extension::BeforeValue, b'"') => Extension::Quoted,
            (Extension::BeforeValue | Extension::Token, _) if token => Extension::Token,
            (Extension::Token | Extension::AfterQuoted, b' ' | b'\t') => Extension::BeforeSemicolon,
            (Extension::Quoted, b'"') => Extension::AfterQuoted,
            (Extension::Quoted, b'\\') => Extension::QuotedPair,
            (Extension::Quoted | Extension::QuotedPair, _) if scan::is_value(byte) => Extension::Quoted,
            _ => return Err((400, "malformed chunk extension")),
        };
        Ok(State::Extension(next))
    }

    /// Trailer lines obey the rules of field lines (RFC 9112 section 7.1.2), and some names are not theirs to use.
    fn trailer_byte(&mut self, byte: u8) -> Result<State, (u16, &'static str)> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err((431, "trailers exceed the limit"));
        }
        match (self.state, byte) {
            (State::Trailer, b'\r') => Ok(State::LastLf),
            (State::Trailer, _) if scan::is_token(byte) => {
                self.name_bytes = 0;
                self.name_byte(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerName, _) if scan::is_token(byte) => {
                self.name_byte(byte);
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') if self.is_forbidden_trailer() => Err((400, "field that must not be a trailer")),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if scan::is_value(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::Trailer),
            _ => Err((400, "malformed trailer line")),
        }
    }

    fn name_byte(&mut self, byte: u8) {
        if let Some(place) = usize::try_from(self.name_bytes).ok().and_then(|at| self.name.get_mut(at)) {
            *place = if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        }
        self.name_bytes = self.name_bytes.saturating_add(1);
    }

    fn is_forbidden_trailer(&self) -> bool {
        let name = usize::try_from(self.name_bytes).ok().and_then(|length| self.name.get(..length));
        name.is_some_and(|name| FORBIDDEN_TRAILERS.iter().any(|each| each.as_bytes() == name))
    }
}

/// How many of `rest` bytes the `left` bytes claim, and how many stay to come.
fn take(left: u64, rest: usize) -> (usize, u64) {
    match usize::try_from(left) {
        Ok(left) if left <= rest => (left, 0),
        _ => (rest, left - u64::try_from(rest).unwrap_or(left)),
    }
}

#[cfg(test)]
mod tests;
