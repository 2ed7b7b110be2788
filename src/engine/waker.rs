//! (skeleton)
#[derive(Clone)]
pub struct Waker;
impl Waker {
    pub fn wake(&self) {}
}
