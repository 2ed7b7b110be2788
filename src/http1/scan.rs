//! Byte classes and scans of the parser: one table for small alphabets, eight bytes at a time for long runs.

/// A byte of a token (RFC 9110 section 5.6.2).
const TOKEN: u8 = 1;
/// A byte that the path of a request target may have. RFC 3986 is wider than what we refuse here only by name: the
/// browser leaves ``^ ` { | }`` as they are, so they pass; controls, space, quotes, angle brackets, `#`, `\` and
/// bytes beyond ASCII do not.
const PATH: u8 = 2;
/// The same for the query, where browsers leave `\` and `?` as they are.
const QUERY: u8 = 4;
/// A byte of a registered name in an authority: letters, digits and `- . _ ~` (RFC 3986 section 3.2.2 has more, but
/// none that a name server would answer).
const HOST: u8 = 8;
/// A byte of a field value or reason phrase: HTAB, SP, VCHAR, obs-text (RFC 9110 section 5.5).
const VALUE: u8 = 16;

const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut index = 0usize;
    let mut byte = 0u8;
    loop {
        let mut class = 0;
        if byte.is_ascii_alphanumeric() || contains(b"!#$%&'*+-.^_`|~", byte) {
            class |= TOKEN;
        }
        if byte.is_ascii_graphic() && !contains(b"\"<>#", byte) {
            class |= QUERY;
            if byte != b'\\' && byte != b'?' {
                class |= PATH;
            }
        }
        if byte.is_ascii_alphanumeric() || contains(b"-._~", byte) {
            class |= HOST;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            class |= VALUE;
        }
        table[index] = class;
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
        index += 1;
    }
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut index = 0;
    while index < set.len() {
        if set[index] == byte {
            return true;
        }
        index += 1;
    }
    false
}

const fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

pub(super) const fn is_token(byte: u8) -> bool {
    is(byte, TOKEN)
}

pub(super) const fn is_host(byte: u8) -> bool {
    is(byte, HOST)
}

pub(super) const fn is_value(byte: u8) -> bool {
    is(byte, VALUE)
}

/// The first offset from `at` whose byte is not of the class, or the length.
fn run(bytes: &[u8], at: usize, class: u8) -> usize {
    let rest = bytes.get(at..).unwrap_or(&[]);
    at + rest.iter().position(|byte| !is(*byte, class)).unwrap_or(rest.len())
}

pub(super) fn token_end(bytes: &[u8], at: usize) -> usize {
    run(bytes, at, TOKEN)
}

pub(super) fn path_end(bytes: &[u8], at: usize) -> usize {
    run(bytes, at, PATH)
}

pub(super) fn query_end(bytes: &[u8], at: usize) -> usize {
    run(bytes, at, QUERY)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The first offset from `at` whose byte no field value may have, or the length.
///
/// Eight bytes at a time: `word - 0x20…` borrows into the high bit of each byte below 0x20 (bytes from 0x80 on are
/// masked out), `word ^ 0x7f…` is zero where DEL is. A borrow can only spoil bytes above the first hit, so the
/// lowest hit is exact. HTAB hits too and is stepped over.
pub(super) fn value_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let below = word.wrapping_sub(ONES * 0x20) & !word;
        let delete = word ^ (ONES * 0x7f);
        let hits = (below | (delete.wrapping_sub(ONES) & !delete)) & HIGHS;
        if hits == 0 {
            at += 8;
            continue;
        }
        at += (hits.trailing_zeros() / 8) as usize;
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    run(bytes, at, VALUE)
}

#[cfg(test)]
mod tests {
    use super::{is_value, value_end};

    #[test]
    fn value_end_finds_every_byte_at_every_offset() {
        for length in 0..24usize {
            for at in 0..=length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; length];
                    text[..at.min(length)].fill(b'\t');
                    if let Some(place) = text.get_mut(at) {
                        *place = byte;
                    }
                    text.push(0xff);
                    let expected = text.iter().position(|byte| !is_value(*byte)).unwrap_or(text.len());
                    assert_eq!(value_end(&text, 0), expected, "length {length}, byte {byte:#x} at {at}");
                }
            }
        }
    }
}
