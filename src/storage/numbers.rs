//! The numbers that the application server gives out, such as `REQ-000123`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::agents::{NumberField, PostAgent};
use crate::tables::{Record, TableId, Update};

/// The greatest number given out per numbered field, filled from the loaded rows before agents run, and again for tables
/// that a deploy adds. An appliance that has its database for itself needs no arbiter beside this; where several share
/// one, the database gives the numbers ([`Request::Number`](crate::database::contract::Request::Number)), all of them
/// greater than what was here at the start.
#[derive(Debug, Default)]
pub struct Numbers {
    greatest: Mutex<HashMap<(TableId, usize), u64>>,
}

impl Numbers {
    /// Digits of a number at least.
    const DIGITS: usize = 6;

    /// Takes note of the numbers that rows of the agent's table have already.
    pub fn load<'a>(&self, agent: &PostAgent, rows: impl IntoIterator<Item = &'a Update>) {
        let Some(number) = &agent.number else { return };
        for record in rows.into_iter().filter_map(|row| row.record.as_ref()) {
            self.see(agent.table, number, record);
        }
    }

    /// Takes note of one row's number.
    pub fn see(&self, table: TableId, number: &NumberField, record: &Record) {
        let digits = record.get(number.field).as_text().and_then(|text| text.strip_prefix(&*number.prefix));
        if let Some(seen) = digits.and_then(|digits| digits.parse::<u64>().ok()) {
            let mut greatest = self.greatest.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = greatest.entry((table, number.field)).or_insert(0);
            *entry = seen.max(*entry);
        }
    }

    /// A number that no row has and none will get again, even if this one is not used after all.
    pub fn next(&self, table: TableId, number: &NumberField) -> String {
        let mut greatest = self.greatest.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = greatest.entry((table, number.field)).or_insert(0);
        *entry = entry.saturating_add(1);
        number.text(*entry)
    }

    /// The greatest number that was seen or given out here.
    pub fn greatest(&self, table: TableId, number: &NumberField) -> u64 {
        let greatest = self.greatest.lock().unwrap_or_else(PoisonError::into_inner);
        greatest.get(&(table, number.field)).copied().unwrap_or(0)
    }
}

impl NumberField {
    /// As the row shows it.
    pub fn text(&self, number: u64) -> String {
        format!("{}{number:0width$}", self.prefix, width = Numbers::DIGITS)
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;
    use crate::storage::fixture;

    #[test]
    fn numbers_follow_the_greatest_and_never_repeat() {
        let agent = fixture::post_agent();
        let number = agent.number.clone().expect("numbered");
        let numbers = Numbers::default();
        assert_eq!(numbers.next(agent.table, &number), "REQ-000001");
        let rows = [
            fixture::requisition(Some("REQ-000122")),
            fixture::requisition(Some("other 9")),
            fixture::requisition(None),
        ];
        for record in &rows {
            numbers.see(agent.table, &number, record);
        }
        assert_eq!(numbers.next(agent.table, &number), "REQ-000123");
        assert_eq!(numbers.next(agent.table, &number), "REQ-000124");
    }
}
