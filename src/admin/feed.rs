//! `GET /events`: one event a second to every console that is open.
//!
//! All listeners share one event; one that comes is shown the newest at once. A listener that does not take an event in
//! time is dropped and not buffered for; there are [`LISTENERS_MAX`] places.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::io::{AsyncWriteRent, AsyncWriteRentExt as _};

/// Consoles that may be open at the same time.
pub const LISTENERS_MAX: usize = 16;
/// From one event to the next.
pub const BEAT: Duration = Duration::from_secs(1);
/// How long an event may wait for a listener to take it.
pub const SLOW_AFTER: Duration = Duration::from_secs(2);
/// Bytes that the kernel may hold for a listener: some seconds of events.
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// What listeners wait for. It lives on one thread.
#[derive(Debug, Default)]
pub struct Feed(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    /// Counts the events; 0 before the first one.
    sequence: u64,
    event: Rc<Vec<u8>>,
    listeners: usize,
    ended: bool,
    wakers: Vec<Waker>,
}

/// A listener's place, free again when it is dropped.
#[derive(Debug)]
struct Seat<'a>(&'a Feed);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.0.borrow_mut().listeners -= 1;
    }
}

impl Feed {
    /// Gives every listener the next event: the JSON text of one object, without line ends.
    pub fn publish(&self, text: &str) {
        let mut state = self.0.borrow_mut();
        state.sequence += 1;
        state.event = Rc::new(format!("id: {}\ndata: {text}\n\n", state.sequence).into_bytes());
        state.wakers.drain(..).for_each(Waker::wake);
    }

    /// Tells the listeners that no event will follow.
    pub fn end(&self) {
        let mut state = self.0.borrow_mut();
        state.ended = true;
        state.wakers.drain(..).for_each(Waker::wake);
    }

    pub fn listeners(&self) -> usize {
        self.0.borrow().listeners
    }

    /// The first event after `seen`, or `None` at the end.
    async fn next(&self, seen: &mut u64) -> Option<Rc<Vec<u8>>> {
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            if state.sequence > *seen && !state.event.is_empty() {
                *seen = state.sequence;
                return Poll::Ready(Some(Rc::clone(&state.event)));
            }
            if state.ended {
                return Poll::Ready(None);
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn sit(&self) -> Option<Seat<'_>> {
        let mut state = self.0.borrow_mut();
        if state.listeners >= LISTENERS_MAX {
            return None;
        }
        state.listeners += 1;
        Some(Seat(self))
    }

    /// Writes events until the listener leaves, is too slow, or there are no more. Returns false, and has written
    /// nothing, if there is no place.
    pub async fn serve(&self, out: &mut impl AsyncWriteRent, head: Vec<u8>, slow_after: Duration) -> bool {
        let Some(_seat) = self.sit() else { return false };
        let mut seen = 0;
        let mut bytes = Rc::new(head);
        loop {
            let taken = monoio::time::timeout(slow_after, out.write_all(bytes)).await;
            if !matches!(taken, Ok((Ok(_), _))) {
                return true;
            }
            let Some(event) = self.next(&mut seen).await else { break };
            bytes = event;
        }
        // The listener may have left meanwhile.
        let _ = monoio::time::timeout(slow_after, out.write_all(&b"event: end\ndata: {}\n\n"[..])).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use monoio::net::TcpStream;
    use monoio::{LegacyDriver, RuntimeBuilder};

    use super::{Feed, LISTENERS_MAX};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A stream for a listener, and its other end.
    async fn pair(listener: &TcpListener) -> (TcpStream, std::net::TcpStream) {
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().unwrap().0)
    }

    fn run<F: Future>(test: impl FnOnce(Rc<Feed>, TcpListener) -> F) {
        let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap();
        runtime.block_on(test(Rc::default(), TcpListener::bind("127.0.0.1:0").unwrap()));
    }

    fn listen(feed: &Rc<Feed>, mut stream: TcpStream, slow_after: Duration) -> monoio::task::JoinHandle<bool> {
        let feed = Rc::clone(feed);
        monoio::spawn(async move { feed.serve(&mut stream, b"head\n".to_vec(), slow_after).await })
    }

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn who_does_not_take_an_event_in_time_is_dropped_and_the_others_go_on() {
        run(|feed, listener| async move {
            let (slow, mut unread) = pair(&listener).await;
            let slow = listen(&feed, slow, Duration::from_millis(20));
            // More than the kernel holds for one connection, so that the write has to wait.
            let large = format!("\"{}\"", "x".repeat(16 << 20));
            until("the first listener", || feed.listeners() == 1).await;
            feed.publish(&large);
            assert!(slow.await);
            assert_eq!(feed.listeners(), 0);
            // Its connection has ended, after some of the event and before all of it.
            unread.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = Vec::new();
            // How it ended does not matter: some of what was written may be lost with it.
            let _ = unread.read_to_end(&mut bytes);
            assert!(bytes.starts_with(b"head\n") && bytes.len() < large.len(), "{}", bytes.len());

            // Who comes later is shown the newest event, so it must be one that is read in a moment.
            feed.publish("{\"a\":0}");
            let (good, mut read) = pair(&listener).await;
            let good = listen(&feed, good, PATIENCE);
            until("the second listener", || feed.listeners() == 1).await;
            feed.publish("{\"a\":1}");
            feed.end();
            assert!(good.await);
            let mut text = String::new();
            read.read_to_string(&mut text).unwrap();
            assert!(text.starts_with("head\nid: "), "{text}");
            assert!(text.ends_with("event: end\ndata: {}\n\n"), "{text}");
        });
    }

    #[test]
    fn there_are_so_many_places_and_one_who_leaves_frees_one() {
        run(|feed, listener| async move {
            let mut kept = Vec::new();
            for count in 1..=LISTENERS_MAX {
                let (near, far) = pair(&listener).await;
                kept.push((listen(&feed, near, PATIENCE), far));
                until("another listener", || feed.listeners() == count).await;
            }
            let (near, far) = pair(&listener).await;
            let refused = monoio::time::timeout(PATIENCE, listen(&feed, near, PATIENCE)).await;
            assert!(matches!(refused, Ok(false)), "one too many");
            drop(far);
            let (task, far) = kept.pop().unwrap();
            drop(far);
            // A write to a closed connection may succeed once.
            let deadline = Instant::now() + PATIENCE;
            while feed.listeners() == LISTENERS_MAX && Instant::now() < deadline {
                feed.publish("{}");
                monoio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(task.await);
            let (near, _far) = pair(&listener).await;
            let late = listen(&feed, near, PATIENCE);
            until("the late listener", || feed.listeners() == LISTENERS_MAX).await;
            feed.end();
            assert!(late.await);
            for (task, _far) in kept {
                assert!(task.await);
            }
            assert_eq!(feed.listeners(), 0);
        });
    }

    #[test]
    fn who_comes_is_shown_the_newest_event_at_once_and_no_older_one() {
        run(|feed, listener| async move {
            feed.publish("{\"old\":1}");
            feed.publish("{\"newest\":1}");
            let (near, mut far) = pair(&listener).await;
            let task = listen(&feed, near, PATIENCE);
            until("the listener", || feed.listeners() == 1).await;
            feed.end();
            assert!(task.await);
            let mut text = String::new();
            far.read_to_string(&mut text).unwrap();
            assert_eq!(text, "head\nid: 2\ndata: {\"newest\":1}\n\nevent: end\ndata: {}\n\n");
        });
    }
}
