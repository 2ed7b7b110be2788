//! The text of vector files; `vectors/README.md` describes it.

use super::vector::{Act, Answer, Fate, Field, Rule, Step, Upstream, Vector};

/// Documents that a clause may be of.
const RFCS: [&str; 11] = ["3986", "6455", "6585", "7239", "8246", "8297", "8446", "9110", "9111", "9112", "9113"];

/// Reads one file. A mistake costs its vector and is told with its place and what would be right.
pub fn read(file: &str, text: &str, vectors: &mut Vec<Vector>, faults: &mut Vec<String>) {
    let mut reader: Option<Vector> = None;
    for (index, line) in text.lines().enumerate() {
        let place = format!("{file}:{}", index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let done = if line.starts_with('[') {
            finish(reader.take(), vectors, faults);
            begin(&place, line).map(|vector| reader = Some(vector))
        } else if let Some(vector) = &mut reader {
            take(vector, line)
        } else {
            Err("a line before the first vector; a vector begins with `[RFC section] name`".to_owned())
        };
        if let Err(wrong) = done {
            faults.push(format!("{place}: {wrong}: `{line}`"));
        }
    }
    finish(reader, vectors, faults);
}

/// `[9112 3.2] Host is missing`
fn begin(place: &str, line: &str) -> Result<Vector, String> {
    let (clause, name) = line[1..].split_once("] ").ok_or("a vector begins with `[RFC section] name`")?;
    let (rfc, section) = clause.split_once(' ').ok_or("a clause is `RFC section`, such as `9112 3.2`")?;
    if !RFCS.contains(&rfc) {
        return Err(format!("RFC {rfc} is not among those that vectors cite; add it to RFCS of notation.rs"));
    }
    if section.is_empty() || !section.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
        return Err("a section is digits and dots, such as `3.2.1`".to_owned());
    }
    Ok(Vector {
        place: place.to_owned(),
        name: format!("{}: RFC {rfc} section {section}: {name}", place.split(".txt").next().unwrap_or(place)),
        steps: Vec::new(),
        fate: Fate::Closed,
        upstream: Vec::new(),
        partial: false,
        upstream_kept: None,
        scripts: Vec::new(),
    })
}

fn finish(vector: Option<Vector>, vectors: &mut Vec<Vector>, faults: &mut Vec<String>) {
    let Some(vector) = vector else { return };
    if !matches!(vector.steps.first(), Some(Step::Send(_))) {
        faults.push(format!("{}: nothing is sent first; begin with a line `> …`", vector.place));
    }
    vectors.push(vector);
}

fn take(vector: &mut Vector, line: &str) -> Result<(), String> {
    let (sign, rest) = line.split_once(' ').unwrap_or((line, ""));
    match sign {
        ">" | ">|" => {
            let mut bytes = unescape(rest)?;
            if sign == ">" {
                bytes.extend_from_slice(b"\r\n");
            }
            match vector.steps.last_mut() {
                Some(Step::Send(before)) => before.extend_from_slice(&bytes),
                _ => vector.steps.push(Step::Send(bytes)),
            }
        }
        ">." => vector.steps.push(Step::HalfClose),
        "<" => answer(vector, rest)?,
        "<|" => vector.steps.push(Step::Raw(unescape(rest)?)),
        "<+" | "<-" => match vector.steps.last_mut() {
            Some(Step::Answer(answer)) => answer.fields.push(field(sign, rest)?),
            _ => return Err("a field of an answer stands behind its `<` line".to_owned()),
        },
        "^" => upstream(vector, rest)?,
        "^+" | "^-" => {
            let field = field(sign, rest)?;
            vector.upstream.last_mut().ok_or("a field of a request stands behind its `^` line")?.fields.push(field);
        }
        "@" | "@|" => {
            let mut bytes = unescape(rest)?;
            if sign == "@" {
                bytes.extend_from_slice(b"\r\n");
            }
            let script = script(vector);
            match script.last_mut() {
                Some(Act::Send(before)) => before.extend_from_slice(&bytes),
                _ => script.push(Act::Send(bytes)),
            }
        }
        "@next" => vector.scripts.push(Vec::new()),
        "@early" => script(vector).push(Act::Early),
        "@quiet" => script(vector).push(Act::Quiet),
        "@echo" => script(vector).push(Act::Echo),
        "@close" => script(vector).push(Act::Close),
        "@usual" => script(vector).push(Act::Usual),
        _ => return Err("no such line; vectors/README.md has the notation".to_owned()),
    }
    Ok(())
}

fn script(vector: &mut Vector) -> &mut Vec<Act> {
    if vector.scripts.is_empty() {
        vector.scripts.push(Vec::new());
    }
    vector.scripts.last_mut().expect("invariant: one was pushed")
}

/// `200 kept "body"`, `400 closed`, `400|501 closed`, `200 cut closed`, `none closed`
fn answer(vector: &mut Vector, text: &str) -> Result<(), String> {
    let (text, body) = quoted(text)?;
    let mut answer = Answer { body, ..Answer::default() };
    for (index, word) in text.split_whitespace().enumerate() {
        match word {
            "kept" => vector.fate = Fate::Kept,
            "closed" => vector.fate = Fate::Closed,
            "cut" => answer.cut = true,
            "none" if index == 0 => return Ok(()),
            "upstream-kept" => vector.upstream_kept = Some(true),
            "upstream-dropped" => vector.upstream_kept = Some(false),
            _ if index == 0 => {
                let statuses: Result<Vec<u16>, _> = word.split('|').map(str::parse).collect();
                answer.statuses = statuses.map_err(|_| "an answer begins with its status or `none`")?;
            }
            _ => return Err(format!("`{word}` is not a word of answers")),
        }
    }
    vector.steps.push(Step::Answer(answer));
    Ok(())
}

/// `POST /path host length=5 "hello"`, or `partial`
fn upstream(vector: &mut Vector, text: &str) -> Result<(), String> {
    if text == "partial" {
        vector.partial = true;
        return Ok(());
    }
    let (text, body) = quoted(text)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [method, target, host, framing] = words[..] else {
        return Err("a request of the server is `METHOD TARGET HOST FRAMING \"body\"`".to_owned());
    };
    let plain = |text: &str| unescape(text).map(|bytes| super::message::latin1(&bytes));
    vector.upstream.push(Upstream {
        method: plain(method)?,
        target: plain(target)?,
        host: if host == "*" { None } else { Some(plain(host)?) },
        framing: framing.to_owned(),
        body: body.unwrap_or_default(),
        fields: Vec::new(),
    });
    Ok(())
}

/// `name`, or `name: value` behind a plus; the value may be empty.
fn field(sign: &str, text: &str) -> Result<Field, String> {
    let absent = sign.ends_with('-');
    let (name, rule) = match text.split_once(':') {
        Some((name, value)) if !absent => {
            (name, Rule::Value(super::message::latin1(&unescape(value.strip_prefix(' ').unwrap_or(value))?)))
        }
        Some(_) => return Err("a field that must be absent has no value".to_owned()),
        None => (text, if absent { Rule::Absent } else { Rule::Present }),
    };
    Ok(Field { name: name.to_ascii_lowercase(), rule })
}

/// The text before a body in quotation marks, and the body.
fn quoted(text: &str) -> Result<(&str, Option<Vec<u8>>), String> {
    let Some((before, rest)) = text.split_once(" \"") else { return Ok((text, None)) };
    let body = rest.strip_suffix('"').ok_or("a body ends with a quotation mark at the end of the line")?;
    Ok((before, Some(unescape(body)?)))
}

/// `\r \n \t \0 \\ \xHH`, and `\{1000:text}` for repetition.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let (&sign, behind) = behind.split_first().ok_or("a backslash at the end; write `\\\\`")?;
        rest = behind;
        match sign {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            b'\\' => out.push(b'\\'),
            b's' => out.push(b' '),
            b'x' => {
                let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                out.push(byte.ok_or("`\\x` takes two hexadecimal digits")?);
                rest = &behind[2..];
            }
            b'{' => {
                let end = behind.iter().position(|byte| *byte == b'}').ok_or("`\\{` has no `}`")?;
                let inside = std::str::from_utf8(&behind[..end]).map_err(|_| "a repetition is ASCII")?;
                let (count, unit) = inside.split_once(':').ok_or("a repetition is `\\{count:text}`")?;
                let count: usize = count.parse().map_err(|_| "a repetition is `\\{count:text}`")?;
                let unit = unescape(unit)?;
                out.extend(std::iter::repeat_n(unit, count).flatten());
                rest = &behind[end + 1..];
            }
            _ => return Err(format!("no such escape: `\\{}`", char::from(sign))),
        }
    }
    Ok(out)
}

#[test]
fn mistakes_are_told_with_their_place() {
    let (mut vectors, mut faults) = (Vec::new(), Vec::new());
    let text = "> early\n[9999 1] a\n> x\n[9112 3] b\n? y\n> \\q\n< soon\n[9112 3] c\n< 200 kept\n";
    read("f.txt", text, &mut vectors, &mut faults);
    let places: Vec<&str> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        ["f.txt:1", "f.txt:2", "f.txt:3", "f.txt:5", "f.txt:6", "f.txt:7", "f.txt:4", "f.txt:8"],
        "{faults:?}"
    );
}

#[test]
fn escapes() {
    assert_eq!(unescape("a\\r\\n\\x00\\{3:xy}\\\\\\sb").unwrap(), b"a\r\n\0xyxyxy\\ b");
}
