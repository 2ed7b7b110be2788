//! An appliance among others on one PostgreSQL: its place, what the others committed, and who is alive.
//!
//! ```text
//!   register: a number that nobody had, a session's lock on it ─▶ read on from the last line there is
//!   follow:   deploys of others, else lines of others up to the head, by position
//!   members:  whoever's lock is held is alive: the server sees a process end without asking a clock
//! ```

use std::collections::BTreeMap;

use super::rows::{original, stamp_at, text_at, versions_at};
use super::{PostgresStore, rows};
use crate::database::contract::{Followed, Member, Place, Store, StoreResult, Uncommitted};
use crate::database::logged::{self, Line, values_of};
use crate::tables::stamp::SLOTS;
use crate::tables::{TableId, Update};

/// Rows of appliances that have ended which are kept for people to see.
const ENDED_KEPT_MAX: i64 = 32;
/// The first key of the locks that say who is alive, in `pg_locks` beside the schema's own hash.
const ALIVE: &str = "SELECT number, name, started, position, EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' \
     AND objsubid = 2 AND granted AND classid = $1::bigint::oid AND objid = number::oid \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) FROM appliance ORDER BY number";
const LINES: &str = "SELECT position, key, sequence, time, server, versions, deleted, stored, record, table_name \
     FROM change_log WHERE position > $1 AND position <= $2 AND appliance <> $3 ORDER BY position LIMIT $4";

/// Where a store that is one of several appliances stands.
#[derive(Debug)]
pub(super) struct Membership {
    pub place: Place,
    /// The connection holds the lock that says so.
    pub alive: bool,
    /// The last line of the change log that was read, and the last that others were told of.
    position: i64,
    told: i64,
    /// The last deploy that was handed out.
    version: u64,
}

impl PostgresStore {
    /// Takes a place among the appliances on this database, under the writers' lock. What was committed before is for
    /// the caller to load.
    pub(super) fn register(&mut self, name: &str) -> StoreResult<()> {
        self.begin()?;
        match self.register_within(name) {
            Ok(()) => self.commit().map_err(Uncommitted::sentence),
            Err(sentence) => {
                self.rollback();
                Err(sentence)
            }
        }
    }

    fn register_within(&mut self, name: &str) -> StoreResult<()> {
        self.wrote = true;
        let position = self.first("SELECT coalesce(max(position), 0) FROM change_log")?;
        let version = self.first("SELECT coalesce(max(version), 0) FROM deployment")?;
        let others = self.alive()?;
        let slots = i64::from(SLOTS);
        let taken = |number: i64| {
            others.iter().any(|other| other.alive && rows::signed(other.appliance) % slots == number % slots)
        };
        let insert = "INSERT INTO appliance (run, name, started, position) VALUES ($1, $2, \
                      (extract(epoch FROM clock_timestamp()) * 1000)::bigint, $3) RETURNING number";
        let run = self.settings.appliance.clone();
        let number = loop {
            let number = self.query(insert, &[&run, &name, &position])?.first().map_or(0, |row| row.get::<_, i64>(0));
            if !taken(number) {
                break number;
            }
            // 1024 starts later than one that is still alive: its clock is not to be shared.
            self.execute("DELETE FROM appliance WHERE number = $1", &[&number])?;
        };
        for ended in others.iter().filter(|other| !other.alive) {
            let ended = rows::signed(ended.appliance);
            if ended < number - ENDED_KEPT_MAX {
                self.execute("DELETE FROM appliance WHERE number = $1", &[&ended])?;
            }
        }
        let slot = u16::try_from(number % slots).unwrap_or(0);
        let place = Place { appliance: u64::try_from(number).unwrap_or(0), slot };
        let version = u64::try_from(version).unwrap_or(0);
        self.membership = Some(Membership { place, alive: false, position, told: position, version });
        if !self.hold_place()? {
            return Err(format!(
                "PostgreSQL ({}) gives the lock of appliance {number} to somebody else; try again",
                self.place
            ));
        }
        Ok(())
    }

    /// Takes the lock that says that this appliance is alive, where the connection does not hold it. False as long as
    /// an earlier connection does, which the server will miss before long.
    pub(super) fn hold_place(&mut self) -> StoreResult<bool> {
        let Some(membership) = &self.membership else { return Ok(true) };
        if membership.alive {
            return Ok(true);
        }
        let number = i32::try_from(membership.place.appliance).unwrap_or(i32::MAX);
        let class = self.lock_class();
        let held = self
            .query("SELECT pg_try_advisory_lock($1, $2)", &[&class, &number])?
            .first()
            .is_some_and(|row| row.get::<_, bool>(0));
        if let Some(membership) = &mut self.membership {
            membership.alive = held;
        }
        Ok(held)
    }

    pub(super) fn read_members(&mut self) -> StoreResult<Vec<Member>> {
        self.hold_place()?;
        if let Some(Membership { place, position, told, .. }) = self.membership
            && position != told
        {
            let number = rows::signed(place.appliance);
            self.execute("UPDATE appliance SET position = $1 WHERE number = $2", &[&position, &number])?;
            if let Some(membership) = &mut self.membership {
                membership.told = position;
            }
        }
        self.alive()
    }

    /// What others committed behind the last line that was read.
    pub(super) fn read_on(&mut self, updates_max: usize) -> StoreResult<Followed> {
        let Some(&Membership { position, version, .. }) = self.membership.as_ref() else {
            return Ok(Followed::default());
        };
        let ends = "SELECT coalesce(max(position), 0), coalesce(min(position), 0), \
                    (SELECT coalesce(max(version), 0) FROM deployment) FROM change_log";
        let ends = self.query(ends, &[])?;
        let (head, first, latest) =
            ends.first().map_or((0, 0, 0), |row| (row.get(0), row.get(1), row.get::<_, i64>(2)));
        let at = |read: i64| Followed { position: number(read), head: number(head.max(read)), ..Followed::default() };
        if number(latest) > version {
            let mut deployed = self.deployed()?;
            deployed.retain(|deployed| deployed.version > version);
            deployed.sort_by_key(|deployed| deployed.version);
            self.stand(position, deployed.iter().map(|deployed| deployed.version).max());
            return Ok(Followed { deployed, more: true, ..at(position) });
        }
        if first > position + 1 {
            self.stand(head, None);
            return Ok(Followed { missed: true, ..at(head) });
        }
        if head <= position {
            return Ok(at(position));
        }
        let limit = i64::try_from(updates_max).unwrap_or(i64::MAX);
        let appliance = self.settings.appliance.clone();
        let lines = self.query(LINES, &[&position, &head, &appliance, &limit])?;
        let whole = lines.len() < updates_max;
        let (updates, read) = self.updates_of(&lines)?;
        // Own lines between are passed over. A line that the shapes here do not know waits for the code that does.
        let read = match read {
            Some(before) => before,
            None if whole => head,
            None => lines.last().map_or(head, |line| line.get(0)),
        };
        let stuck = read < head && read == position;
        self.stand(read, None);
        Ok(Followed { updates, more: read < head && !stuck, ..at(read) })
    }

    /// The updates of lines; and where to stop, if one of them has a table or field that the shapes have not.
    fn updates_of(&mut self, lines: &[postgres::Row]) -> StoreResult<(Vec<Update>, Option<i64>)> {
        let mut updates = Vec::with_capacity(lines.len());
        let mut bulk: BTreeMap<TableId, Vec<Box<str>>> = BTreeMap::new();
        let mut stop = None;
        for row in lines {
            let position: i64 = row.get(0);
            let (name, deleted, in_table): (&str, bool, bool) = (row.get(9), row.get(6), row.get(7));
            let Some(key) = text_at(row, 1) else { return Err(self.damaged("change_log")) };
            let Some(table) = self.shapes.id(name) else {
                stop = Some(position - 1);
                break;
            };
            if in_table {
                bulk.entry(table).or_default().push(key);
                continue;
            }
            let record: Option<&str> = row.get(8);
            let (Some(stamp), Some(versions)) = (stamp_at(row, 2), versions_at(row, 5)) else {
                return Err(self.damaged("change_log"));
            };
            let values = match record.filter(|_| !deleted) {
                Some(text) => Some(values_of(text).ok_or_else(|| self.damaged("change_log"))?),
                None => None,
            };
            let line = Line { table: name.into(), key, stamp, versions, record: values };
            match logged::place(&[line], &self.shapes, &|_| false) {
                Some(placed) => updates.extend(placed),
                None => {
                    stop = Some(position - 1);
                    break;
                }
            }
        }
        // Of a bulk write the rows are in their tables only: as they are now, which is that revision or a later one.
        for (table, keys) in bulk {
            let index = usize::from(table.0);
            let (sql, shape) = (self.tables[index].select_rows.clone(), self.shapes.shapes[index].clone());
            let keys: Vec<_> = keys.iter().map(|key| rows::stored(key)).collect();
            for row in self.query(&sql, &[&keys])? {
                updates.push(rows::update_of(&row, table, &shape).ok_or_else(|| self.damaged(&shape.table))?);
            }
        }
        Ok((updates, stop))
    }

    /// Own deploys are not handed out.
    pub(super) fn note_own_deploy(&mut self, version: u64) {
        if let Some(membership) = &mut self.membership {
            membership.version = membership.version.max(version);
        }
    }

    fn stand(&mut self, position: i64, version: Option<u64>) {
        if let Some(membership) = &mut self.membership {
            membership.position = position;
            membership.version = membership.version.max(version.unwrap_or(0));
        }
    }

    fn alive(&mut self) -> StoreResult<Vec<Member>> {
        let class = i64::from(self.lock_class());
        let found = self.query(ALIVE, &[&class])?;
        let member = |row: &postgres::Row| Member {
            appliance: number(row.get(0)),
            name: original(row.get(1)).unwrap_or_default().into_owned(),
            started_ms: number(row.get(2)),
            position: number(row.get(3)),
            alive: row.get(4),
        };
        Ok(found.iter().map(member).collect())
    }

    /// The last line that the slowest living appliance is known to have read; `None` if there is none.
    pub(super) fn slowest_position(&mut self) -> StoreResult<Option<i64>> {
        let members = self.alive()?;
        Ok(members.iter().filter(|member| member.alive).map(|member| rows::signed(member.position)).min())
    }

    fn first(&mut self, sql: &str) -> StoreResult<i64> {
        Ok(self.query(sql, &[])?.first().map_or(0, |row| row.get(0)))
    }

    /// The first key of these locks: the schema's, so that two schemas of one database do not see each other.
    fn lock_class(&self) -> i32 {
        let digest = blake3::hash(format!("twintier.appliance.{}", self.settings.schema).as_bytes());
        let [a, b, c, d, ..] = *digest.as_bytes();
        i32::from_le_bytes([a, b, c, d]) & i32::MAX
    }
}

fn number(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}
