//! What PostgreSQL and the way to it say, as one sentence with the cure.

use std::error::Error as _;
use std::time::Duration;

use postgres::Error;
use postgres::error::Severity;

use super::super::health::State;

/// An error, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub sentence: String,
    /// What it says about the database.
    pub state: State,
    /// The connection is gone, or its end is: nobody knows what became of the statement that was under way.
    pub lost: bool,
}

/// Understands an error of the server at `place` (without a password).
pub fn say(error: &Error, place: &str) -> Said {
    match error.as_db_error() {
        Some(said) => {
            let fatal = matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
            let (sentence, state) = of_server(said.code().code(), said.message(), place);
            Said { sentence, state, lost: fatal }
        }
        None => {
            let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            let (sentence, state) = of_way(&cause, error.is_closed(), place);
            Said { sentence, state, lost: true }
        }
    }
}

/// A server that takes questions and answers none.
pub fn no_answer(place: &str, waited: Duration) -> Said {
    let sentence = format!(
        "PostgreSQL ({place}) has not answered for {} ms; look whether it is stopped (SIGSTOP, a frozen container, a disk that hangs), or allow more time with database.connect_timeout_ms and statement_timeout_ms",
        waited.as_millis()
    );
    Said { sentence, state: State::Down, lost: true }
}

/// An error that the server reported, by its SQLSTATE.
fn of_server(code: &str, message: &str, place: &str) -> (String, State) {
    let message = message.lines().next().unwrap_or("no reason given");
    let down = |cure: &str| (format!("PostgreSQL ({place}) refuses: {message}; {cure}"), State::Down);
    match code {
        "28P01" => down("set the right password: in url, in password_file, or in the environment as PGPASSWORD"),
        "28000" if message.contains("no encryption") => down(
            "this program speaks no TLS: allow the connection without it in pg_hba.conf, or use a Unix socket or a TLS tunnel",
        ),
        "28000" => down("name another user, or allow it in the server's pg_hba.conf"),
        "3D000" => down("create it (createdb), or name another one in url"),
        "42501" => down(
            "grant it to the user of url: CREATE ON DATABASE for the first start, ownership of the schema afterwards",
        ),
        "53100" => (format!("the disk of PostgreSQL ({place}) is full; free some space and try again"), State::Full),
        "53300" => down("raise max_connections of the server; an appliance needs two"),
        "57P03" => down("it is starting or ending; wait a moment"),
        "57P01" | "57P02" | "57P05" | "25P03" => {
            (format!("PostgreSQL ({place}) ended the connection: {message}; it is opened again"), State::Down)
        }
        "57014" | "55P03" => (
            format!(
                "PostgreSQL ({place}) took longer than database.statement_timeout_ms: {message}; nothing of it is written. Look for what it waits for in pg_stat_activity, or allow more time"
            ),
            State::Slow,
        ),
        "25006" => down("it is a standby: name the primary in url"),
        "58030" if message.contains("No space left") => {
            (format!("the disk of PostgreSQL ({place}) is full; free some space and try again"), State::Full)
        }
        "58030" | "XX001" | "XX002" => down("look into its log, and restore it from a backup"),
        // Whatever else a statement may meet concerns that statement.
        _ => (format!("PostgreSQL ({place}) refused ({code}): {message}"), State::Up),
    }
}

/// An error on the way to the server.
fn of_way(cause: &str, closed: bool, place: &str) -> (String, State) {
    let cause = cause.lines().next().unwrap_or("no reason given");
    let sentence = if closed || cause.contains("connection closed") {
        format!("PostgreSQL ({place}) closed the connection; it is opened again")
    } else if cause.contains("No such file or directory") || cause.contains("Connection refused") {
        format!("no PostgreSQL server at {place} ({cause}); start it, or name another host or port in url")
    } else if cause.contains("timed out") || cause.contains("timeout") {
        format!(
            "PostgreSQL ({place}) did not answer within database.connect_timeout_ms; look at the network, or allow more time"
        )
    } else if cause.contains("password missing") {
        format!(
            "PostgreSQL ({place}) wants a password; write it into a file that password_file names, or into the environment as PGPASSWORD"
        )
    } else {
        format!("PostgreSQL ({place}) cannot be asked: {cause}; look whether it runs, and into its log")
    };
    (sentence, State::Down)
}

#[cfg(test)]
mod tests {
    use super::{of_server, of_way};
    use crate::database::health::State;

    #[test]
    fn every_refusal_is_one_sentence_with_place_and_cure() {
        for (code, message, state, cure) in [
            ("28P01", "password authentication failed for user \"u\"", State::Down, "PGPASSWORD"),
            ("28000", "no pg_hba.conf entry for host, no encryption", State::Down, "TLS tunnel"),
            ("28000", "role \"u\" does not exist", State::Down, "pg_hba.conf"),
            ("3D000", "database \"x\" does not exist", State::Down, "createdb"),
            ("53100", "could not extend file", State::Full, "free some space"),
            ("58030", "could not write: No space left on device", State::Full, "free some space"),
            ("57014", "canceling statement due to statement timeout", State::Slow, "statement_timeout_ms"),
            ("25006", "cannot execute INSERT in a read-only transaction", State::Down, "primary"),
            ("54000", "index row size 8 exceeds maximum\nsecond line", State::Up, "54000"),
        ] {
            let (sentence, said) = of_server(code, message, "host=/run dbname=x");
            assert_eq!(said, state, "{code}");
            assert!(sentence.contains(cure) && sentence.contains("host=/run dbname=x"), "{sentence}");
            assert!(!sentence.contains('\n'), "{sentence}");
        }
        for (cause, closed, cure) in [
            ("No such file or directory (os error 2)", false, "start it"),
            ("Connection refused (os error 111)", false, "start it"),
            ("connection timed out", false, "connect_timeout_ms"),
            ("password missing", false, "password_file"),
            ("", true, "opened again"),
            ("Broken pipe (os error 32)", false, "look whether it runs"),
        ] {
            let (sentence, state) = of_way(cause, closed, "host=/run");
            assert!(state == State::Down && sentence.contains(cure) && sentence.contains("host=/run"), "{sentence}");
        }
    }
}
