//! What happened in a seed, line by line, when somebody wants to read it.

/// Lines are made only if somebody reads them.
#[derive(Debug, Default)]
pub struct Trace {
    on: bool,
    pub now_ns: u64,
    pub step: u64,
    pub lines: Vec<String>,
}

impl Trace {
    pub fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    pub fn line(&mut self, text: impl FnOnce() -> String) {
        if self.on {
            let (seconds, micros) = (self.now_ns / 1_000_000_000, self.now_ns / 1000 % 1_000_000);
            self.lines.push(format!("{seconds:3}.{micros:06} step {:5}  {}", self.step, text()));
        }
    }
}
