//! What is read and derived before a thread starts: a mistake ends the command here.

use std::path::Path;

use super::catalog::check_import;
use super::statements::load_site;
use super::store::StoreSettings;
use super::{Failure, neighbors};
use crate::budget::Budget;
use crate::engine;
use crate::profile::{self, Profile};
use crate::storage::orders;
use crate::storage::site::Site;
use crate::tables::code::CodeVersion;
use crate::worker::placement::{Placement, Topology, place};

/// Everything that is read and derived before a thread starts.
pub struct Plan {
    pub profile: Profile,
    pub placement: Placement,
    pub code: CodeVersion,
    pub site: Site,
}

impl Plan {
    /// A profile may be checked anywhere, and served where its cores are.
    pub(super) fn refuse_absent_cores(&self) -> Result<(), Failure> {
        let absent = &self.placement.absent;
        if absent.is_empty() {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{}: the profile wants cores {absent:?}, which this process does not have; run it with --set cluster.cores=auto --set cluster.placement=shared",
            self.profile.file.display()
        )))
    }
}

/// Reads and validates a profile with all that it names.
///
/// # Errors
/// Every mistake with its place; exit code 2.
pub fn plan(file: &Path, settings: &[String]) -> Result<Plan, Failure> {
    let profile = Profile::read(file, settings)?;
    let topology = Topology::read(&engine::thread::allowed_cores());
    let placement =
        place(&profile, &topology).map_err(|wrong| Failure::usage(format!("{}: {wrong}", file.display())))?;
    let code = CodeVersion::load(&profile.code_folders(), 1)?;
    for application in &profile.applications {
        if code.application(&application.name).is_none() {
            let wrong = format!("the code in {} is not `{}`'s", application.code.display(), application.name);
            return Err(Failure::usage(format!("{}: {wrong}; its application.toml says another name", file.display())));
        }
    }
    let site = load_site(&profile, placement.fronts(), 1)?;
    let folder = |name: &str| {
        let application = profile.applications.iter().find(|application| application.name == name);
        application.map_or_else(|| name.into(), |application| profile.path(&application.code))
    };
    site.check_sign_in(&code, folder)?;
    orders::check_backends(&code, |backend| profile.backends.contains_key(backend), folder)?;
    check_import(&profile, &code)?;
    // Whether anybody is there is found out by `serve`.
    drop(StoreSettings::of(&profile, String::new())?);
    Ok(Plan { profile, placement, code, site })
}

/// What `twintier check` prints: the derived placement, its cost, and what the profile names.
pub fn describe(file: &Path, plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let placement = &plan.placement;
    let (workers, fronts, replicas) = (placement.workers.len(), placement.fronts(), placement.replicas());
    line(format!("profile {} is sound", file.display()));
    line(format!("placement: {workers} workers, {fronts} fronts, {replicas} replicas"));
    for (index, worker) in placement.workers.iter().enumerate() {
        let front = worker.front.map_or_else(String::new, |front| format!(" front {front}"));
        let replica = worker.replica.map_or_else(String::new, |replica| format!(" replica {replica}"));
        line(format!("  worker {index:<3} core {:<4} node {}{front}{replica}", worker.cpu.number, worker.cpu.node));
    }
    line(placement.housekeeping.map_or_else(
        || "  no housekeeping core: storage, database, passwords and admin run where there is room".into(),
        |core| format!("  housekeeping core {core}: storage, database, passwords, admin"),
    ));
    for remark in &placement.remarks {
        line(format!("  note: {remark}"));
    }
    if !placement.absent.is_empty() {
        line(format!("  this machine lacks cores {:?}: `serve` would refuse", placement.absent));
    }
    line(format!("cost\n{}", Budget::of(&plan.profile, placement).describe().trim_end()));
    if plan.profile.database.kind == profile::DatabaseKind::Postgres {
        line(format!("note: {}", neighbors::DURABLE));
    }
    line("statements".into());
    for (route, target) in plan.site.table.routes().iter().zip(&plan.site.targets) {
        line(format!("  line {:<4} {:<24} {target}", route.line, route.pattern));
    }
    for application in &plan.code.applications {
        let tables: Vec<&str> = application.code_tables.iter().map(|table| &*table.name).collect();
        line(format!(
            "code of {} ({}): {} code tables\n  {}",
            application.name,
            application.title,
            tables.len(),
            tables.join("\n  ")
        ));
    }
    line("data tables".into());
    for shape in &plan.code.shapes.shapes {
        line(format!("  {} ({} fields, key {})", shape.table, shape.fields.len(), shape.key));
    }
    out
}
