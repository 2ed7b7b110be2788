//! `--set section.key=value`: what the command line says instead of the file.

use std::path::PathBuf;

use super::Profile;
use crate::error::Fault;

/// Puts a setting into the tree and reads the profile again, first with the value as TOML reads it, then as text.
pub(super) fn with_setting(tree: &mut toml::Table, setting: &str) -> Result<Profile, Fault> {
    let mut candidate = tree.clone();
    apply_setting(&mut candidate, setting, false)?;
    match candidate.clone().try_into() {
        Ok(profile) => {
            *tree = candidate;
            Ok(profile)
        }
        Err(error) => {
            apply_setting(tree, setting, true)?;
            let place = PathBuf::from(format!("--set {setting}"));
            let fault = |error: toml::de::Error| {
                Fault::new(&place, 1, 1, error.message().replace('\n', " "), "profiles/README.md lists every key")
            };
            tree.clone().try_into().map_err(|_| fault(error))
        }
    }
}

fn apply_setting(tree: &mut toml::Table, setting: &str, as_text: bool) -> Result<(), Fault> {
    let usage = "write --set section.key=value, for instance --set listen.http=127.0.0.1:0";
    let place = PathBuf::from(format!("--set {setting}"));
    let (path, value) = setting.split_once('=').ok_or_else(|| Fault::new(&place, 1, 1, "no `=`", usage))?;
    let (section, key) = path.split_once('.').ok_or_else(|| Fault::new(&place, 1, 1, "no section", usage))?;
    let mut table = tree;
    let mut parts: Vec<&str> = section.split('.').collect();
    parts.extend(key.split('.'));
    let last = parts.pop().expect("invariant: split yields at least one part");
    for part in parts {
        table = table
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| Fault::new(&place, 1, 1, format!("`{part}` is no section"), usage))?;
    }
    // What TOML reads as a number or truth value stays one, unless only text fits the key.
    let parsed =
        toml::from_str::<toml::Table>(&format!("value = {value}")).ok().and_then(|mut table| table.remove("value"));
    let value = match parsed {
        Some(parsed) if !as_text => parsed,
        Some(toml::Value::String(text)) => toml::Value::String(text),
        Some(_) | None => toml::Value::String(value.into()),
    };
    table.insert(last.into(), value);
    Ok(())
}
