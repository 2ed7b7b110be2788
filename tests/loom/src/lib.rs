//! The mesh's own source files, compiled over loom's primitives and run through every interleaving and every value
//! that the C11 memory model lets a load return.
//!
//! Nothing is copied: `ring`, `doorbell`, `grid` and `inbox` are the files of `src/mesh`, which take their primitives from
//! `super::sync`; here that is a module that names loom's. All of it exists for tests only, so a plain build of the
//! workspace compiles an empty library. Each test says which ordering it pins: weaken that one, and it fails.
//!
//! `scripts/weaken.sh` weakens each ordering in turn and says which test fails. The depth board has no ordering to pin: its
//! loads and stores are all Relaxed, one writer to an entry, and a depth carries no other data.
//!
//! Two ways in which loom 0.7 is not C11, to be known when reading a result:
//! - A SeqCst fence passes on everything that happened before it, as if fences were one lock. C11 promises less: only
//!   that what is stored before one fence is seen by loads behind a later one. The doorbell needs no more than that,
//!   by the argument in its file, but a pass here does not show it.
//! - The order of stores to one atomic is partial, and an exchange need not follow right behind the store that it
//!   read. So loom can report a failure that C11 rules out; steps that exist for this reason alone say so.

#[cfg(test)]
#[path = "../../../src/mesh/doorbell.rs"]
pub mod doorbell;
#[cfg(test)]
#[path = "../../../src/mesh/grid.rs"]
pub mod grid;
#[cfg(test)]
#[path = "../../../src/mesh/inbox.rs"]
pub mod inbox;
#[cfg(test)]
#[path = "../../../src/mesh/ring.rs"]
pub mod ring;
#[cfg(test)]
pub mod sync;

#[cfg(test)]
pub mod engine {
    //! Stands in for the engine, whose waker `grid` knows by name.

    #[derive(Clone)]
    pub struct Waker;

    impl Waker {
        pub fn wake(&self) {}
    }
}

#[cfg(test)]
mod credit_tests;
#[cfg(test)]
mod doorbell_tests;
#[cfg(test)]
mod grid_tests;
#[cfg(test)]
mod inbox_tests;
#[cfg(test)]
mod ring_tests;
