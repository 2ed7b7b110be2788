//! The one door to the kernel: sockets, completions, buffers, timers, wakes and thread placement.
//!
//! Architecture invariant: only this room names `io_uring`, `libc` or a socket call; everything above it is handed
//! [`Event`]s and gives back orders. Raw `unsafe` lives here and in the mesh ring, nowhere else.

pub mod buffers;
pub mod contract;
#[cfg(feature = "appliance")]
pub mod glommio;
#[cfg(feature = "appliance")]
pub mod kind;
mod life;
mod mapping;
#[cfg(feature = "appliance")]
pub mod monoio;
#[cfg(feature = "appliance")]
pub mod probe;
pub mod sim;
pub mod socket;
pub mod thread;
pub mod uring;
pub mod waker;
pub mod wheel;

#[cfg(feature = "appliance")]
pub use self::monoio::{MonoioEpoll, MonoioUring};
pub use buffers::{Lease, Pool};
pub use contract::{Address, Chunk, Close, CloseReason, Config, Conn, Engine, Event, ListenerId, Statistics};
#[cfg(feature = "appliance")]
pub use glommio::Glommio;
#[cfg(feature = "appliance")]
pub use kind::{EngineChoice, EngineKind};
pub use thread::clock_monotonic_ns;
pub use uring::Uring;
pub use waker::Waker;
