//! The systems that can be measured, how each is started, and what it says about itself.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;
use crate::http;
use crate::process::{Interrupt, Order, Process, ask, find_program};

/// For a system to accept its first connection.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Ports to try for a program that cannot be given port 0.
const PORT_ATTEMPTS: usize = 5;

const NGINX_TEMPLATE: &str = include_str!("../opponents/nginx.conf");
const HAPROXY_TEMPLATE: &str = include_str!("../opponents/haproxy.cfg");

/// What can stand between the generator and the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: the generator talks to the origin. The ceiling of the layout.
    Direct,
    /// `twintier proxy`.
    Twintier,
    /// `twintier forward`, which moves bytes without looking at them: the floor of a proxied hop.
    TwintierForward,
    Nginx,
    Haproxy,
}

impl Kind {
    /// In the order of tables.
    pub const ALL: [Self; 5] = [Self::Direct, Self::Twintier, Self::TwintierForward, Self::Nginx, Self::Haproxy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Twintier => "twintier",
            Self::TwintierForward => "twintier-forward",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// What the system is, for the report.
    pub fn description(self) -> &'static str {
        match self {
            Self::Direct => "no proxy: what generator and origin reach by themselves (its CPU is the origin's)",
            Self::Twintier => "`twintier proxy`",
            Self::TwintierForward => {
                "`twintier forward`, an L4 byte forwarder on the same engine: the floor of a proxied hop"
            }
            Self::Nginx => "nginx, `bench/opponents/nginx.conf`",
            Self::Haproxy => "HAProxy, `bench/opponents/haproxy.cfg`",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The Debian command that installs the program, for those that are not ours.
    pub fn install_command(self) -> Option<&'static str> {
        match self {
            Self::Direct | Self::Twintier | Self::TwintierForward => None,
            Self::Nginx => Some("apt-get install nginx"),
            Self::Haproxy => Some("apt-get install haproxy"),
        }
    }
}

/// Programs on this machine.
#[derive(Clone, Debug)]
pub struct Programs {
    pub twintier: PathBuf,
    pub loadgen: PathBuf,
    pub nginx: Option<PathBuf>,
    pub haproxy: Option<PathBuf>,
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
        Ok(Self {
            twintier: sibling("twintier")?,
            loadgen: sibling("loadgen")?,
            nginx: find_program("nginx"),
            haproxy: find_program("haproxy"),
        })
    }

    /// The program of a system; `None` if it is not installed.
    pub fn of(&self, kind: Kind) -> Option<&Path> {
        match kind {
            Kind::Direct | Kind::Twintier | Kind::TwintierForward => Some(&self.twintier),
            Kind::Nginx => self.nginx.as_deref(),
            Kind::Haproxy => self.haproxy.as_deref(),
        }
    }
}

/// A system that accepts connections.
#[derive(Debug)]
pub struct Running {
    pub address: String,
    /// `None` for the direct system, whose process is the origin's.
    pub process: Option<Process>,
}

/// Starts a fixed-response origin server.
///
/// # Errors
/// It does not get ready.
pub fn start_origin(
    programs: &Programs,
    name: &str,
    core: Option<usize>,
    body_bytes: usize,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<(Process, String), Failure> {
    let bytes = body_bytes.to_string();
    let order =
        Order::new(name, &programs.twintier, &["origin", "--listen", "127.0.0.1:0", "--body-bytes", &bytes], folder)
            .on_core(core);
    let mut process = Process::start(&order)?;
    let address = process.ready(interrupt, START_DEADLINE)?.address("origin")?;
    Ok((process, address))
}

/// Starts a system in front of `origin`, pinned to `core`.
///
/// # Errors
/// It is not installed or does not get ready.
pub fn start(
    kind: Kind,
    programs: &Programs,
    origin: &str,
    core: usize,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Running, Failure> {
    // Opponents want paths that do not depend on their working directory.
    let folder = &std::path::absolute(folder).map_err(|error| Failure::file(folder, &error))?;
    match kind {
        Kind::Direct => Ok(Running { address: origin.to_owned(), process: None }),
        Kind::Twintier => start_sibling(programs, "proxy", origin, core, folder, interrupt),
        Kind::TwintierForward => start_sibling(programs, "forward", origin, core, folder, interrupt),
        Kind::Nginx => {
            // `-e` because the compiled-in log is opened before the configuration is read, and may not be writable.
            let error_log = folder.join("nginx-error.log").to_string_lossy().into_owned();
            let opponent = Opponent {
                name: kind.name(),
                program: programs.of(kind),
                configuration: "nginx.conf",
                template: NGINX_TEMPLATE,
                arguments: vec!["-e".to_owned(), error_log, "-c".to_owned()],
            };
            start_opponent(&opponent, origin, core, folder, interrupt)
        }
        Kind::Haproxy => {
            let opponent = Opponent {
                name: kind.name(),
                program: programs.of(kind),
                configuration: "haproxy.cfg",
                template: HAPROXY_TEMPLATE,
                arguments: vec!["-db".to_owned(), "-f".to_owned()],
            };
            start_opponent(&opponent, origin, core, folder, interrupt)
        }
    }
}

fn start_sibling(
    programs: &Programs,
    command: &str,
    origin: &str,
    core: usize,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Running, Failure> {
    let number = core.to_string();
    let arguments = [command, "--listen", "127.0.0.1:0", "--to", origin, "--core", &number];
    let mut process = Process::start(&Order::new(command, &programs.twintier, &arguments, folder).on_core(Some(core)))?;
    let address = process.ready(interrupt, START_DEADLINE)?.address(command)?;
    Ok(Running { address, process: Some(process) })
}

/// A program that is configured by a file and cannot be given port 0.
struct Opponent<'a> {
    name: &'static str,
    program: Option<&'a Path>,
    configuration: &'static str,
    template: &'static str,
    /// Words of the command line before the configuration's path.
    arguments: Vec<String>,
}

/// An opponent is given a port that was free a moment ago; should somebody else take it, the next one is tried.
fn start_opponent(
    opponent: &Opponent<'_>,
    origin: &str,
    core: usize,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Running, Failure> {
    let name = opponent.name;
    let program = opponent.program.ok_or_else(|| Failure::Failed(format!("{name} is not installed")))?;
    fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))?;
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS {
        let address = free_address()?;
        let configuration = folder.join(opponent.configuration);
        fs::write(&configuration, render(opponent.template, &address, origin, folder))
            .map_err(|error| Failure::file(&configuration, &error))?;
        let mut arguments: Vec<&str> = opponent.arguments.iter().map(String::as_str).collect();
        let configuration = configuration.to_string_lossy();
        arguments.push(&configuration);
        let mut process = Process::start(&Order::new(name, program, &arguments, folder).on_core(Some(core)))?;
        let accepted = interrupt.wait_for(START_DEADLINE, || {
            process.still_running()?;
            Ok(TcpStream::connect(&address).ok())
        });
        match accepted {
            Ok(Some(_)) => return Ok(Running { address, process: Some(process) }),
            Ok(None) => {
                last = Some(Failure::Failed(format!(
                    "{name} accepted no connection within {} s",
                    START_DEADLINE.as_secs()
                )))
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

/// Fills in a template.
fn render(template: &str, listen: &str, origin: &str, folder: &Path) -> String {
    // The words stand in comments of the first lines, too, where `{{braces}}` explains them.
    let text = template
        .replace("{{listen}}", listen)
        .replace("{{origin}}", origin)
        .replace("{{folder}}", &folder.to_string_lossy())
        .replace("{{braces}}", "double braces");
    assert!(!text.contains("{{"), "invariant: every word of the template is known");
    text
}

/// The version, asked of the program that is running as process `id`.
pub fn version(kind: Kind, id: u32) -> String {
    let program = PathBuf::from(format!("/proc/{id}/exe"));
    let arguments: &[&str] = match kind {
        Kind::Direct | Kind::Twintier | Kind::TwintierForward => &["--version"],
        Kind::Nginx | Kind::Haproxy => &["-v"],
    };
    let answer = ask(&program, arguments).unwrap_or_default();
    let first = answer.lines().next().unwrap_or_default().trim();
    let version = match kind {
        Kind::Direct | Kind::Twintier | Kind::TwintierForward => first.to_owned(),
        // `nginx version: nginx/1.22.1`
        Kind::Nginx => first.rsplit('/').next().map(|version| format!("nginx {version}")).unwrap_or_default(),
        // `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/`
        Kind::Haproxy => {
            first.split_whitespace().nth(2).map(|version| format!("HAProxy {version}")).unwrap_or_default()
        }
    };
    if version.is_empty() { "unknown".to_owned() } else { version }
}

/// What one answer of a system looks like; equal work is checked with it before anything is compared.
///
/// # Errors
/// The system does not answer 200 twice on one connection.
pub fn sample_answer(address: &str) -> Result<http::Answer, Failure> {
    let mut answers = http::get_repeatedly(address, "/", 2)?;
    match answers.iter().find(|answer| answer.status != 200) {
        Some(answer) => Err(Failure::Failed(format!("http://{address}/ answers with status {}", answer.status))),
        None => Ok(answers.remove(1)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{HAPROXY_TEMPLATE, Kind, NGINX_TEMPLATE, render};

    #[test]
    fn names_are_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
        }
        assert_eq!(Kind::parse("caddy"), None);
    }

    #[test]
    fn nginx_is_configured_for_the_job() {
        let text = render(NGINX_TEMPLATE, "127.0.0.1:8080", "127.0.0.1:9090", Path::new("/tmp/run"));
        for line in [
            "daemon off;",
            "worker_processes 1;",
            "pid /tmp/run/nginx.pid;",
            "access_log off;",
            "server 127.0.0.1:9090;",
            "keepalive 512;",
            "listen 127.0.0.1:8080 backlog=4096;",
            "proxy_http_version 1.1;",
            "proxy_set_header Connection \"\";",
        ] {
            assert!(text.lines().any(|found| found.trim() == line), "no `{line}` in\n{text}");
        }
    }

    #[test]
    fn haproxy_is_configured_for_the_job() {
        let text = render(HAPROXY_TEMPLATE, "127.0.0.1:8080", "127.0.0.1:9090", Path::new("/tmp/run"));
        for line in [
            "nbthread 1",
            "bind 127.0.0.1:8080 backlog 4096",
            "http-reuse always",
            "server origin 127.0.0.1:9090 pool-max-conn -1 pool-purge-delay 1h",
        ] {
            assert!(text.lines().any(|found| found.trim() == line), "no `{line}` in\n{text}");
        }
        assert!(!text.lines().any(|line| line.trim_start().starts_with("log ")), "HAProxy must not log");
    }
}
