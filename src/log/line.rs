//! One line of the log: taken from a macro's record by whoever logs, made text by the log's thread.

use std::fmt::Write as _;
use std::str::FromStr;

use log::Level;
use log::kv::{Error, Key, Value, VisitSource, VisitValue};

use super::filter::place;
use super::text;
use crate::clock::stamp;

/// Bytes of a message or of one value; what is beyond them is cut.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Named values of one line.
pub const FIELDS_MAX: usize = 24;

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `time=… level=info place=database message="…" key=value`
    #[default]
    Logfmt,
    /// One object a line; numbers stay numbers.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "logfmt" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{word}` is no format of lines: write logfmt or json")),
        }
    }
}

/// A named value.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    Nothing,
    Truth(bool),
    Count(u64),
    Signed(i64),
    Real(f64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub level: Level,
    pub unix_ms: u64,
    pub thread: String,
    pub place: String,
    pub message: String,
    pub fields: Vec<(String, Field)>,
}

impl Line {
    /// What a macro was given, on the thread that called it.
    pub fn of(record: &log::Record<'_>, unix_ms: u64) -> Self {
        let mut fields = Fields(Vec::new());
        // The visitor takes everything.
        let _ = record.key_values().visit(&mut fields);
        Self {
            level: record.level(),
            unix_ms,
            thread: std::thread::current().name().unwrap_or("nameless").to_owned(),
            place: place(record.target()).to_owned(),
            message: cut(record.args().to_string()),
            fields: fields.0,
        }
    }

    /// Appends the line with its end. In a journal the time is the journal's own, and the level stands before the line
    /// as sd-daemon(3) has it.
    pub fn write(&self, out: &mut String, format: Format, journal: bool) {
        if journal {
            let _ = write!(out, "<{}>", priority(self.level));
        }
        match format {
            Format::Logfmt => self.write_logfmt(out, journal),
            Format::Json => self.write_json(out, journal),
        }
        out.push('\n');
    }

    fn write_logfmt(&self, out: &mut String, journal: bool) {
        if !journal {
            let _ = write!(out, "time={} ", time(self.unix_ms));
        }
        let _ = write!(out, "level={} thread=", word(self.level));
        text::value(out, &self.thread);
        out.push_str(" place=");
        text::value(out, &self.place);
        out.push_str(" message=");
        text::quoted(out, &self.message);
        for (name, field) in &self.fields {
            let _ = write!(out, " {name}=");
            let _ = match field {
                Field::Nothing => write!(out, "-"),
                Field::Truth(truth) => write!(out, "{truth}"),
                Field::Count(count) => write!(out, "{count}"),
                Field::Signed(number) => write!(out, "{number}"),
                Field::Real(number) => write!(out, "{number}"),
                Field::Text(value) => {
                    text::value(out, value);
                    Ok(())
                }
            };
        }
    }

    fn write_json(&self, out: &mut String, journal: bool) {
        let string = |text: &str| serde_json::Value::from(text).to_string();
        out.push('{');
        if !journal {
            let _ = write!(out, "\"time\":\"{}\",", time(self.unix_ms));
        }
        let (thread, place, message) = (string(&self.thread), string(&self.place), string(&self.message));
        let _ = write!(
            out,
            "\"level\":\"{}\",\"thread\":{thread},\"place\":{place},\"message\":{message}",
            word(self.level)
        );
        for (name, field) in &self.fields {
            let _ = write!(out, ",{}:", string(name));
            let _ = match field {
                Field::Nothing => write!(out, "null"),
                Field::Truth(truth) => write!(out, "{truth}"),
                Field::Count(count) => write!(out, "{count}"),
                Field::Signed(number) => write!(out, "{number}"),
                Field::Real(number) => write!(out, "{}", serde_json::Value::from(*number)),
                Field::Text(value) => write!(out, "{}", string(value)),
            };
        }
        out.push('}');
    }
}

fn time(unix_ms: u64) -> String {
    String::from_utf8_lossy(&stamp(unix_ms)).into_owned()
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// As syslog(3) counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}

struct Fields(Vec<(String, Field)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut kind = Kind(Field::Nothing);
        // The visitor takes everything.
        let _ = value.visit(&mut kind);
        // An empty text is a value that there is not.
        let empty = matches!(&kind.0, Field::Text(text) if text.is_empty());
        if self.0.len() < FIELDS_MAX && !empty {
            self.0.push((key.as_str().to_owned(), kind.0));
        }
        Ok(())
    }
}

struct Kind(Field);

impl VisitValue<'_> for Kind {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.0 = Field::Text(cut(value.to_string()));
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.0 = Field::Nothing;
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0 = Field::Count(value);
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.0 = Field::Signed(value);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        self.0 = Field::Real(value);
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.0 = Field::Truth(value);
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        self.0 = Field::Text(cut(value.to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Field, Format, Level, Line, TEXT_BYTES_MAX};

    fn line(fields: &[(&str, Field)]) -> Line {
        Line {
            level: Level::Warn,
            unix_ms: 1_795_797_013_123,
            thread: "worker-0".into(),
            place: "front".into(),
            message: "the upstream server is down".into(),
            fields: fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect(),
        }
    }

    fn written(line: &Line, format: Format, journal: bool) -> String {
        let mut out = String::new();
        line.write(&mut out, format, journal);
        out
    }

    #[test]
    fn a_line_has_its_fixed_fields_first() {
        let line = line(&[
            ("address", Field::Text("127.0.0.1:9000".into())),
            ("reason", Field::Text("it said \"no\"\n".into())),
            ("checks", Field::Count(3)),
            ("last", Field::Nothing),
        ]);
        assert_eq!(
            written(&line, Format::Logfmt, false),
            "time=2026-11-27T16:30:13.123Z level=warn thread=worker-0 place=front \
             message=\"the upstream server is down\" address=127.0.0.1:9000 reason=\"it said \\\"no\\\"\\x0a\" checks=3 \
             last=-\n"
        );
        assert_eq!(
            written(&line, Format::Json, false),
            "{\"time\":\"2026-11-27T16:30:13.123Z\",\"level\":\"warn\",\"thread\":\"worker-0\",\"place\":\"front\",\
             \"message\":\"the upstream server is down\",\"address\":\"127.0.0.1:9000\",\"reason\":\"it said \\\"no\\\"\\n\",\
             \"checks\":3,\"last\":null}\n"
        );
    }

    #[test]
    fn a_journal_has_the_time_itself_and_wants_the_priority() {
        let line = line(&[]);
        assert_eq!(
            written(&line, Format::Logfmt, true),
            "<4>level=warn thread=worker-0 place=front message=\"the upstream server is down\"\n"
        );
        assert!(written(&line, Format::Json, true).starts_with("<4>{\"level\":\"warn\""));
    }

    #[test]
    fn a_record_becomes_a_line() {
        use log::kv::{Key, ToValue as _, Value};
        let values: Vec<(Key<'_>, Value<'_>)> = vec![
            (Key::from("count"), 7_u64.to_value()),
            (Key::from("ready"), true.to_value()),
            (Key::from("change"), (-3_i32).to_value()),
            (Key::from("error"), Value::from_display(&"no room")),
            (Key::from("absent"), Value::from_display(&"")),
        ];
        let values = values.as_slice();
        let mut record = log::Record::builder();
        record.level(Level::Error).target("twintier::database::server").key_values(&values);
        let taken = Line::of(&record.args(format_args!("{}", "x".repeat(TEXT_BYTES_MAX + 1))).build(), 5);
        assert_eq!((taken.level, taken.place.as_str(), taken.unix_ms), (Level::Error, "database", 5));
        assert!(taken.message.ends_with("x…"));
        let fields: Vec<(&str, &Field)> = taken.fields.iter().map(|(name, field)| (name.as_str(), field)).collect();
        assert_eq!(
            fields,
            [
                ("count", &Field::Count(7)),
                ("ready", &Field::Truth(true)),
                ("change", &Field::Signed(-3)),
                ("error", &Field::Text("no room".into()))
            ]
        );
    }
}
