//! What a commit and a mutation do to the store, within the server's open transaction.
//!
//! Each function decides first and writes last: an order that is refused has written nothing, so it cannot spoil the
//! others of its group. An `Err` is the store's, and undoes the whole group.

use std::collections::{HashMap, HashSet};

use super::contract::{ABSENT, Change, CommitMode, Compared, Mutation, Outcome, Store, StoreResult};
use super::logged::fits;
use crate::tables::code::{AGENT_WORK, agent_work};
use crate::tables::stamp::{HybridClock, SERVERS_MAX};
use crate::tables::{Record, ServerId, ShapeSet, Stamp, TableId, Update, Value, VersionVector};

/// Mutations of one request at which the vectorised way pays.
pub const BULK_MIN: usize = 32;

/// Who stamps mutations: the application server and its hybrid clock.
pub struct Author {
    pub server: ServerId,
    pub clock: HybridClock,
}

impl Author {
    /// The next revision of a row.
    fn revise(&mut self, base: Stamp, versions: &VersionVector, now_ms: u64) -> (Stamp, VersionVector) {
        self.clock.see(base.time);
        let sequence = base.sequence.saturating_add(1);
        let stamp = Stamp { sequence, time: self.clock.tick(now_ms), server: self.server };
        (stamp, versions.edited_by(self.server, sequence))
    }
}

/// All updates, or none.
pub fn commit<S: Store>(
    store: &mut S,
    author: &mut Author,
    updates: &[Update],
    mode: CommitMode,
    now_ms: u64,
) -> StoreResult<Outcome> {
    for update in updates {
        if let Err(wrong) = check_update(store.shapes(), update) {
            return Ok(Outcome::Failed(wrong));
        }
    }
    for update in updates {
        author.clock.see(update.stamp.time);
    }
    match mode {
        CommitMode::Arbitrated => commit_arbitrated(store, updates),
        CommitMode::Merged => commit_merged(store, updates, now_ms),
    }
}

fn commit_arbitrated<S: Store>(store: &mut S, updates: &[Update]) -> StoreResult<Outcome> {
    let rows: Vec<(TableId, &str)> = updates.iter().map(|update| (update.table, &*update.key)).collect();
    let shared = store.place().is_some();
    let stored = store.stamps_of(&rows)?;
    let mut own: HashMap<(TableId, &str), Stamp> = HashMap::new();
    let mut refused = Vec::new();
    let mut fresh = Vec::with_capacity(updates.len());
    for ((update, row), stored) in updates.iter().zip(&rows).zip(stored) {
        let current = own.get(row).copied().unwrap_or(stored);
        if update.stamp == current {
            // Sent a second time: committed already.
            continue;
        }
        // A writer that knew the stored revision and more: its base is a write that was acknowledged before the database
        // has taken it (`local`, `all`), and which may never come. Nothing of what is stored is lost. Several appliances have
        // no such writes, and number their servers alike, so that vectors of two of them prove nothing.
        if update.base == current || (!shared && !own.contains_key(row) && knew_stored(store, update)?) {
            own.insert(*row, update.stamp);
            fresh.push(update.clone());
        } else {
            refused.push(*row);
        }
    }
    if !refused.is_empty() {
        return Ok(Outcome::Conflict { current: current_rows(store, refused)? });
    }
    store.upsert(&fresh)?;
    Ok(Outcome::Committed { updates: Vec::new() })
}

/// Whether the writer of an update knew the stored revision of its row.
fn knew_stored<S: Store>(store: &mut S, update: &Update) -> StoreResult<bool> {
    let stored = store.row(update.table, &update.key)?;
    Ok(stored.is_some_and(|stored| update.versions.settles(update.stamp, stored.stamp, &stored.versions)))
}

fn commit_merged<S: Store>(store: &mut S, updates: &[Update], now_ms: u64) -> StoreResult<Outcome> {
    for update in updates {
        let stored = store.stamps_of(&[(update.table, &update.key)])?.first().copied().unwrap_or(ABSENT);
        if stored == update.stamp {
            continue;
        }
        if stored == ABSENT || stored == update.base {
            store.upsert(std::slice::from_ref(update))?;
            continue;
        }
        let Some(stored) = store.row(update.table, &update.key)? else {
            return Err(format!("row `{}` is known and not found; restore the database from a backup", update.key));
        };
        merge(store, &stored, update, now_ms)?;
    }
    Ok(Outcome::Committed { updates: Vec::new() })
}

/// The greater stamp stays; if neither writer knew of the other, the loser is kept beside it.
fn merge<S: Store>(store: &mut S, stored: &Update, update: &Update, now_ms: u64) -> StoreResult<()> {
    let (winner, loser) = if update.stamp > stored.stamp { (update, stored) } else { (stored, update) };
    if winner.versions.covers(&loser.versions) {
        return if winner.stamp == update.stamp { store.upsert(std::slice::from_ref(update)) } else { Ok(()) };
    }
    store.keep_conflict(loser, now_ms)?;
    if winner.stamp == update.stamp { store.upsert(std::slice::from_ref(update)) } else { Ok(()) }
}

/// All mutations, or none; a missing row of a [`Change::Set`] refuses them all, and so does a piece of agents' work that
/// is another appliance's.
pub fn mutate<S: Store>(
    store: &mut S,
    author: &mut Author,
    mutations: &[Mutation],
    now_ms: u64,
) -> StoreResult<Outcome> {
    for mutation in mutations {
        if let Err(wrong) = check_mutation(store.shapes(), mutation) {
            return Ok(Outcome::Failed(wrong));
        }
    }
    let mine = store.place().map(|me| Value::Integer(me.appliance.cast_signed()));
    let mut own: HashMap<(TableId, &str), Update> = HashMap::new();
    let mut updates: Vec<Update> = Vec::with_capacity(mutations.len());
    let mut missing = Vec::new();
    for mutation in mutations {
        let row = (mutation.table, &*mutation.key);
        let stored = match own.get(&row) {
            Some(update) => Some(update.clone()),
            None => store.row(mutation.table, &mutation.key)?,
        };
        let present = stored.as_ref().and_then(|stored| stored.record.as_ref());
        if let (AGENT_WORK, Some(mine), Some(present)) = (mutation.table, &mine, present)
            && let Some(owner) = withheld(mine, &mutation.change, present)
        {
            return Ok(Outcome::Failed(format!(
                "the work `{}` belongs to appliance {owner}, which has taken it over; leave it alone",
                mutation.key
            )));
        }
        let record = match (&mutation.change, present) {
            (Change::Put(record), Some(present)) if same(record, present) => continue,
            (Change::Put(record), _) => Some(record.clone()),
            (Change::Set(values), Some(present)) => match with_values(present, values) {
                Some(record) => Some(record),
                None => continue,
            },
            (Change::Set(_), None) => {
                missing.push(row);
                continue;
            }
            (Change::Delete, None) => continue,
            (Change::Delete, Some(_)) => None,
        };
        let base = stored.as_ref().map_or(ABSENT, |stored| stored.stamp);
        let versions = stored.map_or_else(VersionVector::default, |stored| stored.versions);
        let (stamp, versions) = author.revise(base, &versions, now_ms);
        let update = Update { table: mutation.table, key: mutation.key.clone(), stamp, versions, base, record };
        own.insert(row, update.clone());
        updates.push(update);
    }
    if !missing.is_empty() {
        return Ok(Outcome::Conflict { current: current_rows(store, missing)? });
    }
    store.upsert(&updates)?;
    Ok(Outcome::Committed { updates })
}

/// Which other appliance keeps an agent from changing a row of work: one that was cut off for so long that its work was
/// taken over must not go on with it when it is back, whatever it has read before. What is finished may be put anew, by
/// whoever is ordered to do it again.
fn withheld(mine: &Value, change: &Change, present: &Record) -> Option<i64> {
    let owner = present.get(agent_work::APPLIANCE);
    let is_finished = present.get(agent_work::STATE).as_text().is_some_and(agent_work::is_finished);
    let takes = match change {
        Change::Put(_) | Change::Delete => is_finished,
        Change::Set(values) => values.iter().any(|(field, value)| *field == agent_work::APPLIANCE && value == mine),
    };
    match owner {
        Value::Integer(number) if owner != mine && !takes => Some(*number),
        Value::Integer(_) | Value::Null | Value::Text(_) | Value::Boolean(_) => None,
    }
}

/// Whether mutations are an import: many records for distinct keys of one table.
pub fn is_bulk(mutations: &[Mutation]) -> bool {
    let Some(first) = mutations.first() else { return false };
    let mut keys = HashSet::with_capacity(mutations.len());
    mutations.len() >= BULK_MIN
        && mutations.iter().all(|mutation| {
            matches!(mutation.change, Change::Put(_)) && mutation.table == first.table && keys.insert(&*mutation.key)
        })
}

/// [`mutate`] for what [`is_bulk`]; opens the transaction itself, because comparing comes before it.
pub fn mutate_bulk<S: Store>(
    store: &mut S,
    author: &mut Author,
    mutations: &[Mutation],
    now_ms: u64,
) -> StoreResult<Outcome> {
    for mutation in mutations {
        if let Err(wrong) = check_mutation(store.shapes(), mutation) {
            return Ok(Outcome::Failed(wrong));
        }
    }
    let Some(table) = mutations.first().map(|mutation| mutation.table) else {
        return Ok(Outcome::Committed { updates: Vec::new() });
    };
    let records: Vec<(&str, &Record)> = mutations
        .iter()
        .filter_map(|mutation| match &mutation.change {
            Change::Put(record) => Some((&*mutation.key, record)),
            Change::Set(_) | Change::Delete => None,
        })
        .collect();
    let compared = store.compare_bulk(table, &records)?;
    let mut updates = Vec::with_capacity(records.len());
    for ((key, record), compared) in records.into_iter().zip(compared) {
        let (base, versions) = match compared {
            Compared::Equal => continue,
            Compared::New => (ABSENT, VersionVector::default()),
            Compared::Differs { stamp, versions } => (stamp, versions),
        };
        let (stamp, versions) = author.revise(base, &versions, now_ms);
        updates.push(Update { table, key: key.into(), stamp, versions, base, record: Some(record.clone()) });
    }
    store.begin()?;
    if !updates.is_empty() {
        store.put_bulk(table, &updates)?;
    }
    Ok(Outcome::Committed { updates })
}

/// The next number of a name: greater than `above` and than all that were taken before, by whichever appliance.
pub fn number<S: Store>(store: &mut S, name: &str, above: u64) -> StoreResult<Outcome> {
    let setting = format!("number {name}");
    let taken = match store.setting(&setting)? {
        None => 0,
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| format!("setting `{setting}` is `{text}` and no number; write the greatest that was given"))?,
    };
    let next = taken.max(above).saturating_add(1);
    store.set_setting(&setting, &next.to_string())?;
    Ok(Outcome::Number(next))
}

/// Why a deploy may not have this version, where several appliances number their deploys in one row.
pub fn overtaken<S: Store>(store: &mut S, version: u64) -> StoreResult<Option<String>> {
    if store.place().is_none() {
        return Ok(None);
    }
    let latest = store.deployed()?.into_iter().map(|deployed| deployed.version).max().unwrap_or(0);
    Ok((latest >= version).then(|| {
        format!(
            "another appliance has deployed version {latest} meanwhile; wait until this one runs it (GET /status), look at both, and deploy again"
        )
    }))
}

/// Unfinished work of agents that belongs to no living appliance belongs to this one: one transaction, so that of two
/// appliances that see a third one dead one gets each piece of work. Opens the transaction itself.
pub fn take_over<S: Store>(store: &mut S, author: &mut Author, now_ms: u64) -> StoreResult<Outcome> {
    let Some(me) = store.place() else { return Ok(Outcome::Committed { updates: Vec::new() }) };
    let mine = Value::Integer(me.appliance.cast_signed());
    let is_open = |record: &Record| {
        let state = record.get(agent_work::STATE).as_text().unwrap_or("");
        !agent_work::is_finished(state) && *record.get(agent_work::APPLIANCE) != mine
    };
    let mut found: Vec<Box<str>> = Vec::new();
    store.load_all(AGENT_WORK, &mut |row| {
        if row.record.as_ref().is_some_and(is_open) {
            found.push(row.key);
        }
    })?;
    store.begin()?;
    let members = if found.is_empty() { Vec::new() } else { store.members()? };
    let is_anothers = |record: &Record| {
        let owner = record.get(agent_work::APPLIANCE);
        members.iter().any(|member| member.alive && *owner == Value::Integer(member.appliance.cast_signed()))
    };
    let mut mutations = Vec::new();
    for key in found {
        let row = store.row(AGENT_WORK, &key)?;
        if row.and_then(|row| row.record).is_some_and(|record| is_open(&record) && !is_anothers(&record)) {
            let change = Change::Set(vec![(agent_work::APPLIANCE, mine.clone())]);
            mutations.push(Mutation { table: AGENT_WORK, key, change });
        }
    }
    mutate(store, author, &mutations, now_ms)
}

/// The rows that stand against an order; a row that does not exist comes as a stub without a stamp.
fn current_rows<S: Store>(store: &mut S, rows: Vec<(TableId, &str)>) -> StoreResult<Vec<Update>> {
    let mut current = Vec::with_capacity(rows.len());
    for (table, key) in rows {
        current.push(store.row(table, key)?.unwrap_or_else(|| Update {
            table,
            key: key.into(),
            stamp: ABSENT,
            versions: VersionVector::default(),
            base: ABSENT,
            record: None,
        }));
    }
    Ok(current)
}

/// Missing values at a record's end are null.
fn same(one: &Record, other: &Record) -> bool {
    (0..one.0.len().max(other.0.len())).all(|field| one.get(field) == other.get(field))
}

/// The record with the values set, `None` if nothing changes.
fn with_values(record: &Record, values: &[(usize, Value)]) -> Option<Record> {
    let mut changed = record.0.to_vec();
    for (field, value) in values {
        if changed.len() <= *field {
            changed.resize(field + 1, Value::Null);
        }
        changed[*field].clone_from(value);
    }
    let changed = Record(changed.into());
    (!same(&changed, record)).then_some(changed)
}

fn check_update(shapes: &ShapeSet, update: &Update) -> Result<(), String> {
    if update.stamp <= update.base {
        return Err(format!(
            "the update of `{}` is not newer than what it was made from; read the row again",
            update.key
        ));
    }
    if usize::from(update.stamp.server) >= SERVERS_MAX {
        return Err(format!(
            "the update of `{}` comes from server {}, and there are at most {SERVERS_MAX}",
            update.key, update.stamp.server
        ));
    }
    match &update.record {
        Some(record) => check_record(shapes, update.table, &update.key, record),
        None => check_table(shapes, update.table),
    }
}

fn check_mutation(shapes: &ShapeSet, mutation: &Mutation) -> Result<(), String> {
    match &mutation.change {
        Change::Put(record) => check_record(shapes, mutation.table, &mutation.key, record),
        Change::Set(values) => {
            check_table(shapes, mutation.table)?;
            values
                .iter()
                .try_for_each(|(field, value)| check_value(shapes, mutation.table, &mutation.key, *field, value))
        }
        Change::Delete => check_table(shapes, mutation.table),
    }
}

fn check_table(shapes: &ShapeSet, table: TableId) -> Result<(), String> {
    if usize::from(table.0) < shapes.shapes.len() {
        return Ok(());
    }
    Err(format!("there is no data table number {}; send the new shapes before the first write", table.0))
}

fn check_record(shapes: &ShapeSet, table: TableId, key: &str, record: &Record) -> Result<(), String> {
    check_table(shapes, table)?;
    record.0.iter().enumerate().try_for_each(|(field, value)| check_value(shapes, table, key, field, value))
}

fn check_value(shapes: &ShapeSet, table: TableId, key: &str, field: usize, value: &Value) -> Result<(), String> {
    let shape = shapes.get(table);
    let Some(declared) = shape.fields.get(field) else {
        return Err(format!(
            "row `{key}`: table `{}` has {} fields and this value is number {}",
            shape.table,
            shape.fields.len(),
            field + 1
        ));
    };
    if fits(declared.kind, value) {
        Ok(())
    } else {
        Err(format!("row `{key}`: `{}` of table `{}` does not take {value:?}", declared.name, shape.table))
    }
}
