//! The statements in force with what they point at, compiled from the file server's files and published to every
//! front server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::Address;
use crate::error::Fault;
use crate::statements::grammar::{self, Action};
use crate::statements::table::RouteTable;

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
    Upstream {
        servers: Vec<Address>,
    },
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
            Self::Upstream { servers } => {
                out.write_str("upstream")?;
                servers.iter().try_for_each(|server| write!(out, " {server}"))
            }
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
                Action::Upstream { addresses } => Target::Upstream { servers: addresses.clone() },
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
