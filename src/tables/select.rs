//! Queries over one table: filters by value, words, an order, and one page of the result with the total count.
//!
//! Costs, with n rows: a page of the whole table, of one indexed value or of one word is a jump to its position.
//! Several filters walk the shortest list once and look up the others, either in a bit per slot or, if they are much
//! longer, by key. A prefix unites its words in a bit per slot. A predicate is asked about every row that is left.

use super::index::{TableIndex, each_word};
use super::order::KeyList;
use super::record::Value;
use super::row::{Row, Rows, slot_index};

/// What to find, in which order, and which part of it to hand out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// Fields that must have these values; fast where the field is indexed, correct everywhere. Null matches nothing.
    pub equal: &'a [(usize, &'a Value)],
    /// All these words must occur in the fields that are searched by words; the last may be the beginning of one.
    /// Text without a word finds everything.
    pub words: &'a str,
    /// Greatest key first.
    pub descending: bool,
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
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| base + bit)
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

/// Answers a query; `keep` is asked about the rows that match everything else, if given.
pub fn select<'t>(
    rows: &'t Rows,
    live: &'t KeyList,
    index: &'t TableIndex,
    query: &Query<'_>,
    mut keep: Option<&mut dyn FnMut(&Row) -> bool>,
) -> Selection<'t> {
    let mut lists: Vec<&KeyList> = Vec::new();
    let mut filters = Vec::new();
    for &(field, value) in query.equal {
        match index.by_value(field, value) {
            Some(list) => lists.push(list),
            None => filters.push(Filter::Equal(field, value)),
        }
    }
    let mut words: Vec<Box<str>> = Vec::new();
    each_word(query.words, |word| words.push(word.into()));
    let prefix = words.pop();
    for word in &words {
        match index.by_word(word) {
            Some(list) => lists.push(list),
            None => return Selection::default(),
        }
    }
    let mut begun_words = None;
    if let Some(prefix) = &prefix {
        let mut begun = index.by_prefix(prefix);
        match (begun.next(), begun.next()) {
            (None, _) => return Selection::default(),
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
    if filters.is_empty() && keep.is_none() {
        return page_of(rows, driver, driver.len(), query, |_| true);
    }
    if let (true, [Filter::Marked(set)], None) = (std::ptr::eq(driver, live), &filters[..], &keep) {
        return page_of_set(rows, live, set, query);
    }
    let matches = |slot: &u32| {
        let kept = filters.iter().all(|filter| match filter {
            Filter::Listed(list) => list.contains(rows, *slot),
            Filter::Marked(set) => set.contains(*slot),
            Filter::Begun(prefix) => index.has_word_begun(rows.get(*slot), prefix),
            Filter::Equal(field, value) => **value != Value::Null && rows.get(*slot).get(*field) == *value,
        });
        kept && keep.as_mut().is_none_or(|keep| keep(rows.get(*slot)))
    };
    if query.descending {
        counted(rows, driver.descending(0).filter(matches), query)
    } else {
        counted(rows, driver.iter().filter(matches), query)
    }
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
