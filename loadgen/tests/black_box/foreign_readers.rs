//! Histogram logs as readers see them that nobody here wrote: the Java and the Python HdrHistogram.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::support::{Request, Scratch, assert_balanced, number, respond, serve, summary};

/// Debian's `libhdrhistogram-java`.
const JAR: &str = "/usr/share/java/hdrhistogram.jar";

fn measured() -> (Scratch, serde_json::Value) {
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| {
        respond(stream, if request.number.is_multiple_of(5) { 201 } else { 200 }, "", "fine")
    });
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let (summary, _) =
        summary(&out, &["run", &url, "--rate", "700", "--arrivals", "poisson", "--duration", "2.5", "--warmup", "0.5"]);
    assert_balanced(&summary);
    (out, summary)
}

#[test]
fn java_reads_the_same_figures() {
    if !Path::new(JAR).exists() || Command::new("java").arg("-version").output().is_err() {
        eprintln!("skipped: no Java HdrHistogram; `apt-get install default-jre-headless libhdrhistogram-java`");
        return;
    }
    let (out, summary) = measured();
    let processed = |log: &str, more: &[&str]| {
        let target = out.join("java");
        let output = Command::new("java")
            .args(["-cp", JAR, "org.HdrHistogram.HistogramLogProcessor", "-i", &out.join(log), "-o", &target, "-csv"])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read_to_string(format!("{target}.hgrm")).unwrap()
    };
    let text = processed("latency.hlog", &[]);
    let rows: Vec<[f64; 3]> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.split(',').map(|cell| cell.parse::<f64>().ok());
            Some([cells.next()??, cells.next()??, cells.next()??])
        })
        .collect();
    let at = |quantile: f64| rows.iter().find(|row| row[1] >= quantile).map_or(0.0, |row| row[0]) * 1e6;
    assert_eq!(rows.last().unwrap()[2] as u64, number(&summary, "/completed"));
    for (pointer, quantile) in [("/response_ns/p50", 0.5), ("/response_ns/max", 1.0)] {
        let ours = number(&summary, pointer) as f64;
        // Java prints milliseconds with three decimals.
        assert!((at(quantile) - ours).abs() <= ours * 0.001 + 500.0, "{pointer}: Java {} and we {ours}", at(quantile));
    }
    let tagged = processed("latency-tags.hlog", &["-tag", "status_201"]);
    let last = tagged.lines().rfind(|line| line.contains(",1.0")).unwrap_or_else(|| panic!("{tagged}"));
    assert_eq!(last.split(',').nth(2).unwrap().parse::<u64>().unwrap(), number(&summary, "/status_counts/201"));
}

const READER: &str = r#"
import sys, json, math
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
def quantile(histogram, q):
    # The module rounds ranks its own way; ours (and Java's) is the smallest value with at least q of the samples.
    rank, seen = max(1, math.ceil(q * histogram.get_total_count())), 0
    for step in histogram.get_recorded_iterator():
        seen += step.count_added_in_this_iter_step
        if seen >= rank:
            return histogram.get_highest_equivalent_value(step.value_iterated_to)
    return None
def read(path):
    reader, out = HistogramLogReader(path, HdrHistogram(1, 3600 * 10**9, 3)), {}
    while True:
        interval = reader.get_next_interval_histogram()
        if interval is None:
            break
        tag = interval.get_tag() or ""
        out.setdefault(tag, HdrHistogram(1, 3600 * 10**9, 3)).add(interval)
    return {tag: [h.get_total_count(), quantile(h, 0.5), quantile(h, 0.99), quantile(h, 0.999), h.get_max_value()] for tag, h in out.items()}
print(json.dumps([read(path) for path in sys.argv[1:]]))
"#;

#[test]
fn python_reads_the_same_figures() {
    let python = std::env::var("LOADGEN_PYTHON").unwrap_or_else(|_| "python3".into());
    let importable =
        Command::new(&python).args(["-c", "import hdrh"]).output().is_ok_and(|output| output.status.success());
    if !importable {
        eprintln!(
            "skipped: no Python HdrHistogram; `python3 -m pip install hdrhistogram` (or name an interpreter that has it in LOADGEN_PYTHON)"
        );
        return;
    }
    let (out, summary) = measured();
    let output = Command::new(&python)
        .args([
            "-c",
            READER,
            &out.join("latency.hlog"),
            &out.join("latency-tags.hlog"),
            &out.join("latency-parts.hlog"),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = |pointer: &str| {
        ["count", "p50", "p99", "p999", "max"]
            .map(|name| summary.pointer(&format!("{pointer}/{name}")).unwrap().clone())
    };
    assert_eq!(read[0][""].as_array().unwrap(), &figures("/response_ns"));
    for status in ["status_200", "status_201"] {
        assert_eq!(read[1][status].as_array().unwrap(), &figures(&format!("/tags/{status}/response_ns")));
    }
    for part in ["service", "generator_lag", "client_queue", "first_byte"] {
        assert_eq!(read[2][part].as_array().unwrap(), &figures(&format!("/{part}_ns")), "{part}");
    }
}
