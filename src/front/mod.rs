//! A front server: takes connections, parses requests, routes them among the enterprise applications, and sends each
//! answer back in the order of its request.
//!
//! ```text
//!            Accepted                      head complete
//!   (free) ───────────▶ Idle ──▶ Head ──▶ route ─┬─▶ Collect ─▶ Queued ─▶ (replica) ─▶ respond ─┐
//!                        ▲                       ├─▶ [Waiting ─▶] Relay ─▶ (upstream server) ───┤
//!                        │                       │     └─ 101 ─▶ Tunnel ─▶ (closed)            │
//!                        │                       └─▶ static object, redirect, refusal ──────────┤
//!                        └───────────────────── keep-alive ─────────────────────────────────────┘
//! ```
//! Architecture invariants: a front never opens the database and never decides a permission; a byte goes upstream only
//! after the whole request head was found sound; an upstream connection is used again only when its response was read
//! to the end; in a tunnel, no byte of the browser goes upstream before the server's 101.

mod addresses;
pub mod admit;
pub mod authorize;
mod checks;
pub mod connection;
pub mod counters;
mod dispatch;
pub mod exchange;
pub mod flights;
pub mod flow;
mod forward;
mod forwarding;
pub mod hand_over;
mod interim;
pub mod latency;
pub mod log;
pub mod note;
mod notice;
pub mod pace;
mod part;
pub mod reason;
pub mod record;
mod refuse;
pub mod rejects;
mod relay;
mod respond;
mod route;
pub mod server;
pub mod settings;
pub mod trace;
mod tunnel;
pub mod upstream;
mod waiting;

pub use counters::Counters;
pub use server::FrontServer;
pub use settings::Settings;
