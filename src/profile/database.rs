//! The store of record, as a profile names it.

use std::path::PathBuf;

use serde::Deserialize;

use super::Wrong;

/// The longest time that the database may be waited for.
const DATABASE_TIMEOUT_MS_MAX: u64 = 600_000;

/// The store of record.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    pub kind: DatabaseKind,
    /// DuckDB: the file, relative to the working directory.
    pub path: PathBuf,
    pub memory_mb: usize,
    /// `refuse` a database whose log is damaged, or `cut` the log before the damage.
    pub damaged_log: String,
    /// PostgreSQL: where it is, as libpq's `key=value` text or URL. May hold a password: never printed.
    pub url: String,
    /// Its first line is the password; relative to the profile.
    pub password_file: PathBuf,
    /// The schema that holds the tables.
    pub schema: String,
    pub connect_timeout_ms: u64,
    pub statement_timeout_ms: u64,
}

/// The program behind [`Database`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// DuckDB in this process, in a file that is this process's alone.
    #[default]
    Duckdb,
    /// A PostgreSQL server, which several appliances may share.
    Postgres,
}

impl DatabaseKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Duckdb => "duckdb",
            Self::Postgres => "postgres",
        }
    }
}

impl Default for Database {
    fn default() -> Self {
        Self {
            kind: DatabaseKind::default(),
            path: "twintier-data/appliance.duckdb".into(),
            memory_mb: 1024,
            damaged_log: "refuse".into(),
            url: String::new(),
            password_file: PathBuf::new(),
            schema: "twintier".into(),
            connect_timeout_ms: 5_000,
            statement_timeout_ms: 30_000,
        }
    }
}

impl Database {
    /// What can be told without asking the database.
    pub(super) fn validate(&self) -> Result<(), Wrong> {
        for (key, value) in
            [("connect_timeout_ms", self.connect_timeout_ms), ("statement_timeout_ms", self.statement_timeout_ms)]
        {
            if !(1..=DATABASE_TIMEOUT_MS_MAX).contains(&value) {
                return Err((key, format!("{value} milliseconds"), "1 to 600000, which is ten minutes"));
            }
        }
        if !["refuse", "cut"].contains(&self.damaged_log.as_str()) {
            let wrong = format!("`{}` is nothing to do with a damaged log", self.damaged_log);
            return Err(("damaged_log", wrong, "write refuse, or cut for one start"));
        }
        match self.kind {
            DatabaseKind::Duckdb if !self.url.is_empty() => {
                Err(("url", "DuckDB has no url".into(), "write kind = \"postgres\", or leave it out"))
            }
            DatabaseKind::Postgres if self.url.is_empty() => Err((
                "url",
                "kind = \"postgres\" needs to know where the server is".into(),
                "write url = \"host=/var/run/postgresql dbname=twintier\", or postgres://user@host/database",
            )),
            DatabaseKind::Duckdb | DatabaseKind::Postgres => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Database, DatabaseKind};

    #[test]
    fn what_cannot_be_is_told_with_its_key() {
        let fine = Database::default;
        let postgres = || Database { kind: DatabaseKind::Postgres, url: "host=h".into(), ..fine() };
        assert_eq!((fine().validate(), postgres().validate()), (Ok(()), Ok(())));
        for (wrong, key) in [
            (Database { url: "host=h".into(), ..fine() }, "url"),
            (Database { url: String::new(), ..postgres() }, "url"),
            (Database { connect_timeout_ms: 0, ..postgres() }, "connect_timeout_ms"),
            (Database { statement_timeout_ms: 600_001, ..postgres() }, "statement_timeout_ms"),
            (Database { damaged_log: "forget".into(), ..fine() }, "damaged_log"),
        ] {
            assert_eq!(wrong.validate().unwrap_err().0, key);
        }
    }
}
