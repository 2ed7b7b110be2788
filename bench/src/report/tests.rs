use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use super::fixture::trial;
use super::{Options, PAGE, refuse_invalid, terminal, write, write_page};
use crate::case::{Case, Load, Work};
use crate::compare::read_trials;
use crate::evaluate::evaluate;
use crate::failure::Failure;
use crate::latency::{Quantiles, histogram};
use crate::machine::{CoreMap, Machine};
use crate::memory::{Held, Memory, Sample, Soak};
use crate::quick::{Appliance, Browse, Claim, Import};
use crate::record::{Absent, PlanRecord, RunRecord, Surveyed, read_json, write_json};
use crate::trial::{BrowseSummary, Role, Trial};

const BLOCKS: u32 = 3;

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("bench-report-{name}-{}", std::process::id()))
}

/// Writes RESULTS.md to `out`, and the plots beside it.
fn report(run: &Path, out: &Path) -> Result<(), Failure> {
    let options = Options { out: out.to_owned(), keep: false, html: None, plots: "plots".into() };
    write(&[run.to_owned()], &options)
}

fn case() -> Case {
    Case::keep_alive(Work::Proxy, 64, 128)
}

fn record() -> RunRecord {
    let surveyed = |name: &str, version: &str| Surveyed {
        name: name.into(),
        description: format!("the system {name}"),
        version: version.into(),
        program_sha256: String::new(),
        answer_head_bytes: 60,
        answer_body_bytes: 128,
        answer_fields: vec!["content-length".into()],
        role: Role::Measured,
    };
    RunRecord {
        kind: "quick".into(),
        argv: vec!["bench".into(), "quick".into()],
        commit: "0123456789ab".into(),
        bench_version: "0.1.0".into(),
        started_unix_s: 1_795_441_620,
        machine: Machine {
            cpu_model: "a processor".into(),
            kernel: "6.18".into(),
            cores: vec![0, 1],
            virtualised: true,
            steal_share_in_run: Some(0.001),
            ..Machine::default()
        },
        cores: CoreMap { system: 0, origin: 1, generator: 1 },
        generator: "loadgen 0.1.0".into(),
        plan: Some(PlanRecord {
            job: "proxy".into(),
            cases: vec![case()],
            blocks: BLOCKS,
            duration_s: 2.0,
            warmup_s: 0.5,
            seed: 7,
        }),
        systems: vec![surveyed("twintier", "twintier 0.1.0"), surveyed("nginx", "nginx 1.22.1")],
        absent: vec![Absent { name: "haproxy".into(), reason: "install it: apt-get install haproxy".into() }],
        finished: true,
        doctor: None,
    }
}

const INTERVALS: &str = "start_s,length_s,phase,planned,completed,errors,timed_out,shed,in_flight_at_end,completed_per_s,\
    response_p50_ns,response_p90_ns,response_p99_ns,response_max_ns,service_p50_ns,service_p99_ns,lag_p99_ns,queue_p99_ns,body_bytes";

/// One line of a log.
pub fn write_log(path: &Path, histogram: &Histogram<u64>, tag: Option<Tag<'_>>) {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new().begin_log_with(&mut bytes, &mut serializer).unwrap();
    log.write_histogram(histogram, Duration::ZERO, Duration::from_secs(1), tag).unwrap();
    fs::write(path, bytes).unwrap();
}

/// One trial with its histogram log; nginx takes 1.4 times the CPU of twintier, scattered a little by block.
fn add_trial(run: &Path, system: &str, case: Case, block: u32, verdict: &str) {
    let slower = if system == "nginx" { 1.4 } else { 1.0 };
    let mut trial = trial(system, case, block);
    let folder = run.join(&trial.folder);
    fs::create_dir_all(&folder).unwrap();
    let mut histogram = histogram();
    for sample in 0..3000_u32 {
        // Every block is slower than the one before, so that a sum of blocks is none of them.
        let drift = 1.0 + 0.05 * f64::from(block);
        histogram.record((f64::from(500_000 + sample * 100) * slower * drift) as u64).unwrap();
    }
    write_log(&folder.join("latency.hlog"), &histogram, None);
    let mut service = self::histogram();
    (0..3000_u32).for_each(|sample| service.record((f64::from(400_000 + sample * 10) * slower) as u64).unwrap());
    write_log(&folder.join("latency-parts.hlog"), &service, Tag::new("service"));
    let rate = 100_000.0 / slower;
    let row = |second: u32, phase: &str| {
        format!("{second}.000,1.000,{phase},0,0,0,0,0,0,{rate:.1},{0},{0},{1},{1},0,{0},0,0,0\n", 500_000, 800_000)
    };
    let intervals = format!("{INTERVALS}\n-{}{}{}", row(1, "warm-up"), row(0, "measure"), row(1, "measure"));
    fs::write(folder.join("intervals.csv"), intervals).unwrap();
    fs::write(folder.join(format!("{system}.conf")), format!("# how {system} was started <here>\n")).unwrap();
    trial.requests = (200_000.0 / slower) as u64;
    trial.throughput_per_s = 100_000.0 / slower;
    trial.cpu_us_per_request = 10.0 * slower * (1.0 + 0.01 * f64::from(block));
    trial.cpu_ns = (trial.cpu_us_per_request * 1e3 * trial.requests as f64) as u64;
    trial.latency_ns = Quantiles::of(&histogram);
    verdict.clone_into(&mut trial.verdict);
    if verdict != "valid" {
        trial.reasons.push("its core was busy".into());
    }
    write_json(&folder.join("trial.json"), &trial).unwrap();
}

fn appliance() -> Appliance {
    Appliance {
        version: "twintier 0.1.0".into(),
        engine: "uring".into(),
        workers: 2,
        import: Import {
            file: "apt-cache dumpavail".into(),
            state: "done".into(),
            read: 63_000,
            taken: 62_990,
            rejected: 10,
            elapsed_ms: 4_000,
            records_per_s: 15_750,
            ..Import::default()
        },
        browse: Browse {
            users: 32,
            duration_s: 15.0,
            planned: 1000,
            completed: 1000,
            failed: 0,
            in_flight_at_end: 0,
            requests_per_s: 66.6,
            response_ns: Quantiles {
                p50: Some(900_000),
                p90: None,
                p99: Some(2_000_000),
                p999: None,
                max: Some(3_000_000),
                count: 1000,
            },
            browsers: Some(BrowseSummary {
                sessions_started: 40,
                sessions_completed: 38,
                sessions_failed: 0,
                sessions_shed: 0,
                pages: 400,
                page_load_ns: Quantiles { p50: Some(3_000_000), p99: Some(9_000_000), ..Quantiles::default() },
                failed_steps: BTreeMap::new(),
            }),
            requests_taken: 1000,
            worker_cpu_us_per_request: Some(31.0),
            process_cpu_us_per_request: Some(44.0),
            verdict: "valid".into(),
            reasons: vec![],
        },
        claim: Some(Claim { elements: 12, holding: 12 }),
    }
}

/// A run directory as `bench quick` leaves it.
pub fn run_directory(name: &str, last_verdict: &str) -> PathBuf {
    let run = folder(name);
    fs::create_dir_all(&run).unwrap();
    record().write(&run).unwrap();
    write_json(&run.join("quick.json"), &appliance()).unwrap();
    for block in 0..BLOCKS {
        add_trial(&run, "twintier", case(), block, "valid");
        add_trial(&run, "nginx", case(), block, if block + 1 == BLOCKS { last_verdict } else { "valid" });
    }
    run
}

/// The same files give the same bytes, and they are those that were looked at and found good.
#[test]
fn the_report_is_made_again_byte_for_byte() {
    let run = run_directory("again", "valid");
    let (first, second) = (run.join("first.md"), run.join("second.md"));
    report(&run, &first).unwrap();
    report(&run, &second).unwrap();
    let text = fs::read_to_string(&first).unwrap();
    assert_eq!(text, fs::read_to_string(&second).unwrap());
    // The name of the run directory is the only thing that differs between two runs of this test.
    let name = run.file_name().unwrap().to_str().unwrap();
    let found = text.replace(name, "quick-20261123-134700");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/expected.md"), &found).unwrap();
    }
    assert_eq!(found, include_str!("expected.md"), "the report reads now:\n{found}");
    fs::remove_dir_all(run).unwrap();
}

/// The table that a run prints is made of the same figures, and the ratio is that of the trials.
#[test]
fn ratios_come_from_the_trials() {
    let run = run_directory("ratios", "valid");
    let record = record();
    let comparison = evaluate(&run, &record, &read_trials(&run).unwrap()).unwrap();
    let cpu = comparison.ratios.iter().find(|row| row.metric == "cpu_us_per_request").unwrap();
    assert_eq!((cpu.a.as_str(), cpu.b.as_str(), cpu.blocks), ("twintier", "nginx", BLOCKS));
    assert!((cpu.ratio.unwrap() - 1.0 / 1.4).abs() < 1e-12);
    let text = terminal(&record, &comparison, Some(&appliance()));
    assert!(text.contains("0.71 [0.71, 0.71]") && text.contains("twintier's CPU ÷ this"), "{text}");
    assert!(refuse_invalid(&comparison).is_ok());
    fs::remove_dir_all(run).unwrap();
}

/// A system with an invalid trial has no headline, its other blocks still pair, and the exit code is 4.
#[test]
fn an_invalid_trial_has_no_headline() {
    let run = run_directory("invalid", "invalid");
    let record = record();
    let comparison = evaluate(&run, &record, &read_trials(&run).unwrap()).unwrap();
    assert_eq!(comparison.ratios[0].blocks, BLOCKS - 1);
    let failure = refuse_invalid(&comparison).unwrap_err();
    assert_eq!(failure.code(), 4);
    assert!(failure.to_string().contains("nginx"), "{failure}");
    assert!(terminal(&record, &comparison, None).contains("invalid*"));
    fs::remove_dir_all(run).unwrap();
}

/// What was complete when a signal came is reported, with a word about it; nothing is no report.
#[test]
fn a_run_that_was_cut_short_says_so() {
    let run = folder("short");
    fs::create_dir_all(&run).unwrap();
    RunRecord { finished: false, ..record() }.write(&run).unwrap();
    let failure = report(&run, &run.join("out.md")).unwrap_err();
    assert!(failure.to_string().contains("before its first trial"), "{failure}");
    add_trial(&run, "twintier", case(), 0, "valid");
    report(&run, &run.join("out.md")).unwrap();
    let text = fs::read_to_string(run.join("out.md")).unwrap();
    assert!(text.contains("the run was cut short") && text.contains("100,000"), "{text}");
    fs::remove_dir_all(run).unwrap();
}

/// Every dimension of the proxy job with its table and its targets, byte for byte.
#[test]
fn dimensions_have_tables_and_targets() {
    let run = folder("dimensions");
    fs::create_dir_all(&run).unwrap();
    let cases = [
        case(),
        Case { load: Load::Rate, rate_share: Some(0.7), ..case() },
        Case { body_bytes: 1 << 20, ..case() },
        Case { load: Load::NewConnections, ..case() },
        Case { load: Load::Idle, idle_connections: 10_000, ..case() },
    ];
    let mut record = RunRecord { kind: "compare".into(), absent: vec![], ..record() };
    record.plan.as_mut().unwrap().cases = cases.to_vec();
    record.write(&run).unwrap();
    for case in cases {
        for block in 0..BLOCKS {
            add_trial(&run, "twintier", case, block, "valid");
            add_trial(&run, "nginx", case, block, "valid");
        }
    }
    let memory = |bytes| Memory { rss_bytes: 20_000_000, anonymous_bytes: bytes };
    for block in 0..BLOCKS {
        let path = run.join(format!("trials/{}-b{block:02}-twintier/trial.json", cases[4].key()));
        let mut trial: Trial = read_json(&path).unwrap();
        trial.held = Some(Held {
            held: 10_000,
            closed: 0,
            reopened: 0,
            before: memory(10_000_000),
            after: memory(10_000_000 + u64::from(30 + block) * 1_000_000),
            loaded: memory(50_000_000),
        });
        write_json(&path, &trial).unwrap();
    }
    let soak = Soak {
        system: "twintier".into(),
        connections: 64,
        body_bytes: 128,
        requests_wanted: 10_000_000,
        requests: 11_000_000,
        failed: 0,
        window_s: 110.0,
        verdict: "valid".into(),
        reasons: vec![],
        samples: (0..=110).map(|second| Sample { at_s: f64::from(second), memory: memory(15_000_000) }).collect(),
    };
    fs::create_dir_all(run.join("soak/twintier")).unwrap();
    write_json(&run.join("soak/twintier/soak.json"), &soak).unwrap();
    report(&run, &run.join("out.md")).unwrap();
    let text = fs::read_to_string(run.join("out.md")).unwrap();
    let name = run.file_name().unwrap().to_str().unwrap();
    let found = text.replace(name, "compare-20261123-134700");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/dimensions.md"), &found).unwrap();
    }
    assert_eq!(found, include_str!("dimensions.md"), "the report reads now:\n{found}");
    fs::remove_dir_all(run).unwrap();
}

/// Copies a folder, its entries in reverse order, so that nothing can depend on the order in which they were made.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut entries: Vec<PathBuf> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries.iter().rev() {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(entry, &target);
        } else {
            fs::copy(entry, target).unwrap();
        }
    }
}

/// A copy of a run directory in another place gives the same page, the same section and the same pictures.
#[test]
fn a_copied_directory_gives_the_same_bytes() {
    let run = run_directory("copied", "suspect");
    let elsewhere = folder("copied-elsewhere");
    let again = elsewhere.join(run.file_name().unwrap());
    copy(&run, &again);
    let outputs = |run: &Path, out: &Path| {
        report(run, out).unwrap();
        let mut plots: Vec<PathBuf> = Vec::new();
        let folder = out.parent().unwrap().join("plots").join(run.file_name().unwrap());
        plots.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
        plots.sort();
        let pictures = plots.iter().map(|path| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap()));
        (fs::read(out).unwrap(), fs::read(run.join(PAGE)).unwrap(), pictures.collect::<Vec<_>>())
    };
    let (first, second) = (outputs(&run, &folder("out-1/r.md")), outputs(&again, &folder("out-2/r.md")));
    assert!(!first.2.is_empty() && first == second);
    fs::remove_dir_all(run).unwrap();
    fs::remove_dir_all(elsewhere).unwrap();
}

/// What stands in the page is what the raw files hold: quantiles of the added logs, ratios of the trials' figures.
#[test]
fn every_kind_of_number_comes_from_the_raw_files() {
    let run = run_directory("numbers", "valid");
    let page = fs::read_to_string(write_page(&run).unwrap()).unwrap();
    let trials = read_trials(&run).unwrap();
    let shown = |text: &str| assert!(page.contains(&format!(">{text}<")), "{text} is not in the page");
    for system in ["twintier", "nginx"] {
        let own: Vec<&Trial> = trials.iter().filter(|trial| trial.system == system).collect();
        let mut sum = histogram();
        for trial in &own {
            crate::latency::add_log(&mut sum, &run.join(&trial.folder).join("latency.hlog")).unwrap();
        }
        for quantile in [0.5, 0.9, 0.99, 0.999] {
            shown(&crate::table::duration_text(sum.value_at_quantile(quantile)));
        }
        shown(&crate::table::duration_text(sum.max()));
        shown(&crate::table::count_text(sum.len()));
        let requests: u64 = own.iter().map(|trial| trial.requests).sum();
        let window_s: f64 = own.iter().map(|trial| trial.window_s).sum();
        shown(&crate::table::rate_text(requests as f64 / window_s));
        shown(&format!("{:.2}", own.iter().map(|trial| trial.cpu_ns).sum::<u64>() as f64 / 1e3 / requests as f64));
    }
    // The ratio, from the trials by hand: the mean of logarithms over blocks.
    let value = |system: &str, block: u32| {
        trials.iter().find(|trial| trial.system == system && trial.block == block).unwrap().cpu_us_per_request
    };
    let logs = (0..BLOCKS).map(|block| (value("twintier", block) / value("nginx", block)).ln());
    let ratio = (logs.sum::<f64>() / f64::from(BLOCKS)).exp();
    shown(&format!("{ratio:.3}"));
    shown(&format!("{ratio:.2} ×"));
    fs::remove_dir_all(run).unwrap();
}

/// The JSON of an element of a page.
fn embedded(page: &str, id: &str) -> serde_json::Value {
    let start = format!("id=\"{id}\">");
    let json = page.split(&start).nth(1).unwrap().split("</script>").next().unwrap();
    serde_json::from_str(json).unwrap()
}

/// The histograms in the page are those of the logs, read back as any other program would.
#[test]
fn the_page_carries_the_raw_histograms() {
    let run = run_directory("raw", "valid");
    let page = fs::read_to_string(write_page(&run).unwrap()).unwrap();
    let data = embedded(&page, "histograms");
    let trials = data["trials"].as_array().unwrap();
    assert_eq!(trials.len(), usize::try_from(2 * BLOCKS).unwrap());
    for trial in trials {
        let log = run.join(trial["trial"].as_str().unwrap()).join("latency.hlog");
        let mut recorded = histogram();
        crate::latency::add_log(&mut recorded, &log).unwrap();
        let bytes = STANDARD.decode(trial["response_ns"].as_str().unwrap()).unwrap();
        let decoded: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
        assert_eq!((decoded.len(), decoded.max()), (recorded.len(), recorded.max()));
        assert!([0.5, 0.9, 0.99].iter().all(|q| decoded.value_at_quantile(*q) == recorded.value_at_quantile(*q)));
        assert!(trial["service_ns"].as_str().unwrap().starts_with("HISTFAAA"));
    }
    fs::remove_dir_all(run).unwrap();
}

/// Nothing in a page can load anything, and what a configuration says is text.
#[test]
fn a_page_needs_nothing_else() {
    let run = run_directory("alone", "valid");
    let page = fs::read_to_string(write_page(&run).unwrap()).unwrap();
    for reach in ["src=", "url(", "@import", "<link", "<iframe", "<img", "http://", "https://"] {
        let text = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains(reach), "{reach} in the page");
    }
    assert!(page.contains("Content-Security-Policy") && page.contains("default-src 'none'"));
    assert!(page.contains("# how nginx was started &lt;here&gt;"));
    fs::remove_dir_all(run).unwrap();
}
