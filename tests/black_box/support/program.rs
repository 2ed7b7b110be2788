//! The real binaries as child processes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::eventually;

/// A command of the program under test.
pub fn twintier() -> Command {
    twintier_by(env!("CARGO_BIN_EXE_twintier"))
}

/// The same by another program, which takes it as its last arguments.
pub fn twintier_by(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A panic in the program should show where it came from.
    command.env("RUST_BACKTRACE", "1");
    command
}

/// What a program that ended had to say.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ended {
    Program::start(command).ended()
}

/// A running program. It is killed when it is dropped.
pub struct Program {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

fn collect(stream: impl Read + Send + 'static, into: &Arc<Mutex<String>>) -> thread::JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

impl Program {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        Self::try_start(command).unwrap_or_else(|| panic!("{} cannot be started", command.get_program().display()))
    }

    /// The same for a foreign program, which may be absent.
    pub fn try_start(command: &mut Command) -> Option<Self> {
        let mut child = command.spawn().ok()?;
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let mut readers = vec![collect(child.stdout.take().unwrap(), &stdout)];
        // A test may have led it to a file.
        readers.extend(child.stderr.take().map(|stream| collect(stream, &stderr)));
        Some(Self { child, stdout, stderr, readers })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The value behind `name=` in the line that begins with `ready`.
    #[track_caller]
    pub fn ready(&mut self, name: &str) -> String {
        let line = eventually("the ready line", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the program ended with {status} before it was ready: {}", self.stderr());
            }
            self.stdout().lines().find(|line| line.starts_with("ready ")).map(str::to_owned)
        });
        let mut pairs = line.split(' ').filter_map(|word| word.split_once('='));
        pairs.find(|(key, _)| *key == name).unwrap_or_else(|| panic!("no {name} in `{line}`")).1.to_owned()
    }

    /// Sends a signal by name, such as `TERM`. The shell's own `kill` is there on every system.
    pub fn signal(&self, name: &str) {
        let order = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &order]).status().unwrap().success(), "{order}");
    }

    /// Ends the process at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn status(&mut self) -> ExitStatus {
        eventually("the end of the program", || self.child.try_wait().unwrap())
    }

    /// Waits for its end and gives back all that it said.
    #[track_caller]
    pub fn ended(mut self) -> Ended {
        let status = self.status();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Ended { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the program's stderr:\n{}", self.stderr());
        }
    }
}
