//! Queries over one table: filters by value, words, an order, and one page of the result with the total count.
//!
//! Costs, with n rows: a page of the whole table, of one indexed value or of one word is a jump to its position.
//! Several filters walk the shortest list once and look up the others, either in a bit per slot or, if they are much
//! longer, by key. A prefix unites its words in a bit per slot. A predicate is asked about every row that is left.
//! A ranked search reads the rows that match, unless they are too many.

use std::collections::{BTreeMap, HashSet};

use super::index::{TableIndex, each_word};
use super::order::KeyList;
use super::rank;
use super::record::Value;
use super::row::{Row, Rows, slot_index};

/// What to find, in which order, and which part of it to hand out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// Fields that must have these values; fast where the field is indexed, correct everywhere. Null matches nothing.
    pub equal: &'a [(usize, &'a Value)],
    /// All these words must occur in the key or the fields that are searched by words; the last may be the beginning of
    /// one.
    /// Text without a word finds everything.
    pub words: &'a str,
    /// Greatest key first.
    pub descending: bool,
    /// Of a search: what fits the words best first, see [`super::rank`]. Goes before `descending`.
    pub ranked: bool,
    /// Rows left out at the beginning.
    pub offset: usize,
    /// Rows handed out at most.
    pub limit: usize,
}

/// A page of rows, and how many there are in all.
#[derive(Clone, Debug, Default)]
pub struct Selection<'t> {
    pub total: usize,
    pub rows: Vec<&'t Row>,
}

/// A bit per slot.
struct SlotSet(Vec<u64>);

impl SlotSet {
    fn of<'a>(rows: &Rows, lists: impl Iterator<Item = &'a KeyList>) -> Self {
        let mut bits = vec![0u64; rows.slot_count().div_ceil(64)];
        for chunk in lists.flat_map(KeyList::chunks) {
            for slot in chunk {
                let slot = slot_index(*slot);
                bits[slot / 64] |= 1 << (slot % 64);
            }
        }
        Self(bits)
    }

    fn contains(&self, slot: u32) -> bool {
        let slot = slot_index(slot);
        self.0[slot / 64] >> (slot % 64) & 1 == 1
    }

    fn count(&self) -> usize {
        self.0.iter().map(|word| slot_index(word.count_ones())).sum()
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let base = u32::try_from(index * 64).expect("invariant: a table has fewer than 2^32 rows");
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(base + bit)
            })
        })
    }
}

/// One condition beside the driving list.
enum Filter<'t, 'q> {
    /// In this list, which is much longer than the driving one.
    Listed(&'t KeyList),
    /// In this set.
    Marked(SlotSet),
    /// A field without an index.
    Equal(usize, &'q Value),
    /// A word of the row begins so.
    Begun(&'q str),
}

/// The rows that match, before they are put in order: those of `driver` that pass all filters.
struct Matches<'t, 'q> {
    driver: &'t KeyList,
    filters: Vec<Filter<'t, 'q>>,
}

/// Finds the way to the rows that match a query; `None` if there are none. `words` are those of the query.
fn plan<'t, 'q>(
    rows: &Rows,
    live: &'t KeyList,
    index: &'t TableIndex,
    query: &Query<'q>,
    words: &'q [Box<str>],
) -> Option<Matches<'t, 'q>> {
    let mut lists: Vec<&KeyList> = Vec::new();
    let mut filters = Vec::new();
    for &(field, value) in query.equal {
        match index.by_value(field, value) {
            Some(list) => lists.push(list),
            None => filters.push(Filter::Equal(field, value)),
        }
    }
    let (prefix, whole) = words.split_last().map_or((None, words), |(prefix, whole)| (Some(&**prefix), whole));
    for word in whole {
        lists.push(index.by_word(word)?);
    }
    let mut begun_words = None;
    if let Some(prefix) = prefix {
        let mut begun = index.by_prefix(prefix);
        match (begun.next(), begun.next()) {
            (None, _) => return None,
            (Some(only), None) => lists.push(only),
            (Some(_), Some(_)) => begun_words = Some(prefix),
        }
    }
    lists.sort_by_key(|list| list.len());
    let driver = lists.first().copied().unwrap_or(live);
    for list in lists.into_iter().skip(1) {
        let much_longer = list.len() / 32 > driver.len();
        filters.push(if much_longer {
            Filter::Listed(list)
        } else {
            Filter::Marked(SlotSet::of(rows, std::iter::once(list)))
        });
    }
    if let Some(prefix) = begun_words {
        // Uniting the words costs their rows; reading a row's text costs as much as some 30 of them.
        let united: usize = index.by_prefix(prefix).map(KeyList::len).sum();
        filters.push(if united / 30 > driver.len() {
            Filter::Begun(prefix)
        } else {
            Filter::Marked(SlotSet::of(rows, index.by_prefix(prefix)))
        });
    }
    Some(Matches { driver, filters })
}

impl Matches<'_, '_> {
    fn passes(&self, rows: &Rows, index: &TableIndex, slot: u32) -> bool {
        self.filters.iter().all(|filter| match filter {
            Filter::Listed(list) => list.contains(rows, slot),
            Filter::Marked(set) => set.contains(slot),
            Filter::Begun(prefix) => index.has_word_begun(rows.get(slot), prefix),
            Filter::Equal(field, value) => **value != Value::Null && rows.get(slot).get(*field) == *value,
        })
    }

    /// The set, if nothing but it decides.
    fn set(&self, live: &KeyList) -> Option<&SlotSet> {
        match &self.filters[..] {
            [Filter::Marked(set)] if std::ptr::eq(self.driver, live) => Some(set),
            _ => None,
        }
    }

    /// How many match, and their slots in any order unless there are more than `most`.
    fn gather(&self, rows: &Rows, live: &KeyList, index: &TableIndex, most: usize) -> (usize, Vec<u32>) {
        let mut total = 0;
        let mut found = Vec::new();
        let mut take = |slot: u32| {
            total += 1;
            if total <= most {
                found.push(slot);
            }
        };
        match self.set(live) {
            Some(set) if set.count() > most => return (set.count(), Vec::new()),
            Some(set) => set.iter().for_each(&mut take),
            None if self.filters.is_empty() && self.driver.len() > most => return (self.driver.len(), Vec::new()),
            None => self.driver.iter().filter(|slot| self.passes(rows, index, *slot)).for_each(&mut take),
        }
        (total, found)
    }
}

fn words_of(query: &Query<'_>) -> Vec<Box<str>> {
    let mut words: Vec<Box<str>> = Vec::new();
    each_word(query.words, |word| words.push(word.into()));
    words
}

/// How often each value of a field occurs in the rows that match, by value; `None` if more than `most` match.
pub fn count_values<'t>(
    rows: &'t Rows,
    live: &KeyList,
    index: &TableIndex,
    query: &Query<'_>,
    field: usize,
    most: usize,
) -> Option<BTreeMap<&'t Value, usize>> {
    let words = words_of(query);
    let Some(matches) = plan(rows, live, index, query, &words) else { return Some(BTreeMap::new()) };
    let (total, found) = matches.gather(rows, live, index, most);
    let mut counts = BTreeMap::new();
    for slot in found {
        *counts.entry(rows.get(slot).get(field)).or_default() += 1;
    }
    counts.remove(&Value::Null);
    (total <= most).then_some(counts)
}

/// Answers a query; `keep` is asked about the rows that match everything else, if given.
pub fn select<'t>(
    rows: &'t Rows,
    live: &'t KeyList,
    index: &'t TableIndex,
    query: &Query<'_>,
    mut keep: Option<&mut dyn FnMut(&Row) -> bool>,
) -> Selection<'t> {
    let words = words_of(query);
    let Some(matches) = plan(rows, live, index, query, &words) else { return Selection::default() };
    if query.ranked && !words.is_empty() && keep.is_none() {
        return ranked(rows, live, index, query, &words, &matches);
    }
    if matches.filters.is_empty() && keep.is_none() {
        return page_of(rows, matches.driver, matches.driver.len(), query, |_| true);
    }
    if let (Some(set), None) = (matches.set(live), &keep) {
        return page_of_set(rows, live, set, query);
    }
    let kept =
        |slot: &u32| matches.passes(rows, index, *slot) && keep.as_mut().is_none_or(|keep| keep(rows.get(*slot)));
    if query.descending {
        counted(rows, matches.driver.descending(0).filter(kept), query)
    } else {
        counted(rows, matches.driver.iter().filter(kept), query)
    }
}

/// What fits the words best first. Where too much matches to be read, only what the key begins with goes before the
/// rest, which is in the order of the keys.
fn ranked<'t>(
    rows: &'t Rows,
    live: &KeyList,
    index: &TableIndex,
    query: &Query<'_>,
    words: &[Box<str>],
    matches: &Matches<'_, '_>,
) -> Selection<'t> {
    let (total, found) = matches.gather(rows, live, index, rank::RANKED_MAX);
    let wish = rank::Wish::new(query.words, words, index.first_word_field());
    if total <= rank::RANKED_MAX {
        let mut found: Vec<(rank::Fit, &Row)> =
            found.into_iter().map(|slot| rows.get(slot)).map(|row| (wish.fit(row), row)).collect();
        let by_fit =
            |one: &(rank::Fit, &Row), other: &(rank::Fit, &Row)| (one.0, &one.1.key).cmp(&(other.0, &other.1.key));
        // What comes after the page need not be put in order.
        let end = query.offset.saturating_add(query.limit);
        if end < found.len() {
            found.select_nth_unstable_by(end, by_fit);
            found.truncate(end);
        }
        found.sort_unstable_by(by_fit);
        let page = found.into_iter().skip(query.offset).map(|(_, row)| row);
        return Selection { total, rows: page.collect() };
    }
    let belongs = |slot: &u32| matches.driver.contains(rows, *slot) && matches.passes(rows, index, *slot);
    let named = live.from_key(rows, wish.begin()).take_while(|slot| wish.begins(&rows.get(*slot).key));
    let named: Vec<u32> = named.take(rank::RANKED_MAX).filter(belongs).collect();
    let first: HashSet<u32> = named.iter().copied().collect();
    let mut page: Vec<&Row> = named.iter().skip(query.offset).take(query.limit).map(|slot| rows.get(*slot)).collect();
    let rest = matches.driver.iter().filter(|slot| !first.contains(slot) && matches.passes(rows, index, *slot));
    let rest = rest.skip(query.offset.saturating_sub(named.len())).take(query.limit - page.len());
    page.extend(rest.map(|slot| rows.get(slot)));
    Selection { total, rows: page }
}

/// The page of a list whose count is known: stops as soon as the page is full.
fn page_of<'t>(
    rows: &'t Rows,
    list: &KeyList,
    total: usize,
    query: &Query<'_>,
    mut belongs: impl FnMut(u32) -> bool,
) -> Selection<'t> {
    let whole = total == list.len();
    // Without a filter the page begins at a known position.
    let (skip, offset) = if whole { (query.offset, 0) } else { (0, query.offset) };
    let mut take = |slots: &mut dyn Iterator<Item = u32>| {
        slots.filter(|slot| belongs(*slot)).skip(offset).take(query.limit).map(|slot| rows.get(slot)).collect()
    };
    let rows = if query.offset >= total {
        Vec::new()
    } else if query.descending {
        take(&mut list.descending(skip))
    } else {
        take(&mut list.from_position(skip))
    };
    Selection { total, rows }
}

/// The page of a set: sorted by key if it is small, otherwise met on a walk through all rows.
fn page_of_set<'t>(rows: &'t Rows, live: &KeyList, set: &SlotSet, query: &Query<'_>) -> Selection<'t> {
    let total = set.count();
    if total > live.len() / 16 {
        return page_of(rows, live, total, query, |slot| set.contains(slot));
    }
    let mut found: Vec<&Row> = set.iter().map(|slot| rows.get(slot)).collect();
    found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
    if query.descending {
        found.reverse();
    }
    Selection { total, rows: found.into_iter().skip(query.offset).take(query.limit).collect() }
}

/// Counts all and keeps the page.
fn counted<'t>(rows: &'t Rows, slots: impl Iterator<Item = u32>, query: &Query<'_>) -> Selection<'t> {
    let mut selection = Selection::default();
    for slot in slots {
        if selection.total >= query.offset && selection.rows.len() < query.limit {
            selection.rows.push(rows.get(slot));
        }
        selection.total += 1;
    }
    selection
}
