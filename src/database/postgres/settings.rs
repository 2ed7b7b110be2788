//! Where a PostgreSQL database is and how it is spoken to; opening a connection that keeps what [`Store`] promises.
//!
//! [`Store`]: super::super::contract::Store

use std::time::Duration;

use postgres::NoTls;
use postgres::config::{Host, SslMode};
use tokio_postgres::Config;

use super::client::{Client, Unconnected};
use super::words::{Said, no_answer, say};
use crate::database::health::State;

/// The oldest server that has every function used here (`pg_current_xact_id`), as `server_version_num`.
pub const VERSION_MIN: u32 = 130_000;
/// Bytes of a name in PostgreSQL (`NAMEDATALEN` less one); it would cut a longer one without an error.
pub const NAME_BYTES_MAX: usize = 63;
/// PostgreSQL's port where nobody names one.
const PORT_DEFAULT: u16 = 5432;
/// Change log lines that are kept where nothing else is said.
pub const CHANGE_LOG_LINES_MAX: u64 = 1_000_000;
/// What to do where somebody else could listen on the way.
const NO_TLS: &str = "this program speaks no TLS to PostgreSQL: use a Unix socket, a private network, or a TLS tunnel \
                      (stunnel, ssh -L) that ends on this machine, and leave sslmode out";

/// Where the database is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Prints without its password.
    config: Config,
    /// The schema that holds the tables; made at the first start.
    pub schema: String,
    /// Names this appliance among those that share the database; anything unique to this run of it.
    pub appliance: String,
    /// The name under which it takes a place among the appliances that share the database; `None`: it takes none.
    pub member: Option<String>,
    pub statement_timeout: Duration,
    pub connect_timeout: Duration,
    /// Change log lines that are kept: whoever is further behind has to load everything again. Twice as many where an
    /// appliance that is alive has not read them ([`WAITING_FACTOR`](super::WAITING_FACTOR)).
    pub change_log_lines_max: u64,
    /// Nobody else may have the schema open meanwhile.
    pub(super) alone: bool,
}

impl Settings {
    /// Reads libpq's `key=value` text or a URL. `password` is used where the text has none.
    ///
    /// # Errors
    /// One sentence with the cure, without the text, which may hold a password.
    pub fn parse(url: &str, password: Option<String>) -> Result<Self, String> {
        // The library knows only three modes, and would call the others nonsense.
        if ["sslmode=require", "sslmode=verify"].iter().any(|mode| url.replace(' ', "").contains(mode)) {
            return Err(NO_TLS.into());
        }
        let mut config: Config = url.parse().map_err(|error: postgres::Error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            format!("this is no address of a PostgreSQL database ({cause}); write host=… port=… user=… dbname=…, or postgres://user@host:port/database")
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(NO_TLS.into());
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(
                "the address names no host; write host=/var/run/postgresql for the server of this machine".into()
            );
        }
        config.ssl_mode(SslMode::Disable);
        if let (None, Some(password)) = (config.get_password(), password) {
            config.password(password);
        }
        if config.get_application_name().is_none() {
            config.application_name("twintier");
        }
        // A peer that is gone without a word must not hold the thread: only TCP needs that.
        config.keepalives_idle(Duration::from_secs(10));
        let settings = Self {
            config,
            schema: "twintier".into(),
            appliance: String::new(),
            member: None,
            statement_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            change_log_lines_max: CHANGE_LOG_LINES_MAX,
            alone: false,
        };
        Ok(settings.with_timeouts(Duration::from_secs(5), Duration::from_secs(30)))
    }

    #[must_use]
    pub fn with_timeouts(mut self, connect: Duration, statement: Duration) -> Self {
        self.config.connect_timeout(connect);
        self.config.tcp_user_timeout(connect + statement);
        self.statement_timeout = statement;
        self.connect_timeout = connect;
        self
    }

    /// How long one answer is waited for: the server's own limit, and what the way may take. A server that is stopped has
    /// no limit of its own.
    pub fn patience(&self) -> Duration {
        self.connect_timeout + self.statement_timeout
    }

    /// # Errors
    /// The name is empty, too long, or PostgreSQL's own.
    pub fn with_schema(mut self, schema: &str) -> Result<Self, String> {
        if schema.is_empty() || schema.len() > NAME_BYTES_MAX || schema.starts_with("pg_") || schema.contains('\0') {
            return Err(format!(
                "`{schema}` cannot be a schema; write 1 to {NAME_BYTES_MAX} bytes that do not begin with pg_"
            ));
        }
        self.schema = schema.to_lowercase();
        Ok(self)
    }

    /// For whoever moves the database: opening fails while an appliance has it open, and appliances cannot open it.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    #[must_use]
    pub fn with_appliance(mut self, appliance: &str) -> Self {
        self.appliance = appliance.to_owned();
        self
    }

    /// Takes a place among the appliances that share the database, under a name for people.
    #[must_use]
    pub fn as_member(mut self, name: &str) -> Self {
        self.member = Some(name.to_owned());
        self
    }

    /// Where it is, for people: without the password.
    pub fn place(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        let hosts: Vec<String> = hosts.chain(self.config.get_hostaddrs().iter().map(ToString::to_string)).collect();
        let mut place = format!("host={}", hosts.join(","));
        // An address in the form of a URL names the default port where nobody wrote it.
        for port in self.config.get_ports().iter().filter(|port| **port != PORT_DEFAULT) {
            place += &format!(" port={port}");
        }
        for (key, value) in [("user", self.config.get_user()), ("dbname", self.config.get_dbname())] {
            if let Some(value) = value {
                place += &format!(" {key}={value}");
            }
        }
        place
    }

    /// The channel of notifications about commits.
    pub fn channel(&self) -> &str {
        &self.schema
    }

    /// A plain connection, as a listener needs it: time limits are set, nothing is checked.
    pub fn connect(&self) -> Result<postgres::Client, Said> {
        let said = |error: postgres::Error| say(&error, &self.place());
        let mut client = postgres::Config::from(self.config.clone()).connect(NoTls).map_err(said)?;
        client.batch_execute(&self.first_words()).map_err(said)?;
        Ok(client)
    }

    fn first_words(&self) -> String {
        let statement_ms = self.statement_timeout.as_millis();
        // One that holds the writers' lock and is gone without a word lets go of it by the last line.
        format!(
            "SET client_min_messages = warning; SET statement_timeout = {statement_ms}; \
             SET idle_in_transaction_session_timeout = {}; SET search_path = {}",
            2 * statement_ms,
            super::sql::quoted(&self.schema)
        )
    }

    /// A connection whose commits are what they say: the server is new enough, a primary, and waits for its disk.
    pub(super) fn connect_checked(&self) -> Result<Client, Said> {
        let said = |error: postgres::Error| say(&error, &self.place());
        // Each host in turn may take its time to be reached, and the one that is has to answer.
        let hosts = self.config.get_hosts().len().max(self.config.get_hostaddrs().len());
        let connect = self.connect_timeout * u32::try_from(hosts + 1).unwrap_or(u32::MAX);
        let connected = Client::connect(&self.config, connect, self.patience());
        let mut client = connected.map_err(|wrong| match wrong {
            Unconnected::Refused(error) => said(error),
            Unconnected::Late => no_answer(&self.place(), connect),
            Unconnected::Unable(error) => Said {
                sentence: format!(
                    "no connection to PostgreSQL ({}): {error}; raise the limits of this process",
                    self.place()
                ),
                state: State::Down,
                lost: true,
            },
        })?;
        client.batch_execute(&self.first_words()).map_err(said)?;
        let asked = "SELECT current_setting('server_version_num')::bigint, current_setting('server_version'), \
                     pg_is_in_recovery(), current_setting('fsync'), current_setting('synchronous_commit'), \
                     current_setting('server_encoding')";
        let row = client.query_one(asked, &[]).map_err(said)?;
        let server = Server {
            version: row.get(0),
            version_text: row.get(1),
            standby: row.get(2),
            fsync: row.get(3),
            encoding: row.get(5),
        };
        server.check(&self.place()).map_err(|sentence| Said { sentence, state: State::Down, lost: false })?;
        let synchronous: String = row.get(4);
        // `remote_write`, `remote_apply` and `local` wait for the own disk as well.
        if synchronous == "off" {
            client.batch_execute("SET synchronous_commit = on").map_err(said)?;
        }
        Ok(client)
    }
}

/// What the server says of itself.
struct Server {
    version: i64,
    version_text: String,
    standby: bool,
    fsync: String,
    encoding: String,
}

impl Server {
    fn check(&self, place: &str) -> Result<(), String> {
        if self.version < i64::from(VERSION_MIN) {
            return Err(format!(
                "PostgreSQL ({place}) is version {} and this program needs {} or newer; upgrade it, or name another server",
                self.version_text,
                VERSION_MIN / 10_000
            ));
        }
        if self.standby {
            return Err(format!("PostgreSQL ({place}) is a standby, which takes no writes; name the primary in url"));
        }
        if self.fsync == "off" {
            return Err(format!(
                "PostgreSQL ({place}) runs with fsync = off: what it calls committed is lost when the machine stops; switch it on (ALTER SYSTEM RESET fsync, then reload)"
            ));
        }
        if self.encoding != "UTF8" {
            return Err(format!(
                "the database at {place} is encoded as {} and not as UTF8; create one with createdb --encoding=UTF8 --template=template0",
                self.encoding
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Server, Settings};

    #[test]
    fn addresses_are_read_and_shown_without_their_password() {
        for (url, place) in [
            ("host=/run/pg user=u dbname=d password=hush", "host=/run/pg user=u dbname=d"),
            ("postgres://u:hush@db.example:5433/d", "host=db.example port=5433 user=u dbname=d"),
            ("postgresql://u:hush@%2Frun%2Fpg/d?sslmode=disable", "host=/run/pg user=u dbname=d"),
            ("host=a,b user=u password=hush sslmode=prefer", "host=a,b user=u"),
        ] {
            let settings = Settings::parse(url, Some("other".into())).unwrap();
            assert_eq!(settings.place(), place);
            assert_eq!(settings.config.get_password(), Some(&b"hush"[..]));
            assert!(!format!("{settings:?}").contains("hush"), "{settings:?}");
        }
        let settings = Settings::parse("host=h user=u", Some("from outside".into())).unwrap();
        assert_eq!(settings.config.get_password(), Some(&b"from outside"[..]));
    }

    #[test]
    fn addresses_that_cannot_be_are_refused_without_their_password() {
        for (url, cure) in [
            ("postgres://u:hush@h/d?sslmode=require", "TLS tunnel"),
            ("host=h sslmode=require password=hush", "TLS tunnel"),
            ("host=h sslmode=verify-full password=hush", "TLS tunnel"),
            ("dbname=d password=hush", "host=/var/run/postgresql"),
            ("host=h port=many password=hush", "postgres://"),
            ("host=h nonsense=1 password=hush", "postgres://"),
            ("hush", "postgres://"),
        ] {
            let wrong = Settings::parse(url, None).map(|_| ()).unwrap_err();
            assert!(wrong.contains(cure) && !wrong.contains("hush"), "{url}: {wrong}");
        }
        let settings = Settings::parse("host=h", None).unwrap();
        for schema in ["", "pg_mine", &"x".repeat(64)] {
            assert!(settings.clone().with_schema(schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn a_server_that_cannot_keep_the_promise_is_refused() {
        let fine = || Server {
            version: 150_010,
            version_text: "15.10".into(),
            standby: false,
            fsync: "on".into(),
            encoding: "UTF8".into(),
        };
        assert_eq!(fine().check("h"), Ok(()));
        assert_eq!(Server { version: 130_000, ..fine() }.check("h"), Ok(()));
        for (server, word) in [
            (
                Server { version: 120_017, version_text: "12.17".into(), ..fine() },
                "is version 12.17 and this program needs 13",
            ),
            (Server { standby: true, ..fine() }, "primary"),
            (Server { fsync: "off".into(), ..fine() }, "fsync"),
            (Server { encoding: "SQL_ASCII".into(), ..fine() }, "UTF8"),
        ] {
            assert!(server.check("h").is_err_and(|wrong| wrong.contains(word)));
        }
    }
}
