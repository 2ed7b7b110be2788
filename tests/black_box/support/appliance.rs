//! The appliance with its shipped profile in a folder of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;

use super::blocked::blocked;
use super::browser::Browser;
use super::program::{Program, twintier, twintier_by};
use super::site::{self, Folder, ITEMS};
use super::wire::{Answer, Wire};
use super::{PATIENCE, eventually};

/// How to start the appliance.
#[derive(Debug)]
pub struct Setup {
    pub folder: Folder,
    settings: Vec<String>,
    without_uring: bool,
    /// Words before the command: where it is to run.
    inside: Vec<String>,
}

impl Setup {
    /// The shipped profile, with ports from the kernel and a small catalog.
    pub fn shipped() -> Self {
        let folder = site::shipped();
        let database = folder.path("data.duckdb").display().to_string();
        // Nobody is at home at the back-end server unless a test says so.
        let nobody = folder.path("nobody.sock").display().to_string();
        let setup = Self { folder, settings: Vec::new(), without_uring: false, inside: Vec::new() };
        setup
            .set("listen.http", "127.0.0.1:0")
            .set("listen.admin", "127.0.0.1:0")
            // On a busy machine a worker may not run for a second; only tests of that declare it dead.
            .set("timeouts.dead_ms", "60000")
            .set("database.path", &database)
            .set("storage.import.source", "items.txt")
            .set("storage.watch_ms", "50")
            .set("backends.suppliers", &format!("unix:{nobody}"))
    }

    /// Overrides one key of the profile; the last value of a key counts.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        let prefix = format!("{key}=");
        self.settings.retain(|setting| !setting.starts_with(&prefix));
        self.settings.push(format!("{prefix}{value}"));
        self
    }

    /// Runs it where io_uring is blocked.
    pub fn without_uring(mut self) -> Self {
        self.without_uring = true;
        self
    }

    /// Runs it by another program, given with its options.
    pub fn inside(mut self, words: Vec<String>) -> Self {
        self.inside = words;
        self
    }

    /// Statements of a test's own behind the shipped ones.
    pub fn statements(self, more: &str) -> Self {
        let shipped = self.folder.read("site.statements");
        self.folder.write("site.statements", format!("{shipped}\n{more}\n"));
        self
    }

    pub fn profile(&self) -> PathBuf {
        self.folder.path("quickstart.toml")
    }

    /// `twintier COMMAND --profile … --set …`
    pub fn command(&self, command: &str) -> Command {
        let mut program = twintier();
        program.arg(command).arg("--profile").arg(self.profile());
        for setting in &self.settings {
            program.args(["--set", setting]);
        }
        if let Some((other, options)) = self.inside.split_first() {
            let mut inside = twintier_by(other);
            inside.args(options).arg(program.get_program()).args(program.get_args());
            return inside;
        }
        if self.without_uring {
            return blocked(&self.folder, &program);
        }
        program
    }

    #[track_caller]
    pub fn start(self) -> Appliance {
        let mut appliance = Appliance::begin(self);
        appliance.wait_for_catalog();
        appliance
    }
}

/// The running appliance; it is killed when it is dropped.
pub struct Appliance {
    pub program: Program,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    pub setup: Setup,
}

impl Appliance {
    #[track_caller]
    fn begin(setup: Setup) -> Self {
        let mut program = Program::start(&mut setup.command("serve"));
        let http = program.ready("http").parse().unwrap();
        let admin = program.ready("admin").parse().unwrap();
        Self { program, http, admin, setup }
    }

    /// `kill -9`, and a new start on the same database.
    #[track_caller]
    pub fn kill_and_restart(mut self) -> Self {
        self.program.kill();
        let mut appliance = Self::begin(self.setup);
        appliance.wait_for_catalog();
        appliance
    }

    /// Starts what was killed again, on the same database.
    #[track_caller]
    pub fn again(self) -> Self {
        let mut appliance = Self::begin(self.setup);
        appliance.wait_for_catalog();
        appliance
    }

    /// The same, and kills it so long after its beginning, ready or not.
    pub fn killed_in_its_start(mut self, after: Duration) -> Self {
        self.program = Program::start(&mut self.setup.command("serve"));
        // This is the instant of the kill, not a wait for something.
        std::thread::sleep(after);
        self.program.kill();
        self
    }

    #[track_caller]
    fn wait_for_catalog(&mut self) {
        eventually("the catalog on every replica", || {
            assert!(self.program.is_running(), "{}", self.program.stderr());
            let replication = self.replication();
            // The agent learns of its last rows after the replicas.
            let imports = self.status()["storage"]["imports"].clone();
            let ended = imports.as_array().unwrap().iter().all(|import| import["state"] == "done");
            (replication["equal"] == true && rows(&replication, "item") == ITEMS && ended).then_some(())
        });
    }

    /// A request to the admin interface.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str) -> Answer {
        let mut wire = Wire::open(self.admin);
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        ));
        wire.answer()
    }

    #[track_caller]
    pub fn replication(&self) -> Value {
        self.admin("GET", "/replication").json()
    }

    #[track_caller]
    pub fn status(&self) -> Value {
        self.admin("GET", "/status").json()
    }

    /// Waits until every replica has the same rows.
    #[track_caller]
    pub fn settle(&self) -> Value {
        eventually("equal replicas", || {
            let replication = self.replication();
            (replication["equal"] == true).then_some(replication)
        })
    }

    /// Jobs that each replica has executed so far.
    #[track_caller]
    pub fn executed(&self) -> Vec<u64> {
        let replication = self.replication();
        replication["replicas"]
            .as_array()
            .unwrap()
            .iter()
            .map(|replica| replica["executed"].as_u64().unwrap())
            .collect()
    }

    pub fn visitor(&self) -> Browser {
        Browser::visitor(self.http)
    }

    #[track_caller]
    pub fn user(&self, name: &str) -> Browser {
        Browser::signed_in(self.http, name)
    }

    pub fn wire(&self) -> Wire {
        Wire::open(self.http)
    }

    /// A command that takes `--admin`.
    pub fn ask(&self, command: &str) -> Command {
        let mut program = twintier();
        program.arg(command).args(["--admin", &self.admin.to_string()]);
        program
    }

    /// The lines on stderr, once one of them contains `text`.
    #[track_caller]
    pub fn says(&self, text: &str) -> String {
        eventually(&format!("`{text}` on stderr"), || {
            let said = self.program.stderr();
            said.contains(text).then_some(said)
        })
    }
}

/// Rows of a table on the first replica.
pub fn rows(replication: &Value, table: &str) -> u64 {
    let tables = replication["replicas"][0]["tables"].as_array().unwrap();
    tables.iter().find(|known| known["table"] == table).and_then(|known| known["rows"].as_u64()).unwrap()
}

/// One appliance for all tests that only look; it ends with the last of them that holds it.
#[track_caller]
pub fn shared() -> Arc<Appliance> {
    static SHARED: Mutex<Weak<Appliance>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade() {
        return running;
    }
    let started = Arc::new(Setup::shipped().start());
    *shared = Arc::downgrade(&started);
    started
}

/// A deadline for loops that must not end early.
pub fn deadline() -> std::time::Instant {
    std::time::Instant::now() + PATIENCE
}
