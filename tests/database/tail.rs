//! The end of DuckDB's write-ahead log, cut and damaged in every way that matters: what was committed and is intact is
//! there after the start, or the start is refused with the cure.

use std::fs;
use std::path::{Path, PathBuf};

use twintier::database::contract::{ABSENT, Store};
use twintier::database::duckdb::{DuckStore, Settings};

use crate::support::{ITEMS, item, scratch, shapes, update};

/// The files of a database whose process was killed after some commits of one row each.
struct Killed {
    folder: PathBuf,
    file: Vec<u8>,
    log: Vec<u8>,
    /// The log's length after each commit.
    ends: Vec<usize>,
}

const COMMITS: usize = 5;

fn log_of(file: &Path) -> PathBuf {
    file.with_extension("duckdb.wal")
}

fn key(number: usize) -> String {
    format!("row-{number}")
}

impl Killed {
    fn after_commits(name: &str) -> Self {
        let folder = scratch(name);
        let file = folder.join("data.duckdb");
        let mut store = DuckStore::open(&Settings::new(&file), shapes()).unwrap();
        let mut ends = vec![usize::try_from(fs::metadata(log_of(&file)).map_or(0, |log| log.len())).unwrap()];
        for number in 0..COMMITS {
            store.begin().unwrap();
            store.upsert(&[update(&key(number), 1, 0, ABSENT, Some(item(&"text ".repeat(30), 1, true)))]).unwrap();
            store.commit().unwrap();
            ends.push(usize::try_from(fs::metadata(log_of(&file)).unwrap().len()).unwrap());
        }
        // What a kill would leave now.
        let (content, log) = (fs::read(&file).unwrap(), fs::read(log_of(&file)).unwrap());
        assert_eq!(log.len(), *ends.last().unwrap());
        Self { folder, file: content, log, ends }
    }

    /// Commits whose end is within so many bytes of log.
    fn within(&self, bytes: usize) -> usize {
        self.ends[1..].iter().filter(|end| **end <= bytes).count()
    }

    /// Lays down the files with this log.
    fn lay(&self, log: &[u8]) -> PathBuf {
        let file = self.folder.join("copy.duckdb");
        for old in [file.clone(), log_of(&file), self.folder.join("copy.duckdb.wal.damaged")] {
            // Most of them are not there.
            let _ = fs::remove_file(old);
        }
        fs::write(&file, &self.file).unwrap();
        fs::write(log_of(&file), log).unwrap();
        file
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // What is left behind is in the system's folder for such things.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The numbers of the commits that are there; they must be the first ones, each whole.
fn commits(store: &mut DuckStore) -> usize {
    let mut keys = Vec::new();
    store
        .load_all(ITEMS, &mut |row| {
            assert_eq!(row.record, Some(item(&"text ".repeat(30), 1, true)), "{}", row.key);
            keys.push(row.key.to_string());
        })
        .unwrap();
    keys.sort();
    let expected: Vec<String> = (0..keys.len()).map(key).collect();
    assert_eq!(keys, expected);
    keys.len()
}

/// The database is as good as new: it takes a commit and keeps it.
fn goes_on(file: &Path, mut store: DuckStore, there: usize) {
    store.begin().unwrap();
    store.upsert(&[update(&key(there), 1, 0, ABSENT, Some(item(&"text ".repeat(30), 1, true)))]).unwrap();
    store.commit().unwrap();
    drop(store);
    let mut store = DuckStore::open(&Settings::new(file), shapes()).unwrap();
    assert_eq!((commits(&mut store), store.torn_bytes()), (there + 1, 0));
}

#[test]
fn a_log_that_is_cut_anywhere_keeps_every_commit_that_is_whole() {
    let killed = Killed::after_commits("cut");
    let whole = killed.log.len();
    let mut lengths: Vec<usize> = (0..killed.ends[0].min(40)).step_by(7).collect();
    for end in &killed.ends {
        lengths.extend([end.saturating_sub(1), *end, end + 1, end + 8, end + 15, end + 16, end + 17]);
    }
    // The last commit at closer intervals: within heads, contents and the flush entry.
    lengths.extend((killed.ends[COMMITS - 1]..whole).step_by(23));
    lengths.extend(whole - 24..=whole);
    lengths.retain(|length| *length <= whole);
    lengths.sort_unstable();
    lengths.dedup();
    for length in lengths {
        let file = killed.lay(&killed.log[..length]);
        let mut store = DuckStore::open(&Settings::new(&file), shapes())
            .unwrap_or_else(|wrong| panic!("cut to {length} of {whole}: {wrong}"));
        let there = commits(&mut store);
        assert_eq!(there, killed.within(length), "cut to {length} of {whole}, ends {:?}", killed.ends);
        // A cut between two commits is not seen, and loses nothing that the log holds.
        let between = length == 0 || killed.ends.contains(&length);
        assert_eq!(store.torn_bytes() == 0, between, "cut to {length} of {whole}: {}", store.torn_bytes());
        if length % 5 == 0 {
            goes_on(&file, store, there);
        }
    }
}

#[test]
fn a_damaged_log_is_refused_or_loses_only_what_is_damaged() {
    let killed = Killed::after_commits("damaged");
    let mut places: Vec<usize> = Vec::new();
    // Each commit's first entry: length, checksum, content.
    for end in &killed.ends[..COMMITS] {
        places.extend([end, &(end + 7), &(end + 8), &(end + 16), &(end + 40)]);
    }
    let last = killed.ends[COMMITS - 1]..killed.log.len();
    places.extend(last.clone().step_by(31));
    places.extend(killed.log.len() - 21..killed.log.len());
    let mut refused = 0;
    for place in places {
        let mut log = killed.log.clone();
        log[place] ^= 0x10;
        let file = killed.lay(&log);
        let before = killed.within(place);
        match DuckStore::open(&Settings::new(&file), shapes()) {
            Ok(mut store) => {
                assert!(last.contains(&place), "flipped at {place}: intact commits behind it are lost in silence");
                assert_eq!(commits(&mut store), before, "flipped at {place}");
                assert!(store.torn_bytes() > 0, "flipped at {place}: not told");
            }
            Err(wrong) => {
                refused += 1;
                let log = log_of(&file);
                assert!(wrong.contains(&format!("the log {} of the database is damaged", log.display())), "{wrong}");
                assert!(wrong.contains("--set database.damaged_log=cut"), "{wrong}");
                // The cure keeps what is before the damage, and a copy of everything.
                let cut = Settings { cut_damaged_log: true, ..Settings::new(&file) };
                let mut store = DuckStore::open(&cut, shapes())
                    .unwrap_or_else(|wrong| panic!("flipped at {place}: the cure does not help: {wrong}"));
                assert_eq!(commits(&mut store), before, "flipped at {place}, cut");
                assert!(store.torn_bytes() > 0);
                let copy = fs::read(killed.folder.join("copy.duckdb.wal.damaged")).unwrap();
                assert_eq!((copy.len(), copy[place]), (killed.log.len(), killed.log[place] ^ 0x10));
                if refused % 8 == 0 {
                    goes_on(&file, store, before);
                }
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn a_log_without_its_file_is_not_thrown_away() {
    let killed = Killed::after_commits("alone");
    let file = killed.lay(&killed.log);
    fs::remove_file(&file).unwrap();
    let wrong = DuckStore::open(&Settings::new(&file), shapes()).map(|_| ()).unwrap_err();
    assert!(wrong.contains("is missing and its log") && wrong.contains("put the file back"), "{wrong}");
    assert_eq!(fs::read(log_of(&file)).unwrap(), killed.log, "untouched");
    fs::write(&file, &killed.file).unwrap();
    assert_eq!(commits(&mut DuckStore::open(&Settings::new(&file), shapes()).unwrap()), COMMITS);
}
