//! The systems that can be measured, how each is started, and what it says about itself.

mod foreign;

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use foreign::Foreign;
use foreign::Words;

use crate::counters;
use crate::failure::Failure;
use crate::http;
use crate::process::{Interrupt, Order, Process, ask};

/// For a system to accept its first connection.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Ports to try for a program that cannot be given port 0.
const PORT_ATTEMPTS: usize = 5;
/// What every system can hold: connections on both sides.
const CONNECTIONS_MIN: u32 = 4096;
/// Requests that `twintier-pipeline` puts on an upstream connection.
const PIPELINE: &str = "16";

/// An engine of ours, by the name that `--engine` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The default: nothing is said.
    Auto,
    Uring,
    Monoio,
    MonoioEpoll,
    Glommio,
}

impl Engine {
    /// Those with a name, in the order of tables.
    pub const NAMED: [Self; 4] = [Self::Uring, Self::Monoio, Self::MonoioEpoll, Self::Glommio];

    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Monoio => "monoio",
            Self::MonoioEpoll => "monoio-epoll",
            Self::Glommio => "glommio",
        }
    }

    /// `-NAME` for the names of systems.
    fn suffix(self) -> String {
        match self {
            Self::Auto => String::new(),
            Self::Uring | Self::Monoio | Self::MonoioEpoll | Self::Glommio => format!("-{}", self.name()),
        }
    }
}

/// What can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing in between: the generator talks to the origin. The ceiling of the layout.
    Direct,
    /// `twintier proxy`.
    Twintier(Engine),
    /// `twintier proxy --pipeline`.
    Pipeline,
    /// `twintier forward`, which moves bytes without looking at them: the floor of a proxied hop.
    Forward,
    /// `twintier origin` itself.
    Origin(Engine),
    /// `twintier serve`: an application from replicas in the process.
    Appliance,
    Foreign(Foreign),
}

impl Kind {
    /// Everything that can be named on the command line, in the order of tables.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Direct, Self::Twintier(Engine::Auto), Self::Pipeline, Self::Forward, Self::Appliance];
        all.extend(Engine::NAMED.map(Self::Twintier));
        all.extend(Engine::NAMED.map(Self::Origin));
        all.extend(Foreign::ALL.map(Self::Foreign));
        all
    }

    /// Those of the minute: what most machines have.
    pub const QUICK: [Self; 5] = [
        Self::Direct,
        Self::Twintier(Engine::Auto),
        Self::Forward,
        Self::Foreign(Foreign::Nginx),
        Self::Foreign(Foreign::Haproxy),
    ];

    pub fn name(self) -> String {
        match self {
            Self::Direct => "direct".to_owned(),
            Self::Twintier(engine) => format!("twintier{}", engine.suffix()),
            Self::Pipeline => "twintier-pipeline".to_owned(),
            Self::Forward => "twintier-forward".to_owned(),
            Self::Origin(engine) => format!("origin{}", engine.suffix()),
            Self::Appliance => "twintier-appliance".to_owned(),
            Self::Foreign(foreign) => foreign.recipe().name.to_owned(),
        }
    }

    /// What the system is, for the report.
    pub fn description(self) -> String {
        match self {
            Self::Direct => {
                "no proxy: what generator and origin reach by themselves (its CPU is the origin's)".to_owned()
            }
            Self::Twintier(Engine::Auto) => "`twintier proxy`".to_owned(),
            Self::Twintier(engine) => format!("`twintier proxy --engine {}`", engine.name()),
            Self::Pipeline => format!("`twintier proxy --pipeline {PIPELINE}`"),
            Self::Forward => {
                "`twintier forward`, an L4 byte forwarder on the same engine: the floor of a proxied hop".to_owned()
            }
            Self::Origin(Engine::Auto) => "`twintier origin`".to_owned(),
            Self::Origin(engine) => format!("`twintier origin --engine {}`", engine.name()),
            Self::Appliance => "`twintier serve`: replicas in the process".to_owned(),
            Self::Foreign(foreign) => foreign.recipe().title.to_owned(),
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|kind| kind.name() == name)
    }

    /// What installs the program, for those that are not ours.
    pub fn install_command(self) -> Option<&'static str> {
        match self {
            Self::Foreign(foreign) => Some(foreign.recipe().install),
            Self::Direct | Self::Twintier(_) | Self::Pipeline | Self::Forward | Self::Origin(_) | Self::Appliance => {
                None
            }
        }
    }

    /// A part of this project that a build or a kernel may lack: where it does not start, the others go on.
    pub fn is_optional(self) -> bool {
        match self {
            Self::Foreign(_) | Self::Pipeline => true,
            Self::Twintier(engine) | Self::Origin(engine) => engine != Engine::Auto,
            Self::Direct | Self::Forward | Self::Appliance => false,
        }
    }
}

/// Programs on this machine.
#[derive(Clone, Debug)]
pub struct Programs {
    pub twintier: PathBuf,
    pub loadgen: PathBuf,
    pub foreign: BTreeMap<Foreign, PathBuf>,
    /// What reads the hardware counters; where there are none, why.
    pub counters: Result<PathBuf, String>,
}

impl Programs {
    /// The siblings in `folder` and the opponents that are installed.
    ///
    /// # Errors
    /// A sibling is missing.
    pub fn find(folder: &Path) -> Result<Self, Failure> {
        let sibling = |name: &str| {
            let path = folder.join(name);
            let cure = || Failure::Failed(format!("{} is missing; build it with `make build`", path.display()));
            path.is_file().then(|| path.clone()).ok_or_else(cure)
        };
        let foreign = Foreign::ALL.into_iter().filter_map(|foreign| Some((foreign, foreign.find()?))).collect();
        Ok(Self { twintier: sibling("twintier")?, loadgen: sibling("loadgen")?, foreign, counters: counters::find() })
    }

    /// The program of a system; `None` if it is not installed.
    pub fn of(&self, kind: Kind) -> Option<&Path> {
        match kind {
            Kind::Direct | Kind::Twintier(_) | Kind::Pipeline | Kind::Forward | Kind::Origin(_) | Kind::Appliance => {
                Some(&self.twintier)
            }
            Kind::Foreign(foreign) => self.foreign.get(&foreign).map(PathBuf::as_path),
        }
    }
}

impl Programs {
    /// What the program of somebody else says of itself before it runs; `None` for ours.
    pub fn foreign_version(&self, kind: Kind) -> Option<String> {
        let Kind::Foreign(foreign) = kind else { return None };
        let answer = ask(self.foreign.get(&foreign)?, foreign.recipe().version_arguments)?;
        Some(foreign.version(&answer))
    }
}

/// A system that accepts connections.
#[derive(Debug)]
pub struct Running {
    pub address: String,
    /// What was started for it. The first one is asked for its version.
    pub processes: Vec<Process>,
    /// The process groups whose time and memory are the system's.
    pub groups: Vec<u32>,
    /// The admin interface of an appliance, whose books are looked at when the load has ended.
    pub admin: Option<String>,
}

impl Running {
    /// A system of one process of its own.
    pub fn of(address: String, process: Process) -> Self {
        Self { address, groups: vec![process.id()], processes: vec![process], admin: None }
    }

    /// # Errors
    /// A process has ended, with its status and the end of its log.
    pub fn still_running(&mut self) -> Result<(), Failure> {
        self.processes.iter_mut().try_for_each(Process::still_running)
    }

    /// Stops all processes, the first one first, and adds up the requests that origins among them have answered; `None`
    /// where there is none.
    ///
    /// # Errors
    /// One does not end in time.
    pub fn stop(self) -> Result<Option<u64>, Failure> {
        let mut answered = None;
        for process in self.processes {
            if let Some(line) = process.stop_and_read("ended")? {
                *answered.get_or_insert(0) += line.number("requests");
            }
        }
        Ok(answered)
    }

    /// Its processes that are not part of the system: servers behind it.
    pub fn behind(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).filter(|id| !self.groups.contains(id)).collect()
    }
}

/// Where and how a system is started.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub programs: &'a Programs,
    /// Upstream servers.
    pub origins: &'a [String],
    pub core: usize,
    /// For configurations and logs.
    pub folder: &'a Path,
    pub interrupt: &'a Interrupt,
    /// Downstream connections that will be open at a time.
    pub connections: u32,
    /// Bytes by which the environment is made longer.
    pub env_padding_bytes: u32,
}

impl Place<'_> {
    /// What the system must be able to hold: each downstream connection may want an upstream one, and some are on their
    /// way out.
    fn connections_max(&self) -> u32 {
        (self.connections.saturating_mul(2) + 1024).max(CONNECTIONS_MIN)
    }
}

/// What a fixed-response origin server answers.
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    Bytes(usize),
    /// The bytes of a file, with these fields beside `Content-Length`.
    File {
        path: &'a Path,
        content_type: &'a str,
        fields: &'a [String],
    },
}

/// A fixed-response origin server.
#[derive(Clone, Debug)]
pub struct OriginOrder<'a> {
    /// Of its logs.
    pub name: &'a str,
    /// `None` is every core.
    pub core: Option<usize>,
    pub engine: Engine,
    pub answer: Answer<'a>,
    pub folder: &'a Path,
    /// Bytes by which its environment is made longer.
    pub env_padding_bytes: u32,
    /// Processor time that it burns for each answer: a handicap of known size.
    pub burn_ns: u64,
}

/// Starts a fixed-response origin server.
///
/// # Errors
/// It does not get ready.
pub fn start_origin(
    programs: &Programs,
    interrupt: &Interrupt,
    order: &OriginOrder<'_>,
) -> Result<(Process, String), Failure> {
    let mut arguments = ["origin", "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
    match &order.answer {
        Answer::Bytes(bytes) => arguments.extend(["--body-bytes".to_owned(), bytes.to_string()]),
        Answer::File { path, content_type, fields } => {
            arguments.extend(["--body-file".to_owned(), path.to_string_lossy().into_owned()]);
            arguments.extend(["--content-type".to_owned(), (*content_type).to_owned()]);
            fields.iter().for_each(|field| arguments.extend(["--field".to_owned(), field.clone()]));
        }
    }
    if order.burn_ns > 0 {
        arguments.extend(["--burn-ns".to_owned(), order.burn_ns.to_string()]);
    }
    if order.engine != Engine::Auto {
        arguments.extend(["--engine", order.engine.name()].map(str::to_owned));
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let process = Order::new(order.name, &programs.twintier, &words, order.folder);
    let mut process = Process::start(&process.on_core(order.core).padded(order.env_padding_bytes))?;
    let address = process.ready(interrupt, START_DEADLINE)?.address("origin")?;
    Ok((process, address))
}

/// Starts a system in front of the origins of its place. [`Kind::Direct`], [`Kind::Origin`] and [`Kind::Appliance`] are
/// started by the job that knows what they answer.
///
/// # Errors
/// It is not installed or does not get ready.
pub fn start(kind: Kind, place: &Place<'_>) -> Result<Running, Failure> {
    match kind {
        Kind::Twintier(Engine::Auto) => start_sibling("proxy", &[], place),
        Kind::Twintier(engine) => start_sibling("proxy", &["--engine", engine.name()], place),
        Kind::Pipeline => start_sibling("proxy", &["--pipeline", PIPELINE], place),
        Kind::Forward => start_sibling("forward", &[], place),
        Kind::Foreign(foreign) => start_foreign(foreign, place),
        Kind::Direct | Kind::Origin(_) | Kind::Appliance => {
            Err(Failure::Usage(format!("{} is no proxy; it does not take part in this job", kind.name())))
        }
    }
}

fn start_sibling(command: &str, more: &[&str], place: &Place<'_>) -> Result<Running, Failure> {
    let (number, to, connections) =
        (place.core.to_string(), place.origins.join(","), place.connections_max().to_string());
    let mut arguments = vec![command, "--listen", "127.0.0.1:0", "--to", &to, "--core", &number];
    arguments.extend(more);
    // The forwarder's own size is above it.
    if command == "proxy" && place.connections_max() > CONNECTIONS_MIN {
        arguments.extend(["--connections-max", &connections]);
    }
    let order = Order::new(command, &place.programs.twintier, &arguments, place.folder)
        .on_core(Some(place.core))
        .padded(place.env_padding_bytes);
    let mut process = Process::start(&order)?;
    let address = process.ready(place.interrupt, START_DEADLINE)?.address(command)?;
    Ok(Running::of(address, process))
}

/// A program of others cannot be given port 0. It gets one that was free a moment ago; should somebody else take it,
/// the next one is tried.
fn start_foreign(foreign: Foreign, place: &Place<'_>) -> Result<Running, Failure> {
    let recipe = foreign.recipe();
    let name = recipe.name;
    let program = place.programs.foreign.get(&foreign);
    let program = program.ok_or_else(|| Failure::Failed(format!("{name} is not installed: {}", recipe.install)))?;
    // Opponents want paths that do not depend on their working directory.
    let folder = std::path::absolute(place.folder).map_err(|error| Failure::file(place.folder, &error))?;
    fs::create_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))?;
    let folder_text = folder.to_string_lossy();
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS {
        let address = free_address()?;
        let file = recipe.configuration.map_or("none", |(file, _)| file);
        let configuration = folder.join(file);
        let configuration_text = configuration.to_string_lossy();
        let words = Words {
            listen: &address,
            origins: place.origins,
            folder: &folder_text,
            configuration: &configuration_text,
            connections: place.connections_max(),
        };
        if let Some((_, template)) = recipe.configuration {
            fs::write(&configuration, words.render(template)).map_err(|error| Failure::file(&configuration, &error))?;
        }
        let arguments: Vec<String> = recipe.arguments.iter().map(|argument| words.render(argument)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let order = Order::new(name, program, &arguments, &folder).on_core(Some(place.core));
        let mut process = Process::start(&order.padded(place.env_padding_bytes))?;
        let accepted = place.interrupt.wait_for(START_DEADLINE, || {
            process.still_running()?;
            Ok(TcpStream::connect(&address).ok())
        });
        match accepted {
            Ok(Some(_)) => return Ok(Running::of(address, process)),
            Ok(None) => {
                last = Some(Failure::Failed(format!(
                    "{name} accepted no connection within {} s{}",
                    START_DEADLINE.as_secs(),
                    process.quote()
                )));
            }
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(failure) => last = Some(failure),
        }
    }
    Err(last.unwrap_or_else(|| Failure::Failed(format!("{name} could not be started"))))
}

/// An address that nobody listens on.
fn free_address() -> Result<String, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.to_string())
        .map_err(|error| Failure::Failed(format!("no free port on 127.0.0.1: {error}")))
}

/// The version, asked of the program that is running as process `id`.
pub fn version(kind: Kind, id: u32) -> String {
    let program = PathBuf::from(format!("/proc/{id}/exe"));
    let version = match kind {
        Kind::Direct | Kind::Twintier(_) | Kind::Pipeline | Kind::Forward | Kind::Origin(_) | Kind::Appliance => {
            let answer = ask(&program, &["--version"]).unwrap_or_default();
            answer.lines().next().unwrap_or_default().trim().to_owned()
        }
        Kind::Foreign(foreign) => {
            foreign.version(&ask(&program, foreign.recipe().version_arguments).unwrap_or_default())
        }
    };
    if version.is_empty() { "unknown".to_owned() } else { version }
}

/// What one answer of a system looks like; equal work is checked with it before anything is compared.
///
/// # Errors
/// The system does not answer 200 twice on one connection.
pub fn sample_answer(address: &str, path: &str) -> Result<http::Answer, Failure> {
    let mut answers = http::get_repeatedly(address, path, 2)?;
    match answers.iter().find(|answer| answer.status != 200) {
        Some(answer) => Err(Failure::Failed(format!("http://{address}{path} answers with status {}", answer.status))),
        None => Ok(answers.remove(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn names_are_read_back() {
        let all = Kind::all();
        for &kind in &all {
            assert_eq!(Kind::parse(&kind.name()), Some(kind));
        }
        assert_eq!(Kind::parse("apache"), None);
        assert!(Kind::QUICK.iter().all(|kind| all.contains(kind)));
    }

    /// Whatever can be absent says how to get it.
    #[test]
    fn programs_of_others_say_how_they_are_installed() {
        for kind in Kind::all() {
            assert_eq!(kind.install_command().is_some(), matches!(kind, Kind::Foreign(_)), "{kind:?}");
        }
    }
}
