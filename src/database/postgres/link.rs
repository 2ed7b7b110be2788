//! A connection with its prepared statements.

use std::collections::HashMap;

use postgres::types::ToSql;
use postgres::{Error, Row, Statement};

use super::client::Client;
use super::settings::Settings;
use super::sql;
use super::words::{Said, say};
use crate::database::health::State;

/// Prepared statements kept: four for each data table, and the constant ones.
const STATEMENTS_MAX: usize = 512;
/// Bytes of a COPY that are sent at a time.
const COPY_PART_BYTES: usize = 1 << 16;

/// A connection whose server was looked at.
pub struct Link {
    pub client: Client,
    statements: HashMap<Box<str>, Statement>,
}

impl Link {
    pub fn open(settings: &Settings) -> Result<Self, Said> {
        let mut client = settings.connect_checked()?;
        // Held as long as the connection lives: shared by appliances, alone by `twintier db migrate`.
        let lock = if settings.alone { "pg_try_advisory_lock" } else { "pg_try_advisory_lock_shared" };
        let asked = format!("SELECT {lock}(hashtextextended($1, 0))");
        let row = client.query_one(&asked, &[&format!("twintier.open.{}", settings.schema)]);
        let taken: bool = row.map_err(|error| say(&error, &settings.place()))?.get(0);
        if taken {
            return Ok(Self { client, statements: HashMap::new() });
        }
        let holder = if settings.alone { "an appliance has" } else { "`twintier db migrate` has" };
        let sentence = format!(
            "schema `{}` of {} is in use: {holder} it open; wait until that has ended, or stop it",
            settings.schema,
            settings.place()
        );
        Err(Said { sentence, state: State::Locked, lost: false })
    }

    /// [`Self::open`] for a store that has been at work: the same schema version, and nothing lost that was committed.
    pub fn open_again(settings: &Settings, position: i64) -> Result<Self, Said> {
        let mut link = Self::open(settings)?;
        let place = settings.place();
        let asked = "SELECT (SELECT value FROM setting WHERE name = 'schema_version'), \
                     (SELECT coalesce(max(position), 0) FROM change_log)";
        let row = link.client.query_one(asked, &[]).map_err(|error| say(&error, &place))?;
        let (version, there): (Option<String>, i64) = (row.get(0), row.get(1));
        let down = |sentence: String| Err(Said { sentence, state: State::Down, lost: false });
        if version.as_deref() != Some(sql::SCHEMA_VERSION) {
            return down(wrong_version(settings, version.as_deref().unwrap_or("none")));
        }
        if there < position {
            return down(format!(
                "PostgreSQL ({place}) holds less than it has committed (change {there} of {position}): it was restored from a backup, or another server has taken its place; restart the appliance to go on with what is there"
            ));
        }
        Ok(link)
    }

    pub fn query(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let statement = self.prepared(sql)?;
        self.client.query(&statement, parameters)
    }

    pub fn execute(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        let statement = self.prepared(sql)?;
        self.client.execute(&statement, parameters)
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        self.statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    /// Sends the text of a COPY; gives the number of rows.
    pub fn copy(&mut self, sql: &str, text: &str) -> Result<u64, Error> {
        let parts = text.as_bytes().chunks(COPY_PART_BYTES).map(<[u8]>::to_vec).collect();
        self.client.copy_in(sql, parts)
    }

    /// Asks for nothing: whether anybody is there.
    pub fn ping(&mut self) -> Result<(), Error> {
        self.client.batch_execute("")
    }
}

/// The sentence for a schema of another program version.
pub fn wrong_version(settings: &Settings, version: &str) -> String {
    format!(
        "schema `{}` of {} has version {version} and this program needs {}; start the program that wrote it, or name another schema",
        settings.schema,
        settings.place(),
        sql::SCHEMA_VERSION
    )
}
