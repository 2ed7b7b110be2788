//! The appliance under browsers that write: writes a second at each acknowledgement level, and replication lag at half of
//! what they manage.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::super::writers::{Writers, Written};
use crate::failure::Failure;
use crate::http::get_json;
use crate::process::{Order, Process};
use crate::trial::Lab;
use crate::{agreement, books};

/// Acknowledgement levels, from the one that promises least.
pub const LEVELS: [&str; 3] = ["local", "all", "durable"];
/// Where their figures stand.
pub const CASE: &str = "writes through the appliance";
/// Browsers.
const USERS: u32 = 16;
const START_DEADLINE: Duration = Duration::from_secs(60);

pub struct Levels<'a> {
    pub lab: &'a Lab,
    pub root: &'a Path,
    pub duration_s: f64,
    pub seed: u64,
}

/// What one block found.
#[derive(Debug, Default)]
pub struct Found {
    /// Level, metric, value.
    pub writes: Vec<(&'static str, &'static str, f64)>,
    pub lag: Vec<(&'static str, f64)>,
    /// Why the figures may not be quoted.
    pub wrong: Vec<String>,
}

struct Appliance {
    process: Process,
    http: String,
    admin: String,
}

impl Levels<'_> {
    /// Measures the levels in this order, each on the same appliance, and the lag on a fresh one.
    ///
    /// # Errors
    /// The appliance or a generator fails, or a signal arrives.
    pub fn measure(&self, block: u32, order: &[&'static str]) -> Result<Found, Failure> {
        let folder = self.lab.folder.join(format!("levels/b{block:02}"));
        let mut found = Found::default();
        let mut local_per_s = 0.0;
        let mut appliance = self.start(&folder)?;
        for &level in order {
            let load = self.load(&mut appliance, level, None, &folder.join(level))?;
            if level == LEVELS[0] {
                local_per_s = load.writes_per_s;
            }
            found.writes.push((level, "writes_per_s", load.writes_per_s));
            // A response time of a trial: far below 2^53. What the samples do not support is left out.
            let times = [("response_p50_ns", load.p50_ns), ("response_p99_ns", load.p99_ns)];
            found.writes.extend(times.into_iter().filter_map(|(metric, ns)| Some((level, metric, ns? as f64))));
        }
        self.stop(appliance, &mut found)?;
        let folder = self.lab.folder.join(format!("levels/b{block:02}-half"));
        let mut appliance = self.start(&folder)?;
        // So many users who think so long make about half of the rate: a write takes little beside it.
        let think_s = 2.0 * f64::from(USERS) / local_per_s.max(1.0);
        let load = self.load(&mut appliance, LEVELS[0], Some(think_s), &folder.join("load"))?;
        found.lag.push(("offered_writes_per_s", load.writes_per_s));
        let status = get_json(&appliance.admin, "/status")?;
        for (metric, key) in [("lag_p50_ns", "lag_p50_ns"), ("lag_p99_ns", "lag_p99_ns")] {
            let of = |worker: &Value| worker["replica"][key].as_u64();
            let worst = status["workers"].as_array().into_iter().flatten().filter_map(of).max();
            let worst =
                worst.ok_or_else(|| Failure::Failed(format!("http://{}/status has no {key}", appliance.admin)))?;
            found.lag.push((metric, worst as f64));
        }
        self.stop(appliance, &mut found)?;
        Ok(found)
    }

    fn start(&self, folder: &Path) -> Result<Appliance, Failure> {
        fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
        let profile = self.root.join("profiles/bench-writes.toml").to_string_lossy().into_owned();
        let database = format!("database.path={}", folder.join("writes.duckdb").display());
        let arguments = ["serve", "--profile", &profile, "--set", &database];
        let mut process = Process::start(&Order::new("appliance", &self.lab.programs.twintier, &arguments, folder))?;
        let line = process.ready(&self.lab.interrupt, START_DEADLINE)?;
        Ok(Appliance { process, http: line.address("http")?, admin: line.address("admin")? })
    }

    /// Looks at the books and whether the replicas agree, and ends the appliance.
    fn stop(&self, appliance: Appliance, found: &mut Found) -> Result<(), Failure> {
        found.wrong.extend(books::wrong(&appliance.admin)?);
        found.wrong.extend(agreement::wrong(&self.lab.interrupt, &[&appliance.admin])?);
        let status = appliance.process.stop()?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Failed(format!("the appliance did not end in order after SIGTERM: {status}")))
    }

    fn load(
        &self,
        appliance: &mut Appliance,
        level: &str,
        think_s: Option<f64>,
        folder: &Path,
    ) -> Result<Written, Failure> {
        let writers = Writers {
            users: USERS,
            level,
            think_s,
            warmup_s: self.duration_s / 4.0,
            duration_s: self.duration_s,
            seed: self.seed,
            folder,
            core: None,
        };
        let generator = writers.start(self.lab, &appliance.http)?;
        let look = |_| appliance.process.still_running();
        writers.written(&self.lab.await_generator(generator, folder, writers.length_s(), look)?)
    }
}
