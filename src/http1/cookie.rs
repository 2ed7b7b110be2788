//! The `Cookie` field (RFC 6265 section 4.2).

use super::head::trim;

/// The value of the first cookie of this name in one `Cookie` field, as sent: quotes, if any, are part of it. Names
/// are case-sensitive (RFC 6265 section 5.4).
pub fn find<'v>(header_value: &'v [u8], name: &[u8]) -> Option<&'v [u8]> {
    header_value.split(|byte| *byte == b';').map(trim).find_map(|pair| match pair.strip_prefix(name)? {
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn finds_by_whole_name() {
        let value = b"a=1; session=abc.def=; sessionx=2;session=later";
        assert_eq!(find(value, b"session"), Some(&b"abc.def="[..]));
        assert_eq!(find(value, b"sessio"), None);
        assert_eq!(find(value, b"Session"), None);
        assert_eq!(find(value, b"a"), Some(&b"1"[..]));
        assert_eq!(find(b"", b"a"), None);
        assert_eq!(find(b";;=;a", b"a"), None);
        assert_eq!(find(b"a=\"q\"", b"a"), Some(&b"\"q\""[..]));
    }
}
