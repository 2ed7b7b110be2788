//! The language of `--arrivals`: how arrivals follow each other, and how many there are when.
//!
//! ```text
//!   arrivals = [constant | poisson] [shape]
//!   shape    = ramp(FROM..TO [, TIME])        from one rate to the other in that time, then steady; without a time it
//!                                             takes the measured window
//!            | steps(RATE, RATE, …, TIME)     each for that time; the last one stays
//!            | sine(LOW..HIGH, PERIOD)        from the middle up, then down, and so on
//!            | spike(BASE..PEAK, AT, TIME)    the base, from AT on the peak for that time, then the base again
//!            | replay(FILE)                   the time stamps of an access log
//!   rate     = arrivals a second, 1000, or a share of --rate, 50%
//!   time     = 500ms | 30s | 5m | 2h
//! ```
//! Without a shape the rate is `--rate`. Times count from the start of the measured window; during the warm-up the
//! shape's first rate holds.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::arrivals::curve::{Curve, Piece};
use crate::arrivals::rate::Rate;

/// The longest time that a shape may name: a day.
const TIME_NS_MAX: u64 = 86_400_000_000_000;
/// Rates of `steps`.
const STEPS_MAX: usize = 1000;
/// Straight lines that a period of `sine` is made of: off the curve by less than 0.004 % of its height.
const SINE_PIECES: u32 = 360;

/// How arrivals follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// Equal steps of the integrated rate: at a steady rate arrival k is due at exactly k / rate.
    Constant,
    /// Independent exponential steps of the integrated rate: many users who know nothing of each other.
    Poisson,
}

impl Process {
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

/// A rate as written: of its own, or a share of `--rate`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    PerSecond(Rate),
    /// 1 is all of it.
    Share(f64),
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// `--rate` all the time.
    Flat,
    Ramp {
        from: Level,
        to: Level,
        length_ns: Option<u64>,
    },
    Steps {
        levels: Vec<Level>,
        length_ns: u64,
    },
    Sine {
        low: Level,
        high: Level,
        period_ns: u64,
    },
    Spike {
        base: Level,
        peak: Level,
        at_ns: u64,
        length_ns: u64,
    },
    Replay {
        file: PathBuf,
    },
}

/// What `--arrivals` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    process: Option<Process>,
    shape: Shape,
    /// The shape as written.
    text: String,
}

impl Pattern {
    /// Without a process a shape is constant, and a replay is spread at random.
    pub fn process(&self) -> Process {
        self.process.unwrap_or(match self.shape {
            Shape::Replay { .. } => Process::Poisson,
            Shape::Flat | Shape::Ramp { .. } | Shape::Steps { .. } | Shape::Sine { .. } | Shape::Spike { .. } => {
                Process::Constant
            }
        })
    }

    /// The access log of a replay.
    pub fn replay(&self) -> Option<&PathBuf> {
        match &self.shape {
            Shape::Replay { file } => Some(file),
            Shape::Flat | Shape::Ramp { .. } | Shape::Steps { .. } | Shape::Sine { .. } | Shape::Spike { .. } => None,
        }
    }

    /// Whether the arrivals are `--rate` alone.
    pub fn is_flat(&self) -> bool {
        self.shape == Shape::Flat
    }

    /// The rate over time, from the start of the warm-up on; `None` of a replay, which has time stamps instead.
    ///
    /// # Errors
    /// `--rate` is missing, or says nothing.
    pub fn curve(&self, rate: Option<Rate>, warmup_ns: u64, duration_ns: u64) -> Result<Option<Curve>, String> {
        self.check_rate(rate)?;
        let at = |level: &Level| match *level {
            Level::PerSecond(rate) => rate,
            Level::Share(share) => {
                let whole = rate.map_or(0.0, Rate::per_s);
                Rate::of((whole * share).min(Rate::PER_S_MAX)).unwrap_or(Rate::ZERO)
            }
        };
        let lead = |first: Rate| vec![Piece::flat(warmup_ns, first)];
        let curve = match &self.shape {
            Shape::Flat => Curve::ending(Vec::new(), rate.unwrap_or(Rate::ZERO)),
            Shape::Ramp { from, to, length_ns } => {
                let (from, to) = (at(from), at(to));
                let mut pieces = lead(from);
                pieces.push(Piece { length_ns: length_ns.unwrap_or(duration_ns), from, to });
                Curve::ending(pieces, to)
            }
            Shape::Steps { levels, length_ns } => {
                let rates: Vec<Rate> = levels.iter().map(at).collect();
                let (first, last) = (rates[0], rates[rates.len() - 1]);
                let mut pieces = lead(first);
                pieces.extend(rates.into_iter().map(|rate| Piece::flat(*length_ns, rate)));
                Curve::ending(pieces, last)
            }
            Shape::Sine { low, high, period_ns } => {
                let cycle = sine(at(low), at(high), *period_ns);
                Curve::repeating(lead(cycle[0].from), &cycle)
            }
            Shape::Spike { base, peak, at_ns, length_ns } => {
                let (base, peak) = (at(base), at(peak));
                let mut pieces = lead(base);
                pieces.extend([Piece::flat(*at_ns, base), Piece::flat(*length_ns, peak)]);
                Curve::ending(pieces, base)
            }
            Shape::Replay { .. } => return Ok(None),
        };
        Ok(Some(curve))
    }

    fn check_rate(&self, rate: Option<Rate>) -> Result<(), String> {
        let relative = |levels: &[&Level]| levels.iter().any(|level| matches!(level, Level::Share(_)));
        let needed = match &self.shape {
            Shape::Flat => true,
            Shape::Ramp { from, to, .. } => relative(&[from, to]),
            Shape::Steps { levels, .. } => relative(&levels.iter().collect::<Vec<_>>()),
            Shape::Sine { low, high, .. } => relative(&[low, high]),
            Shape::Spike { base, peak, .. } => relative(&[base, peak]),
            Shape::Replay { .. } => {
                return match rate {
                    None => Ok(()),
                    Some(_) => Err("a replay takes its rate from the log: leave --rate out, and use --speed 2 to \
                                    offer it twice as fast"
                        .into()),
                };
            }
        };
        match (needed, rate) {
            (true, None) => Err(format!("--arrivals '{self}' needs --rate, the arrivals a second")),
            (false, Some(_)) => Err(format!(
                "--arrivals '{self}' names its own rates: leave --rate out, or write them as shares of it, such as 50%"
            )),
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.process().name())?;
        if self.is_flat() { Ok(()) } else { write!(out, " {}", self.text) }
    }
}

/// One period from the middle up.
fn sine(low: Rate, high: Rate, period_ns: u64) -> Vec<Piece> {
    let (middle, height) = ((low.per_s() + high.per_s()) / 2.0, (high.per_s() - low.per_s()) / 2.0);
    let corner = |index: u32| {
        let angle = f64::from(index % SINE_PIECES) / f64::from(SINE_PIECES) * std::f64::consts::TAU;
        Rate::of((middle + height * libm::sin(angle)).clamp(0.0, Rate::PER_S_MAX)).unwrap_or(Rate::ZERO)
    };
    let border_ns = |index: u32| {
        period_ns / u64::from(SINE_PIECES) * u64::from(index)
            + period_ns % u64::from(SINE_PIECES) * u64::from(index) / u64::from(SINE_PIECES)
    };
    (0..SINE_PIECES)
        .map(|index| Piece {
            length_ns: border_ns(index + 1) - border_ns(index),
            from: corner(index),
            to: corner(index + 1),
        })
        .collect()
}

/// A part of the text and the column, from 1, at which it begins.
#[derive(Clone, Copy, Debug)]
struct Part<'t> {
    text: &'t str,
    column: usize,
}

impl<'t> Part<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, column: 1 }.trimmed()
    }

    fn trimmed(self) -> Self {
        let start = self.text.trim_start();
        let column = self.column + self.text[..self.text.len() - start.len()].chars().count();
        Self { text: start.trim_end(), column }
    }

    /// What lies behind the first `bytes` bytes.
    fn after(self, bytes: usize) -> Self {
        Self { text: &self.text[bytes..], column: self.column + self.text[..bytes].chars().count() }.trimmed()
    }

    fn before(self, bytes: usize) -> Self {
        Self { text: self.text[..bytes].trim_end(), column: self.column }
    }

    fn split(self, separator: &str) -> Option<(Self, Self)> {
        let at = self.text.find(separator)?;
        Some((self.before(at).trimmed(), self.after(at + separator.len())))
    }

    fn wrong(self, cure: &str) -> String {
        let found = if self.text.is_empty() { "nothing".to_owned() } else { format!("`{}`", self.text) };
        format!("column {}: {found}: {cure}", self.column)
    }

    fn arguments(self) -> Vec<Self> {
        let (mut parts, mut rest) = (Vec::new(), self);
        while let Some((one, more)) = rest.split(",") {
            parts.push(one);
            rest = more;
        }
        parts.push(rest);
        parts
    }

    fn level(self) -> Result<Level, String> {
        let level = match self.text.strip_suffix('%') {
            Some(percent) => {
                percent.trim().parse().ok().filter(|p| (0.0..=1e5).contains(p)).map(|p: f64| Level::Share(p / 100.0))
            }
            None => self.text.parse().ok().and_then(Rate::of).map(Level::PerSecond),
        };
        level.ok_or_else(|| {
            self.wrong(&format!(
                "write arrivals a second from 0 to {}, such as 1000, or a share of --rate, such as 50%",
                Rate::PER_S_MAX
            ))
        })
    }

    fn range(self) -> Result<(Level, Level), String> {
        let (from, to) = self.split("..").ok_or_else(|| self.wrong("write two rates, such as 1000..5000"))?;
        Ok((from.level()?, to.level()?))
    }

    fn time_ns(self) -> Result<u64, String> {
        let digits = self.text.find(|c: char| c.is_alphabetic()).unwrap_or(self.text.len());
        let scale = match &self.text[digits..] {
            "ms" => Some(1e6),
            "s" => Some(1e9),
            "m" => Some(60e9),
            "h" => Some(3600e9),
            _ => None,
        };
        let number: Option<f64> = self.text[..digits].trim().parse().ok();
        let time_ns = number.zip(scale).map(|(number, scale)| (number * scale).round());
        time_ns
            .filter(|ns| (1.0..=TIME_NS_MAX as f64).contains(ns))
            // The bounds were checked: below 2^53.
            .map(|ns| ns as u64)
            .ok_or_else(|| {
                self.wrong("write a time above 0 and up to a day with its unit, such as 500ms, 30s, 5m or 2h")
            })
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = Part::new(text);
        let word_end = whole.text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(whole.text.len());
        let (process, rest) = match &whole.text[..word_end] {
            "constant" => (Some(Process::Constant), whole.after(word_end)),
            "poisson" => (Some(Process::Poisson), whole.after(word_end)),
            _ => (None, whole),
        };
        if process.is_some() && rest.text.is_empty() {
            return Ok(Self { process, shape: Shape::Flat, text: String::new() });
        }
        Ok(Self { process, shape: shape(rest)?, text: rest.text.to_owned() })
    }
}

fn shape(part: Part<'_>) -> Result<Shape, String> {
    const KNOWN: &str = "write constant or poisson, and behind it, if the rate is to change, ramp(1000..5000, 30s), \
        steps(1000, 2000, 3000, 10s), sine(1000..5000, 60s), spike(1000..5000, 10s, 2s) or replay(access.log)";
    let (name, _) = part.split("(").ok_or_else(|| part.wrong(KNOWN))?;
    let open = part.text.find('(').unwrap_or(0) + 1;
    let close =
        part.text.rfind(')').filter(|close| *close >= open).ok_or_else(|| part.wrong("close the parenthesis"))?;
    let behind = part.after(close + 1);
    if !behind.text.is_empty() {
        return Err(behind.wrong("nothing may follow the shape"));
    }
    let inside =
        Part { text: &part.text[open..close], column: part.column + part.text[..open].chars().count() }.trimmed();
    let arguments = inside.arguments();
    let wants = |form: &str| part.wrong(&format!("write {form}"));
    match name.text {
        "ramp" => {
            let (range, time) = match arguments[..] {
                [range] => (range, None),
                [range, time] => (range, Some(time)),
                _ => return Err(wants("ramp(FROM..TO, TIME), as in ramp(1000..5000, 30s)")),
            };
            let (from, to) = range.range()?;
            Ok(Shape::Ramp { from, to, length_ns: time.map(Part::time_ns).transpose()? })
        }
        "steps" => {
            let Some((time, rates)) =
                arguments.split_last().filter(|(_, rates)| (1..=STEPS_MAX).contains(&rates.len()))
            else {
                return Err(wants(&format!(
                    "steps(RATE, RATE, …, TIME) with up to {STEPS_MAX} rates, as in steps(1000, 2000, 3000, 10s)"
                )));
            };
            let levels = rates.iter().map(|rate| rate.level()).collect::<Result<_, _>>()?;
            Ok(Shape::Steps { levels, length_ns: time.time_ns()? })
        }
        "sine" => {
            let [range, period] = arguments[..] else {
                return Err(wants("sine(LOW..HIGH, PERIOD), as in sine(1000..5000, 60s)"));
            };
            let (low, high) = range.range()?;
            let period_ns = period.time_ns()?;
            if period_ns < u64::from(SINE_PIECES) {
                return Err(period.wrong("write a longer period"));
            }
            Ok(Shape::Sine { low, high, period_ns })
        }
        "spike" => {
            let [range, at, length] = arguments[..] else {
                return Err(wants("spike(BASE..PEAK, AT, TIME), as in spike(1000..5000, 10s, 2s)"));
            };
            let (base, peak) = range.range()?;
            Ok(Shape::Spike { base, peak, at_ns: at.time_ns()?, length_ns: length.time_ns()? })
        }
        "replay" if inside.text.is_empty() => Err(wants("replay(FILE), with the path of an access log")),
        "replay" => Ok(Shape::Replay { file: PathBuf::from(inside.text) }),
        _ => Err(name.wrong(KNOWN)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Process};
    use crate::arrivals::rate::Rate;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    /// Arrivals in each of the first seconds of the measured window, behind a warm-up of two seconds.
    fn by_second(text: &str, rate: Option<&str>, seconds: u64) -> Vec<f64> {
        let rate = rate.map(|rate| rate.parse::<Rate>().unwrap());
        let curve = pattern(text).curve(rate, 2_000_000_000, 10_000_000_000).unwrap().unwrap();
        let at = |second: u64| second * 1_000_000_000;
        (2..2 + seconds).map(|s| (curve.arrivals_between(at(s), at(s + 1)) * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn shapes_give_what_they_say() {
        assert_eq!(by_second("constant", Some("70"), 3), [70.0, 70.0, 70.0]);
        assert_eq!(by_second("poisson ramp(100..500, 4s)", None, 5), [150.0, 250.0, 350.0, 450.0, 500.0]);
        assert_eq!(by_second("ramp(0..100)", None, 11)[9..], [95.0, 100.0]);
        assert_eq!(by_second("steps(10, 20, 0, 5, 1s)", None, 5), [10.0, 20.0, 0.0, 5.0, 5.0]);
        assert_eq!(by_second("spike(10..100, 1500ms, 1s)", None, 4), [10.0, 55.0, 55.0, 10.0]);
        assert_eq!(by_second("spike(50%..200%, 1s, 1s)", Some("100"), 3), [50.0, 200.0, 50.0]);
        // A quarter of a period up from the middle: 100 + 50 * 2 / pi in the mean.
        let sine = by_second("sine(50..150, 4s)", None, 5);
        assert!(sine.iter().zip([131.83, 131.83, 68.17, 68.17, 131.83]).all(|(a, b)| (a - b).abs() < 0.01), "{sine:?}");
    }

    #[test]
    fn the_process_comes_first_and_the_text_names_both() {
        assert_eq!(pattern("poisson").process(), Process::Poisson);
        assert_eq!(pattern(" ramp(1..2) ").process(), Process::Constant);
        assert_eq!(pattern("replay(x)").process(), Process::Poisson);
        assert_eq!(pattern("constant replay(x)").process(), Process::Constant);
        assert_eq!(pattern("poisson  steps(1,2,1s)").to_string(), "poisson steps(1,2,1s)");
        assert_eq!(pattern("sine(1..2,5m)").to_string(), "constant sine(1..2,5m)");
        assert_eq!(pattern("replay(a (1), b.log)").replay().unwrap().to_str(), Some("a (1), b.log"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_column_and_a_cure() {
        let cases = [
            ("", "column 1: nothing: write constant or poisson"),
            ("uniform", "column 1: `uniform`: write constant or poisson"),
            ("poisson wave(1..2, 3s)", "column 9: `wave`: write constant or poisson"),
            ("poisson ramp(1..2, 3s", "column 9: `ramp(1..2, 3s`: close the parenthesis"),
            ("ramp(1..2, 3s) twice", "column 16: `twice`: nothing may follow"),
            ("ramp(1-2, 3s)", "column 6: `1-2`: write two rates"),
            ("ramp(1..x, 3s)", "column 9: `x`: write arrivals a second"),
            ("ramp(1..2, 30)", "column 12: `30`: write a time"),
            ("ramp(1..2, 2d)", "column 12: `2d`: write a time"),
            ("ramp(1..2, 3s, 4s)", "column 1: `ramp(1..2, 3s, 4s)`: write ramp(FROM..TO, TIME)"),
            ("steps(10s)", "column 1: `steps(10s)`: write steps(RATE"),
            ("steps(1, , 10s)", "column 10: nothing: write arrivals a second"),
            ("steps(1, -2, 10s)", "column 10: `-2`: write arrivals a second"),
            ("sine(1..2)", "column 1: `sine(1..2)`: write sine(LOW..HIGH, PERIOD)"),
            ("spike(1..2, 0s, 1s)", "column 13: `0s`: write a time"),
            ("spike(1..1e9, 1s, 1s)", "column 10: `1e9`: write arrivals a second"),
            ("replay()", "column 1: `replay()`: write replay(FILE)"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Pattern>().unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn rate_is_wanted_where_it_says_something() {
        let rate = Some("5".parse::<Rate>().unwrap());
        let curve = |text: &str, rate| pattern(text).curve(rate, 0, 1_000_000_000);
        assert!(curve("poisson", None).unwrap_err().contains("needs --rate"));
        assert!(curve("ramp(10%..5)", None).unwrap_err().contains("needs --rate"));
        assert!(curve("ramp(1..5)", rate).unwrap_err().contains("leave --rate out"));
        assert!(curve("replay(x)", rate).unwrap_err().contains("--speed"));
        assert!(curve("replay(x)", None).unwrap().is_none());
    }
}
