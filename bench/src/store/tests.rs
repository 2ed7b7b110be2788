//! The store as a whole: questions, macros against the Rust crate, imports that may be repeated, exports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;
use proptest::collection;
use proptest::prelude::ProptestConfig;
use proptest::test_runner::TestRunner;
use proptest::{prop_assert, prop_assert_eq};

use super::query::{FileFormat, ask, contents, export, open_for_reading, query, write};
use super::{add_run, import, open};
use crate::case::{Case, Work};
use crate::compare::read_trials;
use crate::evaluate::evaluate;
use crate::failure::Failure;
use crate::machine::{CoreMap, Machine};
use crate::record::{PlanRecord, RunRecord, Surveyed, write_json};
use crate::report::fixture::trial;
use crate::trial::Role;

/// The golden log of the generator, as three foreign readers read it; its buckets are in the file beside it.
const GOLDEN: &str = include_str!("../../../loadgen/tests/golden/vector.hlog");
const GOLDEN_BUCKETS: &str = include_str!("../../../loadgen/tests/golden/vector.json");

/// A folder that is removed with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("bench-store-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn store(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cells(store: &Path, sql: &str) -> Vec<String> {
    query(store, sql).unwrap_or_else(|failure| panic!("{sql}: {failure}")).cells().map(str::to_owned).collect()
}

/// Everything that the store holds, as text.
fn everything(store: &Path) -> String {
    let tables = cells(store, "SELECT table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL");
    assert!(tables.len() > 10);
    let connection = open_for_reading(store).unwrap();
    let dump = |table: &String| {
        format!("{table}\n{}\n", ask(&connection, &format!("FROM {table} ORDER BY ALL")).unwrap().text())
    };
    tables.iter().map(dump).collect()
}

/// Writes the files of a run of the generator.
fn generator_files(folder: &Path, planned: u64) {
    fs::create_dir_all(folder).unwrap();
    let summary = serde_json::json!({
        "mode": "open", "verdict": "valid", "planned": planned, "completed": planned - 1, "errors": 1, "timed_out": 0, "shed": 0,
        "offered_rate": 4.0, "achieved_rate": 3.5, "duration_s": 4.0, "started_unix_ms": 1_795_441_620_123_u64, "version": "0.1.0",
        "response_ns": { "p50": 7, "p90": 8, "p99": 9, "p999": null, "max": 9, "count": 3 }, "status_counts": { "200": planned - 1 },
        "url": "http://127.0.0.1:8080/", "definitions": { "response_ns": "t5 − t0, planned time to last byte" },
    });
    write_json(&folder.join("summary.json"), &summary).unwrap();
    fs::write(folder.join("latency.hlog"), GOLDEN).unwrap();
    let line = GOLDEN.lines().find(|line| line.starts_with("1.000,")).unwrap();
    fs::write(folder.join("latency-tags.hlog"), format!("Tag=status_200,{line}\nTag=look.page,{line}\n")).unwrap();
    fs::write(folder.join("latency-parts.hlog"), format!("Tag=service,{line}\n")).unwrap();
    let intervals = "start_s,length_s,phase,planned,completed,errors,timed_out,shed,in_flight_at_end,completed_per_s,response_p50_ns,\
        response_p90_ns,response_p99_ns,response_max_ns,service_p50_ns,service_p99_ns,lag_p99_ns,queue_p99_ns,body_bytes,later\n\
        -1.000,1.000,warm-up,4,4,0,0,0,0,4.0,1,2,3,4,5,6,7,8,9,x\n\
        0.000,1.000,measure,4,3,1,0,0,0,3.0,10,20,30,40,50,60,70,80,90,x\n\
        1.000,1.000,measure,0,0,0,0,0,0,0.0,,,,,,,,,0,x\n\
        2.000,1.000,measure,4,3,1,0,0,0,3.0,10,20,300,400,50,60,70,80,90,x\n3.000,1.000,meas";
    fs::write(folder.join("intervals.csv"), intervals).unwrap();
}

/// A run directory of a comparison with two systems and two blocks.
fn comparison(folder: &Path) -> RunRecord {
    let case = Case::keep_alive(Work::Proxy, 64, 128);
    let surveyed = |name: &str| Surveyed {
        name: name.into(),
        description: format!("the system {name}"),
        version: format!("{name} 1"),
        program_sha256: String::new(),
        answer_head_bytes: 60,
        answer_body_bytes: 128,
        answer_fields: vec![],
        role: Role::Measured,
    };
    let record = RunRecord {
        kind: "compare".into(),
        argv: vec!["bench".into(), "compare".into()],
        commit: "0123456789ab".into(),
        bench_version: "0.1.0".into(),
        started_unix_s: 1_795_441_620,
        machine: Machine {
            cpu_model: "a processor".into(),
            kernel: "6.18".into(),
            cores: vec![0, 1],
            ..Machine::default()
        },
        cores: CoreMap { system: 0, origin: 1, generator: 1 },
        generator: "loadgen 0.1.0".into(),
        plan: Some(PlanRecord {
            job: "proxy".into(),
            cases: vec![case],
            blocks: 2,
            duration_s: 2.0,
            warmup_s: 0.5,
            seed: 7,
        }),
        systems: vec![surveyed("twintier"), surveyed("nginx")],
        absent: vec![],
        finished: true,
        doctor: None,
    };
    fs::create_dir_all(folder).unwrap();
    record.write(folder).unwrap();
    for (system, block) in [("twintier", 0), ("nginx", 0), ("twintier", 1), ("nginx", 1)] {
        let trial = trial(system, case, block);
        let place = folder.join(&trial.folder);
        generator_files(&place, 12);
        fs::write(place.join("nginx.conf"), "worker_processes 1;\n").unwrap();
        fs::write(place.join("nginx.log"), "nothing\n").unwrap();
        write_json(&place.join("trial.json"), &trial).unwrap();
    }
    record
}

#[test]
fn questions_are_answered_as_tables() {
    let scratch = Scratch::new();
    let store = scratch.store("s.duckdb");
    open(&store).unwrap();
    let sql =
        "SELECT 1 AS one, 'two' AS two, 2.5::DOUBLE AS half, NULL AS nothing, TIMESTAMP '2026-11-23 13:47:00' AS at,
        [{'value_ns': 3::UBIGINT}] AS nested";
    let text = query(&store, sql).unwrap().text();
    for part in ["one", "two", "2.5", "2026-11-23 13:47:00", "[{'value_ns': 3}]"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(query(&store, "DELETE FROM run").is_err(), "the store is read only");
    assert!(query(&store, "SELECT nonsense").unwrap_err().to_string().contains("nonsense"));
    assert!(matches!(query(&scratch.store("none.duckdb"), "FROM run"), Err(Failure::Usage(_))));
}

#[test]
fn without_a_question_everything_is_listed_with_a_sentence() {
    let scratch = Scratch::new();
    let store = scratch.store("s.duckdb");
    open(&store).unwrap();
    let listed = contents(&store).unwrap();
    let cells: Vec<&str> = listed.cells().collect();
    let rows: Vec<&[&str]> = cells.chunks(3).collect();
    for name in [
        "run",
        "load",
        "interval",
        "histogram",
        "file",
        "best_run",
        "slow_interval",
        "machine",
        "hdr_quantile(buckets, quantile)",
    ] {
        assert!(rows.iter().any(|row| row[1] == name), "{name}: {rows:?}");
    }
    let silent: Vec<_> = rows.iter().filter(|row| row[2].split_whitespace().count() < 3).collect();
    assert!(silent.is_empty(), "give them a COMMENT in views.sql or macros.sql: {silent:?}");
    // Every view can be asked, also of an empty store.
    for row in rows.iter().filter(|row| row[0] == "view") {
        assert!(query(&store, &format!("FROM {}", row[1])).unwrap().is_empty(), "{row:?}");
    }
}

#[test]
fn a_run_that_is_imported_again_gives_the_same_rows() {
    let scratch = Scratch::new();
    let folder = scratch.0.join("compare-1");
    let record = comparison(&folder);
    let live = scratch.store("live.duckdb");
    let trials = read_trials(&folder).unwrap();
    add_run(&live, &folder, &record, &trials, &evaluate(&folder, &record, &trials).unwrap()).unwrap();
    let first = everything(&live);
    assert_eq!(cells(&live, "SELECT count(*) FROM load"), ["4"]);
    assert_eq!(cells(&live, "SELECT count(*) FROM trial"), ["4"]);
    assert_eq!(cells(&live, "SELECT a, b FROM ratio WHERE metric = 'p99_ns' AND b = 'nginx'"), ["twintier", "nginx"]);
    // Into a new store, twice, under another spelling of its path.
    let again = scratch.store("again.duckdb");
    for path in [folder.clone(), folder.join("."), folder.join("")] {
        assert_eq!(import::add(&again, &path).unwrap(), "a run of bench compare");
        assert_eq!(everything(&again), first, "{}", path.display());
    }
    // And into the store that has it.
    import::add(&live, &folder).unwrap();
    assert_eq!(everything(&live), first);
}

#[test]
fn seconds_histograms_and_files_of_a_run_are_rows() {
    let scratch = Scratch::new();
    let folder = scratch.0.join("run-1");
    generator_files(&folder, 12);
    let store = scratch.store("s.duckdb");
    assert_eq!(import::add(&store, &folder).unwrap(), "a run of loadgen");
    let ask = |sql: &str| cells(&store, sql);
    assert_eq!(
        ask("SELECT tool, mode, planned, completed, failed, offered_per_s, p99_ns, p999_ns, started_utc FROM load"),
        ["loadgen", "open", "12", "11", "1", "4", "9", "", "2026-11-23 13:47:00 UTC"]
    );
    // The row that the end of the generator cut is left out; a quantile without samples is NULL, a column of later versions is not in the way.
    assert_eq!(ask("SELECT count(*), sum(planned), count(response_p99_ns) FROM interval"), ["4", "12", "3"]);
    assert_eq!(ask("SELECT start_s, times_the_median FROM slow_interval LIMIT 1"), ["2", "1.8181818181818181"]);
    assert_eq!(
        ask("SELECT series, coalesce(tag, ''), count(*) FROM histogram GROUP BY ALL ORDER BY ALL"),
        ["page_load", "look.page", "1", "response", "", "4", "response", "status_200", "1", "service", "", "1"]
    );
    let expected: Vec<Vec<[u64; 2]>> = serde_json::from_str(GOLDEN_BUCKETS).unwrap();
    let rows =
        ask("SELECT value_ns, count FROM bucket WHERE series = 'response' AND tag IS NULL ORDER BY start_s, value_ns");
    let found: Vec<u64> = rows.iter().map(|cell| cell.parse().unwrap()).collect();
    assert_eq!(found, expected.concat().concat());
    // The payload is the one of the file: every HdrHistogram library reads it.
    assert_eq!(
        ask("SELECT payload FROM histogram WHERE series = 'service'")[0],
        GOLDEN.lines().nth(5).unwrap().rsplit(',').next().unwrap()
    );
    assert_eq!(ask("SELECT name, kind FROM file ORDER BY ALL"), ["summary.json", "record"]);
    assert_eq!(ask("SELECT (text->>'$.response_ns.p90')::INT FROM file"), ["8"]);
    assert!(import::add(&store, &scratch.0).unwrap_err().to_string().contains("no run directory"));
}

#[test]
fn machine_card_and_configurations_are_stored() {
    let scratch = Scratch::new();
    let folder = scratch.0.join("compare-1");
    comparison(&folder);
    let store = scratch.store("s.duckdb");
    import::add(&store, &folder).unwrap();
    assert_eq!(cells(&store, "SELECT cpu_model, kernel, cores FROM machine"), ["a processor", "6.18", "2"]);
    assert_eq!(
        cells(&store, "SELECT count(*), any_value(name), any_value(text) FROM configuration"),
        ["4", "nginx.conf", "worker_processes 1;\n"]
    );
    assert_eq!(cells(&store, "SELECT count(*) FROM file WHERE name = 'trial.json'"), ["4"]);
    assert_eq!(cells(&store, "SELECT system, runs FROM best_run ORDER BY ALL"), ["nginx", "1", "twintier", "1"]);
}

#[test]
fn outputs_of_other_tools_are_rows_with_how_they_count() {
    let scratch = Scratch::new();
    let store = scratch.store("s.duckdb");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/fixtures");
    let mut files: Vec<PathBuf> = fs::read_dir(&fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().chain(&files) {
        assert!(import::add(&store, file).unwrap().starts_with("a run of "), "{}", file.display());
    }
    let tools = cells(&store, "SELECT tool, count(*) FROM load GROUP BY ALL ORDER BY ALL");
    assert_eq!(tools, ["h2load", "1", "k6", "2", "oha", "1", "vegeta", "2", "wrk", "2", "wrk2", "1"]);
    assert_eq!(cells(&store, "SELECT count(*) FROM load WHERE length(latency_counted) < 20"), ["0"]);
    let quantile =
        "SELECT list_filter(quantiles, lambda q: q.quantile = 0.75)[1].value_ns FROM load WHERE run LIKE '%wrk.txt'";
    assert_eq!(cells(&store, quantile), ["51890000"]);
    // What a tool does not tell is NULL, and its output is kept as it was.
    assert_eq!(
        cells(&store, "SELECT count(*) FROM load WHERE tool = 'wrk' AND (planned IS NOT NULL OR p999_ns IS NOT NULL)"),
        ["0"]
    );
    let kept = cells(&store, "SELECT text FROM file WHERE name = 'wrk2.txt' AND kind = 'output'");
    assert_eq!(kept, [fs::read_to_string(fixtures.join("wrk2.txt")).unwrap()]);
    let other = scratch.0.join("other.txt");
    fs::write(&other, "hello\n").unwrap();
    let refusal = import::add(&store, &other).unwrap_err();
    assert!(
        matches!(&refusal, Failure::Usage(text) if text.contains("other.txt") && text.contains("vegeta")),
        "{refusal}"
    );
}

#[test]
fn answers_are_written_as_csv_json_and_parquet() {
    let scratch = Scratch::new();
    let (store, folder) = (scratch.store("s.duckdb"), scratch.0.join("run-1"));
    generator_files(&folder, 12);
    import::add(&store, &folder).unwrap();
    let answer = |format: FileFormat| {
        let path = scratch.0.join("answer");
        write(&store, "SELECT planned, tool FROM load;\n", format, &path).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(answer(FileFormat::Csv), b"planned,tool\n12,loadgen\n");
    let json: serde_json::Value = serde_json::from_slice(&answer(FileFormat::Json)).unwrap();
    assert_eq!(json, serde_json::json!([{ "planned": 12, "tool": "loadgen" }]));
    assert!(answer(FileFormat::Parquet).starts_with(b"PAR1"));
    assert!(write(&store, "SELECT nonsense", FileFormat::Csv, &scratch.0.join("x")).is_err());
}

const PARQUET_READER: &str = r#"
import json, sys
from pyarrow import parquet
rows = lambda name: parquet.read_table(f"{sys.argv[1]}/{name}.parquet").to_pylist()
print(json.dumps({
    "load": [[row["tool"], row["planned"], row["p999_ns"]] for row in rows("load")],
    "planned": sum(row["planned"] for row in rows("interval")),
    "intervals": [[[b["value_ns"], b["count"]] for b in row["buckets"]]
                  for row in sorted(rows("histogram"), key=lambda row: row["start_s"]) if row["series"] == "response" and row["tag"] is None],
    "payloads": [row["payload"] for row in rows("histogram") if row["series"] == "service"],
    "buckets": len(rows("bucket")),
}))
"#;

#[test]
fn a_foreign_reader_reads_the_parquet_files() {
    let scratch = Scratch::new();
    let (store, out) = (scratch.store("s.duckdb"), scratch.0.join("parquet"));
    let folders = ["run-1", "run-2"].map(|name| scratch.0.join(name));
    for folder in &folders {
        generator_files(folder, 12);
        import::add(&store, folder).unwrap();
    }
    let run = folders[0].to_string_lossy().into_owned();
    let files = export(&store, &out, std::slice::from_ref(&run)).unwrap();
    assert!(files.text().contains("interval.parquet"), "{}", files.text());
    assert!(export(&store, &out, &["none".to_owned()]).unwrap_err().to_string().contains("none"));
    let python = std::env::var("BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let importable = Command::new(&python)
        .args(["-c", "import pyarrow.parquet"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !importable {
        eprintln!(
            "skipped: no reader of Parquet; `python3 -m pip install pyarrow` (or name an interpreter that has it in BENCH_PYTHON)"
        );
        return;
    }
    let output = Command::new(&python).args(["-c", PARQUET_READER]).arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["load"], serde_json::json!([["loadgen", 12, null]]));
    assert_eq!(read["planned"], 12);
    let golden: serde_json::Value = serde_json::from_str(GOLDEN_BUCKETS).unwrap();
    assert_eq!(read["intervals"], golden);
    assert!(read["payloads"][0].as_str().unwrap().starts_with("HISTFAAA"));
    assert_eq!(
        read["buckets"],
        cells(&store, &format!("SELECT count(*) FROM bucket WHERE run = '{run}'"))[0].parse::<u64>().unwrap()
    );
}

/// As the generator's: 1 ns to one hour at three digits.
fn of(samples: &[(u64, u64)]) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
    for (value, count) in samples {
        histogram.record_n(*value, *count).unwrap();
    }
    histogram
}

fn literal(histogram: &Histogram<u64>) -> String {
    let buckets: Vec<String> = histogram
        .iter_recorded()
        .map(|step| {
            let value_ns = histogram.highest_equivalent(step.value_iterated_to());
            format!("{{'value_ns': {value_ns}::UBIGINT, 'count': {}::UBIGINT}}", step.count_at_value())
        })
        .collect();
    format!("[{}]::STRUCT(value_ns UBIGINT, count UBIGINT)[]", buckets.join(", "))
}

#[test]
fn macros_say_what_the_crate_says() {
    let scratch = Scratch::new();
    let store = scratch.store("s.duckdb");
    drop(open(&store).unwrap());
    let connection = open_for_reading(&store).unwrap();
    let cells = |sql: &str| {
        ask(&connection, sql)
            .unwrap_or_else(|failure| panic!("{sql}: {failure}"))
            .cells()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let set = collection::vec((1..3_600_000_000_000_u64, 1..100_000_u64), 0..30);
    let cases = (collection::vec(set, 1..4), 0.0..1.0_f64);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(24));
    let checked = runner.run(&cases, |(sets, quantile)| {
        let histograms: Vec<Histogram<u64>> = sets.iter().map(|set| of(set)).collect();
        let mut sum = of(&[]);
        for histogram in &histograms {
            sum.add(histogram).unwrap();
        }
        let lists: Vec<String> = histograms.iter().map(literal).collect();
        let sql = format!(
            "WITH several AS (SELECT unnest([{}]) AS buckets), one AS (SELECT hdr_merge(list(buckets)) AS buckets FROM several)
             SELECT hdr_count(buckets), hdr_max(buckets), hdr_quantile(buckets, {quantile:e}), hdr_quantile(buckets, 0.5),
                    hdr_quantile(buckets, 0.99), hdr_quantile(buckets, 0.999), hdr_quantile(buckets, 1), len(buckets) FROM one",
            lists.join(", ")
        );
        let found: Vec<Option<u64>> = cells(&sql).iter().map(|cell| cell.parse().ok()).collect();
        let some = |value: u64| (!sum.is_empty()).then_some(value);
        let at = |quantile: f64| some(sum.value_at_quantile(quantile));
        let expected = vec![
            Some(sum.len()),
            some(sum.max()),
            // The quantile 0 is the lowest value of its bucket in the crate and the highest here, as of every other one.
            some(sum.highest_equivalent(sum.value_at_quantile(quantile))),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            u64::try_from(sum.iter_recorded().count()).ok(),
        ];
        prop_assert_eq!(&found, &expected);
        if let Some(limit) = found[3] {
            let sql = format!("SELECT hdr_share_within({}, {limit})", literal(&sum));
            let share: f64 = cells(&sql)[0].parse().unwrap();
            let exact = sum.count_between(0, limit) as f64 / sum.len() as f64;
            prop_assert!((share - exact).abs() < 1e-12, "{} for {}", share, exact);
        }
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn the_examples_of_the_readme_run_as_written() {
    let scratch = Scratch::new();
    let folder = scratch.0.join("compare-1");
    comparison(&folder);
    let store = scratch.store("s.duckdb");
    import::add(&store, &folder).unwrap();
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("\n## The store\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let examples: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split_once("bench query ")?.1.split_once('"')?.1.split('"').next())
        .collect();
    assert!(examples.len() >= 7, "{examples:?}");
    for sql in examples {
        let table = query(&store, sql).unwrap_or_else(|failure| panic!("{sql}: {failure}"));
        assert!(!table.is_empty(), "{sql}");
    }
}
