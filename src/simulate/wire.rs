//! A second, plain reader of HTTP/1.1 messages, so that the cluster is not judged by its own parser.

/// A message that has come whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub line: String,
    /// With names in lower case.
    fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    /// Takes the first message out of what has come; `None` until it is whole.
    ///
    /// # Errors
    /// What is wrong with it; one sentence.
    pub fn take(input: &mut Vec<u8>) -> Result<Option<Self>, String> {
        let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&input[..end]).map_err(|_| "a head that is no text".to_owned())?;
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or("").to_owned();
        let mut fields = Vec::new();
        for field in lines {
            let (name, value) = field.split_once(':').ok_or_else(|| format!("a field without colon: {field:?}"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut message = Self { line, fields, body: Vec::new() };
        let length = match message.field("content-length") {
            Some(length) => length.parse().map_err(|_| format!("Content-Length {length:?}"))?,
            None => 0_usize,
        };
        let begin = end + 4;
        let Some(body) = input.get(begin..begin + length) else { return Ok(None) };
        message.body = body.to_vec();
        input.drain(..begin + length);
        Ok(Some(message))
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The status of an answer; 0 if its first line has none.
    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn messages_are_taken_one_by_one() {
        let mut input = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 404".to_vec();
        let message = Message::take(&mut input).expect("sound").expect("whole");
        assert_eq!((message.status(), message.text().as_str()), (200, "ab"));
        assert_eq!(message.field("content-length"), Some("2"));
        assert_eq!(Message::take(&mut input), Ok(None));
        assert_eq!(input, b"HTTP/1.1 404");
        assert!(Message::take(&mut b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n".to_vec()).is_err());
    }
}
