//! The mesh's own source files, compiled over loom's primitives and run through every interleaving and every value
//! that the C11 memory model lets a load return.
//!
//! Nothing is copied: `ring`, `doorbell` and `grid` are the files of `src/mesh`, which take their primitives from
//! `super::sync`; here that is a module that names loom's. All of it exists for tests only, so a plain build of the
//! workspace compiles an empty library. Each test says which ordering it pins: weaken that one, and it fails.
//! Loom models a SeqCst access as AcqRel, but a SeqCst fence exactly, and the doorbell relies on fences alone.

#[cfg(test)]
#[path = "../../../src/mesh/doorbell.rs"]
pub mod doorbell;
#[cfg(test)]
#[path = "../../../src/mesh/grid.rs"]
pub mod grid;
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
mod doorbell_tests;
#[cfg(test)]
mod grid_tests;
#[cfg(test)]
mod ring_tests;
