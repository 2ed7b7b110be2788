//! Named request vectors against the real `twintier proxy` over real sockets, on every engine.
//!
//! A vector is a transcript in a file of `vectors/`, by topic: what a client sends, what it must get, what becomes of
//! its connection, and exactly what the server behind the proxy receives. `vectors/README.md` has the notation. Each
//! vector is played whole, cut in two at a few places, and byte by byte: the network's cuts must not change anything.
//!
//! The proxy is judged by `message.rs`, a plain reader that shares no code with it.
#![cfg(feature = "appliance")]

mod client;
mod lane;
mod message;
mod notation;
mod origin;
mod play;
#[allow(dead_code)] // The black-box tests use all of it.
#[path = "../black_box/support/program.rs"]
mod program;
mod vector;

use std::time::{Duration, Instant};

/// How long anything may take before it counts as a hang. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks again and again until there is an answer or [`PATIENCE`] is over.
#[track_caller]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for this in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn there_are_at_least_400_vectors_with_names_of_their_own() {
    let vectors = vector::all();
    let mut names: Vec<&str> = vectors.iter().map(|vector| vector.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        panic!("two vectors have this name: {}", pair[0]);
    }
    assert!(vectors.len() >= 400, "only {} vectors", vectors.len());
}

/// The three ways to play all vectors, on one engine with these options of the proxy.
macro_rules! engine {
    ($module:ident, $name:literal $(, $option:literal)*) => {
        mod $module {
            use super::lane::{self, Cuts};

            #[test]
            fn every_vector_whole() {
                lane::run($name, &[$($option),*], Cuts::Whole);
            }

            #[test]
            fn every_vector_cut_in_two() {
                lane::run($name, &[$($option),*], Cuts::InTwo);
            }

            #[test]
            fn every_vector_byte_by_byte() {
                lane::run($name, &[$($option),*], Cuts::Bytes);
            }
        }
    };
}

engine!(uring, "uring");
engine!(monoio, "monoio");
engine!(monoio_epoll, "monoio-epoll");
engine!(glommio, "glommio");
// Safe requests may share upstream connections: nobody may see a difference.
engine!(sharing, "uring", "--pipeline", "8");
