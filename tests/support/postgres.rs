//! A PostgreSQL server of this test binary's own: made from the installed programs in a temporary folder, reachable by a
//! Unix socket there and by nothing else, honest about `fsync`.
//!
//! A shell holds it by a pipe from this process: whatever ends the process (a panic, SIGKILL) closes the pipe, and the
//! shell ends the server and removes the folder.
#![allow(dead_code, reason = "every test binary that includes this uses a part of it")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

/// How long the server may take to start or stop on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a test says where the programs are missing.
const ABSENT: &str = "skipped: PostgreSQL's server programs are not installed (apt-get install postgresql)";

/// Who may connect: `twintier` from anywhere without a password, `locked` with the password `right`.
const ACCESS: &str = "local all locked scram-sha-256\nlocal all all trust\n";

/// A running server.
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    user: Option<User>,
    /// The shell that ends the server when its standard input ends.
    keeper: Child,
}

#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

/// The server that all tests of this binary share, or `None`, said aloud, where PostgreSQL is not installed.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| Cluster::start(&[])).as_ref();
    if shared.is_none() {
        println!("{ABSENT}");
    }
    shared
}

impl Cluster {
    /// A server with further settings (`name=value`), for a test that ends it or breaks it; `None`: not installed.
    pub fn start(settings: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            println!("{ABSENT}");
            return None;
        };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Short, because a socket's path may have 107 bytes.
        let name = format!("twpg-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        // It refuses to run as root, and the folder must be its own.
        let is_root = fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t");
        let user = is_root.then(|| unprivileged().expect("a user `postgres` or `nobody` in /etc/passwd"));
        if let Some(user) = user {
            chown(&folder, Some(user.uid), Some(user.gid)).unwrap();
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.join("data");
        let mut initdb = as_user(&programs.join("initdb"), user);
        initdb.args([
            "--auth=trust",
            "--username=twintier",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
            "-D",
        ]);
        run(initdb.arg(&data));
        fs::write(data.join("pg_hba.conf"), ACCESS).unwrap();
        let mut lines = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nmax_connections = 60\nshared_buffers = 16MB\n",
            folder.display()
        );
        for (name, value) in settings.iter().map(|setting| setting.split_once('=').expect("name=value")) {
            lines += &format!("{name} = '{value}'\n");
        }
        let mut configuration = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        configuration.write_all(lines.as_bytes()).unwrap();
        // Signals to the tests' process group, as from `timeout`, are not for it.
        let script = "trap '' TERM INT HUP; cat > /dev/null; \"$1\" -s -D \"$2/data\" -m immediate stop; rm -rf \"$2\"";
        let mut keeper = as_user(Path::new("/bin/sh"), user);
        keeper.process_group(0).args(["-c", script, "sh"]).arg(programs.join("pg_ctl")).arg(&folder);
        let keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let cluster = Self { folder, programs, user, keeper };
        cluster.start_again();
        let mut client = cluster.client("postgres");
        client.batch_execute("CREATE ROLE locked LOGIN PASSWORD 'right'").unwrap();
        client.batch_execute("CREATE DATABASE twintier").unwrap();
        Some(cluster)
    }

    /// Starts the server after [`Self::stop_at_once`]; returns when it accepts.
    pub fn start_again(&self) {
        let mut start = self.control("start");
        start.arg("-l").arg(self.folder.join("log")).args(["-w", "-t", "60"]);
        let began = Instant::now();
        // It inherits the pipes of who waits for its end, so nobody does.
        let status = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success() && began.elapsed() < 2 * PATIENCE, "{}", self.log());
    }

    /// Ends every process of the server by SIGQUIT, as a crash does: nothing is flushed, the log is replayed at the start.
    pub fn stop_at_once(&self) {
        run(self.control("stop").args(["-m", "immediate", "-w", "-t", "60"]));
    }

    /// Ends the server in order.
    pub fn stop(&self) {
        run(self.control("stop").args(["-m", "fast", "-w", "-t", "60"]));
    }

    /// The URL of a database of this server; `twintier` is there from the start.
    pub fn url(&self, database: &str) -> String {
        format!("host={} user=twintier dbname={database}", self.folder.display())
    }

    /// A new empty database, and its URL.
    pub fn database(&self, name: &str) -> String {
        self.client("postgres").batch_execute(&format!("CREATE DATABASE \"{name}\"")).unwrap();
        self.url(name)
    }

    /// A connection of the test's own.
    pub fn client(&self, database: &str) -> Client {
        Client::connect(&self.url(database), NoTls).unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }

    /// The server's folder, with its socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn control(&self, what: &str) -> Command {
        let mut control = as_user(&self.programs.join("pg_ctl"), self.user);
        control.args(["-s", "-D"]).arg(self.folder.join("data")).arg(what);
        control
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends by itself; a server that does not is of no more use to anybody.
        let _ = self.keeper.wait();
    }
}

/// A name that no other test of this binary has: of a schema or a database.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The folder of `initdb`: from `PATH`, or the newest where Debian and others put it.
fn programs() -> Option<PathBuf> {
    let whole = |folder: &PathBuf| ["initdb", "pg_ctl", "postgres"].iter().all(|name| folder.join(name).exists());
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A link in PATH leads to the folder with all of them.
    let found = std::env::split_paths(&path)
        .filter_map(|folder| Some(fs::canonicalize(folder.join("initdb")).ok()?.parent()?.to_path_buf()))
        .find(whole);
    let versioned = || {
        let mut folders: Vec<(u32, PathBuf)> = ["/usr/lib/postgresql", "/usr/pgsql"]
            .iter()
            .filter_map(|place| fs::read_dir(place).ok())
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
            })
            .filter(|(_, folder)| whole(folder))
            .collect();
        folders.sort();
        folders.pop().map(|(_, folder)| folder)
    };
    found.or_else(versioned)
}

fn unprivileged() -> Option<User> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    };
    find("postgres").or_else(|| find("nobody"))
}

fn as_user(program: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}
