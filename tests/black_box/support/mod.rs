//! What the black-box tests are made of: the real program, a browser, back-end and upstream servers.

pub mod appliance;
pub mod blocked;
pub mod browser;
pub mod exposition;
pub mod origin;
pub mod program;
pub mod site;
pub mod small_disk;
pub mod webdriver;
pub mod wire;

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`]; the message says what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for this in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
