//! The bridge from the agents to the database server: requests go into its bounded queue, replies come back through
//! the inbox and wake the agent that waits for them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::executor::Timer;
use super::inbox::{Inbox, REPLIES_MAX};
use crate::database::contract::{Mutation, Outcome, Reply, ReplySink, Request};
use crate::tables::{TableId, Update};

/// The database server's queue: gives the request back if it is full.
pub type Database = Arc<dyn Fn(Request) -> Result<(), Request> + Send + Sync>;

/// What became of a mutation.
#[derive(Debug)]
pub(super) enum Mutated {
    /// On disk; the updates of the rows that changed.
    Committed(Vec<Update>),
    /// A row to set fields of does not exist; nothing was changed.
    Missing,
}

pub(super) struct Bridge {
    database: Database,
    sink: ReplySink,
    token: Cell<u64>,
    waiters: RefCell<HashMap<u64, Waiter>>,
}

/// One request that the database server has.
enum Waiter {
    /// Not answered; the agent has not looked yet, or left its waker.
    Open(Option<Waker>),
    /// The agent was given up. The entry stays until the reply so that the replies in flight stay counted.
    Abandoned,
    Answered(Outcome),
}

impl Bridge {
    pub fn new(database: Database, inbox: &Arc<Inbox>) -> Rc<Self> {
        let inbox = Arc::clone(inbox);
        let sink: ReplySink = Arc::new(move |reply| inbox.reply(reply));
        Rc::new(Self { database, sink, token: Cell::new(0), waiters: RefCell::new(HashMap::new()) })
    }

    /// Reads one row.
    pub async fn read(self: &Rc<Self>, table: TableId, key: &str) -> Result<Option<Update>, String> {
        let make = |token, reply| Request::Read { token, table, key: key.into(), reply };
        match self.send(make).await.await {
            Outcome::Row(row) => Ok(row),
            Outcome::Failed(reason) | Outcome::Unknown(reason) => Err(reason),
            Outcome::Committed { .. } | Outcome::Conflict { .. } | Outcome::Number(_) => {
                Err("the database server answered a read as if it were a write".to_owned())
            }
        }
    }

    /// The next number of a name, from the database.
    pub async fn number(self: &Rc<Self>, name: &str, above: u64) -> Result<u64, String> {
        let make = |token, reply| Request::Number { token, name: name.into(), above, reply };
        match self.send(make).await.await {
            Outcome::Number(next) => Ok(next),
            // A number that may be taken is not given again.
            Outcome::Failed(reason) | Outcome::Unknown(reason) => Err(reason),
            Outcome::Committed { .. } | Outcome::Conflict { .. } | Outcome::Row(_) => {
                Err("the database server answered a request for a number as if it were another".to_owned())
            }
        }
    }

    /// Changes rows in one transaction.
    pub async fn mutate(self: &Rc<Self>, mutations: Vec<Mutation>) -> Result<Mutated, String> {
        self.begin_mutate(mutations).await.finish().await
    }

    /// Queues the changes; the order of these calls is the order of the transactions.
    pub async fn begin_mutate(self: &Rc<Self>, mutations: Vec<Mutation>) -> Pending {
        self.send(|token, reply| Request::Mutate { token, mutations, reply }).await
    }

    /// Puts a request into the database server's queue; waits while it is full.
    async fn send(self: &Rc<Self>, make: impl FnOnce(u64, ReplySink) -> Request) -> Pending {
        let mut pause = Pause::default();
        while self.waiters.borrow().len() >= REPLIES_MAX {
            pause.rest().await;
        }
        let token = self.token.get();
        self.token.set(token.wrapping_add(1));
        self.waiters.borrow_mut().insert(token, Waiter::Open(None));
        let mut unsent = Unsent { bridge: self, token, sent: false };
        let mut request = make(token, Arc::clone(&self.sink));
        let mut pause = Pause::default();
        loop {
            match (self.database)(request) {
                Ok(()) => break,
                Err(refused) => request = refused,
            }
            pause.rest().await;
        }
        unsent.sent = true;
        Pending { bridge: Rc::clone(self), token }
    }

    /// Hands a reply to whoever waits for it. The wakers run agents later, not now.
    pub fn deliver(&self, reply: Reply) {
        let mut waiters = self.waiters.borrow_mut();
        match waiters.remove(&reply.token) {
            Some(Waiter::Open(waker)) => {
                waiters.insert(reply.token, Waiter::Answered(reply.outcome));
                drop(waiters);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            // A second answer to the same request changes nothing.
            Some(answered @ Waiter::Answered(_)) => {
                waiters.insert(reply.token, answered);
            }
            Some(Waiter::Abandoned) | None => {}
        }
    }
}

/// Forgets a request that never reached the queue because its agent was given up while the queue was full.
struct Unsent<'a> {
    bridge: &'a Bridge,
    token: u64,
    sent: bool,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if !self.sent {
            self.bridge.waiters.borrow_mut().remove(&self.token);
        }
    }
}

/// The answer to come.
pub(super) struct Pending {
    bridge: Rc<Bridge>,
    token: u64,
}

impl Pending {
    /// The end of a mutation.
    pub async fn finish(self) -> Result<Mutated, String> {
        match self.await {
            Outcome::Committed { updates } => Ok(Mutated::Committed(updates)),
            Outcome::Conflict { .. } => Ok(Mutated::Missing),
            // Agents repeat what is unknown after the next look at their work: each step finds out what is done.
            Outcome::Failed(reason) | Outcome::Unknown(reason) => Err(reason),
            Outcome::Row(_) | Outcome::Number(_) => {
                Err("the database server answered a write as if it were a read".to_owned())
            }
        }
    }
}

impl Future for Pending {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let mut waiters = self.bridge.waiters.borrow_mut();
        match waiters.remove(&self.token) {
            Some(Waiter::Answered(outcome)) => Poll::Ready(outcome),
            Some(Waiter::Open(_)) => {
                waiters.insert(self.token, Waiter::Open(Some(context.waker().clone())));
                Poll::Pending
            }
            Some(Waiter::Abandoned) | None => {
                Poll::Ready(Outcome::Failed("the answer of the database server was taken before".to_owned()))
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut waiters = self.bridge.waiters.borrow_mut();
        match waiters.remove(&self.token) {
            Some(Waiter::Open(_) | Waiter::Abandoned) => {
                waiters.insert(self.token, Waiter::Abandoned);
            }
            Some(Waiter::Answered(_)) | None => {}
        }
    }
}

/// Pauses that grow from a millisecond while a queue stays full.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

impl Pause {
    const LONGEST: Duration = Duration::from_millis(50);

    async fn rest(&mut self) {
        Timer::new(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

/// The future's output, or `None` if it takes longer; the future is dropped then.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut timer = std::pin::pin!(Timer::new(limit));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(context).map(|_| None)
    })
    .await
}
