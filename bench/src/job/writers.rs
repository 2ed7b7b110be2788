//! Browsers that write: each opens a form of `profiles/writes` and posts it over and over, and reads the page that comes
//! back.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::process::{Order, Process};
use crate::trial::{Lab, Summary};

/// Writes of a session: few, so that sessions end soon after the window.
const SESSION_WRITES: u32 = 20;
/// The step whose times count.
const STEP: &str = "write";

/// What they do.
#[derive(Clone, Copy, Debug)]
pub struct Writers<'a> {
    pub users: u32,
    /// Acknowledgement level of their writes: `local`, `all` or `durable`.
    pub level: &'a str,
    /// The mean of what they think between two writes; `None` is a closed loop.
    pub think_s: Option<f64>,
    pub warmup_s: f64,
    pub duration_s: f64,
    pub seed: u64,
    /// Where the generator's files go.
    pub folder: &'a Path,
    pub core: Option<usize>,
}

/// What they did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Written {
    pub writes: f64,
    pub writes_per_s: f64,
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
}

impl Writers<'_> {
    /// # Errors
    /// The scenario cannot be written, or the generator does not start.
    pub fn start(&self, lab: &Lab, address: &str) -> Result<Process, Failure> {
        fs::create_dir_all(self.folder).map_err(|error| Failure::file(self.folder, &error))?;
        let scenario = self.folder.join("scenario.toml");
        fs::write(&scenario, scenario_text(self.level, self.think_s))
            .map_err(|error| Failure::file(&scenario, &error))?;
        let (scenario, url) = (scenario.to_string_lossy().into_owned(), format!("http://{address}"));
        let (users, duration, seed) = (self.users.to_string(), self.duration_s.to_string(), self.seed.to_string());
        let (warmup, out) = (self.warmup_s.to_string(), self.folder.to_string_lossy().into_owned());
        let mut arguments = vec!["browse", &scenario, &url, "--users", &users, "--duration", &duration];
        arguments.extend(["--warmup", &warmup, "--seed", &seed, "--out", &out, "--quiet"]);
        let order = Order::new("loadgen", &lab.programs.loadgen, &arguments, self.folder);
        Process::start(&order.on_core(self.core))
    }

    /// Warm-up and window.
    pub fn length_s(&self) -> f64 {
        self.warmup_s + self.duration_s
    }

    /// # Errors
    /// Nothing was written, or a session failed.
    pub fn written(&self, summary: &Summary) -> Result<Written, Failure> {
        let write = summary.tags.get(STEP).map(|tag| tag.response_ns).unwrap_or_default();
        let failed = summary.browse.as_ref().map_or(0, |browse| browse.sessions_failed);
        if write.count == 0 || failed > 0 {
            return Err(Failure::Failed(format!(
                "browsers could not write at level {}: {} writes, {failed} sessions failed; {}; see {}",
                self.level,
                write.count,
                summary.reasons.join("; "),
                self.folder.display()
            )));
        }
        // Writes of a trial: far below 2^53.
        let writes = write.count as f64;
        let writes_per_s = writes / summary.duration_s.max(1e-9);
        Ok(Written { writes, writes_per_s, p50_ns: write.p50, p99_ns: write.p99 })
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
         [[steps.steps]]\nname = \"{STEP}\"\nkind = \"form\"\naction = \"/write/{level}\"\n\
         fields = {{ entry = \"e{{number:1-100000}}\", note = \"a note as long as notes are, some words and numbers\" }}\n\
         expect = [202]\n"
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::{Writers, scenario_text};

    #[test]
    fn scenarios_are_toml_and_think_only_when_told() {
        for level in ["local", "all", "durable"] {
            let plain: toml::Table = scenario_text(level, None).parse().unwrap();
            let steps = plain["steps"].as_array().unwrap();
            assert_eq!(steps[1]["steps"].as_array().unwrap().len(), 1);
            assert_eq!(steps[1]["steps"][0]["action"].as_str(), Some(&*format!("/write/{level}")));
            let half: toml::Table = scenario_text(level, Some(0.25)).parse().unwrap();
            assert_eq!(half["steps"][1]["steps"][0]["mean_s"].as_float(), Some(0.25));
        }
    }

    /// Only the step that writes counts, and a session that failed makes all of it worthless.
    #[test]
    fn what_was_written_is_the_tag_of_the_step() {
        let writers = Writers {
            users: 1,
            level: "durable",
            think_s: None,
            warmup_s: 0.5,
            duration_s: 2.0,
            seed: 1,
            folder: Path::new("run"),
            core: None,
        };
        let summary = |writes: u64, failed: u64| {
            let quantiles = |count: u64| json!({ "p50": 1000, "p90": null, "p99": null, "p999": null, "max": 2000, "count": count });
            serde_json::from_value(json!({
                "verdict": "valid", "reasons": [], "planned": 12, "completed": 12, "errors": 0, "timed_out": 0,
                "in_flight_at_end": 0, "achieved_rate": 6.0, "response_ns": quantiles(12),
                "generator_cpu_us_per_request": null, "duration_s": 2.0, "warmup_s": 0.5, "started_unix_ms": 1,
                "browse": { "sessions_started": 2, "sessions_completed": 1, "sessions_failed": failed, "pages": 2, "page_load_ns": quantiles(2) },
                "tags": { "begin": { "response_ns": quantiles(2) }, "write": { "response_ns": quantiles(writes) } },
            }))
            .unwrap()
        };
        let written = writers.written(&summary(10, 0)).unwrap();
        assert_eq!((written.writes, written.writes_per_s), (10.0, 5.0));
        assert_eq!((written.p50_ns, written.p99_ns), (Some(1000), None));
        assert!(writers.written(&summary(0, 0)).unwrap_err().to_string().contains("0 writes"));
        assert!(writers.written(&summary(10, 1)).unwrap_err().to_string().contains("1 sessions failed"));
        assert_eq!(writers.length_s(), 2.5);
    }
}
