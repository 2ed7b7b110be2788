//! A text that is looked for in bytes that arrive in pieces (Knuth, Morris and Pratt).

/// A text, and for each of its beginnings the longest shorter one that it also ends with.
#[derive(Clone, Debug)]
pub struct Needle {
    text: Box<[u8]>,
    fallback: Box<[usize]>,
}

impl Needle {
    /// `text` is not empty.
    pub fn new(text: &[u8]) -> Self {
        let mut fallback = vec![0; text.len()];
        let mut length = 0;
        for place in 1..text.len() {
            while length > 0 && text[place] != text[length] {
                length = fallback[length - 1];
            }
            length += usize::from(text[place] == text[length]);
            fallback[place] = length;
        }
        Self { text: text.into(), fallback: fallback.into() }
    }

    /// Goes on with `bytes`; `matched` is how much of the text the bytes before them ended with, 0 at first. True when
    /// the text is complete.
    pub fn found(&self, matched: &mut usize, mut bytes: &[u8]) -> bool {
        loop {
            if *matched == 0 {
                // Nothing begun: the next byte that could begin it, at the speed of a plain search.
                let Some(start) = bytes.iter().position(|byte| *byte == self.text[0]) else { return false };
                bytes = &bytes[start..];
            }
            let Some((&byte, rest)) = bytes.split_first() else { return false };
            while *matched > 0 && byte != self.text[*matched] {
                *matched = self.fallback[*matched - 1];
            }
            *matched += usize::from(byte == self.text[*matched]);
            if *matched == self.text.len() {
                *matched = 0;
                return true;
            }
            bytes = rest;
        }
    }
}
