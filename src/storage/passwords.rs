//! Password hashes (argon2id, RFC 9106) and the thread that checks them: one check takes tens of milliseconds and
//! 19 MiB, so neither a worker nor the database server does it.

use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

/// KiB of memory of one hash. OWASP Password Storage Cheat Sheet, argon2id: m = 19 MiB, t = 2, p = 1.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
pub const PASSES: u32 = 2;
/// Lanes.
pub const LANES: u32 = 1;
/// Bytes of a password: longer ones do not match and cannot be set.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// A stored hash that asks for more than this (KiB, passes) is not computed: a row must not buy a denial of service.
const STORED_MEMORY_KIB_MAX: u32 = 256 * 1024;
const STORED_PASSES_MAX: u32 = 16;

/// Takes the verdict of the check with this token to whoever asked. Never blocks.
pub type VerdictSink = Arc<dyn Fn(u64, bool) + Send + Sync>;

/// The queue of the `passwords` thread is full: the sign-in must be answered with 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Hashes a password with a fresh salt into a PHC string (`$argon2id$v=19$m=19456,t=2,p=1$…`).
///
/// # Errors
/// A password longer than [`PASSWORD_BYTES_MAX`], or no randomness from the kernel; one sentence.
pub fn hash(password: &str) -> Result<String, String> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(format!("a password has at most {PASSWORD_BYTES_MAX} bytes, this one has {}", password.len()));
    }
    let hash: Result<PasswordHash, _> = hasher().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| format!("the password could not be hashed: {error}"))
}

/// Whether the password belongs to the PHC string. Text that is no hash matches nothing, and takes as long.
pub fn verify(hash: &str, password: &str) -> bool {
    let parsed = PasswordHash::new(hash).ok().filter(affordable);
    let (target, known) = match &parsed {
        Some(parsed) => (parsed, password.len() <= PASSWORD_BYTES_MAX),
        None => (&*DUMMY, false),
    };
    let password = &password.as_bytes()[..password.len().min(PASSWORD_BYTES_MAX)];
    hasher().verify_password(password, target).is_ok() && known
}

/// The `passwords` thread's queue, for as many workers as want it.
#[derive(Clone)]
pub struct Passwords {
    queue: Sender<Order>,
}

/// The thread and its queue.
pub struct Handle {
    passwords: Passwords,
    thread: JoinHandle<()>,
}

enum Order {
    Check { token: u64, hash: Option<Box<str>>, password: Box<str>, reply: VerdictSink },
    Stop,
}

impl Passwords {
    /// Starts the thread; at most `queue_max` checks wait for it.
    ///
    /// # Errors
    /// The kernel refused the thread; one sentence.
    pub fn spawn(queue_max: usize) -> Result<Handle, String> {
        let (queue, orders) = bounded(queue_max.max(1));
        let thread =
            std::thread::Builder::new().name("passwords".into()).spawn(move || serve(&orders)).map_err(|error| {
                format!(
                    "the thread `passwords` could not be started: {error}; raise the limit of processes (ulimit -u)"
                )
            })?;
        Ok(Handle { passwords: Self { queue }, thread })
    }

    /// The queue of a thread that has ended: every check is refused.
    pub fn closed() -> Self {
        Self { queue: bounded(1).0 }
    }

    /// Queues a check; `hash` is `None` for a user who does not exist, which takes the same time and answers `false`.
    ///
    /// # Errors
    /// The queue is full, or the thread has been stopped.
    pub fn try_verify(&self, token: u64, hash: Option<&str>, password: &str, reply: VerdictSink) -> Result<(), Full> {
        let order = Order::Check { token, hash: hash.map(Into::into), password: password.into(), reply };
        self.queue.try_send(order).map_err(|_: TrySendError<Order>| Full)
    }

    /// Checks that wait now.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

impl Handle {
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// Answers what is queued, then ends the thread.
    pub fn stop(self) {
        // An error means that the thread has ended already.
        let _ended = self.passwords.queue.send(Order::Stop);
        let _panicked = self.thread.join();
    }
}

/// What unknown users are verified against. Its password is nobody's: the check is only for its duration.
static DUMMY: LazyLock<PasswordHash> = LazyLock::new(|| {
    hasher()
        .hash_password_with_salt(b"nobody", &[7; 16])
        .expect("invariant: constant parameters, salt and password are valid")
});

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("invariant: constant parameters are valid");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn affordable(hash: &PasswordHash) -> bool {
    Params::try_from(hash)
        .is_ok_and(|params| params.m_cost() <= STORED_MEMORY_KIB_MAX && params.t_cost() <= STORED_PASSES_MAX)
}

fn serve(orders: &Receiver<Order>) {
    for order in orders {
        match order {
            Order::Check { token, hash, password, reply } => {
                reply(token, verify(hash.as_deref().unwrap_or(""), &password))
            }
            Order::Stop => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Full, Passwords, hash, verify};

    #[test]
    fn a_hash_matches_its_password_only() {
        let stored = hash("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_ne!(stored, hash("correct horse").unwrap(), "each hash has its own salt");
        assert!(verify(&stored, "correct horse"));
        assert!(!verify(&stored, "correct horsf"));
        assert!(!verify(&stored, ""));
    }

    #[test]
    fn text_that_is_no_hash_matches_nothing() {
        for stored in ["", "plain", "$argon2id$", "$argon2id$v=19$m=4294967295,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$AAAA"] {
            assert!(!verify(stored, "nobody"), "{stored}");
        }
        assert!(hash(&"x".repeat(2000)).is_err());
        assert!(!verify(&hash("x").unwrap(), &"x".repeat(2000)));
    }

    #[test]
    fn the_thread_answers_by_token_and_refuses_when_full() {
        let handle = Passwords::spawn(2).unwrap();
        let (sender, verdicts) = crossbeam::channel::unbounded();
        let reply: super::VerdictSink = std::sync::Arc::new(move |token, fine| sender.send((token, fine)).unwrap());
        let stored = hash("secret").unwrap();
        let mut accepted = 0;
        let mut refused = 0;
        for token in 0..64 {
            match handle.passwords().try_verify(token, (token != 1).then_some(stored.as_str()), "secret", reply.clone())
            {
                Ok(()) => accepted += 1,
                Err(Full) => refused += 1,
            }
        }
        assert!(refused > 0, "64 checks cannot fit a queue of 2");
        for _ in 0..accepted {
            let (token, fine) = verdicts.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!(fine, token != 1);
        }
        handle.stop();
    }
}
