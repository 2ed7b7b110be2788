//! Real summaries against the published schema: nothing in a summary is without definition and unit, and what the schema
//! promises is there.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;

use crate::support::{Request, Scratch, loadgen, respond, serve};

const SCENARIO: &str = "name = \"look\"\n[[steps]]\nname = \"look\"\nkind = \"get\"\npath = \"/\"\n";

/// Summaries of every kind of run, with all options that add fields to one.
fn summaries(out: &Scratch) -> Vec<(&'static str, Value)> {
    let (address, _) = serve(|request: &Request, stream: &mut TcpStream| {
        respond(stream, if request.number.is_multiple_of(7) { 503 } else { 200 }, "", "fine")
    });
    let (url, scenario) = (format!("http://{address}"), out.join("look.toml"));
    fs::write(&scenario, SCENARIO).unwrap();
    let slo = "p99<5s,errors<50%,rate>1";
    let (open, closed, browse) = (out.join("open"), out.join("closed"), out.join("browse"));
    let orders: [(&str, Vec<&str>); 4] = [
        (
            "open",
            vec![
                "run",
                &url,
                "--rate",
                "100",
                "--duration",
                "0.5",
                "--warmup",
                "0.1",
                "--slo",
                slo,
                "--out",
                &open,
                "--quiet",
            ],
        ),
        (
            "closed",
            vec!["run", &url, "--closed", "--connections", "2", "--duration", "0.3", "--out", &closed, "--quiet"],
        ),
        ("browse", vec!["browse", &scenario, &url, "--rate", "20", "--duration", "0.5", "--out", &browse, "--quiet"]),
        ("merged", vec!["merge", &open, &browse]),
    ];
    let mut found = Vec::new();
    for (name, mut arguments) in orders {
        let folder = out.join(name);
        if name == "merged" {
            arguments.extend(["--out", &folder]);
        }
        let output = loadgen(&arguments);
        let text = fs::read(format!("{folder}/summary.json"))
            .unwrap_or_else(|error| panic!("{name}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
        found.push((name, serde_json::from_slice(&text).unwrap()));
    }
    found
}

fn published() -> (String, Value) {
    let output = loadgen(&["schema"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let schema = serde_json::from_str(&text).unwrap();
    (text, schema)
}

/// Walks value and schema together: every key of an object is a property with a description, or one of a map.
fn undefined(path: &str, value: &Value, part: &Value, schema: &Value, found: &mut Vec<String>) {
    let part = match part["$ref"].as_str() {
        Some(reference) => &schema["$defs"][reference.trim_start_matches("#/$defs/")],
        None => part,
    };
    for name in part["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            found.push(format!("{path}/{name} is required and not there"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let inner_part = part["properties"].get(name).unwrap_or(&part["additionalProperties"]);
        if inner_part.is_object() {
            undefined(&format!("{path}/{name}"), inner, inner_part, schema, found);
        } else {
            found.push(format!("{path}/{name} is not in the schema"));
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        undefined(&format!("{path}[]"), inner, &part["items"], schema, found);
    }
}

const VALIDATOR: &str = r#"
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
for path in sys.argv[2:]:
    for error in Draft202012Validator(schema).iter_errors(json.load(open(path))):
        print(f"{path}: {error.json_path}: {error.message}")
"#;

#[test]
fn every_field_of_a_summary_is_defined_by_the_published_schema() {
    let out = Scratch::new();
    let (text, schema) = published();
    let mut wrong = Vec::new();
    for (name, summary) in summaries(&out) {
        undefined(name, &summary, &schema, &schema, &mut wrong);
    }
    assert!(
        wrong.is_empty(),
        "write it into loadgen/schema/summary.schema.json, with definition and unit:\n{}",
        wrong.join("\n")
    );

    // Types and ranges: a validator that nobody here wrote.
    let python = std::env::var("LOADGEN_PYTHON").unwrap_or_else(|_| "python3".into());
    let importable =
        Command::new(&python).args(["-c", "import jsonschema"]).output().is_ok_and(|output| output.status.success());
    if !importable {
        eprintln!("skipped: no validator of JSON schemas; `python3 -m pip install jsonschema`");
        return;
    }
    fs::write(out.path().join("schema.json"), text).unwrap();
    let validate = |files: &[String]| {
        let output =
            Command::new(&python).args(["-c", VALIDATOR, &out.join("schema.json")]).args(files).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let files = ["open", "closed", "browse", "merged"].map(|name| out.join(&format!("{name}/summary.json")));
    assert_eq!(validate(&files), "");
    // It does look: a latency in words is none.
    let spoiled = fs::read_to_string(&files[0]).unwrap().replacen("\"p50\": ", "\"p50\": \"about \", \"was\": ", 1);
    fs::write(out.path().join("spoiled.json"), spoiled).unwrap();
    assert!(validate(&[out.join("spoiled.json")]).contains("$.response_ns.p50"));
}
