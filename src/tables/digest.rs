//! Digests of a table: 256 buckets, each the XOR of one 128-bit keyed hash per revision that it holds.
//!
//! XOR makes an update O(1) (take the old revision out, put the new one in) and independent of order. Stubs have
//! buckets of their own: two replicas that differ only in deletions already purged show equal digests, while a
//! repair that moves replication positions compares the stubs too.

use super::record::TableId;
use super::stamp::Stamp;

/// Buckets of a table.
pub const BUCKETS: usize = 256;

/// The same on every replica of every process; the hash is keyed only to keep it apart from other uses.
const KEY: &[u8; 32] = b"twintier table digest, version 1";

/// What a digest entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Live,
    Stub,
    /// A loser that is kept.
    Conflict,
}

/// The hash of one revision.
pub fn entry_hash(table: TableId, key: &str, stamp: Stamp, entry: Entry) -> u128 {
    let mut head = [0u8; 16];
    head[..2].copy_from_slice(&table.0.to_le_bytes());
    head[2] = match entry {
        Entry::Live => 0,
        Entry::Stub => 1,
        Entry::Conflict => 2,
    };
    head[3] = stamp.server;
    head[4..8].copy_from_slice(&stamp.sequence.to_le_bytes());
    head[8..].copy_from_slice(&stamp.time.to_le_bytes());
    // Short keys, which are nearly all, fit one block and one call.
    let mut block = [0u8; 64];
    let hash = match block.get_mut(16..16 + key.len()) {
        Some(rest) => {
            rest.copy_from_slice(key.as_bytes());
            block[..16].copy_from_slice(&head);
            blake3::keyed_hash(KEY, &block[..16 + key.len()])
        }
        None => blake3::Hasher::new_keyed(KEY).update(&head).update(key.as_bytes()).finalize(),
    };
    let half = hash.as_bytes().first_chunk::<16>().expect("invariant: a hash has 32 bytes");
    u128::from_le_bytes(*half)
}

/// The bucket of a key (FNV-1a, folded): the same on every replica.
pub fn bucket_of(key: &str) -> u8 {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash.to_le_bytes().iter().fold(0, |folded, byte| folded ^ byte)
}

/// The digests of one table.
#[derive(Clone, Debug)]
pub struct Digests {
    /// Live rows and kept losers.
    rows: [u128; BUCKETS],
    stubs: [u128; BUCKETS],
    rows_total: u128,
    stubs_total: u128,
}

impl Default for Digests {
    fn default() -> Self {
        Self { rows: [0; BUCKETS], stubs: [0; BUCKETS], rows_total: 0, stubs_total: 0 }
    }
}

impl Digests {
    /// Puts a revision in, or takes it out again.
    pub fn toggle(&mut self, table: TableId, key: &str, stamp: Stamp, entry: Entry) {
        let hash = entry_hash(table, key, stamp, entry);
        let bucket = usize::from(bucket_of(key));
        match entry {
            Entry::Live | Entry::Conflict => {
                self.rows[bucket] ^= hash;
                self.rows_total ^= hash;
            }
            Entry::Stub => {
                self.stubs[bucket] ^= hash;
                self.stubs_total ^= hash;
            }
        }
    }

    pub fn total(&self, with_stubs: bool) -> u128 {
        if with_stubs { self.rows_total ^ self.stubs_total } else { self.rows_total }
    }

    pub fn buckets(&self) -> &[u128; BUCKETS] {
        &self.rows
    }

    pub fn bucket(&self, bucket: u8, with_stubs: bool) -> u128 {
        let bucket = usize::from(bucket);
        if with_stubs { self.rows[bucket] ^ self.stubs[bucket] } else { self.rows[bucket] }
    }
}
