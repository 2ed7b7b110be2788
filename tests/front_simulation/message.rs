//! A second, plain reader of HTTP messages, so that the front is not judged by its own parser.

use twintier::engine::sim::Random;

/// The body that belongs to a request's number.
pub fn pattern(id: u64, length: usize) -> Vec<u8> {
    let mut random = Random(id.wrapping_mul(0x51_7C_C1_B7_27_22_0A_95));
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A head cut into its first line and its fields with lower-case names.
pub struct Head {
    pub line: String,
    pub fields: Vec<(String, String)>,
    pub bytes: usize,
}

impl Head {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub fn chunked(&self) -> bool {
        self.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    pub fn length(&self) -> Option<usize> {
        self.field("content-length").and_then(|value| value.parse().ok())
    }
}

pub fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is no text".to_string())?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or("").to_string();
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("a field without colon: {line:?}"))?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    Ok(Some(Head { line, fields, bytes: end + 4 }))
}

/// Payload of a chunked body: what is there, and how many bytes it took if it is whole.
pub fn dechunk(bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), String> {
    let (mut at, mut payload) = (0, Vec::new());
    loop {
        let Some(line) = bytes[at..].windows(2).position(|window| window == b"\r\n") else {
            return Ok((payload, None));
        };
        let text = std::str::from_utf8(&bytes[at..at + line]).map_err(|_| "a chunk size that is no text")?;
        let size = usize::from_str_radix(text.split(';').next().unwrap_or("").trim(), 16)
            .map_err(|_| format!("chunk size {text:?}"))?;
        at += line + 2;
        if size == 0 {
            // Trailers end with an empty line.
            loop {
                let Some(line) = bytes[at..].windows(2).position(|window| window == b"\r\n") else {
                    return Ok((payload, None));
                };
                at += line + 2;
                if line == 0 {
                    return Ok((payload, Some(at)));
                }
            }
        }
        let there = (bytes.len() - at).min(size);
        payload.extend_from_slice(&bytes[at..at + there]);
        if bytes.len() < at + size + 2 {
            return Ok((payload, None));
        }
        if &bytes[at + size..at + size + 2] != b"\r\n" {
            return Err("a chunk without its end".into());
        }
        at += size + 2;
    }
}

/// `payload` cut into random chunks.
pub fn chunked(payload: &[u8], random: &mut Random, extras: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let end = at + 1 + random.size((payload.len() - at).min(5000));
        let extension = if extras && random.chance(200) { ";name=\"va;lue\"" } else { "" };
        out.extend_from_slice(format!("{:x}{extension}\r\n", end - at).as_bytes());
        out.extend_from_slice(&payload[at..end]);
        out.extend_from_slice(b"\r\n");
        at = end;
    }
    out.extend_from_slice(b"0\r\n");
    if extras && random.chance(200) {
        out.extend_from_slice(b"x-trailer: yes\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}
