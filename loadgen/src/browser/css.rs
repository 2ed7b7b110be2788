//! The addresses that a style sheet loads.

use cssparser::{ParseError, Parser, Token};

/// What a style sheet asks for, in order, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Further style sheets, by `@import`.
    pub sheets: Vec<String>,
    /// Images and fonts, by `url()`. A browser loads those whose rule applies to something; without a layout all are
    /// taken. Of the alternatives in the `src` of a font the first one is.
    pub files: Vec<String>,
}

/// Nesting that is followed: style sheets nest a few levels.
const DEPTH_MAX: u32 = 32;

/// Reads a style sheet, or the value of a `style` attribute.
pub fn references(text: &str) -> References {
    let mut found = References::default();
    if text.contains("url(") || text.contains("@import") || text.contains(['U', '\\', '@']) {
        walk(&mut Parser::new(text), &mut found, 0);
    }
    let loaded = |address: &String| !address.is_empty() && !address.starts_with('#');
    found.sheets.retain(loaded);
    found.files.retain(loaded);
    found
}

fn walk(parser: &mut Parser<'_>, found: &mut References, depth: u32) {
    let (mut import, mut font_face) = (false, false);
    loop {
        let Ok(token) = parser.next().cloned() else { return };
        let list = if import { &mut found.sheets } else { &mut found.files };
        match token {
            Token::UnquotedUrl(address) => {
                list.push(address.as_ref().to_owned());
                import = false;
            }
            Token::Function(name) if name.eq_ignore_ascii_case("url") => {
                let address = inside(parser, |parser| parser.expect_string().ok().map(|text| text.as_ref().to_owned()));
                list.extend(address.flatten());
                import = false;
            }
            Token::QuotedString(address) if import => {
                list.push(address.as_ref().to_owned());
                import = false;
            }
            // A set of images holds them as plain strings, too; a browser loads one of them.
            Token::AtKeyword(name) => {
                import = name.eq_ignore_ascii_case("import");
                font_face = name.eq_ignore_ascii_case("font-face");
            }
            Token::CurlyBracketBlock if depth < DEPTH_MAX => {
                let before = found.files.len();
                inside(parser, |parser| walk(parser, found, depth + 1));
                if font_face {
                    found.files.truncate(before + 1);
                }
                (import, font_face) = (false, false);
            }
            Token::Function(_) | Token::ParenthesisBlock | Token::SquareBracketBlock if depth < DEPTH_MAX => {
                inside(parser, |parser| walk(parser, found, depth + 1));
            }
            Token::Semicolon => import = false,
            _ => {}
        }
    }
}

fn inside<T>(parser: &mut Parser<'_>, read: impl FnOnce(&mut Parser<'_>) -> T) -> Option<T> {
    let read = |parser: &mut Parser<'_>| -> Result<T, ParseError<()>> {
        let value = read(parser);
        // What is left in the block is of no interest.
        while parser.next().is_ok() {}
        Ok(value)
    };
    parser.parse_nested_block(read).ok()
}

#[cfg(test)]
mod tests {
    use super::references;

    #[test]
    fn imports_and_addresses_are_found_where_css_has_them() {
        let found = references(
            r#"@charset "utf-8"; @import "a.css"; @import url(b.css) screen; @IMPORT url("c.css");
            /* url(never.png) */ .x { background: URL( 'd.png' ), url(e\.png); content: "url(no.png)" }
            @media print { .y { background: url(f.png?a=(b)) } .z { cursor: url(g.cur), auto } }
            @font-face { font-family: x; src: url(h.woff2) format("woff2"), url(h.woff) format("woff") }
            .v { mask: url(#here); background-image: image-set(url(i.png) 1x); filter: url(data:x) }"#,
        );
        assert_eq!(found.sheets, ["a.css", "b.css", "c.css"]);
        assert_eq!(found.files, ["d.png", "e.png", "g.cur", "h.woff2", "i.png", "data:x"]);
        assert_eq!(references("color: red; background: url(x.png)").files, ["x.png"]);
    }

    #[test]
    fn broken_sheets_give_what_can_be_read() {
        assert_eq!(references("a { background: url(x.png").files, ["x.png"]);
        assert_eq!(references("}}} ) @import 'y.css'").sheets, ["y.css"]);
        // A string that a line end breaks off leaves a quote behind, which opens another one.
        assert_eq!(references("a { b: url('x\n.png'); c: url(z.png) }").files, Vec::<String>::new());
        assert_eq!(references("a { b: url('x\n.png); c: url(z.png) }").files, ["z.png"]);
        references(&"{(".repeat(10_000));
    }
}
