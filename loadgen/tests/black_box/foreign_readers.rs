//! Histogram logs as readers see them that nobody here wrote: the HdrHistogram of Java, of Python and of JavaScript.
//!
//! Two kinds of logs are read: one that a run wrote, whose figures must be those of its `summary.json`, and the golden
//! log of `tests/golden`, whose buckets are known one by one. `src/hlog/tests.rs` holds our writer against the same log.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::{Request, Scratch, assert_balanced, number, respond, serve, summary};

/// Debian's `libhdrhistogram-java`.
const JAR: &str = "/usr/share/java/hdrhistogram.jar";
/// The package and the version that `.ci/run` installs.
const NODE_PACKAGE: &str = "hdr-histogram-js@3.0.1";
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/black_box/foreign");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/vector.hlog");
const GOLDEN_BUCKETS: &str = include_str!("../golden/vector.json");

/// The files of one run, which all readers get.
fn measured() -> (Scratch, Value) {
    static FILES: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let (address, _) = serve(|request: &Request, stream: &mut TcpStream| {
            respond(stream, if request.number.is_multiple_of(5) { 201 } else { 200 }, "", "fine")
        });
        let (out, url) = (Scratch::new(), format!("http://{address}/"));
        let load = ["--rate", "1400", "--arrivals", "poisson", "--duration", "2.5", "--warmup", "0.5"];
        let (summary, _) = summary(&out, &[&["run", &url][..], &load].concat());
        assert_balanced(&summary);
        let entries = fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
    });
    let out = Scratch::new();
    for (name, bytes) in files {
        fs::write(out.path().join(name), bytes).unwrap();
    }
    (out, serde_json::from_slice(&files["summary.json"]).unwrap())
}

/// What a reader of another language printed: an object by tag for each log.
fn printed(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The figures of the reader are those of the summary, and its intervals add up to its sums.
fn assert_same_figures(read: &[Value], summary: &Value) {
    let compare = |log: usize, tag: &str, pointer: &str| {
        let mut compared = 0;
        for name in ["count", "p50", "p99", "p999", "max"] {
            let ours = summary.pointer(&format!("{pointer}/{name}")).unwrap_or(&Value::Null);
            // A reader knows nothing of how many samples a quantile needs.
            if !ours.is_null() {
                assert_eq!(&read[log][tag][name], ours, "{pointer}/{name}");
                compared += 1;
            }
        }
        compared
    };
    assert_eq!(compare(0, "", "/response_ns"), 5);
    for status in ["status_200", "status_201"] {
        assert!(compare(1, status, &format!("/tags/{status}/response_ns")) >= 4);
    }
    for part in ["service", "generator_lag", "client_queue", "first_byte"] {
        assert_eq!(compare(2, part, &format!("/{part}_ns")), 5);
    }
    for tag in read.iter().flat_map(|log| log.as_object().unwrap().values()) {
        let mut sum: BTreeMap<u64, u64> = BTreeMap::new();
        for interval in tag["intervals"].as_array().unwrap() {
            for [value, count] in buckets(interval) {
                *sum.entry(value).or_default() += count;
            }
        }
        let total: BTreeMap<u64, u64> =
            buckets(&tag["buckets"]).into_iter().map(|[value, count]| (value, count)).collect();
        assert_eq!(sum, total, "the sum of the intervals is the total, bucket by bucket");
    }
}

fn buckets(list: &Value) -> Vec<[u64; 2]> {
    serde_json::from_value(list.clone()).unwrap()
}

/// The intervals of the golden log: the highest equivalent value of each bucket, and its count.
fn golden() -> Vec<Vec<[u64; 2]>> {
    serde_json::from_str(GOLDEN_BUCKETS).unwrap()
}

fn assert_golden(read: &[Value]) {
    let intervals: Vec<Vec<[u64; 2]>> = read[0][""]["intervals"].as_array().unwrap().iter().map(buckets).collect();
    assert_eq!(intervals, golden());
}

/// Rows of a percentile file: a value in nanoseconds, and how many samples are at or below it.
type Rows = Vec<(f64, u64)>;

/// `None`, and a line that says so, where there is no Java or no HdrHistogram of Java.
fn java() -> Option<impl Fn(&str, &str, &[&str]) -> Rows> {
    if !Path::new(JAR).exists() || Command::new("java").arg("-version").output().is_err() {
        eprintln!("skipped: no Java HdrHistogram; `apt-get install default-jre-headless libhdrhistogram-java`");
        return None;
    }
    // With so many ticks every bucket has a row.
    Some(|log: &str, target: &str, more: &[&str]| {
        let output = Command::new("java")
            .args(["-cp", JAR, "org.HdrHistogram.HistogramLogProcessor", "-i", log, "-o", target, "-csv"])
            .args(["-outputValueUnitRatio", "1", "-percentilesOutputTicksPerHalf", "5000"])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(format!("{target}.hgrm")).unwrap();
        let row = |line: &str| {
            let mut cells = line.split(',');
            // Whole numbers of nanoseconds, below 2^53.
            let value: f64 = cells.next()?.parse().ok()?;
            Some((value, cells.nth(1)?.parse().ok()?))
        };
        text.lines().filter_map(row).collect()
    })
}

/// `latency.hgrm` is what Java makes of the log, to the last digit.
#[test]
fn java_writes_the_same_percentile_file() {
    if java().is_none() {
        return;
    }
    let (out, _) = measured();
    let (log, target) = (out.join("latency.hlog"), out.join("java"));
    let program = ["-cp", JAR, "org.HdrHistogram.HistogramLogProcessor", "-i", &log, "-o", &target];
    assert!(Command::new("java").args(program).status().unwrap().success());
    let read = |path: &str| fs::read_to_string(path).unwrap();
    // Java begins with two lines on the range that it read.
    let theirs: Vec<String> = read(&format!("{target}.hgrm")).lines().skip(2).map(str::to_owned).collect();
    let ours: Vec<String> = read(&out.join("latency.hgrm")).lines().map(str::to_owned).collect();
    assert_eq!(ours, theirs);
}

/// The smallest value that at least this share of the samples do not exceed.
fn quantile(rows: &[(f64, u64)], share: f64) -> u64 {
    let total = rows.last().map_or(0, |row| row.1);
    let rank = (share * total as f64).ceil() as u64;
    rows.iter().find(|row| row.1 >= rank).map_or(0, |row| row.0 as u64)
}

#[test]
fn java_reads_the_same_figures() {
    let Some(processed) = java() else { return };
    let (out, summary) = measured();
    let rows = processed(&out.join("latency.hlog"), &out.join("java"), &[]);
    assert_eq!(rows.last().unwrap().1, number(&summary, "/completed"));
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
        assert_eq!(quantile(&rows, share), number(&summary, &format!("/response_ns/{name}")), "{name}");
    }
    let tagged = processed(&out.join("latency-tags.hlog"), &out.join("java"), &["-tag", "status_201"]);
    assert_eq!(tagged.last().unwrap().1, number(&summary, "/status_counts/201"));
    assert_eq!(quantile(&tagged, 0.99), number(&summary, "/tags/status_201/response_ns/p99"));
}

#[test]
fn java_reads_the_golden_log_bucket_by_bucket() {
    let Some(processed) = java() else { return };
    let out = Scratch::new();
    for (second, expected) in golden().into_iter().enumerate() {
        let start = second.to_string();
        let end = format!("{second}.5");
        let rows = processed(GOLDEN, &out.join("java"), &["-start", &start, "-end", &end]);
        let (mut found, mut before) = (Vec::new(), 0);
        for (value, seen) in rows.into_iter().filter(|row| row.1 > 0) {
            if seen > before {
                found.push([value as u64, seen - before]);
                before = seen;
            }
        }
        assert_eq!(found, expected, "the interval of second {second}");
    }
}

/// `None`, and a line that says so, where Python or its package is missing.
fn python() -> Option<impl Fn(&[&str]) -> Vec<Value>> {
    let python = std::env::var("LOADGEN_PYTHON").unwrap_or_else(|_| "python3".into());
    let importable =
        Command::new(&python).args(["-c", "import hdrh"]).output().is_ok_and(|output| output.status.success());
    if !importable {
        eprintln!(
            "skipped: no Python HdrHistogram; `python3 -m pip install hdrhistogram` (or name an interpreter that has it in LOADGEN_PYTHON)"
        );
        return None;
    }
    Some(move |logs: &[&str]| {
        let reader = format!("{HERE}/reader.py");
        printed(&Command::new(&python).arg(reader).args(logs).output().unwrap())
    })
}

#[test]
fn python_reads_the_same_figures() {
    let Some(read) = python() else { return };
    let (out, summary) = measured();
    let logs = ["latency.hlog", "latency-tags.hlog", "latency-parts.hlog"].map(|name| out.join(name));
    assert_same_figures(&read(&logs.each_ref().map(String::as_str)), &summary);
}

#[test]
fn python_reads_the_golden_log_bucket_by_bucket() {
    let Some(read) = python() else { return };
    assert_golden(&read(&[GOLDEN]));
}

/// `None`, and a line that says so, where node or its package is missing.
fn node() -> Option<impl Fn(&[&str]) -> Vec<Value>> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let usual = cache.unwrap_or_default().join("twintier/node/node_modules");
    let modules = std::env::var_os("LOADGEN_NODE_MODULES").map_or(usual, PathBuf::from);
    if !modules.join("hdr-histogram-js").is_dir() || Command::new("node").arg("--version").output().is_err() {
        eprintln!(
            "skipped: no HdrHistogram of JavaScript; `apt-get install nodejs npm` and \
             `npm install --prefix ~/.cache/twintier/node {NODE_PACKAGE}` (or name a folder that has it in LOADGEN_NODE_MODULES)"
        );
        return None;
    }
    Some(move |logs: &[&str]| {
        let reader = format!("{HERE}/reader.js");
        printed(&Command::new("node").env("NODE_PATH", &modules).arg(reader).args(logs).output().unwrap())
    })
}

#[test]
fn javascript_reads_the_same_figures() {
    let Some(read) = node() else { return };
    let (out, summary) = measured();
    let logs = ["latency.hlog", "latency-tags.hlog", "latency-parts.hlog"].map(|name| out.join(name));
    assert_same_figures(&read(&logs.each_ref().map(String::as_str)), &summary);
}

#[test]
fn javascript_reads_the_golden_log_bucket_by_bucket() {
    let Some(read) = node() else { return };
    assert_golden(&read(&[GOLDEN]));
}
