//! The page held to WCAG 2.2, levels A and AA, by axe-core in headless Chromium, in both colour schemes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tests::run_directory;
use super::write_page;

/// What `.ci/run` installs.
const NODE_PACKAGE: &str = "axe-core@4.14.1";
/// The browser's number for each scheme that a reader may prefer, and what the page then sees.
const SCHEMES: [(u8, &str); 2] = [(0, "dark"), (1, "light")];

/// Writes into the page which scheme it sees, how many rules were tried, and what each violation is.
const PROBE: &str = "addEventListener('load', async () => {\
    const scheme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';\
    const found = await axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] });\
    const said = document.createElement('output');\
    said.id = 'said';\
    said.textContent = JSON.stringify([scheme, found.passes.length, found.violations.flatMap((rule) => \
        rule.nodes.map((node) => `${rule.id} at ${node.target}: ${node.failureSummary}`))]).replaceAll('<', '(');\
    document.body.append(said); });";

/// axe-core's source, if it is there.
fn axe() -> Option<String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    fs::read_to_string(cache.unwrap_or_default().join("twintier/node/node_modules/axe-core/axe.min.js")).ok()
}

/// What the browser says about a page to somebody who prefers a scheme.
fn judge(run: &Path, page: &Path, scheme: u8) -> serde_json::Value {
    let output = Command::new("timeout")
        .args(["120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000"])
        .arg("--dump-dom")
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--user-data-dir={}", run.join(format!("profile-{scheme}")).display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = dom.rsplit_once("id=\"said\">").and_then(|(_, rest)| rest.split_once("</output>"));
    let (said, _) = said.unwrap_or_else(|| panic!("no word of axe-core: {}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(&said.replace("&gt;", ">").replace("&amp;", "&")).unwrap()
}

#[test]
fn the_page_is_accessible_in_both_schemes() {
    let Some(axe) = axe().filter(|_| Command::new("chromium").arg("--version").output().is_ok()) else {
        eprintln!(
            "skipped: no Chromium or no axe-core; `apt-get install chromium npm` and \
             `npm install --prefix ~/.cache/twintier/node {NODE_PACKAGE}`"
        );
        return;
    };
    let run = run_directory("accessible", "suspect");
    let html = fs::read_to_string(write_page(&run).unwrap()).unwrap();
    let allowed = html.replace("style-src 'unsafe-inline'", "style-src 'unsafe-inline'; script-src 'unsafe-inline'");
    assert_ne!(html, allowed, "the page has a policy");
    let measured = run.join("judged.html");
    fs::write(&measured, allowed.replace("</body>", &format!("<script>{axe}</script><script>{PROBE}</script></body>")))
        .unwrap();
    for (number, scheme) in SCHEMES {
        let said = judge(&run, &measured, number);
        assert_eq!(said[0], scheme, "the scheme that the page sees");
        assert!(said[1].as_u64().unwrap() >= 10, "rules that hold: {said}");
        assert_eq!(said[2], serde_json::json!([]), "{scheme}");
    }
    fs::remove_dir_all(run).unwrap();
}
