//! (skeleton)
pub struct Waker;
