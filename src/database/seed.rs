//! What a new database begins with: the session key and the users of the profile.

use std::io::Read;

use super::contract::{Change, Mutation, Outcome, Store, StoreResult, Uncommitted};
use super::orders::{Author, mutate};
use crate::storage::passwords;
use crate::tables::{Record, Value};

/// A user of the profile's `[[users]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeedUser {
    /// The name to sign in with: the key in `user_profile`.
    pub user: String,
    pub full_name: String,
    pub department: String,
    pub email: String,
    /// Words separated by spaces.
    pub roles: String,
    /// In clear; only its hash is stored.
    pub password: String,
}

/// Inserts the users that the database has never had (a deleted one stays deleted); returns how many.
///
/// # Errors
/// The store's, or a password that cannot be hashed; one sentence.
pub(super) fn seed_users<S: Store>(
    store: &mut S,
    author: &mut Author,
    users: &[SeedUser],
    now_ms: u64,
) -> StoreResult<usize> {
    if users.is_empty() {
        return Ok(0);
    }
    let table =
        store.shapes().id("user_profile").ok_or("the profile names users and the code has no table `user_profile`")?;
    let shape = store.shapes().get(table).clone();
    let mut mutations = Vec::new();
    for user in users {
        if store.row(table, &user.user)?.is_some() {
            continue;
        }
        let mut values = vec![Value::Null; shape.fields.len()];
        let hash = passwords::hash(&user.password).map_err(|wrong| format!("user `{}`: {wrong}", user.user))?;
        for (field, value) in [
            ("name", Value::text(&user.full_name)),
            ("department", Value::text(&user.department)),
            ("email", Value::text(&user.email)),
            ("roles", Value::text(&user.roles)),
            ("active", Value::Boolean(true)),
            ("password_hash", Value::text(&hash)),
        ] {
            let index = shape.field(field).ok_or_else(|| format!("table `user_profile` has no field `{field}`"))?;
            values[index] = value;
        }
        mutations.push(Mutation { table, key: user.user.as_str().into(), change: Change::Put(Record(values.into())) });
    }
    store.begin()?;
    // Another appliance that starts on the same database may have been faster: its users stay.
    let mut absent = Vec::with_capacity(mutations.len());
    for mutation in mutations {
        if store.row(table, &mutation.key)?.is_none() {
            absent.push(mutation);
        }
    }
    let mutations = absent;
    match mutate(store, author, &mutations, now_ms)? {
        Outcome::Failed(wrong) | Outcome::Unknown(wrong) => Err(wrong),
        Outcome::Committed { .. } | Outcome::Conflict { .. } | Outcome::Row(_) | Outcome::Number(_) => {
            store.commit().map_err(Uncommitted::sentence)?;
            Ok(mutations.len())
        }
    }
}

/// The key that signs session cookies: made once, kept in the database, so that a restart signs nobody out.
///
/// # Errors
/// The store's, or no randomness from the kernel; one sentence.
pub(super) fn session_key<S: Store>(store: &mut S) -> StoreResult<[u8; 32]> {
    const NAME: &str = "session_key";
    let known = |text: String| {
        key_of(&text).ok_or_else(|| "the session key in the database is damaged; restore it from a backup".to_owned())
    };
    if let Some(text) = store.setting(NAME)? {
        return known(text);
    }
    let mut key = [0; 32];
    let mut source = std::fs::File::open("/dev/urandom")
        .map_err(|error| format!("no randomness for the session key: /dev/urandom: {error}"))?;
    source.read_exact(&mut key).map_err(|error| format!("no randomness for the session key: /dev/urandom: {error}"))?;
    store.begin()?;
    // Another appliance that starts on the same database may have been faster: its key is everybody's.
    if let Some(text) = store.setting(NAME)? {
        store.rollback();
        return known(text);
    }
    store.set_setting(NAME, &key.iter().map(|byte| format!("{byte:02x}")).collect::<String>())?;
    store.commit().map_err(Uncommitted::sentence)?;
    Ok(key)
}

fn key_of(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(key)
}
