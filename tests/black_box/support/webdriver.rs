//! A real browser, driven through chromedriver (W3C WebDriver: JSON over HTTP).

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::eventually;
use super::program::Program;
use super::wire::Wire;

/// How long one command may take: a browser that starts on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Keys, as WebDriver names them.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
/// Places that somebody with a keyboard passes at most on the way to another one: the longest page has some 50.
const STOPS_MAX: usize = 100;

/// A browser window. It is closed when it is dropped.
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _program: Program,
}

impl Browser {
    /// `None`, and a word about it, if chromedriver or its browser is absent.
    pub fn start() -> Option<Self> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Some(program) = Program::try_start(&mut command) else {
            println!("chromedriver is absent: this test is left out (apt-get install chromium chromium-driver)");
            return None;
        };
        let port = eventually("the port of chromedriver", || {
            let said = program.stdout();
            let (_, rest) = said.split_once("started successfully on port ")?;
            rest.split_once('.').and_then(|(port, _)| port.parse::<u16>().ok())
        });
        let driver = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-extensions",
            "--window-size=1280,1000",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "script": 110_000, "pageLoad": 110_000 },
        } } });
        let answer = match send(driver, "POST", "/session", &wanted) {
            Ok(answer) => answer,
            Err(wrong) if wrong.contains("cannot find") => {
                println!("chromedriver finds no browser: this test is left out (apt-get install chromium): {wrong}");
                return None;
            }
            Err(wrong) => panic!("no browser: {wrong}"),
        };
        let session = answer["sessionId"].as_str().unwrap().to_owned();
        Some(Self { driver, session, _program: program })
    }

    #[track_caller]
    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        send(self.driver, method, &path, body).unwrap_or_else(|wrong| panic!("{path} {body}: {wrong}"))
    }

    #[track_caller]
    pub fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({ "url": url }));
    }

    #[track_caller]
    pub fn reload(&self) {
        self.command("POST", "/refresh", &json!({}));
    }

    /// What a script returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a script gives to `done`.
    #[track_caller]
    pub fn run_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1];\n{script}");
        self.command("POST", "/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&self, what: &str, expression: &str) {
        let script = format!("return Boolean({expression})");
        eventually(what, || (self.run(&script) == true).then_some(()));
    }

    /// The path of commands to the first element of a selector.
    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let element = self.command("POST", "/element", &json!({ "using": "css selector", "value": selector }));
        let id = element.as_object().and_then(|names| names.values().next()).and_then(Value::as_str).unwrap();
        format!("/element/{id}")
    }

    /// Clicks the first element of a selector as a user does: when it is visible and nothing covers it.
    #[track_caller]
    pub fn click(&self, selector: &str) {
        eventually(&format!("a click on {selector}"), || {
            // The page may move under the pointer when something above it changes.
            let path = format!("/session/{}{}/click", self.session, self.element(selector));
            send(self.driver, "POST", &path, &json!({})).ok()
        });
    }

    /// Types into a field; into one for files or a folder, their path.
    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) {
        self.command("POST", &format!("{}/value", self.element(selector)), &json!({ "text": text }));
    }

    /// Presses these keys one after the other, whatever has the focus; [`TAB`] and [`ENTER`] are two of them.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() })))
            .collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.command("POST", "/actions", &json!({ "actions": [keyboard] }));
    }

    /// Goes on by Tab until the focus is on the first element of a selector, as who has no mouse does.
    #[track_caller]
    pub fn tab_to(&self, selector: &str) {
        let there = format!("return document.activeElement === document.querySelector({})", json!(selector));
        for _ in 0..STOPS_MAX {
            self.press(TAB);
            if self.run(&there) == true {
                return;
            }
        }
        panic!("{STOPS_MAX} Tabs do not lead to {selector}");
    }

    /// Answers the question that a script asks in a window of the browser's own.
    #[track_caller]
    pub fn agree(&self) {
        eventually("a question", || {
            let path = format!("/session/{}/alert/accept", self.session);
            send(self.driver, "POST", &path, &json!({})).ok()
        });
    }

    /// A command of the browser's own protocol (Chrome DevTools).
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// From the next page on, scripts of pages do not run.
    #[track_caller]
    pub fn without_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    }

    /// Shows pages in a window of a width, to somebody who prefers such features of media (`prefers-color-scheme`, …).
    #[track_caller]
    pub fn emulate(&self, width_px: u32, features: &[(&str, &str)]) {
        // Phones draw their scroll bars over the page.
        let is_phone = width_px < 600;
        let device = json!({ "width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": is_phone });
        self.devtools("Emulation.setDeviceMetricsOverride", &device);
        let features: Vec<Value> =
            features.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// The whole page as a picture (PNG in base64).
    #[track_caller]
    pub fn picture(&self) -> String {
        let picture = self.devtools("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        picture["data"].as_str().unwrap().to_owned()
    }

    /// Addresses that the browser asked for since this was asked last.
    #[track_caller]
    pub fn asked(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({ "type": "performance" }));
        let events = log.as_array().unwrap().iter().map(|line| {
            let event: Value = serde_json::from_str(line["message"].as_str().unwrap()).unwrap();
            event["message"].clone()
        });
        events
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Errors that the page had since this was asked last: of its scripts, and what its policy forbade.
    #[track_caller]
    pub fn errors(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        let lines = log.as_array().unwrap().iter().filter(|line| line["level"] == "SEVERE");
        lines.map(|line| line["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without this the browser outlives its driver.
        let _ = send(self.driver, "DELETE", &format!("/session/{}", self.session), &json!({}));
    }
}

fn send(driver: SocketAddr, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let mut wire = Wire::open_with(driver, PATIENCE);
    let body = body.to_string();
    wire.send(format!(
        "{method} {path} HTTP/1.1\r\nhost: {driver}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = wire.answer_to(method).ok_or("no answer")?;
    let value = answer.json()["value"].clone();
    if answer.status == 200 { Ok(value) } else { Err(format!("{} {}", answer.status, value["message"])) }
}
