//! Hears that another appliance has committed: a connection of its own that does nothing else.
//!
//! A notification that is lost loses nothing: whoever follows looks once a second all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use postgres::fallible_iterator::FallibleIterator as _;

use super::Settings;
use super::sql::quoted;

/// How long one wait for a notification takes: how soon the thread finds out that it is to end.
const WAIT: Duration = Duration::from_millis(200);
/// Before the first attempt to connect again; twice as long before each further one, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Calls `ring` for every commit of another appliance, and after each new connection, from a thread of its own until
/// `stop` is set. `ring` must not block.
///
/// # Errors
/// The thread could not be started.
pub fn listen(
    settings: Settings,
    stop: Arc<AtomicBool>,
    ring: impl Fn() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("listen".into()).spawn(move || {
        let mut pause = PAUSE;
        // ORDERING: Relaxed: the flag says that the process ends, and nothing else.
        while !stop.load(Ordering::Relaxed) {
            if hear(&settings, &stop, &ring, &mut pause) {
                return;
            }
            let mut left = pause;
            // ORDERING: Relaxed, as above.
            while !left.is_zero() && !stop.load(Ordering::Relaxed) {
                let step = left.min(WAIT);
                std::thread::sleep(step);
                left -= step;
            }
            pause = (2 * pause).min(PAUSE_MAX);
        }
    })
}

/// One connection's life; true if the thread is to end.
fn hear(settings: &Settings, stop: &AtomicBool, ring: &impl Fn(), pause: &mut Duration) -> bool {
    // The database server's own connection says what is wrong with the database.
    let Ok(mut client) = settings.connect() else { return false };
    if client.batch_execute(&format!("LISTEN {}", quoted(settings.channel()))).is_err() {
        return false;
    }
    // What was committed while nobody listened.
    ring();
    *pause = PAUSE;
    loop {
        let mut heard = false;
        {
            let mut notifications = client.notifications();
            let mut waiting = notifications.timeout_iter(WAIT);
            loop {
                match waiting.next() {
                    Ok(Some(notification)) if notification.payload() == settings.appliance => {}
                    Ok(Some(_)) => {
                        heard = true;
                        break;
                    }
                    Ok(None) => break,
                    Err(_) => return false,
                }
            }
        }
        if heard {
            ring();
        }
        // ORDERING: Relaxed, as in `listen`.
        if stop.load(Ordering::Relaxed) {
            return true;
        }
        if client.is_closed() {
            return false;
        }
    }
}
