//! `loadgen max` against live servers: what it writes hangs together. How well it searches is shown in virtual time, by
//! the unit tests of the search.

use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::support::{Request, Scratch, loadgen, respond, serve};

fn report(scratch: &Scratch, arguments: &[&str]) -> (serde_json::Value, i32, String) {
    let out = scratch.join("max");
    let output = loadgen(&[&["max", "--out", &out], arguments].concat());
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let text = std::fs::read(out + "/max.json").unwrap_or_else(|_| panic!("{told}"));
    (serde_json::from_slice(&text).unwrap(), output.status.code().unwrap(), told)
}

/// One thread that takes 4 ms a request serves at most 250 a second.
#[test]
fn a_server_of_one_thread_gets_a_capacity_and_its_curve() {
    let busy = Mutex::new(());
    let (address, _) = serve(move |_: &Request, stream: &mut TcpStream| {
        {
            let _one_at_a_time = busy.lock().unwrap();
            // A slow server: this is its work.
            thread::sleep(Duration::from_millis(4));
        }
        respond(stream, 200, "", "fine")
    });
    let scratch = Scratch::new();
    let url = format!("http://{address}/");
    let slo = "p90<100ms,errors<1%";
    let (found, code, told) = report(
        &scratch,
        &[
            &url,
            "--slo",
            slo,
            "--rate-first",
            "40",
            "--trial",
            "1",
            "--trials",
            "6",
            "--warmup",
            "0.2",
            "--timeout",
            "1",
        ],
    );
    let number = |value: &serde_json::Value| value.as_f64();
    let outcome = found["outcome"].as_str().unwrap();
    let expected = match outcome {
        "found" => 0,
        "below" => 3,
        "generator-limited" => 4,
        other => panic!("{other}: {told}"),
    };
    assert_eq!(code, expected, "{told}");
    let bounds = ["ci_low", "capacity_per_s", "ci_high"].map(|name| number(&found[name]));
    match bounds {
        [Some(low), Some(middle), Some(high)] if outcome == "found" => {
            assert!(0.0 < low && low < middle && middle < high, "{bounds:?}");
            assert!(told.contains("capacity ") && told.contains("95 % interval"), "{told}");
        }
        [None, None, None] => assert_ne!(outcome, "found"),
        mixed => panic!("{mixed:?}"),
    }
    assert_eq!(found["slo"], slo);
    let probes = found["probes"].as_array().unwrap();
    assert!(!probes.is_empty());
    for probe in probes {
        let rate = number(&probe["rate"]).unwrap();
        let kept = probe["kept"].as_bool();
        // The thread cannot do more, however quiet the machine is.
        assert!(rate < 300.0 || kept != Some(true), "{probe}");
        assert!(["scout", "bisect", "replicate"].contains(&probe["phase"].as_str().unwrap()));
        let directory = scratch.path().join("max").join(probe["directory"].as_str().unwrap());
        let run: serde_json::Value =
            serde_json::from_slice(&std::fs::read(directory.join("summary.json")).unwrap()).unwrap();
        assert_eq!((&run["verdict"], &run["seed"]), (&probe["verdict"], &probe["seed"]));
        assert_eq!(run["response_ns"]["p99"], probe["p99_ns"]);
    }
    let seeds: std::collections::BTreeSet<u64> = probes.iter().map(|probe| probe["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds.len(), probes.len(), "no two probes have the same arrivals");
}

#[test]
fn a_server_that_is_down_has_no_capacity_and_a_search_that_makes_no_sense_is_refused() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/");
    let scratch = Scratch::new();
    let (found, code, told) = report(
        &scratch,
        &[&url, "--slo", "errors<1%", "--rate-first", "80", "--rate-min", "40", "--trial", "0.4", "--warmup", "0"],
    );
    assert!(found["capacity_per_s"].is_null() && found["ci_low"].is_null(), "{told}");
    match found["outcome"].as_str().unwrap() {
        "below" => assert!(code == 3 && told.contains("even 40.0/s"), "{told}"),
        // On a machine that gives the generator no core there is nothing to say about any server.
        "generator-limited" => assert!(code == 4 && told.contains("the generator is the limit"), "{told}"),
        other => panic!("{other}: {told}"),
    }
    let cases: [(&[&str], &str); 4] = [
        (&["--slo", "rate>5"], "leave `rate>…` out"),
        (&["--slo", "p99<5ms", "--arrivals", "ramp(1..2)"], "steady rates"),
        (&["--slo", "p999<5ms", "--trial", "1", "--rate-max", "1000"], "longer --trial"),
        (&[], "--slo"),
    ];
    for (arguments, words) in cases {
        let output = loadgen(&[&["max", &url], arguments].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
}

/// Rule 13 for objectives: what the samples do not support was not shown to be met.
#[test]
fn an_objective_without_its_samples_is_missed() {
    let (address, _) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, "", "fine"));
    let (out, url) = (Scratch::new(), format!("http://{address}/"));
    let arguments = ["run", &url, "--rate", "100", "--duration", "0.5", "--slo", "p50<10s,p99<10s"];
    let (summary, code) = crate::support::summary(&out, &arguments);
    let met: Vec<bool> =
        summary["slo"].as_array().unwrap().iter().map(|finding| finding["met"].as_bool().unwrap()).collect();
    assert_eq!(met, [true, false], "{}", summary["slo"]);
    assert!(matches!(code, 3 | 4));
    assert_eq!(summary["slo"][1]["found"], "50 samples, and it needs 299");
    assert!(summary["response_ns"]["p99"].is_null() && summary["response_ns"]["p90"].is_u64());
}
