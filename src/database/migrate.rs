//! Moves everything from one database to another: rows and stubs with their stamps, conflicts, deploys, settings.
//!
//! The target gets all of it in one transaction, which is committed when counts and digests agree.

use super::contract::{Store, StoreResult, Uncommitted};
use super::logged::table_id;
use crate::tables::{FieldKind, TableId, Update, Value};

/// Rows that are carried at a time.
const PART_ROWS: usize = 4096;

/// The tables that do not depend on shapes. The change log is not moved: it tells of commits of the database that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum House {
    Setting,
    Conflict,
    Deployment,
    Code,
}

impl House {
    pub const ALL: [Self; 4] = [Self::Setting, Self::Conflict, Self::Deployment, Self::Code];

    pub fn table(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Conflict => "conflict",
            Self::Deployment => "deployment",
            Self::Code => "code_table",
        }
    }

    pub fn columns(self) -> &'static [(&'static str, FieldKind)] {
        match self {
            Self::Setting => &[("name", FieldKind::Text), ("value", FieldKind::Text)],
            Self::Conflict => &[
                ("table_name", FieldKind::Text),
                ("key", FieldKind::Text),
                ("sequence", FieldKind::Integer),
                ("time", FieldKind::Integer),
                ("server", FieldKind::Integer),
                ("versions", FieldKind::Text),
                ("deleted", FieldKind::Boolean),
                ("record", FieldKind::Text),
                ("found", FieldKind::Integer),
            ],
            Self::Deployment => &[
                ("version", FieldKind::Integer),
                ("application", FieldKind::Text),
                ("base_digest", FieldKind::Text),
                ("deployed", FieldKind::Integer),
            ],
            Self::Code => &[
                ("version", FieldKind::Integer),
                ("application", FieldKind::Text),
                ("path", FieldKind::Text),
                ("source", FieldKind::Text),
            ],
        }
    }

    /// The columns as SQL lists them.
    pub fn list(self) -> String {
        self.columns().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Whether a row belongs to the site, and not to the database that it is in.
    fn moves(self, row: &[Value]) -> bool {
        match (self, row.first()) {
            (Self::Setting, Some(Value::Text(name))) => !["schema_version", "folded"].contains(&&**name),
            (Self::Setting | Self::Conflict | Self::Deployment | Self::Code, _) => true,
        }
    }
}

/// What moving needs beside [`Store`].
pub trait Movable: Store {
    /// Every row of a table of the house, in the order of [`House::columns`].
    fn house_rows(&mut self, house: House, each: &mut dyn FnMut(Vec<Value>)) -> StoreResult<()>;

    /// Adds such rows within the open transaction.
    fn put_house(&mut self, house: House, rows: &[Vec<Value>]) -> StoreResult<()>;

    /// Adds rows and stubs with distinct, new keys within the open transaction, without a line in the change log.
    fn put_rows(&mut self, table: TableId, updates: &[Update]) -> StoreResult<()>;
}

/// What was counted of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub table: String,
    /// Rows and stubs.
    pub rows: u64,
    /// Sum of a hash of each, so that the order of reading does not matter.
    pub digest: u128,
}

impl Counted {
    fn of(table: &str) -> Self {
        Self { table: table.to_owned(), ..Self::default() }
    }

    /// Both databases hand over what they hold in the same form, so its printed form tells whether it is the same.
    fn add(&mut self, row: &impl std::fmt::Debug) {
        let hash = blake3::hash(format!("{row:?}").as_bytes());
        let half = hash.as_bytes().first_chunk::<16>().expect("invariant: a hash has 32 bytes");
        self.rows += 1;
        self.digest = self.digest.wrapping_add(u128::from_le_bytes(*half));
    }
}

/// Counts all that a database holds of the site: its data tables in the order of its shapes, then the house.
///
/// # Errors
/// The store's.
pub fn count<S: Movable>(store: &mut S) -> StoreResult<Vec<Counted>> {
    let shapes = store.shapes().clone();
    let mut all = Vec::new();
    for (index, shape) in shapes.shapes.iter().enumerate() {
        let mut counted = Counted::of(&shape.table);
        store.load_all(table_id(index), &mut |update| counted.add(&update))?;
        all.push(counted);
    }
    for house in House::ALL {
        let mut counted = Counted::of(house.table());
        store.house_rows(house, &mut |row| {
            if house.moves(&row) {
                counted.add(&row);
            }
        })?;
        all.push(counted);
    }
    Ok(all)
}

/// Moves everything into an empty target of the same shapes; gives what was counted on both sides.
///
/// # Errors
/// Either store's, or what was written is not what was read; then the target is as it was.
pub fn copy<S: Movable, T: Movable>(source: &mut S, target: &mut T) -> StoreResult<Vec<Counted>> {
    target.begin()?;
    let compared = fill(source, target).and_then(|()| {
        let (there, here) = (count(source)?, count(target)?);
        match there.iter().zip(&here).find(|(one, other)| one != other) {
            None if there.len() == here.len() => Ok(here),
            Some((one, other)) => Err(format!(
                "table `{}` has {} rows there and {} here, and they are not the same; nothing was moved",
                one.table, one.rows, other.rows
            )),
            None => Err("the target has other tables than the source; nothing was moved".into()),
        }
    });
    match compared {
        Ok(counted) => target.commit().map(|()| counted).map_err(Uncommitted::sentence),
        Err(sentence) => {
            target.rollback();
            Err(sentence)
        }
    }
}

fn fill<S: Movable, T: Movable>(source: &mut S, target: &mut T) -> StoreResult<()> {
    let shapes = source.shapes().clone();
    for index in 0..shapes.shapes.len() {
        let table = table_id(index);
        let mut part = Vec::new();
        let mut outcome = Ok(());
        source.load_all(table, &mut |update| {
            part.push(update);
            if part.len() >= PART_ROWS && outcome.is_ok() {
                outcome = target.put_rows(table, &part);
                part.clear();
            }
        })?;
        outcome?;
        target.put_rows(table, &part)?;
    }
    for house in House::ALL {
        let mut rows = Vec::new();
        source.house_rows(house, &mut |row| {
            if house.moves(&row) {
                rows.push(row);
            }
        })?;
        target.put_house(house, &rows)?;
    }
    Ok(())
}

/// The sentence for a target that holds something, or `None`.
pub fn occupied(counted: &[Counted]) -> Option<String> {
    let table = counted.iter().find(|counted| counted.rows > 0)?;
    Some(format!("table `{}` has {} rows already", table.table, table.rows))
}
