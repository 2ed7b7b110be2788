//! The statements in force with what they point at, compiled from the file server's files and published to every
//! front server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Fault;
use crate::statements::grammar::{self, Action};
use crate::statements::table::{Route, RouteTable};
use crate::statements::upstream::Upstream;
use crate::tables::code::CodeVersion;

use super::files::{ObjectLimits, ObjectStore};

/// One published version of the statements. Requests that began under it finish under it.
pub struct Site {
    pub version: u64,
    pub table: RouteTable,
    /// What each route leads to, by the route's index.
    pub targets: Vec<Target>,
    /// The files and folders that it was made of.
    pub sources: Vec<PathBuf>,
}

/// Where a route leads.
pub enum Target {
    /// The replica cluster of an application.
    Cluster {
        application: Arc<str>,
    },
    /// Upstream servers.
    Upstream(Arc<Upstream>),
    /// Static objects.
    Files {
        objects: Arc<ObjectStore>,
    },
    /// An answer without a server.
    Fail {
        status: u16,
    },
    Redirect {
        location: Box<str>,
        status: u16,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster { application } => write!(out, "cluster {application}"),
            Self::Upstream(upstream) => write!(out, "{upstream}"),
            Self::Files { objects } => write!(out, "{} files, {} bytes", objects.path_count(), objects.total_bytes()),
            Self::Fail { status } => write!(out, "fail {status}"),
            Self::Redirect { location, status } => write!(out, "redirect {status} to {location}"),
        }
    }
}

impl Site {
    /// Compiles a statement file; folders in it are relative to the file. `applications` are the names that `cluster`
    /// may lead to.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub fn load(file: &Path, applications: &[&str], object_bytes_max: u64, version: u64) -> Result<Self, Vec<Fault>> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            vec![Fault::new(
                file,
                0,
                0,
                format!("cannot be read: {error}"),
                "storage.statements names the statement file",
            )]
        })?;
        Self::compile(file, &text, applications, object_bytes_max, version)
    }

    /// Each route with the upstream servers that it leads to, if it does.
    pub fn upstreams(&self) -> impl Iterator<Item = (&Route, Option<&Upstream>)> + Clone {
        self.table.routes().iter().zip(&self.targets).map(|(route, target)| match target {
            Target::Upstream(upstream) => (route, Some(&**upstream)),
            Target::Cluster { .. } | Target::Files { .. } | Target::Fail { .. } | Target::Redirect { .. } => {
                (route, None)
            }
        })
    }

    /// Every front has its share of a server's cap, and none of it may be nothing.
    ///
    /// # Errors
    /// A [`Fault`] for each server that may have fewer requests under way than there are fronts.
    pub fn check_shares(&self, file: &Path, fronts: usize) -> Result<(), Vec<Fault>> {
        let least = u32::try_from(fronts).unwrap_or(u32::MAX);
        let mut faults = Vec::new();
        for (route, upstream) in self.upstreams() {
            let Some(upstream) = upstream else { continue };
            for server in &upstream.servers {
                if let Some(max) = upstream.max_of(server).filter(|max| *max < least) {
                    let wrong = format!(
                        "`{}` may have {max} requests at a time, and there are {fronts} fronts",
                        server.address
                    );
                    let cure = format!("write max={least} or more, or lower cluster.fronts: each front needs a share");
                    faults.push(Fault::new(file, route.line, 1, wrong, cure));
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Where visitors are sent to sign in must be a page that visitors may see: otherwise they would be sent there again
    /// and again. `folder` is where the code of an application is said to stand.
    ///
    /// # Errors
    /// A [`Fault`] for each application whose page is another one's or its own, and is not there or closed.
    pub fn check_sign_in(&self, code: &CodeVersion, folder: impl Fn(&str) -> PathBuf) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        for application in &code.applications {
            let page = &*application.sign_in;
            let Some(route) = self.table.lookup(b"", page) else { continue };
            let Some(Target::Cluster { application: name }) = self.targets.get(route.index) else { continue };
            let Some(owner) = code.application(name).filter(|owner| !owner.is_open_to_visitors(route.below(page)))
            else {
                continue;
            };
            let file = folder(&application.name).join("application.toml");
            let wrong =
                format!("visitors are sent to `{page}` to sign in, and `{}` does not show it to them", owner.name);
            let cure = "name a form or view whose authority table allows `anonymous`".to_owned();
            faults.push(code.fault_in(&application.name, "application.toml", "sign_in", &file, (wrong, cure)));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The same from a text; `file` is where it says that it stands.
    pub fn compile(
        file: &Path,
        text: &str,
        applications: &[&str],
        object_bytes_max: u64,
        version: u64,
    ) -> Result<Self, Vec<Fault>> {
        let statements = grammar::parse(file, text)?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let mut faults = Vec::new();
        let mut targets = Vec::with_capacity(statements.len());
        let mut sources = vec![file.to_path_buf()];
        let limits = ObjectLimits { object_bytes_max, ..ObjectLimits::default() };
        for statement in &statements {
            let mut fault = |wrong: String, cure: String| {
                faults.push(Fault::new(&statement.file, statement.line, statement.column, wrong, cure));
            };
            targets.push(match &statement.action {
                Action::Cluster { application } => {
                    if !applications.contains(&&**application) {
                        fault(
                            format!("`{application}` is no application of this profile"),
                            format!("write one of: {}", applications.join(", ")),
                        );
                    }
                    Target::Cluster { application: Arc::clone(application) }
                }
                Action::Upstream(upstream) => Target::Upstream(Arc::clone(upstream)),
                Action::Files { folder: objects } => {
                    let objects = folder.join(objects);
                    let loaded = ObjectStore::load(&objects, &limits).unwrap_or_else(|wrong| {
                        fault(wrong.to_string(), "name a folder of static objects".into());
                        ObjectStore::default()
                    });
                    sources.push(objects);
                    Target::Files { objects: Arc::new(loaded) }
                }
                Action::Fail { status } => Target::Fail { status: *status },
                Action::Redirect { location, status } => {
                    Target::Redirect { location: location.clone(), status: *status }
                }
            });
        }
        match RouteTable::compile(statements, version) {
            Ok(table) if faults.is_empty() => Ok(Self { version, table, targets, sources }),
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Site;

    #[test]
    fn every_front_has_a_share_of_every_cap() {
        let text = "fail /a 404\nproxy /b upstream 10.0.0.1:80 max=3 10.0.0.2:80\n";
        let site = Site::compile(Path::new("x"), text, &[], 0, 1).unwrap_or_else(|faults| panic!("{faults:?}"));
        assert!(site.check_shares(Path::new("x"), 3).is_ok());
        let faults = site.check_shares(Path::new("x"), 4).unwrap_err();
        assert_eq!(
            faults[0].to_string(),
            "x:2:1: `10.0.0.1:80` may have 3 requests at a time, and there are 4 fronts; write max=4 or more, or lower cluster.fronts: each front needs a share"
        );
    }
}
