//! The page in a real browser: headless Chromium draws it as wide as a phone and as wide as a desk, and it must
//! neither complain nor scroll sideways. And its histograms in a library that nobody here wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tests::run_directory;
use super::write_page;

/// Widths of a phone and of a desktop window, in pixels.
const WIDTHS: [u32; 2] = [390, 1200];
const NODE_PACKAGE: &str = "hdr-histogram-js@3.0.1";

/// Says in its frame's parent how wide the page is; browsers report a broken policy as an error of the console.
const PROBE: &str = "<script>addEventListener('load', () => parent.postMessage(\
    [document.documentElement.scrollWidth, document.documentElement.clientWidth, \
    document.querySelectorAll('svg.plot').length, performance.getEntriesByType('resource').length].join(' '), '*'))</script>";

/// A page that shows `pages` in frames of the widths of a test, and writes down what their probes say.
fn frame(pages: &[(String, u32)]) -> String {
    let frames: String = pages
        .iter()
        .map(|(page, width)| {
            format!("<iframe src=\"{page}\" style=\"width:{width}px;height:900px;border:0\"></iframe>")
        })
        .collect();
    format!(
        "<!DOCTYPE html><body>{frames}<ol></ol><script>addEventListener('message', event => {{\
         const item = document.createElement('li'); item.textContent = event.data; \
         document.querySelector('ol').append(item); }})</script></body>"
    )
}

#[test]
fn a_browser_draws_the_page_without_complaint() {
    if Command::new("chromium").arg("--version").output().is_err() {
        eprintln!("skipped: no Chromium; `apt-get install chromium`");
        return;
    }
    let run = run_directory("browser", "suspect");
    let page = write_page(&run).unwrap();
    let html = fs::read_to_string(&page).unwrap();
    // The page itself runs no script; the copy that is measured may run the probe and nothing else.
    let measured = run.join("measured.html");
    let allowed = html.replace("style-src 'unsafe-inline'", "style-src 'unsafe-inline'; script-src 'unsafe-inline'");
    assert_ne!(html, allowed, "the page has a policy");
    fs::write(&measured, allowed.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
    let address = |path: &Path| format!("file://{}", path.display());
    let mut pages = vec![(address(&page), WIDTHS[0])];
    pages.extend(WIDTHS.map(|width| (address(&measured), width)));
    let frame_file = run.join("frame.html");
    fs::write(&frame_file, frame(&pages)).unwrap();
    let output = Command::new("timeout")
        .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", run.join("profile").display()))
        .arg(address(&frame_file))
        .output()
        .unwrap();
    let (dom, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(complaints.is_empty(), "the browser says:\n{}", complaints.join("\n"));
    let said: Vec<Vec<u32>> = dom
        .split("<li>")
        .skip(1)
        .map(|item| item.split("</li>").next().unwrap())
        .map(|item| item.split(' ').map(|word| word.parse().unwrap()).collect())
        .collect();
    assert_eq!(said.len(), WIDTHS.len(), "the pages did not load:\n{dom}\n{log}");
    for found in said {
        let [scroll, client, plots, loaded] = found[..] else { panic!("four figures: {found:?}") };
        assert!(scroll <= client, "the page is {scroll} px wide in a window of {client} px");
        assert!(plots >= 8, "{plots} plots");
        assert_eq!(loaded, 0, "the page loaded something");
    }
    fs::remove_dir_all(run).unwrap();
}

#[test]
fn javascript_reads_the_embedded_histograms() {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let usual = cache.unwrap_or_default().join("twintier/node/node_modules");
    let modules = std::env::var_os("LOADGEN_NODE_MODULES").map_or(usual, PathBuf::from);
    if !modules.join("hdr-histogram-js").is_dir() || Command::new("node").arg("--version").output().is_err() {
        eprintln!(
            "skipped: no HdrHistogram of JavaScript; `apt-get install nodejs npm` and \
             `npm install --prefix ~/.cache/twintier/node {NODE_PACKAGE}`"
        );
        return;
    }
    let run = run_directory("node", "valid");
    let page = write_page(&run).unwrap();
    let script = "const fs = require('fs'), hdr = require('hdr-histogram-js');\
        const page = fs.readFileSync(process.argv[1], 'utf8');\
        const json = page.split('id=\"histograms\">')[1].split('</script>')[0];\
        for (const trial of JSON.parse(json).trials) {\
            const found = hdr.decodeFromCompressedBase64(trial.response_ns);\
            console.log(trial.trial, found.totalCount, found.getValueAtPercentile(50), found.getValueAtPercentile(99), found.maxValue);\
        }";
    let output = Command::new("node").env("NODE_PATH", &modules).args(["-e", script]).arg(&page).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.lines().count() > 1, "{text}");
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let log = run.join(words[0]).join("latency.hlog");
        let mut recorded = crate::latency::histogram();
        crate::latency::add_log(&mut recorded, &log).unwrap();
        let wanted =
            [recorded.len(), recorded.value_at_quantile(0.5), recorded.value_at_quantile(0.99), recorded.max()];
        assert_eq!(words[1..], wanted.map(|value| value.to_string()), "{line}");
    }
    fs::remove_dir_all(run).unwrap();
}
