//! The signals that end a program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use super::Failure;
use crate::engine::Waker;

/// The number of the signal that came, 0 before.
pub(super) fn which_signal() -> Result<Arc<AtomicUsize>, Failure> {
    let which = Arc::new(AtomicUsize::new(0));
    for signal in [SIGTERM, SIGINT] {
        let number = usize::try_from(signal).unwrap_or(0);
        signal_hook::flag::register_usize(signal, Arc::clone(&which), number)
            .map_err(|error| Failure::failed(format!("signal {signal} cannot be handled: {error}")))?;
    }
    Ok(which)
}

/// The same with a waker, for a program of one thread that sleeps in its engine: a helper thread watches the flag.
///
/// # Errors
/// The handlers or the thread could not be installed.
pub fn stop_signal_with(waker: Waker) -> Result<Arc<AtomicBool>, Failure> {
    let flag = stop_signal()?;
    let watched = Arc::clone(&flag);
    let watch = move || {
        while !watched.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(20));
        }
        waker.wake();
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map_err(|error| Failure::failed(format!("the signal thread could not be started: {error}")))?;
    Ok(flag)
}

/// Set by SIGTERM or SIGINT. A second signal ends the process at once.
///
/// # Errors
/// The handlers could not be installed.
pub fn stop_signal() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&flag)))
            .map_err(|error| Failure::failed(format!("signal {signal} cannot be handled: {error}")))?;
    }
    Ok(flag)
}
