//! Whether the write-ahead log that DuckDB finds at its start is whole, looked at before DuckDB does.
//!
//! DuckDB takes a log that it cannot read to its end for one whose writer was killed, and drops the rest without a
//! word, even where a damaged length hides transactions that were committed. So this file tells the two apart: behind
//! a cut there is nothing whole; behind a damage there is.
//!
//! ```text
//!   header │ size checksum entry │ size checksum entry │ size checksum FLUSH │ size checksum entry │ si
//!          └──────────────── a committed transaction ────────────────────────┘└── torn: never acknowledged
//! ```
//! The format is that of DuckDB 1.5, log version 2 (`write_ahead_log.cpp`, `wal_replay.cpp`, `checksum.cpp`): a commit
//! appends its entries and a flush entry, then calls `fsync` (`WriteAheadLog::Flush`: `writer->Sync()`) before
//! `COMMIT` returns. Another version is left to DuckDB.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing, or it is none that this file can read.
    Whole,
    /// The process was killed in the middle of a commit, which nobody was told of: the bytes behind `kept_bytes`.
    Torn { kept_bytes: u64, torn_bytes: u64 },
    /// Bytes are wrong at `at_byte`, in the transaction behind `kept_bytes`; behind them are the ends of `whole_behind`
    /// more transactions.
    Damaged { kept_bytes: u64, at_byte: u64, whole_behind: u64 },
}

const ENTRY_HEAD_BYTES: u64 = 16;
/// Entries are a few rows or a row group's pointers. What claims to be more is no entry.
const ENTRY_BYTES_MAX: u64 = 1 << 32;
/// The entry that ends a transaction: property 100 (`wal_type`) is 100 (`WAL_FLUSH`), end of object.
const FLUSH: [u8; 5] = [100, 0, 100, 0xff, 0xff];

/// Looks at a log file; one that is absent is whole.
///
/// # Errors
/// It cannot be read.
pub fn inspect(path: &Path) -> io::Result<Tail> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tail::Whole),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    scan(&mut BufReader::with_capacity(1 << 16, file), length)
}

fn scan(log: &mut (impl Read + Seek), length: u64) -> io::Result<Tail> {
    if length == 0 {
        return Ok(Tail::Whole);
    }
    let mut at_byte = match header(log)? {
        Header::Ours(bytes) => bytes,
        Header::Foreign => return Ok(Tail::Whole),
        Header::Cut => return Ok(Tail::Torn { kept_bytes: 0, torn_bytes: length }),
        Header::Damaged => return behind(log, 0, 0, length),
    };
    let mut kept_bytes = 0;
    let mut entry = Vec::new();
    while at_byte < length {
        let rest_bytes = length - at_byte;
        let whole = rest_bytes >= ENTRY_HEAD_BYTES && {
            let (size_bytes, sum) = (number(log)?, number(log)?);
            let fits = size_bytes <= rest_bytes - ENTRY_HEAD_BYTES && size_bytes <= ENTRY_BYTES_MAX;
            entry.clear();
            fits && log.take(size_bytes).read_to_end(&mut entry)? > 0 && checksum(&entry) == sum
        };
        if !whole {
            return behind(log, kept_bytes, at_byte, length);
        }
        at_byte += ENTRY_HEAD_BYTES + u64::try_from(entry.len()).unwrap_or(u64::MAX);
        if entry == FLUSH {
            kept_bytes = at_byte;
        }
    }
    Ok(if kept_bytes == length { Tail::Whole } else { Tail::Torn { kept_bytes, torn_bytes: length - kept_bytes } })
}

/// An entry at `at_byte` is not whole: is there anything behind it that says that it once was?
fn behind(log: &mut (impl Read + Seek), kept_bytes: u64, at_byte: u64, length: u64) -> io::Result<Tail> {
    log.seek(SeekFrom::Start(at_byte))?;
    let mut rest = Vec::new();
    log.read_to_end(&mut rest)?;
    let end = flush_entry();
    let whole_behind = rest.windows(end.len()).filter(|window| *window == end).count();
    // A file that was lengthened and not filled when the power went has zeros there.
    let empty = rest.iter().all(|byte| *byte == 0);
    // A cut leaves the beginning of an entry, whose length points beyond the end.
    let head: Option<[u8; 8]> = rest.first_chunk().copied();
    let cut = head.is_none_or(|head| {
        let size_bytes = u64::from_le_bytes(head);
        let rest_bytes = length - at_byte;
        rest_bytes < ENTRY_HEAD_BYTES || size_bytes > rest_bytes - ENTRY_HEAD_BYTES
    });
    if whole_behind == 0 && (cut || empty) {
        return Ok(Tail::Torn { kept_bytes, torn_bytes: length - kept_bytes });
    }
    Ok(Tail::Damaged { kept_bytes, at_byte, whole_behind: u64::try_from(whole_behind).unwrap_or(u64::MAX) })
}

/// The flush entry as it stands in a log. It has no content of its own, so it is always the same.
fn flush_entry() -> Vec<u8> {
    let size_bytes = u64::try_from(FLUSH.len()).unwrap_or(0);
    [&size_bytes.to_le_bytes()[..], &checksum(&FLUSH).to_le_bytes(), &FLUSH].concat()
}

enum Header {
    /// Log version 2, and the header's bytes.
    Ours(u64),
    /// Another version.
    Foreign,
    /// The file ends in it.
    Cut,
    /// No header at all.
    Damaged,
}

/// Reads the version entry, the only one without a checksum: properties 100 (`wal_type`), 101 (`version`), 102
/// (`db_identifier`), 103 (`checkpoint_iteration`), then the end of the object.
fn header(log: &mut (impl Read + Seek)) -> io::Result<Header> {
    const VERSION: u64 = 2;
    let read = |log: &mut _| -> io::Result<Header> {
        if property(log)? != 100 || varint(log)? != 98 || property(log)? != 101 {
            return Ok(Header::Damaged);
        }
        match varint(log)? {
            VERSION => {}
            // Without checksums, or encrypted.
            1 | 3 => return Ok(Header::Foreign),
            _ => return Ok(Header::Damaged),
        }
        loop {
            match property(log)? {
                102 => {
                    for _ in 0..varint(log)?.min(64) {
                        varint(log)?;
                    }
                }
                103 => {
                    varint(log)?;
                }
                0xffff => return Ok(Header::Ours(0)),
                _ => return Ok(Header::Damaged),
            }
        }
    };
    match read(log) {
        Ok(Header::Ours(_)) => Ok(Header::Ours(log.stream_position()?)),
        Ok(other) => Ok(other),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Header::Cut),
        Err(error) => Err(error),
    }
}

fn property(log: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    log.read_exact(&mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}

fn number(log: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    log.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Seven bits a byte, the lowest first.
fn varint(log: &mut impl Read) -> io::Result<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let mut byte = [0];
        log.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(value);
        }
    }
    Ok(value)
}

/// DuckDB's `Checksum`: words multiplied and xored, the last few bytes hashed.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum =
        words.iter().fold(5381, |sum: u64, word| sum ^ u64::from_le_bytes(*word).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    if rest.is_empty() { sum } else { sum ^ remainder(rest) }
}

/// DuckDB's `ChecksumRemainder` for fewer than eight bytes.
fn remainder(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    let length = u64::try_from(bytes.len()).unwrap_or(0);
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let mut hash = 0xe17a_1465 ^ length.wrapping_mul(FACTOR);
    hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    hash ^= hash >> 47;
    hash = hash.wrapping_mul(FACTOR);
    hash ^ (hash >> 47)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{FLUSH, Tail, checksum, scan};

    fn entry(bytes: &[u8]) -> Vec<u8> {
        let size = u64::try_from(bytes.len()).expect("small");
        [&size.to_le_bytes()[..], &checksum(bytes).to_le_bytes(), bytes].concat()
    }

    /// A header, and transactions of the given entries.
    fn log(transactions: &[&[&[u8]]]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = vec![100, 0, 98, 101, 0, 2, 102, 0, 3, 1, 0x80, 1, 7, 103, 0, 5, 0xff, 0xff];
        let mut ends = vec![bytes.len()];
        for entries in transactions {
            entries.iter().for_each(|one| bytes.extend(entry(one)));
            bytes.extend(entry(&FLUSH));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn tail(bytes: &[u8]) -> Tail {
        scan(&mut Cursor::new(bytes), u64::try_from(bytes.len()).expect("small")).expect("readable")
    }

    #[test]
    fn a_cut_anywhere_is_torn_and_keeps_what_was_committed() {
        let (bytes, ends) = log(&[&[b"use table", b"insert one row"], &[b"x"], &[b"use table", b"last insert"]]);
        assert_eq!(tail(&[]), Tail::Whole);
        for length in 1..=bytes.len() {
            let kept = ends[1..].iter().rev().find(|end| **end <= length).copied().unwrap_or(0);
            let expected = match (length, kept) {
                (length, kept) if length == kept => Tail::Whole,
                (length, kept) => Tail::Torn {
                    kept_bytes: u64::try_from(kept).expect("small"),
                    torn_bytes: u64::try_from(length - kept).expect("small"),
                },
            };
            assert_eq!(tail(&bytes[..length]), expected, "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_is_never_taken_for_a_cut_where_whole_transactions_follow() {
        let (bytes, ends) = log(&[&[b"use table", b"insert one row"], &[b"x"], &[b"use table", b"last insert"]]);
        for place in ends[0]..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[place] ^= 1 << bit;
                let found = tail(&wrong);
                let after = ends.iter().filter(|end| **end > place).count();
                match found {
                    Tail::Damaged { whole_behind, kept_bytes, .. } => {
                        let kept = u64::try_from(*ends.iter().rev().find(|end| **end <= place).expect("header"));
                        assert!(kept_bytes == kept.expect("small") || kept_bytes == 0, "{place}.{bit}: {found:?}");
                        assert!(whole_behind + 1 >= u64::try_from(after).expect("small"), "{place}.{bit}: {found:?}");
                    }
                    // The last entry of all: its length was the only thing that told of it.
                    Tail::Torn { .. } => assert!(after == 1, "{place}.{bit}: {found:?}"),
                    Tail::Whole => panic!("{place}.{bit}: unnoticed"),
                }
            }
        }
    }

    #[test]
    fn zeros_at_the_end_are_a_torn_tail() {
        let (mut bytes, ends) = log(&[&[b"row"]]);
        bytes.extend([0; 4096]);
        let kept_bytes = u64::try_from(ends[1]).expect("small");
        assert_eq!(tail(&bytes), Tail::Torn { kept_bytes, torn_bytes: 4096 });
    }
}
