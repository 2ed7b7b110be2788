//! Values in a line of `key=value` pairs: as they are where no reader can mistake them, else in quotes.

/// A value: `-` if there is none, bare if it is plain, else [`quoted`].
pub fn value(out: &mut String, text: &str) {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\=".contains(&byte);
    if text.is_empty() {
        out.push('-');
    } else if text != "-" && text.bytes().all(plain) {
        out.push_str(text);
    } else {
        quoted(out, text);
    }
}

/// In quotes, with `\"` and `\\`; what would end the line, move a cursor or hide text is `\xNN` for each of its bytes.
pub fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            _ if is_hidden(letter) => {
                let mut bytes = [0; 4];
                for byte in letter.encode_utf8(&mut bytes).bytes() {
                    out.push_str(&format!("\\x{byte:02x}"));
                }
            }
            _ => out.push(letter),
        }
    }
    out.push('"');
}

/// Control characters, other ends of lines, and what turns the direction of writing.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::value;

    fn written(text: &str) -> String {
        let mut out = String::new();
        value(&mut out, text);
        out
    }

    #[test]
    fn nothing_can_forge_a_line_or_a_key() {
        assert_eq!(written("127.0.0.1:9000"), "127.0.0.1:9000");
        assert_eq!(written(""), "-");
        assert_eq!(written("-"), "\"-\"");
        assert_eq!(written("a b=c"), "\"a b=c\"");
        assert_eq!(written("x\ntime=now \"\\"), "\"x\\x0atime=now \\\"\\\\\"");
        assert_eq!(written("größer"), "\"größer\"");
        assert_eq!(written("\u{1b}[2J\u{202e}"), "\"\\x1b[2J\\xe2\\x80\\xae\"");
    }
}
