//! What is planned is what is sent: shapes, replays, and the shares of several generators.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{Request, Scratch, assert_balanced, loadgen, number, respond, serve, summary};

/// A server that writes down what was asked of it.
fn listener() -> (String, Arc<Mutex<BTreeMap<String, u64>>>) {
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let log = Arc::clone(&seen);
    let (address, _) = serve(move |request: &Request, stream: &mut TcpStream| {
        *log.lock().unwrap().entry(format!("{} {}", request.method, request.path)).or_default() += 1;
        let body = if request.method == "HEAD" { "" } else { "fine" };
        respond(stream, 200, "", body)
    });
    (address, seen)
}

fn plan(arguments: &[&str]) -> Vec<String> {
    let output = loadgen(&[&["plan"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_shape_offers_what_it_says_and_is_named() {
    let (address, seen) = listener();
    let out = Scratch::new();
    let url = format!("http://{address}/");
    let shape = "poisson spike(100..800, 500ms, 400ms)";
    let (summary, _) = summary(&out, &["run", &url, "--arrivals", shape, "--duration", "1.2", "--warmup", "0.2"]);
    let offsets: Vec<u64> = plan(&["--arrivals", shape, "--duration", "1.2", "--warmup", "0.2"])[1..]
        .iter()
        .map(|line| line.split_once(',').unwrap().1.parse().unwrap())
        .collect();
    assert!(offsets.is_sorted());
    let measured = u64::try_from(offsets.iter().filter(|&&offset_ns| offset_ns >= 200_000_000).count()).unwrap();
    assert_eq!(assert_balanced(&summary), measured, "the run plans what the plan prints");
    assert_eq!(number(&summary, "/warmup_requests"), u64::try_from(offsets.len()).unwrap() - measured);
    assert_eq!(summary["arrivals"], shape);
    let offered = summary["offered_rate"].as_f64().unwrap();
    assert!((offered - measured as f64 / 1.2).abs() < 0.01, "{offered}");
    assert_eq!(seen.lock().unwrap().values().sum::<u64>(), u64::try_from(offsets.len()).unwrap());
}

#[test]
fn a_log_is_replayed_with_its_paths_and_what_is_left_out_is_told() {
    let (address, seen) = listener();
    let scratch = Scratch::new();
    let log = scratch.join("access.log");
    let mut text = String::new();
    for second in 0..4 {
        for (request, count) in [("GET /a?x=1", 20), ("GET /b", 10), ("HEAD /b", 5), ("POST /form", 3)] {
            for _ in 0..count {
                text += &format!(
                    "10.0.0.1 - - [01/Jan/2026:00:00:0{second} +0000] \"{request} HTTP/1.1\" 200 5 \"-\" \"x\"\n"
                );
            }
        }
    }
    text += "no access log's line\n";
    std::fs::write(&log, text).unwrap();
    let url = format!("http://{address}");
    let arrivals = format!("replay({log})");
    let out = scratch.join("run");
    let arguments = ["--arrivals", &arrivals, "--speed", "4", "--duration", "1"];
    let output = loadgen(&[&["run", &url, "--out", &out], &arguments[..]].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("12 requests that are neither GET nor HEAD"), "{told}");
    assert!(told.contains("line 153: no time"), "{told}");
    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(out + "/summary.json").unwrap()).unwrap();
    assert_eq!(assert_balanced(&summary), 140);
    assert_eq!(number(&summary, "/completed"), 140, "{}", summary["errors_by_kind"]);
    let expected = [("GET /a?x=1", 80), ("GET /b", 40), ("HEAD /b", 20)];
    assert_eq!(*seen.lock().unwrap(), expected.map(|(request, count)| (request.to_owned(), count)).into());
    let printed = plan(&arguments);
    assert_eq!((printed.len(), printed[0].as_str()), (141, "number,offset_ns,method,path"));
    assert_eq!(printed.iter().filter(|line| line.ends_with(",HEAD,\"/b\"")).count(), 20);
    assert!(printed[1].starts_with("0,"));
}

#[test]
fn sessions_arrive_by_shape_too() {
    let (address, seen) = listener();
    let scratch = Scratch::new();
    let scenario = scratch.join("one.toml");
    std::fs::write(&scenario, "name = 'one'\n[[steps]]\nkind = 'get'\nname = 'home'\npath = '/'\n").unwrap();
    let out = scratch.join("run");
    let url = format!("http://{address}");
    let output = loadgen(&[
        "browse",
        &scenario,
        &url,
        "--arrivals",
        "steps(0, 60, 500ms)",
        "--duration",
        "1",
        "--quiet",
        "--out",
        &out,
    ]);
    let text = std::fs::read(out + "/summary.json").unwrap_or_else(|_| panic!("{output:?}"));
    let summary: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(number(&summary, "/browse/sessions_started"), 30);
    assert_eq!(seen.lock().unwrap()["GET /"], 30);
}

fn in_seconds(seconds: f64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{:.3}", now.as_secs_f64() + seconds)
}

#[test]
fn two_generators_with_a_share_each_are_one_plan_and_merge_to_it() {
    let (address, seen) = listener();
    let scratch = Scratch::new();
    let url = format!("http://{address}/");
    let start = in_seconds(4.0);
    let run = |share: &'static str, name: &str, seed: &'static str| -> Child {
        Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(["run", &url, "--rate", "301", "--arrivals", "poisson", "--duration", "1", "--quiet"])
            .args(["--share", share, "--start-at", &start, "--seed", seed, "--out", &scratch.join(name)])
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut generators = [run("1/2", "one", "9"), run("2/2", "two", "9"), run("2/2", "other", "8")];
    for generator in &mut generators {
        assert!(matches!(generator.wait().unwrap().code(), Some(0 | 4)));
    }
    let summary = |name: &str| -> serde_json::Value {
        let path = scratch.path().join(name).join("summary.json");
        serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|_| panic!("{}", path.display()))).unwrap()
    };
    let whole = plan(&["--rate", "301", "--arrivals", "poisson", "--duration", "1", "--seed", "9"]).len() - 1;
    let parts = ["one", "two"].map(summary);
    assert_eq!(parts.iter().map(assert_balanced).sum::<u64>(), u64::try_from(whole).unwrap());
    // Both began at the same moment, as far as two readings of two clocks in milliseconds agree.
    let [one, two] = parts.map(|part| number(&part, "/started_unix_ms"));
    assert!(one.abs_diff(two) <= 5, "{one} and {two}");
    assert_eq!(seen.lock().unwrap().len(), 1);
    let merge = |names: &[&str], out: &str| {
        let mut arguments: Vec<String> = vec!["merge".into(), "--out".into(), scratch.join(out)];
        arguments.extend(names.iter().map(|name| scratch.join(name)));
        let output = loadgen(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = merge(&["two", "one"], "merged");
    assert!(matches!(code, 0 | 4), "{told}");
    let merged = summary("merged");
    assert_eq!(assert_balanced(&merged), u64::try_from(whole).unwrap());
    assert_eq!(merged["share"], serde_json::json!({"count": 2, "numbers": [1, 2]}));
    let (code, told) = merge(&["one", "one"], "twice");
    assert!(code == 2 && told.contains("share 1 of 2 is in"), "{code} {told}");
    let (code, told) = merge(&["one", "other"], "mixed");
    assert!(code == 2 && told.contains("seed"), "{code} {told}");
    let (_, told) = merge(&["one"], "half");
    assert!(summary("half")["reasons"].to_string().contains("share 2 of 2 is missing"), "{told}");
    assert_ne!(summary("half")["verdict"], "valid");
}

#[test]
fn a_start_that_has_passed_and_a_plan_that_is_none_are_refused() {
    let past = in_seconds(-1000.0);
    let cases: [(&[&str], &str); 9] = [
        (&["--rate", "5", "--start-at", &past], "--start-at was 10"),
        (&["--rate", "5", "--start-at", "noon"], "2026-11-27T22:30:00Z"),
        (&["--arrivals", "poisson ramp(1..2, 3)"], "column 20: `3`: write a time"),
        (&["--arrivals", "ramp(0..0, 3s)"], "no arrival in the measured window"),
        (&["--arrivals", "replay(/does/not/exist)"], "/does/not/exist"),
        (&["--rate", "5", "--share", "0/2"], "JOB_COMPLETION_INDEX"),
        (&["--closed", "--share", "1/2"], "needs a plan to share"),
        (&["--closed", "--arrivals", "poisson"], "cannot be used with"),
        (&["--rate", "5", "--arrivals", "ramp(1..2)"], "leave --rate out"),
    ];
    for (arguments, words) in cases {
        let output = loadgen(&[&["run", "http://127.0.0.1:1/"], arguments].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
}

/// The examples of loadgen/README.md, with smaller numbers and a shell that runs on this machine what it is to run on
/// another.
#[test]
fn the_readmes_generators_over_ssh_and_in_kubernetes_work() {
    let readme = include_str!("../../README.md");
    let block = |language: &str, beginning: &str| {
        let start = readme.find(&format!("```{language}\n{beginning}")).unwrap() + 4 + language.len();
        readme[start..start + readme[start..].find("```").unwrap()].to_owned()
    };
    // The project's own README shows the same commands.
    let first = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    assert!(first.contains(&block("sh", "machines=")), "README.md shows other commands than loadgen/README.md");
    let (address, _) = listener();
    let scratch = Scratch::new();
    let smaller = |text: &str| {
        [
            ("http://10.0.0.7:8080/", format!("http://{address}/")),
            ("http://system-under-test:8080/", format!("http://{address}/")),
            ("--rate 90000", "--rate 300".into()),
            ("--warmup 5", "--warmup 0.2".into()),
            ("--duration 60", "--duration 0.6".into()),
            ("+20 seconds", "+4 seconds".into()),
            ("loadgen ", format!("{} ", env!("CARGO_BIN_EXE_loadgen"))),
            ("/tmp/share", scratch.join("far-share")),
            ("/runs/share", scratch.join("pod-share")),
        ]
        .iter()
        .fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    };
    let shell = |script: &str, variables: &[(&str, &str)]| {
        let output = Command::new("sh")
            .args(["-c", script])
            .envs(variables.iter().copied())
            .current_dir(scratch.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let here = r#"ssh() { shift; "$@"; }; scp() { cp -r "${2#*:}" "$(basename "$2" | sed s/far-//)"; };"#;
    let (code, told) = shell(&format!("{here}\n{}", smaller(&block("sh", "machines="))), &[]);
    assert!(matches!(code, Some(0 | 4)), "{told}");
    let merged = |name: &str| -> serde_json::Value {
        let text = std::fs::read(scratch.path().join(name).join("summary.json")).unwrap_or_else(|_| panic!("{told}"));
        serde_json::from_slice(&text).unwrap()
    };
    assert_eq!(merged("whole")["share"], serde_json::json!({"count": 3, "numbers": [1, 2, 3]}));

    let job = scratch.join("job.yaml");
    std::fs::write(&job, block("yaml", "apiVersion")).unwrap();
    let read = "import sys, yaml; pod = yaml.safe_load(open(sys.argv[1]))['spec']['template']['spec']; \
        print(pod['containers'][0]['args'][0])";
    let output = Command::new("python3").args(["-c", read, &job]).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        eprintln!("absent: a YAML parser (apt-get install python3-yaml); the manifest was not looked at");
        return;
    };
    let command = smaller(&String::from_utf8(output.stdout).unwrap()).replace("/5\"", "/2\"");
    let start = in_seconds(4.0);
    let pods: Vec<_> = ["0", "1"]
        .map(|index| {
            Command::new("sh")
                .args(["-c", &command])
                .envs([("JOB_COMPLETION_INDEX", index), ("START_AT", &start)])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .into();
    for mut pod in pods {
        assert!(matches!(pod.wait().unwrap().code(), Some(0 | 4)));
    }
    let (code, told) = shell(&smaller("loadgen merge /runs/share-* --out pods"), &[]);
    assert!(matches!(code, Some(0 | 4)), "{told}");
    assert_eq!(merged("pods")["share"], serde_json::json!({"count": 2, "numbers": [1, 2]}));
}
