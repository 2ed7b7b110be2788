//! The rows of loads: what every run directory of the generator below a folder says, second by second.

use std::fs;
use std::path::{Path, PathBuf};

use duckdb::{Connection, params};
use serde_json::Value;

use crate::clock::utc_text;
use crate::failure::Failure;
use crate::latency::read_log;
use crate::load::Load;

/// Tables that hold a run's loads, and its files.
const TABLES: [&str; 4] = ["load", "interval", "histogram", "file"];
/// Folders within folders that are looked into: a trial's is two below its run, what was done for it one more.
const DEPTH_MAX: u32 = 5;
/// Longer files are no records and no configurations.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Replaces whatever is stored of the loads and files of `run`, which lie in `folder`.
///
/// # Errors
/// A file cannot be read or is not what its name says; the database refuses.
pub fn replace(connection: &Connection, run: &str, folder: &Path) -> Result<(), Failure> {
    forget(connection, run)?;
    stage(connection)?;
    let mut folders = Vec::new();
    walk(folder, DEPTH_MAX, &mut folders)?;
    folders.sort();
    for path in folders {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        let summary = path.join("summary.json");
        if summary.is_file() {
            let summary: Value = crate::record::read_json(&summary)?;
            insert_load(connection, run, &name, &Load::of_summary(&summary))?;
            insert_intervals(connection, run, &name, &path.join("intervals.csv"))?;
            for (log, series) in LOGS {
                stage_log(connection, run, &name, &path.join(log), series)?;
            }
        }
        insert_files(connection, run, &name, &path)?;
    }
    connection.execute_batch(UNSTAGE).map_err(refused)
}

/// Replaces whatever is stored of the output of another tool.
///
/// # Errors
/// The database refuses.
pub fn replace_output(connection: &Connection, run: &str, load: &Load, text: &str) -> Result<(), Failure> {
    forget(connection, run)?;
    insert_load(connection, run, "", load)?;
    let name = Path::new(run).file_name().map_or_else(|| run.to_owned(), |name| name.to_string_lossy().into_owned());
    insert_file(connection, run, "", &name, "output", text)
}

fn forget(connection: &Connection, run: &str) -> Result<(), Failure> {
    for table in TABLES {
        // The names are constants.
        connection.execute(&format!("DELETE FROM {table} WHERE run = ?"), params![run]).map_err(refused)?;
    }
    Ok(())
}

fn refused(error: duckdb::Error) -> Failure {
    Failure::Failed(format!("the store: {error}"))
}

fn walk(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    found.push(folder.to_owned());
    let entries = fs::read_dir(folder).map_err(|error| Failure::file(folder, &error))?;
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        if depth > 1 {
            walk(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

fn insert_load(connection: &Connection, run: &str, folder: &str, load: &Load) -> Result<(), Failure> {
    let quantiles: Vec<Value> = load
        .quantiles
        .iter()
        .map(|(quantile, value_ns)| serde_json::json!({ "quantile": quantile, "value_ns": value_ns }))
        .collect();
    let row = params![
        run,
        folder,
        load.tool,
        load.tool_version,
        load.latency_counted,
        load.mode,
        load.url,
        load.connections,
        load.started_unix_s.map(|unix_s| utc_text(unix_s).trim_end_matches(" UTC").to_owned()),
        load.duration_s,
        load.offered_per_s,
        load.throughput_per_s,
        load.planned,
        load.completed,
        load.failed,
        load.received_bytes,
        load.mean_ns,
        load.min_ns,
        load.quantile(0.5),
        load.quantile(0.9),
        load.quantile(0.95),
        load.quantile(0.99),
        load.quantile(0.999),
        load.max_ns,
        Value::from(quantiles).to_string(),
        serde_json::json!(load.status_counts).to_string(),
        load.verdict
    ];
    let insert = "INSERT INTO load VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
        from_json(?::VARCHAR, '[{\"quantile\": \"DOUBLE\", \"value_ns\": \"UBIGINT\"}]'), ?, ?)";
    connection.execute(insert, row).map(|_| ()).map_err(refused)
}

/// The columns of the table `interval` behind its two keys, as `intervals.csv` names them; others are passed over.
const SECONDS: [&str; 2] = ["start_s", "length_s"];
const COUNTS: [&str; 6] = ["planned", "completed", "errors", "timed_out", "shed", "in_flight_at_end"];
const QUANTILES: [&str; 9] = [
    "response_p50_ns",
    "response_p90_ns",
    "response_p99_ns",
    "response_max_ns",
    "service_p50_ns",
    "service_p99_ns",
    "lag_p99_ns",
    "queue_p99_ns",
    "body_bytes",
];

/// A generator that was killed leaves its last row cut: that one is left out.
fn insert_intervals(connection: &Connection, run: &str, folder: &str, path: &Path) -> Result<(), Failure> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(()) };
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let mut appender = connection.appender("interval").map_err(refused)?;
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        if cells.len() < header.len() {
            continue;
        }
        let cell = |name: &str| header.iter().position(|known| *known == name).map_or("", |place| cells[place]);
        let number = |name: &str| cell(name).parse::<f64>().ok();
        let count = |name: &str| cell(name).parse::<u64>().ok();
        let seconds = SECONDS.map(number);
        let [Some(start_s), Some(length_s)] = seconds else { continue };
        let counts = COUNTS.map(count);
        let values = QUANTILES.map(count);
        let row = params![
            run,
            folder,
            start_s,
            length_s,
            cell("phase"),
            counts[0],
            counts[1],
            counts[2],
            counts[3],
            counts[4],
            counts[5],
            number("completed_per_s"),
            values[0],
            values[1],
            values[2],
            values[3],
            values[4],
            values[5],
            values[6],
            values[7],
            values[8]
        ];
        appender.append_row(row).map_err(refused)?;
    }
    appender.flush().map_err(refused)
}

/// What the lines of a log are of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Series {
    /// Response times of all requests.
    Response,
    /// Response times of the requests with the tag; `NAME.page` has page load times.
    Tags,
    /// The tag says what was measured.
    Parts,
}

const LOGS: [(&str, Series); 3] =
    [("latency.hlog", Series::Response), ("latency-tags.hlog", Series::Tags), ("latency-parts.hlog", Series::Parts)];

/// Lists of structs do not go through an appender: their text does, and becomes lists in one statement.
const STAGE: &str =
    "CREATE OR REPLACE TEMP TABLE histogram_text (run VARCHAR, folder VARCHAR, series VARCHAR, tag VARCHAR,
    start_s DOUBLE, length_s DOUBLE, samples UBIGINT, buckets VARCHAR, payload VARCHAR)";
const UNSTAGE: &str = "INSERT INTO histogram SELECT run, folder, series, tag, start_s, length_s, samples,
    from_json(buckets, '[{\"value_ns\": \"UBIGINT\", \"count\": \"UBIGINT\"}]'), payload FROM histogram_text;
    DROP TABLE histogram_text";

fn stage(connection: &Connection) -> Result<(), Failure> {
    connection.execute_batch(STAGE).map_err(refused)
}

fn stage_log(connection: &Connection, run: &str, folder: &str, path: &Path, of: Series) -> Result<(), Failure> {
    if !path.is_file() {
        return Ok(());
    }
    let mut appender = connection.appender_to_catalog_and_db("histogram_text", "temp", "main").map_err(refused)?;
    for line in read_log(path)? {
        let (series, tag) = match (of, line.tag) {
            (Series::Response, tag) => ("response".to_owned(), tag),
            (Series::Tags, Some(tag)) if tag.ends_with(".page") => ("page_load".to_owned(), Some(tag)),
            (Series::Tags, tag) => ("response".to_owned(), tag),
            (Series::Parts, tag) => (tag.unwrap_or_default(), None),
        };
        let histogram = &line.histogram;
        let buckets: Vec<String> = histogram
            .iter_recorded()
            .map(|step| {
                let value_ns = histogram.highest_equivalent(step.value_iterated_to());
                format!("{{\"value_ns\":{value_ns},\"count\":{}}}", step.count_at_value())
            })
            .collect();
        let buckets = format!("[{}]", buckets.join(","));
        let row =
            params![run, folder, series, tag, line.start_s, line.length_s, histogram.len(), buckets, line.payload];
        appender.append_row(row).map_err(refused)?;
    }
    appender.flush().map_err(refused)
}

/// Endings of the files that systems are configured with.
const CONFIGURATIONS: [&str; 6] = ["conf", "cfg", "vcl", "yaml", "yml", "toml"];

fn insert_files(connection: &Connection, run: &str, folder: &str, path: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(path).map_err(|error| Failure::file(path, &error))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ending = file.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_default();
        let kind = match ending.as_str() {
            "json" => "record",
            _ if CONFIGURATIONS.contains(&ending.as_str()) || name == "Caddyfile" => "configuration",
            _ => continue,
        };
        let short = fs::metadata(&file).is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
        // What is no text is none of the two, whatever it is called.
        if let (true, Ok(text)) = (short, fs::read_to_string(&file)) {
            insert_file(connection, run, folder, &name, kind, &text)?;
        }
    }
    Ok(())
}

fn insert_file(
    connection: &Connection,
    run: &str,
    folder: &str,
    name: &str,
    kind: &str,
    text: &str,
) -> Result<(), Failure> {
    let row = params![run, folder, name, kind, text];
    connection.execute("INSERT INTO file VALUES (?, ?, ?, ?, ?)", row).map(|_| ()).map_err(refused)
}
