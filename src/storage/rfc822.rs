//! Supplier files in the style of RFC 822, as Debian's package index has them: `Field: value` lines, continuation
//! lines that begin with white space, records parted by empty lines (Debian Policy section 5.1).
//!
//! Pure and in two steps: [`Splitter`] cuts a stream of arbitrary pieces into records and never holds more than one;
//! [`fields`] reads one record. What is wrong with a record is reported with its line and costs that record only.

use super::agents::clip;

/// Bytes of one record; a longer one is rejected without being held.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// One record as cut out of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// The number of its first line, from 1.
    pub line: u64,
    /// Its lines with their ends; `None` if it was longer than [`RECORD_BYTES_MAX`].
    pub bytes: Option<&'a [u8]>,
}

/// Cuts a stream into records.
///
/// ```text
///            bytes ≤ max                    bytes > max
///  Between ─── line ───► Record ─────────────── line ───► Oversized
///     ▲                     │ empty line: emit              │ empty line: emit as too long
///     └─────────────────────┴───────────────────────────────┘
/// ```
#[derive(Debug)]
pub struct Splitter {
    /// Lines of the record so far, the last one perhaps without its end.
    held: Vec<u8>,
    /// Where in `held` the unfinished last line begins.
    line_start: usize,
    /// The unfinished last line consists of white space so far. Kept apart from `held` because the bytes of an
    /// oversized record are thrown away.
    blank: bool,
    /// Bytes of the unfinished last line so far.
    line_bytes: usize,
    oversized: bool,
    /// The number of the unfinished last line.
    line: u64,
    /// The number of the record's first line; 0 between records.
    record_line: u64,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { held: Vec::new(), line_start: 0, blank: true, line_bytes: 0, oversized: false, line: 1, record_line: 0 }
    }
}

impl Splitter {
    /// Takes the next piece of the file up to the end of a record. Returns how many bytes it took and whether a
    /// record is ready in [`Self::record`]; call [`Self::next`] before the rest of the piece.
    pub fn take(&mut self, piece: &[u8]) -> (usize, bool) {
        let mut taken = 0;
        while let Some(rest) = piece.get(taken..).filter(|rest| !rest.is_empty()) {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let text = &rest[..end.unwrap_or(rest.len())];
            self.append(text);
            taken += text.len();
            if end.is_some() {
                taken += 1;
                if self.end_line() {
                    return (taken, true);
                }
            }
        }
        (taken, false)
    }

    /// Whether the last line has not ended yet.
    pub fn is_in_line(&self) -> bool {
        self.line_bytes > 0
    }

    /// The file ended: whether a last record is ready.
    pub fn finish(&mut self) -> bool {
        if self.line_bytes > 0 {
            self.end_line();
        }
        self.record_line > 0
    }

    /// The record that [`Self::take`] or [`Self::finish`] announced.
    pub fn record(&self) -> RawRecord<'_> {
        RawRecord { line: self.record_line, bytes: (!self.oversized).then_some(self.held.as_slice()) }
    }

    /// Forgets the record.
    pub fn next(&mut self) {
        self.held.clear();
        self.line_start = 0;
        self.oversized = false;
        self.record_line = 0;
    }

    fn append(&mut self, text: &[u8]) {
        self.blank &= text.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
        self.line_bytes += text.len();
        if self.oversized {
            return;
        }
        if self.held.len() + text.len() > RECORD_BYTES_MAX {
            // Leading white space of any length is no record yet; what follows decides.
            self.oversized = true;
            self.held.clear();
            self.line_start = 0;
        } else {
            self.held.extend_from_slice(text);
        }
    }

    /// Ends the current line; whether that completes a record.
    fn end_line(&mut self) -> bool {
        let blank = std::mem::replace(&mut self.blank, true);
        self.line_bytes = 0;
        let number = self.line;
        self.line += 1;
        if blank {
            self.held.truncate(self.line_start);
            if self.record_line == 0 {
                self.oversized = false;
            }
            return self.record_line > 0;
        }
        if self.record_line == 0 {
            self.record_line = number;
        }
        if !self.oversized {
            self.held.push(b'\n');
            self.line_start = self.held.len();
        }
        false
    }
}

/// What is wrong with a record, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub line: u64,
    pub reason: String,
}

/// Calls `each` with the name, the raw value and the line number of every field of a record. The raw value still has
/// its continuation lines; [`text`] makes text of it. `each` may refuse the record.
pub fn fields<'a>(
    bytes: &'a [u8],
    first_line: u64,
    mut each: impl FnMut(&'a str, &'a str, u64) -> Result<(), Wrong>,
) -> Result<(), Wrong> {
    let record = match std::str::from_utf8(bytes) {
        Ok(record) => record,
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let breaks = before.iter().filter(|byte| **byte == b'\n').count();
            let line = first_line + u64::try_from(breaks).unwrap_or(0);
            let (at, byte) = (error.valid_up_to(), bytes.get(error.valid_up_to()).copied().unwrap_or(0));
            let cure = "convert the file, as with `iconv -f ISO-8859-1 -t UTF-8`";
            return Err(Wrong { line, reason: format!("no UTF-8 at byte {at} of the record (0x{byte:02X}); {cure}") });
        }
    };
    let mut line = first_line;
    let mut rest = record;
    while !rest.is_empty() {
        let at = line;
        let mut end = line_end(rest);
        line += 1;
        while rest[end..].starts_with([' ', '\t']) {
            end += line_end(&rest[end..]);
            line += 1;
        }
        let (field, tail) = rest.split_at(end);
        rest = tail;
        let Some((name, value)) = field.split_once(':') else {
            return Err(Wrong { line: at, reason: format!("{:?} has no colon", clip(field.trim_end(), 40)) });
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Wrong { line: at, reason: format!("{:?} is no field name", clip(name, 40)) });
        }
        each(name, value, at)?;
    }
    Ok(())
}

/// The text of a raw value: the first line without white space around it, each continuation line without its first
/// white-space character and without white space at its end, a lone `.` as an empty line (Debian Policy 5.6.13).
pub fn text(raw: &str) -> String {
    let mut lines = raw.trim_end().split('\n');
    let mut text = lines.next().unwrap_or("").trim().to_owned();
    for line in lines {
        let line = line.get(1..).unwrap_or("").trim_end();
        text.push('\n');
        if line != "." {
            text.push_str(line);
        }
    }
    text
}

/// Offset behind the first line's end.
fn line_end(text: &str) -> usize {
    text.find('\n').map_or(text.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::{RECORD_BYTES_MAX, Splitter, fields, text};

    /// Cuts `file`, given in pieces of `size` bytes.
    fn cut(file: &[u8], size: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for piece in file.chunks(size) {
            let mut rest = piece;
            while !rest.is_empty() {
                let (taken, ready) = splitter.take(rest);
                rest = &rest[taken..];
                if ready {
                    let record = splitter.record();
                    found.push((record.line, record.bytes.map(<[u8]>::to_vec)));
                    splitter.next();
                }
            }
        }
        if splitter.finish() {
            let record = splitter.record();
            found.push((record.line, record.bytes.map(<[u8]>::to_vec)));
        }
        found
    }

    #[test]
    fn records_are_the_same_for_every_size_of_piece() {
        let file = b"\n \nA: 1\n more\nB: 2\n\n\r\nC: 3\r\n\t\nD: 4";
        let expected = vec![
            (3, Some(b"A: 1\n more\nB: 2\n".to_vec())),
            (8, Some(b"C: 3\r\n".to_vec())),
            (10, Some(b"D: 4\n".to_vec())),
        ];
        for size in 1..file.len() + 1 {
            assert_eq!(cut(file, size), expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_oversized_record_is_announced_without_being_held() {
        let mut file = b"A: 1\n\nB: ".to_vec();
        file.extend(std::iter::repeat_n(b'x', RECORD_BYTES_MAX));
        file.extend_from_slice(b"\nC: 2\n\nD: 3\n");
        for size in [1000, 4096, file.len()] {
            let expected = vec![(1, Some(b"A: 1\n".to_vec())), (3, None), (6, Some(b"D: 3\n".to_vec()))];
            assert_eq!(cut(&file, size), expected);
        }
    }

    #[test]
    fn white_space_without_end_is_no_record() {
        let mut file = vec![b' '; RECORD_BYTES_MAX * 2];
        file.extend_from_slice(b"\nA: 1\n");
        assert_eq!(cut(&file, 4096), vec![(2, Some(b"A: 1\n".to_vec()))]);
    }

    /// Name, text and line of each field.
    type Fields = Vec<(String, String, u64)>;

    fn read(record: &[u8]) -> Result<Fields, (u64, String)> {
        let mut found = Vec::new();
        fields(record, 10, |name, raw, line| {
            found.push((name.to_owned(), text(raw), line));
            Ok(())
        })
        .map_err(|wrong| (wrong.line, wrong.reason))?;
        Ok(found)
    }

    #[test]
    fn fields_keep_multi_line_text() {
        let record = b"Package: a\r\nDescription: short\n long one\n .\n  indented\nSize:  7 \n";
        let found = read(record).expect("a good record");
        assert_eq!(found[0], ("Package".into(), "a".into(), 10));
        assert_eq!(found[1], ("Description".into(), "short\nlong one\n\n indented".into(), 11));
        assert_eq!(found[2], ("Size".into(), "7".into(), 15));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert_eq!(read(b"A: 1\nno colon\n"), Err((11, "\"no colon\" has no colon".into())));
        assert_eq!(read(b" first\nA: 1\n"), Err((10, "\" first\" has no colon".into())));
        assert_eq!(
            read(b"A: 1\nB: \xff\n"),
            Err((
                11,
                "no UTF-8 at byte 8 of the record (0xFF); convert the file, as with `iconv -f ISO-8859-1 -t UTF-8`"
                    .into()
            ))
        );
        assert_eq!(read(b"a b: 1\n"), Err((10, "\"a b\" is no field name".into())));
    }
}
