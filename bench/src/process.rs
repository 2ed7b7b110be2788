//! Child processes that never outlive the lab.
//!
//! Each child leads a process group of its own. Dropping [`Process`] kills the group, so every way out (an error, a
//! panic, Ctrl-C, which only sets a flag) takes the children along; `setpriv` covers the lab being killed itself.
//!
//! Architecture invariant: nothing else in the lab starts a process that runs longer than one question.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::failure::Failure;

/// How often conditions are looked at while waiting.
const POLL: Duration = Duration::from_millis(10);
/// From SIGTERM to SIGKILL.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// The last bytes of a log that an error message quotes.
const QUOTED_BYTES: usize = 600;

/// Set by SIGINT and SIGTERM; every wait of the lab looks at it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Registers the two signals. A second one ends the process at once, without a word.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn register() -> Result<Self, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&flag))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
                .map_err(|error| Failure::Failed(format!("signals cannot be handled: {error}")))?;
        }
        Ok(Self(flag))
    }

    /// # Errors
    /// [`Failure::Interrupted`] once a signal arrived.
    pub fn check(&self) -> Result<(), Failure> {
        if self.0.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// Looks at `condition` until it gives a value; `None` at the deadline.
    ///
    /// # Errors
    /// [`Failure::Interrupted`], or what the condition says.
    pub fn wait_for<T>(
        &self,
        deadline: Duration,
        mut condition: impl FnMut() -> Result<Option<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let end = Instant::now() + deadline;
        loop {
            self.check()?;
            if let Some(value) = condition()? {
                return Ok(Some(value));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            thread::sleep(POLL);
        }
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Order {
    /// Short and unique within `folder`: the logs are called after it.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The core that the process and its children may use; `None` is every core.
    pub core: Option<usize>,
    /// Where `NAME.out` and `NAME.err` go.
    pub folder: PathBuf,
    /// Lets standard error through to the terminal: live progress.
    pub show_errors: bool,
    /// Bytes by which the environment is made longer than the lab's own.
    pub env_padding_bytes: u32,
}

/// The variable that makes an environment longer.
const PADDING_VARIABLE: &str = "BENCH_PADDING";

impl Order {
    /// An unpinned process with both streams in files.
    pub fn new(name: &str, program: &Path, arguments: &[&str], folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            core: None,
            folder: folder.to_owned(),
            show_errors: false,
            env_padding_bytes: 0,
        }
    }

    /// The same with a longer environment.
    pub fn padded(mut self, bytes: u32) -> Self {
        self.env_padding_bytes = bytes;
        self
    }

    /// The same, pinned.
    pub fn on_core(mut self, core: Option<usize>) -> Self {
        self.core = core;
        self
    }
}

/// A running child and its group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    group: Pid,
    out: PathBuf,
    err: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// # Errors
    /// The program or its log files cannot be opened.
    pub fn start(order: &Order) -> Result<Self, Failure> {
        fs::create_dir_all(&order.folder).map_err(|error| Failure::file(&order.folder, &error))?;
        let log = |extension: &str| {
            let path = order.folder.join(format!("{}.{extension}", order.name));
            File::create(&path).map(|file| (path.clone(), file)).map_err(|error| Failure::file(&path, &error))
        };
        let ((out, out_file), (err, err_file)) = (log("out")?, log("err")?);
        let mut command = wrapped(order);
        command.stdin(Stdio::null()).stdout(out_file);
        if order.show_errors {
            command.stderr(Stdio::inherit());
        } else {
            command.stderr(err_file);
        }
        let child = command
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::Failed(format!("{} cannot be started: {error}", order.program.display())))?;
        let group = Pid::from_child(&child);
        Ok(Self { name: order.name.clone(), child, group, out, err, ended: None })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status once the leader of the group has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().map_err(|error| Failure::Failed(format!("{}: {error}", self.name)))?;
        }
        Ok(self.ended)
    }

    /// What has been written to standard output so far.
    pub fn output(&self) -> String {
        fs::read(&self.out).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The words `key=value` of the `ready` line.
    ///
    /// # Errors
    /// The process ended or the deadline passed first, with the end of its log.
    pub fn ready(&mut self, interrupt: &Interrupt, deadline: Duration) -> Result<ReadyLine, Failure> {
        let line = interrupt.wait_for(deadline, || {
            if let Some(line) = line_of(&self.output(), "ready ") {
                return Ok(Some(line));
            }
            self.still_running()?;
            Ok(None)
        })?;
        line.ok_or_else(|| {
            Failure::Failed(format!(
                "{} printed no `ready` line within {} s{}",
                self.name,
                deadline.as_secs(),
                self.quote()
            ))
        })
    }

    /// The words `key=value` of the first complete line that begins with `word`, in the output so far.
    pub fn line(&self, word: &str) -> Option<ReadyLine> {
        line_of(&self.output(), &format!("{word} "))
    }

    /// SIGTERM, and nothing more: the output of an orderly end is still to come.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// # Errors
    /// The process has ended, with its status and the end of its log.
    pub fn still_running(&mut self) -> Result<(), Failure> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(Failure::Failed(format!("{} ended with {status}{}", self.name, self.quote()))),
        }
    }

    /// The end of the process's log as a part of a message.
    pub fn quote(&self) -> String {
        let text = [&self.err, &self.out].map(|path| fs::read(path).unwrap_or_default());
        let bytes = text.iter().find(|bytes| !bytes.is_empty());
        let Some(bytes) = bytes else { return String::new() };
        let tail = &bytes[bytes.len().saturating_sub(QUOTED_BYTES)..];
        format!(":\n{}", String::from_utf8_lossy(tail).trim_end())
    }

    /// SIGTERM, then SIGKILL after a while; the exit status.
    ///
    /// # Errors
    /// The process did not end by itself in time.
    pub fn stop(mut self) -> Result<ExitStatus, Failure> {
        if self.ended()?.is_none() {
            self.signal(Signal::TERM);
        }
        let end = Instant::now() + STOP_DEADLINE;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                return Err(Failure::Failed(format!(
                    "{} did not end within {} s of SIGTERM and was killed",
                    self.name,
                    STOP_DEADLINE.as_secs()
                )));
            }
            thread::sleep(POLL);
        }
    }

    /// Stops it; the first line of its output that begins with `word`, which may come at the very end.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn stop_and_read(self, word: &str) -> Result<Option<ReadyLine>, Failure> {
        let out = self.out.clone();
        self.stop()?;
        let output = fs::read(&out).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        Ok(line_of(&output, &format!("{word} ")))
    }

    fn signal(&self, signal: Signal) {
        // The group may be gone already: that is what was wanted.
        let _ = kill_process_group(self.group, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also when the leader has ended: a child of it may have stayed behind. The group's number cannot have been
        // given to another group, because it is free only when the group is empty and its leader was waited for, and
        // process numbers are given out in circles.
        self.signal(Signal::KILL);
        if self.ended.is_none() {
            let _ = self.child.wait();
        }
    }
}

/// The command behind the helpers of util-linux: a parent-death signal, and the core.
fn wrapped(order: &Order) -> Command {
    let mut words: Vec<String> = Vec::new();
    if find_program("setpriv").is_some() {
        words.extend(["setpriv", "--pdeathsig", "TERM"].map(str::to_owned));
    }
    if let Some(core) = order.core {
        words.extend(["taskset".to_owned(), "--cpu-list".to_owned(), core.to_string()]);
    }
    words.push(order.program.to_string_lossy().into_owned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(&order.arguments);
    if order.env_padding_bytes > 0 {
        command.env(PADDING_VARIABLE, "x".repeat(usize::try_from(order.env_padding_bytes).unwrap_or(0)));
    }
    command
}

/// Where a program is: on `PATH`, or in the folders of system programs that users' paths leave out.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Runs a program to its end and gives its standard output and standard error; `None` if it cannot be run or fails.
/// For questions that are answered at once, such as `nginx -v`.
pub fn ask(program: &Path, arguments: &[&str]) -> Option<String> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let output = child.wait_with_output().ok()?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.success().then_some(text)
}

/// `ready http=127.0.0.1:80 engine=uring` as its pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyLine(Vec<(String, String)>);

impl ReadyLine {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The number behind `key=`; 0 where there is none.
    pub fn number(&self, key: &str) -> u64 {
        self.get(key).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// # Errors
    /// The line has no such word.
    pub fn address(&self, key: &str) -> Result<String, Failure> {
        self.get(key).map(str::to_owned).ok_or_else(|| Failure::Failed(format!("the `ready` line has no `{key}=`")))
    }
}

/// The first complete line of a program's output that begins with `start`.
fn line_of(output: &str, start: &str) -> Option<ReadyLine> {
    let complete = &output[..=output.rfind('\n')?];
    let words = complete.lines().find_map(|line| line.strip_prefix(start))?;
    let pairs = words.split_whitespace().filter_map(|word| word.split_once('='));
    Some(ReadyLine(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::{Interrupt, Order, Process, line_of};

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("bench-process-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_ready_line_counts_when_it_is_complete() {
        assert_eq!(line_of("ready http=127.0.0.1:80", "ready "), None);
        let line = line_of("hello\nready http=127.0.0.1:80 engine=uring\n", "ready ").unwrap();
        assert_eq!(
            (line.get("http"), line.get("engine"), line.get("admin")),
            (Some("127.0.0.1:80"), Some("uring"), None)
        );
        assert!(line.address("admin").is_err());
    }

    #[test]
    fn a_longer_environment_reaches_the_program() {
        let folder = folder("padded");
        let order = Order::new("padded", Path::new("/bin/sh"), &["-c", "echo ready bytes=${#BENCH_PADDING}"], &folder);
        let mut process = Process::start(&order.padded(1234)).unwrap();
        let line = process.ready(&Interrupt::default(), Duration::from_secs(10)).unwrap();
        assert_eq!(line.number("bytes"), 1234);
        drop(process);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_early_end_is_reported_with_its_log() {
        let folder = folder("early");
        let order = Order::new("short", Path::new("/bin/sh"), &["-c", "echo no such origin >&2; exit 3"], &folder);
        let error = Process::start(&order)
            .unwrap()
            .ready(&Interrupt::default(), Duration::from_secs(10))
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such origin"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// The child of a child dies with the group, also when its parent ended before.
    #[test]
    fn dropping_kills_grandchildren() {
        let folder = folder("grandchildren");
        let order = Order::new("parent", Path::new("/bin/sh"), &["-c", "sleep 600 & echo ready pid=$!"], &folder);
        let mut parent = Process::start(&order).unwrap();
        let line = parent.ready(&Interrupt::default(), Duration::from_secs(10)).unwrap();
        let process = PathBuf::from("/proc").join(line.get("pid").unwrap());
        let alive = || std::fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
        assert!(alive());
        drop(parent);
        let gone = Interrupt::default().wait_for(Duration::from_secs(10), || Ok((!alive()).then_some(()))).unwrap();
        assert_eq!(gone, Some(()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
