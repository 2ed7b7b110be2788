//! The appliance under browsers that write: writes a second at each acknowledgement level, and replication lag at half of
//! what they manage.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::books;
use crate::failure::Failure;
use crate::http::get_json;
use crate::process::{Order, Process};
use crate::record::read_json;
use crate::trial::Lab;

/// Acknowledgement levels, from the one that promises least.
pub const LEVELS: [&str; 3] = ["local", "all", "durable"];
/// Where their figures stand.
pub const CASE: &str = "writes through the appliance";
/// Browsers.
const USERS: u32 = 16;
/// Writes of a session: few, so that sessions end soon after the window.
const SESSION_WRITES: u32 = 20;
const START_DEADLINE: Duration = Duration::from_secs(60);
/// For the replicas to agree once the load has ended.
const AGREE_DEADLINE: Duration = Duration::from_secs(10);
/// What a generator may take beyond warm-up and window.
const GENERATOR_SLACK: Duration = Duration::from_secs(30);

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

/// The writes of one load.
struct Load {
    writes_per_s: f64,
    p50_ns: f64,
    p99_ns: f64,
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
            found.writes.extend([
                (level, "writes_per_s", load.writes_per_s),
                (level, "response_p50_ns", load.p50_ns),
                (level, "response_p99_ns", load.p99_ns),
            ]);
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
        let equal = self.lab.interrupt.wait_for(AGREE_DEADLINE, || {
            let replication = get_json(&appliance.admin, "/replication")?;
            Ok((replication["equal"] == true).then_some(()))
        })?;
        if equal.is_none() {
            found.wrong.push(format!("the replicas' digests differ {} s after the load", AGREE_DEADLINE.as_secs()));
        }
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
    ) -> Result<Load, Failure> {
        fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
        let scenario: PathBuf = folder.join("scenario.toml");
        fs::write(&scenario, scenario_text(level, think_s)).map_err(|error| Failure::file(&scenario, &error))?;
        let (scenario, url) = (scenario.to_string_lossy().into_owned(), format!("http://{}", appliance.http));
        let (users, duration, seed) = (USERS.to_string(), self.duration_s.to_string(), self.seed.to_string());
        let (warmup, out) = ((self.duration_s / 4.0).to_string(), folder.to_string_lossy().into_owned());
        let arguments = [
            "browse",
            &scenario,
            &url,
            "--users",
            &users,
            "--duration",
            &duration,
            "--warmup",
            &warmup,
            "--seed",
            &seed,
            "--out",
            &out,
            "--quiet",
        ];
        let mut generator = Process::start(&Order::new("loadgen", &self.lab.programs.loadgen, &arguments, folder))?;
        let deadline = Duration::from_secs_f64(self.duration_s * 1.25) + GENERATOR_SLACK;
        let status = self.lab.interrupt.wait_for(deadline, || {
            appliance.process.still_running()?;
            generator.ended()
        })?;
        match status.map(|status| status.code()) {
            // 4: the run is invalid, for the reasons in its summary.
            Some(Some(0 | 4)) => {}
            Some(_) | None => {
                return Err(Failure::Failed(format!("loadgen browse at level {level} failed{}", generator.quote())));
            }
        }
        let summary: Value = read_json(&folder.join("summary.json"))?;
        let write = &summary["tags"]["write"]["response_ns"];
        let number = |value: &Value| value.as_f64().unwrap_or(0.0);
        if number(&write["count"]) < 1.0 || number(&summary["browse"]["sessions_failed"]) > 0.0 {
            let reasons = &summary["reasons"];
            return Err(Failure::Failed(format!("browsers could not write at level {level}: {reasons}, see {out}")));
        }
        Ok(Load {
            writes_per_s: number(&write["count"]) / number(&summary["duration_s"]).max(1e-9),
            p50_ns: number(&write["p50"]),
            p99_ns: number(&write["p99"]),
        })
    }
}

/// Sessions that open the form and post it over and over; each answer is the page with the form.
fn scenario_text(level: &str, think_s: Option<f64>) -> String {
    let think =
        think_s.map_or_else(String::new, |mean_s| format!("[[steps.steps]]\nkind = \"think\"\nmean_s = {mean_s:.6}\n"));
    format!(
        "name = \"writes\"\nassets = false\n\
         [[steps]]\nname = \"begin\"\nkind = \"get\"\npath = \"/writes/begin\"\nexpect = [200]\n\
         [[steps]]\nkind = \"repeat\"\ntimes = [{SESSION_WRITES}, {SESSION_WRITES}]\n{think}\
         [[steps.steps]]\nname = \"write\"\nkind = \"form\"\naction = \"/write/{level}\"\n\
         fields = {{ entry = \"e{{number:1-100000}}\", note = \"a note as long as notes are, some words and numbers\" }}\n\
         expect = [202]\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{LEVELS, scenario_text};

    #[test]
    fn scenarios_are_toml_and_think_only_at_half_load() {
        for level in LEVELS {
            let plain: toml::Table = scenario_text(level, None).parse().unwrap();
            let steps = plain["steps"].as_array().unwrap();
            assert_eq!(steps[1]["steps"].as_array().unwrap().len(), 1);
            assert_eq!(steps[1]["steps"][0]["action"].as_str(), Some(&*format!("/write/{level}")));
            let half: toml::Table = scenario_text(level, Some(0.25)).parse().unwrap();
            assert_eq!(half["steps"][1]["steps"][0]["mean_s"].as_float(), Some(0.25));
        }
    }
}
