//! What is measured: one appliance or two, with the database below them, each started afresh from a copy of the same rows.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::app::catalog;
use super::postgres::{Programs, Server, run};
use crate::failure::Failure;
use crate::http::{get_json, get_repeatedly};
use crate::machine::ProcessGroup;
use crate::process::{Order, Process};
use crate::trial::Lab;
use crate::{agreement, books};

/// The page that is read.
pub const PATH: &str = "/reqcat/items/article-1000?format=json";
/// For an appliance to listen, and to have all rows.
const START_DEADLINE: Duration = Duration::from_secs(300);

/// A system of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// One appliance with the database in its process.
    Duckdb,
    /// One appliance on a PostgreSQL server.
    Postgres,
    /// Two appliances on one PostgreSQL server.
    PostgresTwo,
}

impl System {
    pub const ALL: [Self; 3] = [Self::Duckdb, Self::Postgres, Self::PostgresTwo];

    pub fn name(self) -> &'static str {
        match self {
            Self::Duckdb => "duckdb",
            Self::Postgres => "postgres",
            Self::PostgresTwo => "postgres-2",
        }
    }

    pub fn appliances(self) -> usize {
        match self {
            Self::Duckdb | Self::Postgres => 1,
            Self::PostgresTwo => 2,
        }
    }

    pub fn has_server(self) -> bool {
        match self {
            Self::Duckdb => false,
            Self::Postgres | Self::PostgresTwo => true,
        }
    }
}

/// Databases with the catalog in them, of which every start gets a copy. Gone when this is dropped.
#[derive(Debug)]
pub struct Templates<'a> {
    lab: &'a Lab,
    root: &'a Path,
    programs: Option<&'a Programs>,
    /// Of the databases: on the machine's own file system, and readable for the server's user.
    folder: PathBuf,
    supplier: PathBuf,
}

impl Drop for Templates<'_> {
    fn drop(&mut self) {
        // What is left behind lies in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl<'a> Templates<'a> {
    /// Imports a catalog of `rows` articles into each kind of database.
    ///
    /// # Errors
    /// An appliance or the server fails, or a signal arrives.
    pub fn make(lab: &'a Lab, root: &'a Path, programs: Option<&'a Programs>, rows: u32) -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("bench-database-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))?;
        let supplier = folder.join("supplier.txt");
        let templates = Self { lab, root, programs, folder, supplier };
        let supplier = &templates.supplier;
        fs::write(supplier, catalog(rows)).map_err(|error| Failure::file(supplier, &error))?;
        let logs = lab.folder.join("template");
        for system in [System::Duckdb, System::Postgres] {
            let place = templates.template(system);
            match (system.has_server(), programs) {
                (false, _) => fs::create_dir_all(&place).map_err(|error| Failure::file(&place, &error))?,
                (true, Some(programs)) => programs.create(&place)?,
                (true, None) => continue,
            }
            let site = templates.begin(system, &place, &logs.join(system.name()))?;
            templates.filled(&site)?;
            site.stop()?;
        }
        Ok(templates)
    }

    /// Starts a system on a copy of the rows; configurations and logs go to `logs`.
    ///
    /// # Errors
    /// Something does not get ready, or a signal arrives.
    pub fn start(&self, system: System, logs: &Path) -> Result<Site, Failure> {
        let copy = self.folder.join("copy");
        let _ = fs::remove_dir_all(&copy);
        let kind = if system.has_server() { System::Postgres } else { System::Duckdb };
        run("cp", &["-a", &self.template(kind).to_string_lossy(), &copy.to_string_lossy()])?;
        self.begin(system, &copy, logs)
    }

    fn template(&self, system: System) -> PathBuf {
        self.folder.join(system.name())
    }

    fn begin(&self, system: System, database: &Path, logs: &Path) -> Result<Site, Failure> {
        fs::create_dir_all(logs).map_err(|error| Failure::file(logs, &error))?;
        let (core, interrupt) = (self.lab.cores.system, &self.lab.interrupt);
        let server = match (system.has_server(), self.programs) {
            (false, _) => None,
            (true, Some(programs)) => Some(programs.start(database, logs, core, interrupt)?),
            (true, None) => return Err(Failure::Failed("PostgreSQL is not installed".to_owned())),
        };
        let settings = match &server {
            None => vec![format!("database.path={}", database.join("appliance.duckdb").display())],
            Some(server) => vec!["database.kind=postgres".to_owned(), format!("database.url={}", server.url)],
        };
        let mut site = Site { appliances: Vec::new(), server };
        for number in 0..system.appliances() {
            site.appliances.push(self.appliance(number, &settings, logs)?);
        }
        Ok(site)
    }

    fn appliance(&self, number: usize, settings: &[String], logs: &Path) -> Result<Appliance, Failure> {
        let profile = self.root.join("profiles/bench-database.toml").to_string_lossy().into_owned();
        let source = format!("storage.import.source={}", self.supplier.display());
        let mut arguments = vec!["serve", "--profile", &profile, "--set", &source];
        settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
        let name = format!("appliance-{}", number + 1);
        let order = Order::new(&name, &self.lab.programs.twintier, &arguments, logs);
        let begun = Instant::now();
        let mut process = Process::start(&order.on_core(Some(self.lab.cores.system)))?;
        let line = process.ready(&self.lab.interrupt, START_DEADLINE)?;
        let (http, admin) = (line.address("http")?, line.address("admin")?);
        Ok(Appliance { process, http, admin, start: begun.elapsed() })
    }

    /// Waits until the catalog is imported and all replicas have it.
    fn filled(&self, site: &Site) -> Result<(), Failure> {
        let admin = &site.appliances[0].admin;
        let found = self.lab.interrupt.wait_for(START_DEADLINE, || {
            let status = get_json(admin, "/status")?;
            let state = status.pointer("/storage/imports/0/state").and_then(|state| state.as_str());
            Ok((state == Some("done") && agreement::now(&[admin])?).then_some(()))
        })?;
        found.ok_or_else(|| Failure::Failed(format!("the import was not done in {} s", START_DEADLINE.as_secs())))
    }
}

/// One `twintier serve`.
#[derive(Debug)]
pub struct Appliance {
    process: Process,
    pub http: String,
    pub admin: String,
    /// From the start of the process to its `ready` line.
    pub start: Duration,
}

/// A system that accepts connections.
#[derive(Debug)]
pub struct Site {
    pub appliances: Vec<Appliance>,
    server: Option<Server>,
}

impl Site {
    /// All processes whose time is the system's.
    pub fn processes(&self) -> ProcessGroup {
        let groups = self.appliances.iter().map(|appliance| &appliance.process);
        let groups: Vec<u32> =
            groups.chain(self.server.as_ref().map(|server| &server.process)).map(Process::id).collect();
        ProcessGroup::find(Path::new("/proc"), &groups)
    }

    /// # Errors
    /// A process has ended, with its status and the end of its log.
    pub fn still_running(&mut self) -> Result<(), Failure> {
        self.appliances.iter_mut().try_for_each(|appliance| appliance.process.still_running())?;
        self.server.as_mut().map_or(Ok(()), |server| server.process.still_running())
    }

    /// Asks every appliance for the page: its first answer is nobody's figure.
    ///
    /// # Errors
    /// One does not have it.
    pub fn warm(&self) -> Result<(), Failure> {
        for appliance in &self.appliances {
            let answer = get_repeatedly(&appliance.http, PATH, 1)?.remove(0);
            if answer.status != 200 {
                return Err(Failure::Failed(format!("http://{}{PATH}: status {}", appliance.http, answer.status)));
            }
        }
        Ok(())
    }

    /// Looks at the books of each appliance and whether the replicas of all of them agree: why the figures may not be quoted.
    ///
    /// # Errors
    /// An admin interface does not answer, or a signal arrives.
    pub fn wrong(&self, lab: &Lab) -> Result<Vec<String>, Failure> {
        let admins: Vec<&str> = self.appliances.iter().map(|appliance| appliance.admin.as_str()).collect();
        let mut wrong = Vec::new();
        for admin in &admins {
            wrong.extend(books::wrong(admin)?);
        }
        wrong.extend(agreement::wrong(&lab.interrupt, &admins)?);
        Ok(wrong)
    }

    /// Ends the appliances, then the server.
    ///
    /// # Errors
    /// One does not end in order.
    pub fn stop(self) -> Result<(), Failure> {
        for appliance in self.appliances {
            let status = appliance.process.stop()?;
            if !status.success() {
                return Err(Failure::Failed(format!("the appliance did not end in order after SIGTERM: {status}")));
            }
        }
        match self.server.map(|server| server.process.stop()).transpose()? {
            Some(status) if !status.success() => {
                Err(Failure::Failed(format!("PostgreSQL did not end in order after SIGTERM: {status}")))
            }
            Some(_) | None => Ok(()),
        }
    }
}
