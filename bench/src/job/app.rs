//! `--job app`: the catalog's item page as JSON.
//!
//! ```text
//!   twintier-appliance   generator ─▶ front and replica in one process
//!   nginx, haproxy, …    generator ─▶ proxy ─▶ two origins that answer the same bytes
//!   direct               generator ─▶ one such origin: the floor
//! ```
//! The figure is the CPU of the whole system, so the whole system is pinned to one core, the origins with their proxy.
//! The origins' bytes are what the appliance answered once: its body, and its fields but for the date.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::CompareArgs;
use super::campaign::{Campaign, plan, refuse_proxy_options};
use crate::agreement;
use crate::case::{Case, Work};
use crate::compare::PlannedCase;
use crate::failure::Failure;
use crate::http;
use crate::opponent::{self, Answer, Engine, Foreign, Kind, OriginOrder, Place, Running, sample_answer, start_origin};
use crate::process::{Interrupt, Order, Process, ask};
use crate::quick;
use crate::trial::{Lab, Role, Setting, Stage, System};

const SYSTEMS: [Kind; 5] = [
    Kind::Direct,
    Kind::Appliance,
    Kind::Twintier(Engine::Auto),
    Kind::Foreign(Foreign::Nginx),
    Kind::Foreign(Foreign::Haproxy),
];
/// Origins behind a proxy.
const ORIGINS: usize = 2;
/// Articles of the catalog: enough for its indexes to be indexes, few enough to be there at once.
pub const ARTICLES: u32 = 2000;
const PATH: &str = "/reqcat/items/article-1000?format=json";
/// For the appliance to listen and to have imported the catalog.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// Fields that the origin writes itself or that change with every answer.
const FIELDS_OWN: [&str; 5] = ["content-length", "content-type", "date", "connection", "transfer-encoding"];

/// # Errors
/// A system fails or does other work than the others, a signal arrives, or the run is invalid.
pub fn perform(args: &CompareArgs, interrupt: &Interrupt) -> Result<(), Failure> {
    refuse_proxy_options(args)?;
    let mut campaign = Campaign::begin(args, interrupt)?;
    let systems = campaign.select(args, &SYSTEMS);
    let lab = campaign.lab.clone();
    let stage = AppStage::start(&lab, &campaign.root)?;
    let everybody: Vec<usize> = (0..systems.len()).collect();
    let cases = args.connections().iter().map(|&connections| PlannedCase {
        case: Case::keep_alive(Work::App, connections, stage.body.len()),
        systems: everybody.clone(),
    });
    let cases = cases.collect();
    let mut plan = plan(args, "app", systems, cases, None);
    if ask(&lab.programs.loadgen, &["run", "--help"]).is_some_and(|help| help.contains("--server-timing")) {
        plan = plan.with_tiers();
    } else {
        quick::say("latency by tier is absent: this loadgen has no --server-timing");
    }
    campaign.conduct(args, &stage, plan)
}

/// The page, and what answers it.
struct AppStage<'a> {
    lab: &'a Lab,
    root: PathBuf,
    supplier: PathBuf,
    body: Vec<u8>,
    body_file: PathBuf,
    content_type: String,
    /// Fields of the appliance's answer, `name: value`.
    fields: Vec<String>,
}

impl<'a> AppStage<'a> {
    /// Asks an appliance for the page, so that the origins can answer the same.
    fn start(lab: &'a Lab, root: &Path) -> Result<Self, Failure> {
        let folder = lab.folder.join("app");
        fs::create_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))?;
        let absolute = std::path::absolute(&folder).map_err(|error| Failure::file(&folder, &error))?;
        let supplier = absolute.join("supplier.txt");
        fs::write(&supplier, catalog(ARTICLES)).map_err(|error| Failure::file(&supplier, &error))?;
        let body_file = absolute.join("page.json");
        let mut stage = Self {
            lab,
            root: root.to_owned(),
            supplier,
            body: Vec::new(),
            body_file,
            content_type: String::new(),
            fields: Vec::new(),
        };
        let running = stage.appliance(&Setting::plain(&folder), false)?;
        let page = sample_answer(&running.address, PATH)?;
        running.stop()?;
        fs::write(&stage.body_file, &page.body).map_err(|error| Failure::file(&stage.body_file, &error))?;
        page.field("content-type").unwrap_or("application/json").clone_into(&mut stage.content_type);
        stage.fields = fields(&page.head);
        stage.body = page.body;
        Ok(stage)
    }

    /// Starts the appliance on a fresh database and waits until the page is there.
    fn appliance(&self, setting: &Setting<'_>, tells_tiers: bool) -> Result<Running, Failure> {
        let folder = setting.folder;
        let profile = self.root.join("profiles/bench.toml").to_string_lossy().into_owned();
        let database = format!("database.path={}", folder.join("appliance.duckdb").display());
        let source = format!("storage.import.source={}", self.supplier.display());
        let mut arguments = vec!["serve", "--profile", &profile, "--set", &database, "--set", &source];
        if tells_tiers {
            arguments.extend(["--set", "forwarding.server_timing=true"]);
        }
        let order = Order::new("appliance", &self.lab.programs.twintier, &arguments, folder);
        let mut process =
            Process::start(&order.on_core(Some(self.lab.cores.system)).padded(setting.env_padding_bytes))?;
        let line = process.ready(&self.lab.interrupt, START_DEADLINE)?;
        let (address, admin) = (line.address("http")?, line.address("admin")?);
        let found = self.lab.interrupt.wait_for(START_DEADLINE, || {
            process.still_running()?;
            // In this order: a page that one replica shows is in all of them once they agree.
            let there = http::get_repeatedly(&address, PATH, 1)?.iter().all(|answer| answer.status == 200);
            Ok((there && imported(&admin)? && agreement::now(&[&admin])?).then_some(()))
        })?;
        found.ok_or_else(|| {
            Failure::Failed(format!(
                "http://{address}{PATH} was not there within {} s of the start{}",
                START_DEADLINE.as_secs(),
                process.quote()
            ))
        })?;
        Ok(Running { admin: Some(admin), ..Running::of(address, process) })
    }

    fn origin(&self, name: &str, setting: &Setting<'_>) -> Result<(Process, String), Failure> {
        let order = OriginOrder {
            name,
            core: Some(self.lab.cores.system),
            engine: Engine::Auto,
            answer: Answer::File { path: &self.body_file, content_type: &self.content_type, fields: &self.fields },
            folder: setting.folder,
            env_padding_bytes: setting.env_padding_bytes,
            burn_ns: 0,
        };
        start_origin(&self.lab.programs, &self.lab.interrupt, &order)
    }
}

impl Stage for AppStage<'_> {
    fn start(&self, system: &System, case: &Case, setting: &Setting<'_>) -> Result<Running, Failure> {
        match system.kind {
            Kind::Appliance => self.appliance(setting, system.role == Role::Tiers),
            Kind::Direct | Kind::Origin(_) => {
                let (process, address) = self.origin("origin", setting)?;
                Ok(Running::of(address, process))
            }
            Kind::Twintier(_) | Kind::Pipeline | Kind::Forward | Kind::Foreign(_) => {
                let origins = (0..ORIGINS).map(|number| self.origin(&format!("origin-{number}"), setting));
                let origins: Vec<(Process, String)> = origins.collect::<Result<_, _>>()?;
                let (origins, addresses): (Vec<Process>, Vec<String>) = origins.into_iter().unzip();
                let place = Place {
                    programs: &self.lab.programs,
                    origins: &addresses,
                    core: self.lab.cores.system,
                    folder: setting.folder,
                    interrupt: &self.lab.interrupt,
                    connections: case.connections,
                    env_padding_bytes: setting.env_padding_bytes,
                };
                let mut running = opponent::start(system.kind, &place)?;
                running.groups.extend(origins.iter().map(Process::id));
                running.processes.extend(origins);
                Ok(running)
            }
        }
    }

    fn path(&self) -> &str {
        PATH
    }

    fn expected_body(&self, _case: &Case) -> Result<Vec<u8>, Failure> {
        Ok(self.body.clone())
    }
}

/// Whether the catalog's file has been read to its end.
fn imported(admin: &str) -> Result<bool, Failure> {
    let status = http::get_json(admin, "/status")?;
    Ok(status.pointer("/storage/imports/0/state").is_some_and(|state| state == "done"))
}

/// The fields of an answer that an origin is told to send.
fn fields(head: &str) -> Vec<String> {
    let own = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        FIELDS_OWN.iter().any(|own| own.eq_ignore_ascii_case(name))
    };
    head.lines().skip(1).filter(|line| !own(line)).map(|line| line.trim().to_owned()).collect()
}

/// A supplier file of so many articles, the same every time.
pub fn catalog(articles: u32) -> String {
    let mut text = String::with_capacity(400_000);
    for number in 0..articles {
        let _ = writeln!(
            text,
            "Package: article-{number:04}\nVersion: 1.{number}-1\nSection: libs\nSize: {}\nMaintainer: Example Team <team@example.com>\nDescription: article {number} of the catalog\nHomepage: https://example.com/articles/{number}\n",
            1000 + number
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ARTICLES, PATH, catalog, fields};

    #[test]
    fn the_page_is_in_the_catalog() {
        let text = catalog(ARTICLES);
        assert_eq!(text.matches("Package: ").count(), usize::try_from(ARTICLES).unwrap());
        assert!(text.contains("Package: article-1000\n") && PATH.contains("/article-1000?"));
        assert_eq!(text, catalog(ARTICLES));
    }

    #[test]
    fn an_origin_is_told_what_it_does_not_know() {
        let head = "HTTP/1.1 200 OK\r\nserver: twintier\r\nDate: now\r\ncontent-type: a/b\r\netag: W/\"1\"\r\nContent-Length: 3";
        assert_eq!(fields(head), ["server: twintier", "etag: W/\"1\""]);
    }
}
