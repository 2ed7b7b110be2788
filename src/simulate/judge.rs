//! Whether an answer is right, and what it binds the cluster to.

use serde_json::Value as Json;

use super::application;
use super::ledger::{Ledger, Level};
use super::operation::{Kind, Operation};
use super::wire::Message;

/// What an answer says that does not know what became of its request.
const NOT_KNOWN: &str = "is not known";

/// Judges an answer. False if nobody knows what became of the request.
///
/// # Errors
/// What is wrong with it; one sentence.
pub fn answer(
    operation: &Operation,
    answer: &Message,
    user: &str,
    browser: usize,
    ledger: &mut Ledger,
) -> Result<bool, String> {
    match answer.status() {
        200..=202 => accepted(operation, answer, user, browser, ledger).map(|()| true),
        403 => refused(operation, user, browser, ledger).map(|()| true),
        404 => missing(operation, ledger).map(|()| true),
        // The replica went down with the request.
        500 | 504 if answer.text().contains(NOT_KNOWN) && (answer.status() == 504 || ledger.crashes > 0) => {
            ledger.refused += 1;
            lost(operation, ledger);
            Ok(!operation.is_write())
        }
        // Others were faster, again and again; or there was no room or no time. Nothing was written.
        409 | 503 if operation.is_write() => {
            ledger.refused += 1;
            settle(operation, ledger, Outcome::Nothing);
            Ok(true)
        }
        408 | 503 => {
            ledger.refused += 1;
            lost(operation, ledger);
            Ok(!operation.is_write())
        }
        // It may be written, or be written yet.
        504 if operation.is_write() => {
            ledger.refused += 1;
            lost(operation, ledger);
            Ok(false)
        }
        _ => Err(format!("{}: {}", answer.line, answer.text())),
    }
}

/// No answer came.
pub fn lost(operation: &Operation, ledger: &mut Ledger) {
    settle(operation, ledger, Outcome::Unknown);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Nothing,
    Unknown,
}

/// Writes down what became of a request.
fn settle(operation: &Operation, ledger: &mut Ledger, outcome: Outcome) {
    if outcome == Outcome::Done && operation.is_write() {
        ledger.acknowledged += 1;
    }
    let (key, kills) = (&operation.key, operation.kills);
    let value = Some(operation.value.clone());
    match (operation.kind, outcome) {
        (Kind::Get(_) | Kind::Gate | Kind::Share(_), _) => {}
        (Kind::Show, Outcome::Done) => ledger.written(key, Level::Durable, value, kills),
        (Kind::Show, Outcome::Unknown) => ledger.unknown(key, Level::Durable, value),
        (Kind::Put(level), Outcome::Done) => ledger.written(key, level, value, kills),
        (Kind::Put(level), Outcome::Unknown) => ledger.unknown(key, level, value),
        (Kind::Guarded, Outcome::Done) => ledger.written(key, Level::Durable, value, kills),
        (Kind::Guarded, Outcome::Unknown) => ledger.unknown(key, Level::Durable, value),
        (Kind::Remove, Outcome::Done) => ledger.written(key, Level::Durable, None, kills),
        (Kind::Remove, Outcome::Unknown) => ledger.unknown(key, Level::Durable, None),
        (Kind::Count, Outcome::Done) => ledger.counters.entry(key.clone()).or_default().acknowledged += 1,
        (Kind::Count, Outcome::Unknown) => ledger.counters.entry(key.clone()).or_default().unknown += 1,
        (Kind::Order, Outcome::Done) => drop(ledger.orders.insert(key.clone(), true)),
        (Kind::Order, Outcome::Unknown) => drop(ledger.orders.entry(key.clone()).or_insert(false)),
        (Kind::Grant(on), Outcome::Done) => {
            let role = ledger.role(key);
            role.granted = Some(on).filter(|_| role.changes == operation.role_changes);
        }
        (Kind::Grant(_), Outcome::Unknown) => ledger.role(key).granted = None,
        (
            Kind::Put(_) | Kind::Show | Kind::Guarded | Kind::Remove | Kind::Count | Kind::Order | Kind::Grant(_),
            Outcome::Nothing,
        ) => {}
    }
}

fn accepted(
    operation: &Operation,
    answer: &Message,
    user: &str,
    browser: usize,
    ledger: &mut Ledger,
) -> Result<(), String> {
    match operation.kind {
        Kind::Get(level) => read(operation, level, &answer.json(), ledger),
        Kind::Gate => gate(operation, &answer.text(), browser, ledger),
        Kind::Show => shown(operation, &answer.text(), ledger),
        Kind::Put(_) | Kind::Share(_) | Kind::Count | Kind::Guarded => {
            let json = answer.json();
            let version = check_version(operation, &json, ledger)?;
            let row = &json["row"];
            // Whoever else writes the row may have been faster than the answer.
            let own = !matches!(operation.kind, Kind::Share(_) | Kind::Count);
            if own && (row["code"].as_u64() != Some(version) || row["text"].as_str() != Some(&operation.value)) {
                return Err(format!("version {version} answers, and the row is {row}"));
            }
            if operation.kind == Kind::Guarded {
                let role = *ledger.role(user);
                if operation.granted == Some(false) && role.changes == operation.role_changes {
                    return Err("a role was used after its revocation had returned".to_owned());
                }
            }
            settle(operation, ledger, Outcome::Done);
            Ok(())
        }
        Kind::Remove | Kind::Order | Kind::Grant(_) => {
            check_version(operation, &answer.json(), ledger)?;
            settle(operation, ledger, Outcome::Done);
            Ok(())
        }
    }
}

/// A page that shows what was just written: one version made the row and the page.
fn shown(operation: &Operation, text: &str, ledger: &mut Ledger) -> Result<(), String> {
    let versions = (operation.version_min..=ledger.begun).rev();
    let mut right = versions.map(|version| format!("shown by version {version}: {version} {}.", operation.value));
    if !right.any(|right| right == text) {
        let min = operation.version_min;
        return Err(format!("{min} was deployed, {:?} was sent, and the page is {text:?}", operation.value));
    }
    settle(operation, ledger, Outcome::Done);
    Ok(())
}

/// The version that the answer's location names: no older than the last deploy that had returned.
fn check_version(operation: &Operation, json: &Json, ledger: &Ledger) -> Result<u64, String> {
    let location = json["location"].as_str().unwrap_or("");
    let version = location.rsplit_once("?v=").and_then(|(_, version)| version.parse().ok());
    let version: u64 = version.ok_or_else(|| format!("no version in the location {location:?}"))?;
    if version < operation.version_min || version > ledger.begun {
        let (min, begun) = (operation.version_min, ledger.begun);
        return Err(format!("version {version} answers, of {min} deployed and {begun} begun"));
    }
    Ok(version)
}

fn read(operation: &Operation, level: Level, json: &Json, ledger: &mut Ledger) -> Result<(), String> {
    let text = json["row"]["text"].as_str();
    let note = ledger.note(&operation.key, level);
    // A local write is promised to the replica that took it, and the next request may go to another one.
    if level == Level::Local || note.may_be(text) {
        return Ok(());
    }
    Err(format!("reads {text:?}, and wrote {:?}", note.acknowledged))
}

fn gate(operation: &Operation, text: &str, browser: usize, ledger: &Ledger) -> Result<(), String> {
    let version = text.strip_prefix("gate of version ").and_then(|rest| rest.strip_suffix('.'));
    let version: u64 = version.and_then(|version| version.parse().ok()).ok_or_else(|| format!("no gate: {text:?}"))?;
    if version < operation.version_min || version > ledger.begun {
        return Err(format!("version {version}, after {} was deployed", operation.version_min));
    }
    if version.is_multiple_of(2) != browser.is_multiple_of(2) {
        return Err(format!("the page of version {version} under the role table of another one"));
    }
    Ok(())
}

/// 403.
fn refused(operation: &Operation, user: &str, browser: usize, ledger: &mut Ledger) -> Result<(), String> {
    ledger.refused += 1;
    match operation.kind {
        Kind::Gate => {
            let mut versions = operation.version_min..=ledger.begun;
            if versions.all(|version| version.is_multiple_of(2) == browser.is_multiple_of(2)) {
                return Err(format!("403 under version {}", operation.version_min));
            }
            Ok(())
        }
        Kind::Guarded => {
            let role = *ledger.role(user);
            if operation.granted == Some(true) && role.changes == operation.role_changes {
                return Err("a role is not there after it was given".to_owned());
            }
            Ok(())
        }
        Kind::Grant(_) if user != application::CHIEF => Ok(()),
        Kind::Put(_)
        | Kind::Show
        | Kind::Get(_)
        | Kind::Remove
        | Kind::Count
        | Kind::Share(_)
        | Kind::Order
        | Kind::Grant(_) => Err("403".to_owned()),
    }
}

/// 404.
fn missing(operation: &Operation, ledger: &mut Ledger) -> Result<(), String> {
    ledger.refused += 1;
    match operation.kind {
        Kind::Get(level) => read(operation, level, &Json::Null, ledger),
        Kind::Remove => {
            let note = ledger.note(&operation.key, Level::Durable);
            if note.may_be(None) {
                return Ok(());
            }
            Err(format!("nothing to delete, and wrote {:?}", note.acknowledged))
        }
        Kind::Put(_)
        | Kind::Show
        | Kind::Count
        | Kind::Share(_)
        | Kind::Order
        | Kind::Gate
        | Kind::Guarded
        | Kind::Grant(_) => Err("404".to_owned()),
    }
}
