//! The histogram log, format 1.3 with V2 compressed payloads, as every HdrHistogram reader understands it.
//!
//! The layout is jHiccup's: StartTime, relative stamps, no BaseTime. Rules that the readers impose:
//! - the C reader needs the `format version` line, `#` lines of at most 126 characters, none after the legend, and
//!   numbers without sign or exponent; it adds every line, so tagged and untagged lines never share a file;
//! - the Java reader wants untagged lines; the values are nanoseconds and the maximum is in milliseconds, so that its
//!   default output ratio of 1e6 prints milliseconds.

use std::io::{self, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// Nanoseconds in a millisecond: the divisor of the column `Interval_Max`.
const MAX_DIVISOR: f64 = 1e6;

/// Writes one log. The header is written at once.
pub struct LogWriter<W: Write> {
    out: W,
    serializer: V2DeflateSerializer,
    binary: Vec<u8>,
    text: String,
}

impl<W: Write> LogWriter<W> {
    /// `start_unix_ms` is the time that the stamps of the intervals count from.
    ///
    /// # Errors
    /// What the file says.
    pub fn new(mut out: W, start_unix_ms: u64) -> io::Result<Self> {
        writeln!(out, "#[Logged by loadgen {}]", env!("CARGO_PKG_VERSION"))?;
        writeln!(out, "#[Histogram log format version 1.3]")?;
        let (seconds, ms) = (start_unix_ms / 1000, start_unix_ms % 1000);
        writeln!(out, "#[StartTime: {seconds}.{ms:03} (seconds since epoch), {}]", date(seconds))?;
        writeln!(out, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"")?;
        Ok(Self { out, serializer: V2DeflateSerializer::new(), binary: Vec::new(), text: String::new() })
    }

    /// One line; `start` counts from the log's start time. An empty histogram is written like any other.
    ///
    /// # Errors
    /// What the file says.
    pub fn write(
        &mut self,
        tag: Option<&str>,
        start: Duration,
        length: Duration,
        histogram: &Histogram<u64>,
    ) -> io::Result<()> {
        self.binary.clear();
        self.text.clear();
        self.serializer.serialize(histogram, &mut self.binary).map_err(|error| io::Error::other(error.to_string()))?;
        STANDARD.encode_string(&self.binary, &mut self.text);
        if let Some(tag) = tag {
            write!(self.out, "Tag={},", clean_tag(tag))?;
        }
        let max = if histogram.is_empty() { 0.0 } else { histogram.max() as f64 / MAX_DIVISOR };
        writeln!(self.out, "{:.3},{:.3},{max:.3},{}", start.as_secs_f64(), length.as_secs_f64(), self.text)
    }

    /// # Errors
    /// What the file says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A tag without the characters that end it.
pub fn clean_tag(tag: &str) -> String {
    tag.chars().map(|c| if c == ',' || c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}

/// One line of a log that was read.
#[derive(Debug)]
pub struct Line {
    pub tag: Option<String>,
    pub start: Duration,
    pub histogram: Histogram<u64>,
}

/// A log that was read.
#[derive(Debug, Default)]
pub struct Log {
    /// Milliseconds since the epoch; 0 if the log does not say.
    pub start_unix_ms: u64,
    pub lines: Vec<Line>,
}

/// Reads a whole log.
///
/// # Errors
/// Where it is no log, as one sentence.
pub fn parse(text: &[u8]) -> Result<Log, String> {
    let mut log = Log::default();
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(text) {
        match entry.map_err(|error| format!("not a histogram log: {error:?}"))? {
            LogEntry::StartTime(since_epoch) => log.start_unix_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(0),
            LogEntry::BaseTime(_) => return Err("a log with BaseTime: write it with StartTime only".into()),
            LogEntry::Interval(interval) => {
                let binary =
                    STANDARD.decode(interval.encoded_histogram()).map_err(|error| format!("no base64: {error}"))?;
                let histogram = deserializer
                    .deserialize(&mut binary.as_slice())
                    .map_err(|error| format!("no histogram: {error}"))?;
                let tag = interval.tag().map(|tag| tag.as_str().to_owned());
                log.lines.push(Line { tag, start: interval.start_timestamp(), histogram });
            }
        }
    }
    Ok(log)
}

/// `Thu Oct 09 08:53:20 UTC 2025`, as Java prints dates.
pub fn date(unix_s: u64) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let weekday = WEEKDAYS[usize::try_from(days % 7).expect("invariant: below 7")];
    let (mut year, mut day) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    format!(
        "{weekday} {} {:02} {:02}:{:02}:{:02} UTC {year}",
        MONTHS[month],
        day + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests;
