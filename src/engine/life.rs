//! Where a connection is in its life: the same for every engine that has a kernel under it.
//!
//! ```text
//!            connect            Connected ok         close(Flush)          queue empty
//!   Free ──────────────▶ Connecting ───▶ Open ───────────▶ Flushing ───────────▶ Lingering
//!    ▲  ╲ accept, adopt                 ▲  │                   │                     │
//!    │   ╲──────────────────────────────╯  │ failure,          │ failure,            │ input ends,
//!    │                                     │ close(Reset)      │ close(Reset)        │ time is over
//!    │        nothing in flight            ▼                   ▼                     ▼
//!    ╰───────────────────────────────── Closing ◀──────────────┴─────────────────────╯
//! ```

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody's.
    Free,
    /// The connect is not decided; chunks may be queued already.
    Connecting,
    /// Both directions work, or one has ended.
    Open,
    /// We are closing: what is queued goes out, input is dropped.
    Flushing,
    /// FIN is sent, input is dropped until it ends or the linger time is over.
    Lingering,
    /// No more input or output: it ends as soon as nothing is in flight.
    Closing,
}

/// Our own direction's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    Open,
    /// FIN follows the queue.
    Ordered,
    Done,
}
