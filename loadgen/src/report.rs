//! The run directory and the sums: what the reporter makes of the intervals that the timing thread hands over.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::appending::{Appending, told};
use crate::failure::Failure;
use crate::hgrm;
use crate::hlog::LogWriter;
use crate::live::Live;
use crate::quantile;
use crate::recorder::{Counts, Exchange, Histograms, Interval, Phase, histogram};
use crate::schedule::Window;
use crate::stationarity::{Blocks, Stationarity};
use crate::summary::Summary;

/// The sums of all measured intervals.
#[derive(Debug)]
pub struct Totals {
    pub counts: Counts,
    pub failures: [u64; Failure::ALL.len()],
    pub statuses: Vec<u64>,
    pub histograms: Histograms,
    /// By tag index.
    pub tags: Vec<Option<Histogram<u64>>>,
    /// Completed within the measured window, whichever cohort they belong to.
    pub completed_in_window: u64,
    blocks: Blocks,
    quantile_blocks: quantile::Blocks,
}

impl Totals {
    pub fn new(tag_count: usize, status_count: usize) -> Self {
        Self {
            counts: Counts::default(),
            failures: [0; Failure::ALL.len()],
            statuses: vec![0; status_count],
            histograms: Histograms::new(),
            tags: (0..tag_count).map(|_| None).collect(),
            completed_in_window: 0,
            blocks: Blocks::new(),
            quantile_blocks: quantile::Blocks::new(),
        }
    }

    /// Whether the window shows one state of the system.
    pub fn stationarity(&self) -> Stationarity {
        self.blocks.compare()
    }

    /// The values between which the 99th percentile of response time lies at 95 %.
    pub fn response_p99_ci_ns(&self) -> Option<[u64; 2]> {
        self.quantile_blocks.interval(&self.histograms.response, 0.99)
    }

    pub fn add(&mut self, interval: &Interval) {
        self.counts.add(&interval.counts);
        for (sum, count) in self.failures.iter_mut().zip(interval.failures) {
            *sum += count;
        }
        for (sum, count) in self.statuses.iter_mut().zip(&interval.statuses) {
            *sum += count;
        }
        self.histograms.add(&interval.histograms);
        for (sum, part) in self.tags.iter_mut().zip(&interval.tags) {
            if let Some(part) = part {
                sum.get_or_insert_with(histogram).add(part).expect("invariant: all histograms have the same bounds");
            }
        }
        if interval.phase == Phase::Measure {
            self.completed_in_window += interval.counts.completed;
            self.blocks.add(&interval.histograms.response);
            self.quantile_blocks.add(&interval.histograms.response);
        }
    }
}

/// The files of one run. They are written as the run goes on, so that a run that is killed, or whose disk fills, leaves
/// what it measured.
pub struct RunDirectory {
    path: PathBuf,
    latency: LogWriter<Appending>,
    tags: LogWriter<Appending>,
    parts: LogWriter<Appending>,
    intervals: Appending,
}

impl RunDirectory {
    /// Makes the directory and the headers of its logs. `measure_unix_ms` is the wall time of the measured window's
    /// start, which the stamps of the logs count from.
    ///
    /// # Errors
    /// What the file system says, with the path.
    pub fn create(path: &Path, measure_unix_ms: u64) -> io::Result<Self> {
        fs::create_dir_all(path).map_err(|error| told(path, &error))?;
        let log = |name: &str| LogWriter::new(Appending::create(&path.join(name))?, measure_unix_ms);
        let mut intervals = Appending::create(&path.join("intervals.csv"))?;
        writeln!(intervals, "{INTERVALS_HEADER}")?;
        intervals.flush()?;
        let mut directory = Self {
            path: path.to_owned(),
            latency: log("latency.hlog")?,
            tags: log("latency-tags.hlog")?,
            parts: log("latency-parts.hlog")?,
            intervals,
        };
        directory.flush_logs()?;
        Ok(directory)
    }

    fn flush_logs(&mut self) -> io::Result<()> {
        self.latency.flush()?;
        self.tags.flush()?;
        self.parts.flush()
    }

    /// Adds one interval. Warm-up goes to `intervals.csv` alone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&mut self, interval: &Interval, window: &Window, tag_names: &[String]) -> io::Result<()> {
        writeln!(self.intervals, "{}", interval_row(interval, window))?;
        self.intervals.flush()?;
        if interval.phase == Phase::WarmUp {
            return Ok(());
        }
        let start = Duration::from_nanos(interval.start_ns.saturating_sub(window.measure_ns));
        let length = Duration::from_nanos(interval.length_ns);
        self.latency.write(None, start, length, &interval.histograms.response)?;
        for (name, histogram) in tag_names.iter().zip(&interval.tags) {
            if let Some(histogram) = histogram.as_ref().filter(|histogram| !histogram.is_empty()) {
                self.tags.write(Some(name), start, length, histogram)?;
            }
        }
        for (name, histogram) in interval.histograms.parts() {
            self.parts.write(Some(name), start, length, histogram)?;
        }
        self.flush_logs()
    }

    /// Writes what is known at the end only.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(&mut self, summary: &Summary, response: &Histogram<u64>) -> io::Result<()> {
        // First what is worth most, written beside and renamed: whoever sees the file sees all of it.
        let partial = self.path.join("summary.json.partial");
        let mut file = Appending::create(&partial)?;
        serde_json::to_writer_pretty(&mut file, summary)?;
        file.write_all(b"\n")?;
        file.flush()?;
        fs::rename(&partial, self.path.join("summary.json")).map_err(|error| told(&partial, &error))?;
        let mut percentiles = Appending::create(&self.path.join("latency.hgrm"))?;
        hgrm::write(&mut percentiles, response)?;
        percentiles.flush()
    }
}

pub const INTERVALS_HEADER: &str = "start_s,length_s,phase,planned,completed,errors,timed_out,shed,in_flight_at_end,completed_per_s,\
    response_p50_ns,response_p90_ns,response_p99_ns,response_max_ns,service_p50_ns,service_p99_ns,lag_p99_ns,queue_p99_ns,body_bytes";

/// One row of `intervals.csv`; times count from the start of the measured window, so warm-up rows are negative.
fn interval_row(interval: &Interval, window: &Window) -> String {
    let quantile = |histogram: &Histogram<u64>, at: f64| match histogram.is_empty() {
        true => String::new(),
        false => histogram.value_at_quantile(at).to_string(),
    };
    let (counts, histograms) = (&interval.counts, &interval.histograms);
    let length_s = interval.length_ns as f64 / 1e9;
    // Both are offsets within one run: exact in an f64.
    let start_s = interval.start_ns.saturating_sub(window.start_ns) as f64 / 1e9
        - (window.measure_ns - window.start_ns) as f64 / 1e9;
    [
        format!("{start_s:.3}"),
        format!("{length_s:.3}"),
        interval.phase.name().to_owned(),
        counts.planned.to_string(),
        counts.completed.to_string(),
        counts.errors.to_string(),
        counts.timed_out.to_string(),
        counts.shed.to_string(),
        counts.in_flight_at_end.to_string(),
        format!("{:.1}", if interval.length_ns == 0 { 0.0 } else { counts.completed as f64 / length_s }),
        quantile(&histograms.response, 0.5),
        quantile(&histograms.response, 0.9),
        quantile(&histograms.response, 0.99),
        quantile(&histograms.response, 1.0),
        quantile(&histograms.service, 0.5),
        quantile(&histograms.service, 0.99),
        quantile(&histograms.lag, 0.99),
        quantile(&histograms.queue, 0.99),
        counts.body_bytes.to_string(),
    ]
    .join(",")
}

/// Takes intervals until the timing thread is done; the sums, and the first error of the file system if there was one.
/// After such an error the run goes on unrecorded, so that its end is still reported.
pub fn collect(
    exchange: &Exchange,
    window: &Window,
    tag_names: &[String],
    mut directory: Option<&mut RunDirectory>,
    live: &mut Live,
) -> (Totals, Option<io::Error>) {
    let mut totals = Totals::new(tag_names.len(), crate::recorder::STATUS_COUNT);
    let mut failure = None;
    for interval in &exchange.full {
        if let Some(Err(error)) = directory.as_mut().map(|directory| directory.write(&interval, window, tag_names)) {
            failure = Some(error);
            directory = None;
        }
        if interval.phase != Phase::WarmUp {
            totals.add(&interval);
        }
        live.show(&interval, window, &totals);
        // The timing thread may be done and gone: then nobody needs the interval any more.
        let _ = exchange.free.try_send(interval);
    }
    live.end();
    (totals, failure)
}
