//! What a run shows while it goes on: a block of lines in place on a terminal, one line a second elsewhere.
//!
//! ```text
//!   ━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸              14 of 30 s  measure
//!   rate        1000/s planned     998/s answered         0 failed
//!   response    p50    412 µs   p99   1.93 ms   max   2.71 ms
//!   generator   lag p99   11.2 µs   waiting or on the wire 3
//!   so far      valid
//! ```

use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use crate::recorder::{Counts, Interval, Phase};
use crate::report::Totals;
use crate::schedule::Window;
use crate::summary::duration_text;
use crate::verdict::{Evidence, Verdict, judge};

/// Columns of the bar, and of what stands beside it.
const BAR_COLUMNS: (usize, usize) = (8, 46);
const BESIDE_COLUMNS: usize = 34;
/// Terminals whose width nobody knows.
const USUAL_COLUMNS: usize = 80;
/// Where the figures of a line begin, and so whatever does not fit their line.
const INDENT: &str = "              ";

/// Where a run is shown.
pub struct Live {
    place: Place,
    open_loop: bool,
    connections: u64,
    /// Planned less ended, of both cohorts.
    outstanding: u64,
}

enum Place {
    Nowhere,
    /// One line below the other.
    Lines,
    Terminal(ProgressBar),
}

impl Live {
    /// On stderr, unless it is to be quiet.
    pub fn new(window: &Window, quiet: bool, open_loop: bool, connections: u32) -> Self {
        let place = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Place::Nowhere,
            (false, false) => Place::Lines,
            (false, true) => {
                let seconds = (window.end_ns - window.start_ns).div_ceil(1_000_000_000);
                let style = ProgressStyle::with_template(&template(columns())).expect("invariant: a constant template");
                Place::Terminal(ProgressBar::new(seconds).with_style(style.progress_chars("━╸─")))
            }
        };
        if let Place::Terminal(bar) = &place {
            bar.set_message("  the first second is not over");
            bar.tick();
        }
        Self { place, open_loop, connections: u64::from(connections), outstanding: 0 }
    }

    /// Nowhere.
    pub fn silent() -> Self {
        Self { place: Place::Nowhere, open_loop: false, connections: 0, outstanding: 0 }
    }

    /// Shows a second; `totals` is the measured cohort before it.
    pub fn show(&mut self, interval: &Interval, window: &Window, totals: &Totals) {
        let Counts { planned, completed, errors, timed_out, shed, .. } = interval.counts;
        self.outstanding = (self.outstanding + planned).saturating_sub(completed + errors + timed_out + shed);
        let second = (interval.start_ns + interval.length_ns).saturating_sub(window.start_ns) / 1_000_000_000;
        match &self.place {
            Place::Nowhere => {}
            Place::Lines => eprintln!("{second:>4} s  {}", line(interval)),
            Place::Terminal(bar) => {
                bar.set_position(second.min(bar.length().unwrap_or(second)));
                bar.set_prefix(interval.phase.name());
                bar.set_message(folded(&self.block(interval, totals), columns()));
            }
        }
    }

    pub fn end(&self) {
        if let Place::Terminal(bar) = &self.place {
            bar.finish_and_clear();
        }
    }

    /// The lines below the bar.
    fn block(&self, interval: &Interval, totals: &Totals) -> String {
        let (counts, histograms) = (&interval.counts, &interval.histograms);
        let per_s = |count: u64| count as f64 * 1e9 / interval.length_ns.max(1) as f64;
        let failed = counts.errors + counts.timed_out + counts.shed;
        let mut text = String::new();
        let planned = match self.open_loop {
            true => format!("{:>9.0}/s planned  ", per_s(counts.planned)),
            false => String::new(),
        };
        let _ = writeln!(text, "  rate      {planned}{:>9.0}/s answered  {failed:>7} failed", per_s(counts.completed));
        let shown = if self.open_loop { ("response", &histograms.response) } else { ("service ", &histograms.service) };
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|at| quantile(shown.1, at));
        let _ = writeln!(text, "  {}    p50 {p50:>8}    p99 {p99:>8}    max {max:>8}", shown.0);
        let lag = quantile(&histograms.lag, 0.99);
        let _ = writeln!(text, "  generator   lag p99 {lag:>8}    waiting or on the wire {}", self.outstanding);
        let _ = write!(text, "  so far      {}", self.so_far(interval, totals));
        text
    }

    /// The verdict that the run would get for what is known already.
    fn so_far(&self, interval: &Interval, totals: &Totals) -> String {
        if interval.phase == Phase::WarmUp {
            return "warming up: nothing counts yet".to_owned();
        }
        let counts = &totals.counts;
        let (verdict, reasons) = judge(&Evidence {
            open_loop: self.open_loop,
            connections: self.connections,
            planned: counts.planned,
            completed: counts.completed,
            failed: counts.errors + counts.timed_out + counts.shed,
            // What is still on its way may yet be in time.
            submitted: counts.planned,
            lag_p99_ns: totals.histograms.lag.value_at_quantile(0.99),
            response_p99_ns: totals.histograms.response.value_at_quantile(0.99),
            overflow: counts.overflow,
            ..Evidence::default()
        });
        match (verdict, reasons.first()) {
            (Verdict::Valid, _) | (_, None) => Verdict::Valid.name().to_owned(),
            (verdict, Some(reason)) => format!("{}: {reason}", verdict.name()),
        }
    }
}

fn template(columns: usize) -> String {
    let (least, most) = BAR_COLUMNS;
    let bar = columns.saturating_sub(BESIDE_COLUMNS).clamp(least, most);
    format!("\n  {{bar:{bar}.cyan/240}} {{pos:>4}} of {{len}} s  {{prefix}}\n{{msg}}")
}

/// How wide the terminal is now.
fn columns() -> usize {
    console::Term::stderr().size_checked().map_or(USUAL_COLUMNS, |(_, columns)| usize::from(columns))
}

/// The same lines, those that are too long for the terminal broken between words and gone on below their figures.
fn folded(text: &str, columns: usize) -> String {
    let mut all = String::with_capacity(text.len() * 2);
    for (number, line) in text.lines().enumerate() {
        if number > 0 {
            all.push('\n');
        }
        let mut rest = line;
        let mut indent = "";
        loop {
            // The last column stays free: some terminals begin a new line behind it.
            let room = columns.saturating_sub(indent.len() + 1).max(1);
            all.push_str(indent);
            if rest.chars().count() <= room {
                all.push_str(rest);
                break;
            }
            // A figure and its unit stay together, which one blank parts, unless there is nothing else to break at.
            let end = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
            let begin = rest.len() - rest.trim_start().len();
            let gap = |gap: &str, behind: usize| rest[..end].rfind(gap).filter(|&at| at > behind);
            let cut = gap("  ", INDENT.len()).or_else(|| gap(" ", begin)).unwrap_or(end);
            let cut = if cut == 0 { rest.len() } else { cut };
            all.push_str(rest[..cut].trim_end());
            rest = rest[cut..].trim_start();
            if rest.is_empty() {
                break;
            }
            all.push('\n');
            indent = if columns > 2 * INDENT.len() { INDENT } else { "" };
        }
    }
    all
}

/// A second in one line.
fn line(interval: &Interval) -> String {
    let (counts, response) = (&interval.counts, &interval.histograms.response);
    format!(
        "{:<8} {:>9.0}/s  {:>5} failed  p50 {:>8}  p99 {:>8}  lag p99 {:>8}",
        interval.phase.name(),
        counts.completed as f64 * 1e9 / interval.length_ns.max(1) as f64,
        counts.errors + counts.timed_out + counts.shed,
        quantile(response, 0.5),
        quantile(response, 0.99),
        quantile(&interval.histograms.lag, 0.99),
    )
}

fn quantile(histogram: &Histogram<u64>, at: f64) -> String {
    match histogram.is_empty() {
        true => "-".to_owned(),
        false => duration_text(histogram.value_at_quantile(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::{BESIDE_COLUMNS, Live, Place, folded, template};
    use crate::recorder::{Interval, Phase};
    use crate::report::Totals;
    use crate::schedule::Window;

    fn second(planned: u64, completed: u64, errors: u64) -> Interval {
        let mut interval = Interval::new(0);
        interval.length_ns = 1_000_000_000;
        interval.phase = Phase::Measure;
        (interval.counts.planned, interval.counts.completed, interval.counts.errors) = (planned, completed, errors);
        interval.histograms.response.record_n(2_000_000, completed.max(1)).unwrap();
        interval.histograms.lag.record_n(10_000, planned.max(1)).unwrap();
        interval
    }

    #[test]
    fn a_second_has_its_rates_its_quantiles_and_what_waits() {
        let window = Window::new(0, 0, 10_000_000_000);
        let mut live = Live { open_loop: true, connections: 64, ..Live::silent() };
        let mut totals = Totals::new(0, 0);
        for interval in [second(1000, 990, 0), second(1000, 900, 100)] {
            totals.add(&interval);
            live.show(&interval, &window, &totals);
        }
        assert_eq!(live.outstanding, 10);
        let text = live.block(&second(1000, 900, 100), &totals);
        for words in
            ["1000/s planned", "900/s answered", "100 failed", "p99  2.00 ms", "lag p99  10.0 µs", "on the wire 10"]
        {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        assert!(text.contains("so far      suspect: 5.0 % of the requests failed"), "{text}");
        assert!(matches!(live.place, Place::Nowhere));
    }

    #[test]
    fn a_closed_loop_shows_service_time_and_no_plan() {
        let live = Live { open_loop: false, connections: 8, ..Live::silent() };
        let mut interval = second(900, 900, 0);
        interval.histograms.service.record_n(1_000_000, 900).unwrap();
        let mut totals = Totals::new(0, 0);
        totals.add(&interval);
        let text = live.block(&interval, &totals);
        assert!(!text.contains("planned") && text.contains("service ") && text.contains("so far      valid"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_gets_every_word_and_no_line_that_is_too_long() {
        let text = "  rate            500/s planned        502/s answered        0 failed\n  so far      suspect: the \
            generator was late: lag p99 3.77 ms is 17 % of response p99 22.3 ms";
        assert_eq!(folded(text, 200), text);
        assert_eq!(
            folded(text, 60),
            "  rate            500/s planned        502/s answered\n              0 failed\n  so far      suspect: the \
             generator was late: lag p99\n              3.77 ms is 17 % of response p99 22.3 ms"
        );
        for columns in 1..100 {
            let folded = folded(text, columns);
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<String>();
            assert_eq!(words(&folded), words(text), "{columns}");
            let longest = folded.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest < columns.max(2), "{longest} of {columns}:\n{folded}");
        }
        assert!(template(40).contains("{bar:8."), "{}", template(40));
        assert!(template(BESIDE_COLUMNS + 30).contains("{bar:30.") && template(400).contains("{bar:46."));
    }
}
