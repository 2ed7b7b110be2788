//! (skeleton)
#[derive(Debug)]
pub struct Lease;
impl std::ops::Deref for Lease { type Target=[u8]; fn deref(&self)->&[u8]{&[]} }
pub struct Pool;
