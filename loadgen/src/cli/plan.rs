//! Options that fix the plan: which arrivals, which of them are ours, and when they begin.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use clap::Args;

use crate::arrivals::{Pattern, Plan, Rate, Share};
use crate::replay::{Reading, Speed, Trace};
use crate::start::StartAt;

#[derive(Args, Clone, Debug)]
pub struct PlanOptions {
    /// How arrivals follow each other, and how their rate changes: constant or poisson, and behind it if wanted
    /// ramp(1000..5000, 30s), steps(1000, 2000, 3000, 10s), sine(1000..5000, 60s), spike(1000..5000, 10s, 2s) or
    /// replay(access.log). Rates may be shares of --rate, as in ramp(10%..100%, 30s); times count from the end of the
    /// warm-up.
    #[arg(long, value_name = "PLAN", default_value = "constant")]
    pub arrivals: Pattern,
    /// Seed of everything random: the same seed makes the same plan.
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// Offer one part of the plan, such as 2/5: the other parts are for other generators with the same arguments.
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    pub share: Share,
    /// How often as fast a log is replayed.
    #[arg(long, value_name = "FACTOR", default_value = "1")]
    pub speed: Speed,
    /// Replay other methods than GET and HEAD, too, without their bodies.
    #[arg(long)]
    pub all_methods: bool,
}

/// When a run begins.
#[derive(Args, Clone, Debug)]
pub struct StartOptions {
    /// When the run (its warm-up) begins, as 2026-11-27T22:30:00Z or in seconds since 1970.
    #[arg(long, value_name = "TIME")]
    pub start_at: Option<StartAt>,
}

/// What `loadgen plan` takes: the options of a run that its plan depends on.
#[derive(Args, Clone, Debug)]
pub struct PrintOptions {
    #[command(flatten)]
    pub plan: PlanOptions,
    /// Arrivals a second.
    #[arg(long, value_name = "R")]
    pub rate: Option<Rate>,
    /// Measured seconds.
    #[arg(long, value_name = "S", default_value = "10", value_parser = super::parse_seconds)]
    pub duration: u64,
    /// Seconds before them.
    #[arg(long, value_name = "S", default_value = "0", value_parser = super::parse_seconds_or_zero)]
    pub warmup: u64,
}

/// Writes the arrivals as CSV: their number in the whole plan, their offset from the start of the warm-up, and of a
/// replay what they ask for.
///
/// # Errors
/// No plan, or nobody reads.
pub fn print(options: &PrintOptions, out: &mut impl Write) -> io::Result<()> {
    let plan = options.plan.plan(options.rate, options.warmup, options.duration)?;
    let plan = plan.ok_or_else(|| invalid("say how much would be sent: --rate R or --arrivals".into()))?;
    let mut out = BufWriter::new(out);
    let trace = plan.trace();
    writeln!(out, "number,offset_ns{}", if trace.is_some() { ",method,path" } else { "" })?;
    let mut arrivals = plan.arrivals();
    let end_ns = options.warmup + options.duration;
    while let Some(arrival) = arrivals.next_arrival().filter(|arrival| arrival.offset_ns < end_ns) {
        write!(out, "{},{}", arrival.number, arrival.offset_ns)?;
        if let Some((method, path)) = trace.map(|trace| trace.request(arrival.request)) {
            write!(out, ",{method},\"{}\"", path.replace('"', "\"\""))?;
        }
        writeln!(out)?;
    }
    out.flush()
}

impl PlanOptions {
    /// The plan of an open loop with these options; `None` if nothing gives a rate.
    ///
    /// # Errors
    /// The plan contradicts itself, plans nothing, or its log cannot be read.
    pub fn plan(&self, rate: Option<Rate>, warmup_ns: u64, duration_ns: u64) -> io::Result<Option<Plan>> {
        if rate.is_none() && self.arrivals.is_flat() {
            return match self.share == Share::WHOLE {
                true => Ok(None),
                false => Err(invalid(format!("--share {} needs a plan to share: give --rate", self.share))),
            };
        }
        let plan = self.build(rate, warmup_ns, duration_ns).map_err(invalid)?;
        if plan.expected(warmup_ns, warmup_ns + duration_ns) == 0.0 {
            return Err(invalid(format!(
                "{plan} has no arrival in the measured window, which begins {} s after the start and ends at {} s",
                warmup_ns as f64 / 1e9,
                (warmup_ns + duration_ns) as f64 / 1e9
            )));
        }
        Ok(Some(plan))
    }

    fn build(&self, rate: Option<Rate>, warmup_ns: u64, duration_ns: u64) -> Result<Plan, String> {
        let text = match rate {
            Some(rate) if self.arrivals.is_flat() => format!("{} at {rate}/s", self.arrivals),
            Some(rate) => format!("{} of {rate}/s", self.arrivals),
            None => self.arrivals.to_string(),
        };
        let process = self.arrivals.process();
        if let Some(curve) = self.arrivals.curve(rate, warmup_ns, duration_ns)? {
            return Ok(Plan::of_curve(process, curve, self.seed, self.share, text));
        }
        let path = self.arrivals.replay().ok_or("a plan without a curve is a replay")?;
        let reading = Reading { process, seed: self.seed, speed: self.speed, all_methods: self.all_methods };
        let trace = Trace::read(path, &reading)?;
        Ok(Plan::of_trace(Arc::new(trace), self.seed, self.share, text))
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
