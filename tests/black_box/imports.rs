//! Large supplier files while the site serves.

use std::fs::File;
use std::io::BufWriter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::appliance::{Appliance, Setup, rows};
use crate::support::eventually;
use crate::support::program::Program;
use crate::support::wire::Wire;

const SEED: u64 = 4;

/// Writes a supplier's file of the built-in generator into a setup's folder.
fn supplier_file(setup: &Setup, records: u64) {
    let mut out = BufWriter::new(File::create(setup.folder.path("items.txt")).unwrap());
    twintier::storage::supplier::write_generated(&mut out, SEED, records).unwrap();
}

fn begin(setup: Setup) -> Appliance {
    let mut program = Program::start(&mut setup.command("serve"));
    let http = program.ready("http").parse().unwrap();
    let admin = program.ready("admin").parse().unwrap();
    Appliance { program, http, admin, setup }
}

fn import_of(appliance: &Appliance) -> Value {
    appliance.status()["storage"]["imports"][0].clone()
}

/// Asks for pages until told to stop; every one of them is there.
fn browse(appliance: &Appliance, stop: &AtomicBool) -> u64 {
    let mut asked = 0;
    let mut visitor = appliance.visitor();
    while !stop.load(Ordering::Acquire) {
        for path in ["/reqcat/", "/reqcat/?words=server", "/directory/sign-in"] {
            assert_eq!(visitor.page(path).status, 200, "{path}");
            asked += 1;
        }
    }
    asked
}

#[test]
fn a_large_import_shows_its_progress_while_the_site_serves_and_survives_kill_9() {
    const RECORDS: u64 = 20_000;
    let setup = Setup::shipped();
    supplier_file(&setup, RECORDS);
    let mut appliance = begin(setup);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let browsing = scope.spawn(|| browse(&appliance, &stop));
        // It is seen half-way: in the report, and in the tables of the replicas.
        let seen = eventually("an import half-way", || {
            let import = import_of(&appliance);
            (import["taken"].as_u64().is_some_and(|taken| taken > 0) || import["state"] == "done").then_some(import)
        });
        assert!(seen["bytes"].as_u64().unwrap() <= seen["bytes_total"].as_u64().unwrap(), "{seen}");
        assert_eq!(appliance.status()["storage"]["agents"]["books"], 0);
        stop.store(true, Ordering::Release);
        assert!(browsing.join().unwrap() > 0);
    });
    appliance.program.kill();

    // What was committed is there, and the import is ordered again from its row.
    let setup = appliance.setup;
    appliance = begin(setup);
    let replication = until_all_are_there(&mut appliance, RECORDS);
    assert_eq!(replication["equal"], true);
    // On a fast machine the first life may have come to the end of the file.
    let resumed = u64::from(appliance.status()["storage"]["imports"] != json!([]));
    if resumed == 1 {
        let import = eventually("the end of the import", || {
            Some(import_of(&appliance)).filter(|import| import["state"] == "done" || import["state"] == "failed")
        });
        let count = |name: &str| import[name].as_u64().unwrap();
        assert_eq!((count("read"), count("rejected"), count("duplicate")), (RECORDS, 0, 0), "{import}");
        assert_eq!(count("taken") + count("unchanged"), RECORDS, "{import}");
        assert_eq!((&import["bytes"], &import["state"]), (&import["bytes_total"], &json!("done")));
    }
    let agents = eventually("the end in the books", || {
        Some(appliance.status()["storage"]["agents"].clone()).filter(|agents| agents["running"] == 0)
    });
    assert_eq!(
        (&agents["books"], &agents["done"], &agents["failed"]),
        (&json!(0), &json!(resumed), &json!(0)),
        "{agents}"
    );

    // The row of the work says the same, also after a restart; nothing is imported again.
    let mut alice = appliance.user("alice");
    assert_eq!(alice.data("/reqcat/?words=server").json()["total"].as_u64().map(|total| total > 100), Some(true));
    appliance.program.kill();
    let mut appliance = begin(appliance.setup);
    until_all_are_there(&mut appliance, RECORDS);
    assert_eq!(appliance.status()["storage"]["imports"], json!([]));
}

/// Waits until every replica has so many items; a busy machine may take its time as long as there are ever more.
#[track_caller]
fn until_all_are_there(appliance: &mut Appliance, records: u64) -> Value {
    let mut there = 0;
    loop {
        let replication = eventually("more records on the replicas", || {
            assert!(appliance.program.is_running(), "{}", appliance.program.stderr());
            let replication = appliance.replication();
            let now = rows(&replication, "item");
            (now > there || now == records).then_some(replication)
        });
        there = rows(&replication, "item");
        if there == records {
            return appliance.settle();
        }
    }
}

/// Kilobytes that a process holds: now and at most, `(VmRSS, VmHWM)`.
fn memory_kb(process: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    };
    (of("VmRSS"), of("VmHWM"))
}

/// One constant load over two connections: so many a second, from their planned times. Microseconds, sorted.
fn load(appliance: &Appliance, goes_on: impl Fn() -> bool + Sync) -> Vec<u64> {
    const PERIOD: Duration = Duration::from_millis(5);
    let connection = |first: u32| {
        let mut wire = Wire::open(appliance.http);
        let begin = Instant::now();
        let mut latencies = Vec::new();
        let mut number = first;
        while goes_on() {
            let planned = begin + PERIOD * number;
            std::thread::sleep(planned.saturating_duration_since(Instant::now()));
            let answer = wire.get("/reqcat/?section=net");
            assert_eq!(answer.status, 200);
            if answer.closes() {
                wire = Wire::open(appliance.http);
            }
            latencies.push(u64::try_from(planned.elapsed().as_micros()).unwrap());
            number += 2;
        }
        latencies
    };
    let mut all = std::thread::scope(|scope| {
        let one = scope.spawn(|| connection(0));
        let mut all = connection(1);
        all.extend(one.join().unwrap());
        all
    });
    all.sort_unstable();
    all
}

fn percentile(sorted: &[u64], per_mille: usize) -> u64 {
    sorted.get((sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

fn shown(latencies: &[u64]) -> Value {
    json!({ "requests": latencies.len(), "p50_us": percentile(latencies, 500), "p99_us": percentile(latencies, 990), "max_us": latencies.last() })
}

/// `IMPORT_RECORDS` (1,000,000) records under 200 requests a second; prints one line of JSON. Measures, and judges
/// correctness only.
#[test]
#[ignore = "minutes of load on a quiet machine: see tests/README.md"]
fn one_million_records_under_load() {
    let records = std::env::var("IMPORT_RECORDS").map_or(1_000_000, |text| text.parse::<u64>().unwrap());
    // First without an import: there is no such file.
    let setup = Setup::shipped();
    std::fs::remove_file(setup.folder.path("items.txt")).unwrap();
    let mut appliance = begin(setup);
    let begun = Instant::now();
    let empty = load(&appliance, || begun.elapsed() < Duration::from_secs(10));
    appliance.program.signal("TERM");
    assert!(appliance.program.status().success());

    supplier_file(&appliance.setup, records);
    let mut appliance = begin(appliance.setup);
    let before = memory_kb(appliance.program.id()).0;
    let ended = || ["done", "failed"].contains(&import_of(&appliance)["state"].as_str().unwrap_or(""));
    let begun = Instant::now();
    let stop = AtomicBool::new(false);
    let mut memory: Vec<(f64, u64)> = Vec::new();
    let during = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(&appliance, || !stop.load(Ordering::Acquire)));
        while !ended() {
            memory.push((begun.elapsed().as_secs_f64(), memory_kb(appliance.program.id()).0));
            std::thread::sleep(Duration::from_secs(1));
        }
        stop.store(true, Ordering::Release);
        loading.join().unwrap()
    });
    let import = import_of(&appliance);
    // Replicas that are equally far behind are equal, too.
    let settled = eventually("every record on every replica", || {
        Some(appliance.settle()).filter(|settled| rows(settled, "item") == records)
    });
    let begun = Instant::now();
    let after = load(&appliance, || begun.elapsed() < Duration::from_secs(10));
    let (now, peak) = memory_kb(appliance.program.id());
    let bytes = |name: &str| std::fs::metadata(appliance.setup.folder.path(name)).map_or(0, |file| file.len());
    println!(
        "{}",
        json!({
            "job": "import", "records": records, "replicas": settled["replicas"].as_array().unwrap().len(),
            "seconds": import["elapsed_ms"].as_f64().unwrap() / 1000.0, "records_per_s": import["records_per_s"],
            "rss_before_kb": before, "rss_peak_kb": peak, "rss_after_kb": now,
            "rss_each_tenth_kb": (0..10).filter_map(|part| memory.get(memory.len() * part / 10)).collect::<Vec<_>>(),
            "supplier_file_bytes": bytes("items.txt"), "database_bytes": bytes("data.duckdb") + bytes("data.duckdb.wal"),
            "without_import": shown(&empty), "during_import": shown(&during), "with_all_records": shown(&after),
        })
    );
    assert_eq!((&import["state"], &import["read"]), (&json!("done"), &json!(records)), "{import}");
    appliance.program.signal("TERM");
    assert!(appliance.program.status().success());
}
