//! The generators: how each is asked, and where it says how many requests it made.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::figures::Named;
use crate::process::{ask, find_program};

/// A generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Ours, in a closed loop.
    Loadgen,
    /// Ours, in an open loop.
    LoadgenOpen,
    Wrk,
    H2load,
    Oha,
    Hey,
}

/// One that is installed.
#[derive(Clone, Debug)]
pub struct Found {
    pub tool: Tool,
    pub program: PathBuf,
    version: String,
}

impl Found {
    pub fn of(tool: Tool, program: &Path) -> Self {
        Self { tool, program: program.to_owned(), version: tool.version(program) }
    }

    pub fn named(&self) -> Named {
        Named {
            name: self.tool.name().to_owned(),
            version: self.version.clone(),
            description: self.tool.description().to_owned(),
        }
    }
}

/// All that are here, and a sentence about each that is not.
pub fn find(loadgen: &Path) -> (Vec<Found>, Vec<String>) {
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for tool in Tool::ALL {
        let program = match tool {
            Tool::Loadgen | Tool::LoadgenOpen => Some(loadgen.to_owned()),
            Tool::Wrk | Tool::H2load | Tool::Oha | Tool::Hey => find_program(tool.name()),
        };
        match program {
            Some(program) => found.push(Found::of(tool, &program)),
            None => absent.push(format!("{} is not installed: {}", tool.name(), tool.install_command())),
        }
    }
    (found, absent)
}

impl Tool {
    pub const ALL: [Self; 6] = [Self::Loadgen, Self::LoadgenOpen, Self::Wrk, Self::H2load, Self::Oha, Self::Hey];

    pub fn name(self) -> &'static str {
        match self {
            Self::Loadgen => "loadgen",
            Self::LoadgenOpen => "loadgen-open",
            Self::Wrk => "wrk",
            Self::H2load => "h2load",
            Self::Oha => "oha",
            Self::Hey => "hey",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Loadgen => "closed loop, six stamps and six histograms",
            Self::LoadgenOpen => "open loop at 0.85 of the closed one's rate, constant arrivals",
            Self::Wrk => "closed loop, one thread",
            Self::H2load => "closed loop over HTTP/1.1, one thread",
            Self::Oha => "closed loop, on one core",
            Self::Hey => "closed loop, on one core",
        }
    }

    fn install_command(self) -> &'static str {
        match self {
            Self::Loadgen | Self::LoadgenOpen => "make",
            Self::Wrk => "apt-get install wrk",
            Self::H2load => "apt-get install nghttp2-client",
            Self::Oha => "cargo install oha",
            Self::Hey => "apt-get install hey",
        }
    }

    fn version(self, program: &Path) -> String {
        let argument = match self {
            Self::Loadgen | Self::LoadgenOpen | Self::H2load | Self::Oha => "--version",
            Self::Wrk => "-v",
            // It has no version: its package has one.
            Self::Hey => return package_version("hey"),
        };
        let text = ask(program, &[argument]).unwrap_or_default();
        match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
            Some(line) => line.split(" [").next().unwrap_or(line).to_owned(),
            None => package_version(self.name()),
        }
    }

    /// `rate` is that of the open loop.
    pub fn arguments(self, url: &str, connections: u32, duration_s: f64, rate: Option<f64>, out: &Path) -> Vec<String> {
        let (count, seconds) = (connections.to_string(), format!("{duration_s}"));
        let whole = format!("{:.0}", duration_s.ceil());
        let out = out.to_string_lossy().into_owned();
        // Without a closed loop before it there is no rate: one request a second says so in the table.
        let rate = format!("{:.0}", rate.unwrap_or(1.0).max(1.0));
        let words: Vec<&str> = match self {
            Self::Loadgen => {
                vec!["run", url, "--closed", "--connections", &count, "--duration", &seconds, "--quiet", "--out", &out]
            }
            Self::LoadgenOpen => vec![
                "run",
                url,
                "--rate",
                &rate,
                "--connections",
                &count,
                "--duration",
                &seconds,
                "--quiet",
                "--out",
                &out,
            ],
            Self::Wrk => vec!["-t1", "-c", &count, "-d", &whole, url],
            Self::H2load => vec!["--h1", "-t1", "-c", &count, "-D", &whole, url],
            Self::Oha => vec!["--no-tui", "--output-format", "json", "-c", &count, "-z", &whole, url],
            Self::Hey => vec!["-c", &count, "-z", &whole, url],
        };
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        if matches!(self, Self::Oha | Self::Hey) {
            let place = words.iter().position(|word| word == &whole).unwrap_or_default();
            words[place].push('s');
        }
        words
    }

    /// Requests that were answered.
    ///
    /// # Errors
    /// It did not say.
    pub fn requests(self, output: &str, out: &Path) -> Result<f64, Failure> {
        let silent = || Failure::Failed(format!("{} does not say how many requests it made:\n{output}", self.name()));
        let before = |mark: &str| {
            let line = output.lines().find(|line| line.contains(mark))?;
            line.split(mark)
                .next()?
                .split(|one: char| one.is_whitespace() || one == ',')
                .rfind(|word| !word.is_empty())?
                .parse::<f64>()
                .ok()
        };
        match self {
            Self::Loadgen | Self::LoadgenOpen => summary_number(out, "/completed"),
            Self::Wrk => before(" requests in ").ok_or_else(silent),
            Self::H2load => before(" succeeded").ok_or_else(silent),
            Self::Hey => before(" responses").ok_or_else(silent),
            Self::Oha => {
                let value: serde_json::Value = serde_json::from_str(output).map_err(|_| silent())?;
                let counts = value["statusCodeDistribution"].as_object().ok_or_else(silent)?;
                Ok(counts.values().filter_map(serde_json::Value::as_f64).sum())
            }
        }
    }
}

/// What Debian calls the installed version.
fn package_version(name: &str) -> String {
    let answer = find_program("dpkg-query").and_then(|program| ask(&program, &["-W", "-f=${Version}", name]));
    answer.map_or_else(|| "unknown".to_owned(), |version| format!("{name} {}", version.trim()))
}

/// A number of loadgen's summary by JSON pointer.
///
/// # Errors
/// There is none.
pub fn summary_number(out: &Path, pointer: &str) -> Result<f64, Failure> {
    let path = out.join("summary.json");
    let text = fs::read_to_string(&path).map_err(|error| Failure::file(&path, &error))?;
    let summary: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
    let number = summary.pointer(pointer).and_then(serde_json::Value::as_f64);
    number.ok_or_else(|| Failure::Failed(format!("{}: no number at {pointer}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Tool;

    #[test]
    fn each_tool_says_how_many_requests_it_made() {
        let wrk = "Running 3s test @ http://127.0.0.1:1/\n  1 threads and 64 connections\n  152638 requests in 3.00s, 36.25MB read\n";
        let h2load = "finished in 3.00s, 55096.67 req/s\nrequests: 165290 total, 165354 started, 165290 done, 165290 succeeded, 0 failed\n";
        let hey = "Summary:\n  Total:\t3.0 secs\n\nStatus code distribution:\n  [200]\t74831 responses\n";
        let oha = "{\"summary\": {\"successRate\": 1.0}, \"statusCodeDistribution\": {\"200\": 90000, \"503\": 5}}";
        let cases = [(Tool::Wrk, wrk, 152_638.0), (Tool::H2load, h2load, 165_290.0), (Tool::Oha, oha, 90_005.0)];
        for (tool, output, expected) in cases {
            assert_eq!(tool.requests(output, Path::new("/nowhere")).unwrap(), expected, "{tool:?}");
        }
        // hey puts a tab behind the status.
        assert_eq!(Tool::Hey.requests(hey, Path::new("/nowhere")).unwrap(), 74_831.0);
        for tool in Tool::ALL {
            assert!(tool.requests("nothing", Path::new("/nowhere")).is_err(), "{tool:?}");
        }
    }

    #[test]
    fn durations_are_written_as_each_tool_reads_them() {
        let words = |tool: Tool| tool.arguments("http://h/", 8, 2.0, Some(1234.5), Path::new("out")).join(" ");
        assert_eq!(words(Tool::Wrk), "-t1 -c 8 -d 2 http://h/");
        assert_eq!(words(Tool::Hey), "-c 8 -z 2s http://h/");
        assert!(words(Tool::Oha).ends_with("-c 8 -z 2s http://h/"));
        assert!(words(Tool::H2load).contains("--h1 -t1 -c 8 -D 2"));
        assert!(words(Tool::LoadgenOpen).contains("--rate 1234 "), "{}", words(Tool::LoadgenOpen));
    }
}
