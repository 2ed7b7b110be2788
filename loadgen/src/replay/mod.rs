//! The replay of an access log: when its requests came, and what they asked for.
//!
//! A log stamps whole seconds. The requests of a second are spread over it: at random by the seed (what a Poisson
//! process does with a known count), or evenly with `constant`. Their order stays. The whole log is read before the run;
//! equal requests are held once, and every bound has a name.

mod access_log;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use crate::arrivals::{Process, below};

/// Requests of a replay: 96 MiB of memory.
const REQUESTS_MAX: usize = 8 << 20;
/// Bytes of all different methods and paths together.
const DISTINCT_BYTES_MAX: usize = 256 << 20;
/// Bytes of a line; a longer one is a wrong line.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// Seconds between the first and the last line: 366 days.
const SPAN_S_MAX: i64 = 366 * 86_400;
/// Wrong lines that are shown; all are counted.
const WRONG_SHOWN: usize = 5;
const SECOND_NS: u64 = 1_000_000_000;

/// How often as fast as it was a log is replayed, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    micro: u64,
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let factor = text.parse().ok().filter(|factor: &f64| (0.001..=10_000.0).contains(factor));
        // The bounds were checked: below 2^53.
        factor.map(|factor| Self { micro: (factor * 1e6).round() as u64 }).ok_or_else(|| {
            format!("`{text}` is no speed: write how often as fast the log is to be replayed, from 0.001 to 10000")
        })
    }
}

impl Speed {
    fn scaled(self, offset_ns: u64) -> u64 {
        // At most 366 days times 1000: below 2^63.
        u64::try_from(u128::from(offset_ns) * 1_000_000 / u128::from(self.micro)).unwrap_or(u64::MAX)
    }
}

/// How a log is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Constant spreads the requests of a second evenly, Poisson at random.
    pub process: Process,
    pub seed: u64,
    pub speed: Speed,
    /// Send other methods than GET and HEAD, too, with an empty body.
    pub all_methods: bool,
}

/// What was not taken from a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Requests with another method than GET or HEAD.
    pub methods: u64,
    /// Lines that are no access log's.
    pub wrong: u64,
    /// The first of them: line number and reason.
    pub examples: Vec<(u64, &'static str)>,
}

/// A log that was read.
#[derive(Debug)]
pub struct Trace {
    /// Nanoseconds after the first request's second, by arrival.
    offsets_ns: Vec<u64>,
    /// Which of the distinct requests, by arrival.
    requests: Vec<u32>,
    /// Method and path.
    pub distinct: Vec<(String, String)>,
    pub left_out: LeftOut,
    peak_per_s: f64,
}

impl Trace {
    /// Reads the whole file.
    ///
    /// # Errors
    /// It cannot be read, has no usable line, or is beyond a bound; with the cure.
    pub fn read(path: &Path, reading: &Reading) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut lines = Lines::default();
        lines.take(BufReader::new(file), reading).map_err(|error| format!("{}: {error}", path.display()))?;
        lines.spread(reading).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Offset and request of an arrival.
    pub fn arrival(&self, number: u64) -> Option<(u64, u32)> {
        let index = usize::try_from(number).ok()?;
        Some((*self.offsets_ns.get(index)?, self.requests[index]))
    }

    /// Method and path of a request.
    pub fn request(&self, request: u32) -> (&str, &str) {
        let (method, path) = &self.distinct[usize::try_from(request).expect("invariant: a u32 fits")];
        (method, path)
    }

    /// Arrivals at offsets from one time to another.
    pub fn arrivals_between(&self, from_ns: u64, to_ns: u64) -> usize {
        let before = |at_ns: u64| self.offsets_ns.partition_point(|&offset_ns| offset_ns < at_ns);
        before(to_ns) - before(from_ns)
    }

    /// The busiest second of the log, at the speed of the replay.
    pub fn peak_per_s(&self) -> f64 {
        self.peak_per_s
    }

    /// What was read, in a few lines for people.
    pub fn text(&self) -> String {
        let span_s = self.offsets_ns.last().copied().unwrap_or(0) as f64 / 1e9;
        let mut text = format!(
            "replay     {} requests over {span_s:.1} s, {} different\n",
            self.offsets_ns.len(),
            self.distinct.len()
        );
        if self.left_out.methods > 0 {
            text += &format!(
                "           left out: {} requests that are neither GET nor HEAD (--all-methods sends them, too)\n",
                self.left_out.methods
            );
        }
        if self.left_out.wrong > 0 {
            text += &format!("           left out: {} lines that are no access log's\n", self.left_out.wrong);
            for (line, reason) in &self.left_out.examples {
                text += &format!("           line {line}: {reason}\n");
            }
        }
        text
    }
}

/// What the lines say, in the order of the file.
#[derive(Default)]
struct Lines {
    /// Second and request.
    entries: Vec<(i64, u32)>,
    places: HashMap<(String, String), u32>,
    distinct_bytes: usize,
    left_out: LeftOut,
}

impl Lines {
    fn take(&mut self, mut file: impl BufRead, reading: &Reading) -> Result<(), String> {
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let length = file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
            if length.map_err(|error| format!("line {number}: {error}"))? == 0 {
                break;
            }
            if bytes.last() != Some(&b'\n') && u64::try_from(bytes.len()) == Ok(LINE_BYTES_MAX) {
                skip_line(&mut file).map_err(|error| format!("line {number}: {error}"))?;
                self.wrong(number, "the line is longer than 64 KiB");
                continue;
            }
            match std::str::from_utf8(bytes.trim_ascii()).map_err(|_| "the line is no UTF-8") {
                Ok("") => {}
                Ok(line) => match access_log::parse(line) {
                    Ok(entry) if reading.all_methods || matches!(entry.method, "GET" | "HEAD") => {
                        self.add(entry).map_err(|error| format!("line {number}: {error}"))?;
                    }
                    Ok(_) => self.left_out.methods += 1,
                    Err(reason) => self.wrong(number, reason),
                },
                Err(reason) => self.wrong(number, reason),
            }
        }
        Ok(())
    }

    fn wrong(&mut self, line: u64, reason: &'static str) {
        self.left_out.wrong += 1;
        if self.left_out.examples.len() < WRONG_SHOWN {
            self.left_out.examples.push((line, reason));
        }
    }

    fn add(&mut self, entry: access_log::Entry<'_>) -> Result<(), String> {
        if self.entries.len() == REQUESTS_MAX {
            return Err(format!(
                "more than {REQUESTS_MAX} requests: replay a part of the log, as from `head` or `sed`"
            ));
        }
        let next = u32::try_from(self.places.len()).expect("invariant: fewer than REQUESTS_MAX");
        let place = *self.places.entry((entry.method.to_owned(), entry.path.to_owned())).or_insert_with(|| {
            self.distinct_bytes += entry.method.len() + entry.path.len();
            next
        });
        if self.distinct_bytes > DISTINCT_BYTES_MAX {
            return Err(format!(
                "the different paths have more than {DISTINCT_BYTES_MAX} bytes: replay a part of the log"
            ));
        }
        self.entries.push((entry.unix_s, place));
        Ok(())
    }

    fn spread(mut self, reading: &Reading) -> Result<Trace, String> {
        // Servers log a request when it ends, and several processes share a file: neighbours may be a second apart.
        self.entries.sort_by_key(|(second, _)| *second);
        let (Some(&(first, _)), Some(&(last, _))) = (self.entries.first(), self.entries.last()) else {
            let example = self.left_out.examples.first();
            let reason = example.map_or(String::new(), |(line, reason)| format!("; line {line}: {reason}"));
            return Err(format!("no request in the common or combined format to replay{reason}"));
        };
        if last - first > SPAN_S_MAX {
            return Err("the first and the last request are more than 366 days apart: replay a part of the log".into());
        }
        let mut random = Xoshiro256PlusPlus::seed_from_u64(reading.seed);
        let mut offsets_ns = Vec::with_capacity(self.entries.len());
        let mut busiest = 0;
        for group in self.entries.chunk_by(|one, two| one.0 == two.0) {
            busiest = busiest.max(group.len());
            let second_ns = u64::try_from(group[0].0 - first).expect("invariant: sorted") * SECOND_NS;
            let start = offsets_ns.len();
            let count = u64::try_from(group.len()).expect("invariant: a usize fits");
            offsets_ns.extend((0..count).map(|index| {
                second_ns
                    + match reading.process {
                        Process::Constant => SECOND_NS * index / count,
                        Process::Poisson => below(&mut random, SECOND_NS),
                    }
            }));
            offsets_ns[start..].sort_unstable();
        }
        for offset_ns in &mut offsets_ns {
            *offset_ns = reading.speed.scaled(*offset_ns);
        }
        let mut distinct = vec![(String::new(), String::new()); self.places.len()];
        for (request, place) in self.places {
            distinct[usize::try_from(place).expect("invariant: a u32 fits")] = request;
        }
        Ok(Trace {
            offsets_ns,
            requests: self.entries.iter().map(|(_, place)| *place).collect(),
            distinct,
            left_out: self.left_out,
            peak_per_s: busiest as f64 * reading.speed.micro as f64 / 1e6,
        })
    }
}

/// Reads on to the end of a line without keeping it.
fn skip_line(file: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let available = file.fill_buf()?;
        let end = available.iter().position(|byte| *byte == b'\n');
        let (length, done) = (end.map_or(available.len(), |end| end + 1), end.is_some() || available.is_empty());
        file.consume(length);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES_MAX, Lines, Reading, Trace};
    use crate::arrivals::Process;

    fn reading(process: Process, speed: &str) -> Reading {
        Reading { process, seed: 3, speed: speed.parse().unwrap(), all_methods: false }
    }

    fn trace(log: &str, reading: &Reading) -> Result<Trace, String> {
        let mut lines = Lines::default();
        lines.take(log.as_bytes(), reading)?;
        lines.spread(reading)
    }

    fn line(second: u64, request: &str) -> String {
        format!("10.0.0.1 - - [01/Jan/2026:00:00:{second:02} +0000] \"{request} HTTP/1.1\" 200 5\n")
    }

    fn arrivals(trace: &Trace) -> Vec<(u64, String)> {
        let (arrivals, name) =
            ((0..).map_while(|k| trace.arrival(k)), |request: u32| &trace.distinct[request as usize].1);
        arrivals.map(|(offset_ns, request)| (offset_ns, name(request).clone())).collect()
    }

    #[test]
    fn requests_keep_their_second_and_their_order() {
        let log: String =
            [(7, "GET /a"), (7, "GET /b"), (9, "GET /a"), (8, "HEAD /a"), (9, "GET /c"), (9, "GET /a"), (9, "GET /b")]
                .iter()
                .map(|(second, request)| line(*second, request))
                .collect();
        let even = trace(&log, &reading(Process::Constant, "1")).unwrap();
        let expected = [(0, "/a"), (500, "/b"), (1000, "/a"), (2000, "/a"), (2250, "/c"), (2500, "/a"), (2750, "/b")];
        assert_eq!(arrivals(&even), expected.map(|(ms, path)| (ms * 1_000_000, path.to_owned())));
        assert_eq!((even.distinct.len(), even.peak_per_s()), (4, 4.0), "HEAD /a is not GET /a");
        let random = arrivals(&trace(&log, &reading(Process::Poisson, "1")).unwrap());
        assert!(
            random.iter().zip(expected).all(|((ns, path), (ms, same))| path == same && ns / 1_000_000_000 == ms / 1000)
        );
        assert!(random.is_sorted_by_key(|(ns, _)| *ns));
        assert_eq!(random, arrivals(&trace(&log, &reading(Process::Poisson, "1")).unwrap()), "by the seed");
        let fast = trace(&log, &reading(Process::Poisson, "4")).unwrap();
        let quarters: Vec<u64> = random.iter().map(|(ns, _)| ns / 4).collect();
        assert_eq!(arrivals(&fast).iter().map(|(ns, _)| *ns).collect::<Vec<_>>(), quarters);
        assert_eq!((fast.peak_per_s(), fast.arrivals_between(0, 500_000_000)), (16.0, 3));
    }

    #[test]
    fn what_is_left_out_is_counted_and_wrong_lines_have_their_number() {
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() * 2 + 5);
        let log =
            [&line(1, "GET /a"), "hello\n", "\n", &line(1, "POST /form"), &long, "\n", &line(2, "GET /b")].concat();
        let found = trace(&log, &reading(Process::Constant, "1")).unwrap();
        assert_eq!(arrivals(&found).len(), 2);
        assert_eq!((found.left_out.methods, found.left_out.wrong), (1, 2));
        assert_eq!(found.left_out.examples.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 5]);
        assert!(found.text().contains("line 5: the line is longer"), "{}", found.text());
        let all = Reading { all_methods: true, ..reading(Process::Constant, "1") };
        assert_eq!(trace(&log, &all).unwrap().distinct[1].0, "POST");
    }

    #[test]
    fn a_log_without_requests_is_an_error_with_the_first_reason() {
        assert!(trace("", &reading(Process::Constant, "1")).unwrap_err().contains("no request"));
        assert!(trace("\nhello\n", &reading(Process::Constant, "1")).unwrap_err().contains("line 2: no time"));
        let ages = line(1, "GET /a") + &line(1, "GET /a").replace("2026", "2024");
        assert!(trace(&ages, &reading(Process::Constant, "1")).unwrap_err().contains("366 days"));
    }

    #[test]
    fn speeds_are_factors() {
        for text in ["0", "-1", "x", "nan", "1e9", ""] {
            assert!(text.parse::<super::Speed>().is_err(), "{text}");
        }
    }
}
