//! Which store of record a profile names.

use std::time::Duration;

use super::Failure;
use crate::database::duckdb;
use crate::database::postgres;
use crate::profile::{DatabaseKind, Profile};

/// Where the store of record is.
pub enum StoreSettings {
    Duck(duckdb::Settings),
    Postgres(Box<postgres::Settings>),
}

impl StoreSettings {
    /// The store that the profile names; `appliance` names this run of it among those that share the database.
    pub fn of(profile: &Profile, appliance: String) -> Result<Self, Failure> {
        let named = &profile.database;
        match named.kind {
            DatabaseKind::Duckdb => {
                let mut settings = duckdb::Settings::new(&named.path);
                settings.memory_bytes = named.memory_mb as u64 * 1024 * 1024;
                settings.cut_damaged_log = named.damaged_log == "cut";
                Ok(Self::Duck(settings))
            }
            DatabaseKind::Postgres => {
                let fault = |key: &str, wrong: String| Failure::from(profile.fault("database", key, wrong, ""));
                let password = database_password(profile)?;
                let settings = postgres::Settings::parse(&named.url, password).map_err(|wrong| fault("url", wrong))?;
                let settings = settings.with_schema(&named.schema).map_err(|wrong| fault("schema", wrong))?;
                let (connect_ms, statement_ms) = (named.connect_timeout_ms, named.statement_timeout_ms);
                let settings =
                    settings.with_timeouts(Duration::from_millis(connect_ms), Duration::from_millis(statement_ms));
                Ok(Self::Postgres(Box::new(settings.with_appliance(&appliance).as_member(&profile.cluster.name))))
            }
        }
    }

    /// Where several appliances may share it.
    pub fn shared(&self) -> Option<&postgres::Settings> {
        match self {
            Self::Duck(_) => None,
            Self::Postgres(settings) => Some(settings),
        }
    }

    /// For people: without a password.
    pub fn place(&self) -> String {
        match self {
            Self::Duck(settings) => settings.path.display().to_string(),
            Self::Postgres(settings) => format!("{} schema={}", settings.place(), settings.schema),
        }
    }
}

/// The password for a URL that has none: of the file that the profile names, else of the environment.
fn database_password(profile: &Profile) -> Result<Option<String>, Failure> {
    let file = &profile.database.password_file;
    if file.as_os_str().is_empty() {
        return Ok(std::env::var("PGPASSWORD").ok());
    }
    let path = profile.path(file);
    let fault = |wrong: String, cure: &str| Failure::from(profile.fault("database", "password_file", wrong, cure));
    let text = std::fs::read_to_string(&path).map_err(|error| {
        fault(format!("{} cannot be read: {error}", path.display()), "name a file that this user may read")
    })?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(Some(password.to_owned())),
        Some(_) | None => Err(fault(
            format!("{} begins with an empty line", path.display()),
            "write the password into its first line",
        )),
    }
}
