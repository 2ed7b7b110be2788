//! Every bound of the program, each with its reason. A profile may lower or raise the ones marked as defaults.

/// Bytes of a request head (default): what HAProxy and nginx accept without tuning.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of a message (default).
pub const HEADER_COUNT_MAX: usize = 100;
/// Bytes of a request body (default).
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Connections of one client address at one front server (default): far beyond a browser's six, and an office behind
/// one address still fits.
pub const CONNECTIONS_PER_ADDRESS_MAX: u32 = 1024;
/// Bytes a second below which a transfer that has used up its time is ended (default): slower than any modem.
pub const TRANSFER_BYTES_PER_S_MIN: u64 = 1024;
/// Interim responses of an upstream server before its answer: hints come once or twice.
pub const INTERIM_RESPONSES_MAX: u8 = 16;
/// Pieces in one connection's send queue before their source must wait, however small they are.
pub const QUEUED_PIECES_MAX: u32 = 1024;
/// Milliseconds of the longest time that a profile may allow: thirty days.
pub const TIMEOUT_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Messages that a worker takes from the mesh in one turn.
pub const MESH_BATCH_MAX: usize = 256;
/// Slots of each mesh ring (a power of two).
pub const MESH_RING_SLOTS: usize = 1024;
/// Slots of each inbox from threads that are no workers.
pub const INBOX_SLOTS: usize = 4096;
/// Requests that wait for the database server.
pub const DATABASE_QUEUE_MAX: usize = 4096;
/// Bytes of the requests that wait for the database server: some seconds of work for a slow disk.
pub const DATABASE_QUEUE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Passwords that wait for the thread that checks them: each takes it tens of milliseconds.
pub const PASSWORD_CHECKS_MAX: usize = 256;
/// Rows that one page of a list view may show.
pub const PAGE_SIZE_MAX: usize = 500;
/// Updates that a replica's log keeps for peers that are behind; beyond it a sweep repairs them.
pub const LOG_UPDATES_MAX: usize = 65_536;
/// Updates in one replication batch.
pub const BATCH_UPDATES_MAX: usize = 1024;
/// Updates of the application server in one batch, and those that a replica applies in one turn. Browsers on the same core
/// wait for it, and a request takes several turns on its way: some 0.1 ms each.
pub const PUBLISHED_UPDATES_MAX: usize = 8;
/// Updates of the application server that each replica may have before it, on average, when an import sends more.
pub const UNAPPLIED_UPDATES_MAX: usize = 4096;

const _: () = assert!(MESH_RING_SLOTS.is_power_of_two());
const _: () = assert!(MESH_BATCH_MAX <= MESH_RING_SLOTS);
const _: () = assert!(UNAPPLIED_UPDATES_MAX / PUBLISHED_UPDATES_MAX < INBOX_SLOTS);
