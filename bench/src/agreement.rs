//! Whether all replicas hold the same rows, of one appliance or of several, asked of their admin interfaces.
//!
//! The digests of all tables are compared here, one by one: what an appliance says of itself (`equal`) must hold as well,
//! and is not enough.

use std::time::Duration;

use serde_json::Value;

use crate::failure::Failure;
use crate::http::get_json;
use crate::process::Interrupt;

/// For replicas to agree once nothing is written any more.
const DEADLINE: Duration = Duration::from_secs(20);

/// Whether they agree at this moment.
///
/// # Errors
/// An admin interface does not answer.
pub fn now(admins: &[&str]) -> Result<bool, Failure> {
    let each = admins.iter().map(|admin| get_json(admin, "/replication"));
    Ok(equal(&each.collect::<Result<Vec<Value>, Failure>>()?))
}

/// Waits until they agree; why a run may not be quoted if they do not.
///
/// # Errors
/// As [`now`], or a signal arrives.
pub fn wrong(interrupt: &Interrupt, admins: &[&str]) -> Result<Option<String>, Failure> {
    let agreed = interrupt.wait_for(DEADLINE, || Ok(now(admins)?.then_some(())))?;
    Ok(agreed.is_none().then(|| format!("the replicas' digests differ {} s after the load", DEADLINE.as_secs())))
}

fn equal(appliances: &[Value]) -> bool {
    let own = |appliance: &Value| appliance["replicas"].as_array().cloned().unwrap_or_default();
    let Some(first) = appliances.first().and_then(|appliance| own(appliance).first().cloned()) else { return false };
    let tables = &first["tables"];
    let same = |appliance: &Value| {
        let replicas = own(appliance);
        appliance["equal"] == true && !replicas.is_empty() && replicas.iter().all(|other| other["tables"] == *tables)
    };
    tables.as_array().is_some_and(|tables| !tables.is_empty()) && appliances.iter().all(same)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::equal;

    fn appliance(word: bool, digests: &[&str]) -> Value {
        let replica = |digest: &&str| json!({ "tables": [{ "table": "item", "rows": 2, "digest": digest }] });
        json!({ "equal": word, "replicas": digests.iter().map(replica).collect::<Vec<_>>() })
    }

    #[test]
    fn every_digest_of_every_replica_counts() {
        assert!(equal(&[appliance(true, &["a", "a"])]));
        assert!(!equal(&[appliance(true, &["a", "b"])]), "whatever the appliance says of itself");
        assert!(!equal(&[appliance(false, &["a", "a"])]));
        assert!(!equal(&[]) && !equal(&[appliance(true, &[])]), "nobody agrees with nobody");
        assert!(!equal(&[json!({ "equal": true, "replicas": [{}, {}] })]), "no tables, no agreement");
    }

    #[test]
    fn appliances_on_one_database_agree_with_each_other() {
        let one = appliance(true, &["a", "a"]);
        assert!(equal(&[one.clone(), one.clone()]));
        assert!(!equal(&[one.clone(), appliance(true, &["b"])]));
        assert!(!equal(&[one, appliance(true, &[])]));
    }
}
