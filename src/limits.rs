//! Every bound of the program, each with its reason. A profile may lower or raise the ones marked as defaults.

/// Bytes of a request head (default): what HAProxy and nginx accept without tuning.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a message (default).
pub const HEADER_COUNT_MAX: usize = 100;
/// Bytes of a request body (default).
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Messages that a worker takes from the mesh in one turn.
pub const MESH_BATCH_MAX: usize = 256;
/// Slots of each mesh ring (a power of two).
pub const MESH_RING_SLOTS: usize = 1024;
/// Slots of each inbox from threads that are no workers.
pub const INBOX_SLOTS: usize = 4096;
/// Requests that wait for the database server.
pub const DATABASE_QUEUE_MAX: usize = 4096;
/// Rows that one page of a list view may show.
pub const PAGE_SIZE_MAX: usize = 500;
/// Updates that a replica's log keeps for peers that are behind; beyond it a sweep repairs them.
pub const LOG_UPDATES_MAX: usize = 65_536;
/// Updates in one replication batch.
pub const BATCH_UPDATES_MAX: usize = 1024;

const _: () = assert!(MESH_RING_SLOTS.is_power_of_two());
const _: () = assert!(MESH_BATCH_MAX <= MESH_RING_SLOTS);
