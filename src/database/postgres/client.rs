//! A connection whose every answer has a time limit.
//!
//! `statement_timeout` is the server's: one that is stopped (SIGSTOP, a frozen container, a hung disk) keeps no promise,
//! and a Unix socket never finds its peer dead. So each wait ends here, after a time that the
//! settings give; then the connection is of no more use, because nobody knows what an answer that came late belongs to.

use std::io::Cursor;
use std::pin::pin;
use std::time::Duration;

use futures_util::SinkExt as _;
use postgres::types::ToSql;
use postgres::{Error, NoTls, Row, Statement};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long the end of a connection may take to be told to the server.
const GOODBYE_MAX: Duration = Duration::from_millis(200);

/// A connection, and the thread's own runtime that moves it: nothing happens on it outside a call.
pub struct Client {
    runtime: Runtime,
    /// `None` only while it is dropped.
    asked: Option<tokio_postgres::Client>,
    /// Carries questions and answers; `None` after it has ended and told why.
    way: Option<JoinHandle<Result<(), Error>>>,
    patience: Duration,
    late: bool,
}

/// Why there is no connection.
pub enum Unconnected {
    Refused(Error),
    /// It was begun and did not end within the time that it was given.
    Late,
    /// The runtime could not be made.
    Unable(std::io::Error),
}

impl Client {
    /// Connects within `connect`; every later answer has to come within `patience`.
    pub fn connect(
        config: &tokio_postgres::Config,
        connect: Duration,
        patience: Duration,
    ) -> Result<Self, Unconnected> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Unconnected::Unable)?;
        let connected = runtime.block_on(async {
            let (asked, connection) = timeout(connect, config.connect(NoTls))
                .await
                .map_err(|_| Unconnected::Late)?
                .map_err(Unconnected::Refused)?;
            Ok((asked, tokio::spawn(connection)))
        });
        let (asked, way) = connected?;
        Ok(Self { runtime, asked: Some(asked), way: Some(way), patience, late: false })
    }

    /// The time limit, if an answer has not come within it.
    pub fn late(&self) -> Option<Duration> {
        self.late.then_some(self.patience)
    }

    pub fn query(&mut self, statement: &Statement, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        self.wait(async |asked| asked.query(statement, parameters).await)
    }

    pub fn query_one(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row, Error> {
        self.wait(async |asked| asked.query_one(sql, parameters).await)
    }

    pub fn execute(&mut self, statement: &Statement, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        self.wait(async |asked| asked.execute(statement, parameters).await)
    }

    pub fn prepare(&mut self, sql: &str) -> Result<Statement, Error> {
        self.wait(async |asked| asked.prepare(sql).await)
    }

    pub fn batch_execute(&mut self, sql: &str) -> Result<(), Error> {
        self.wait(async |asked| asked.batch_execute(sql).await)
    }

    /// Sends the parts of a COPY; gives the number of rows.
    pub fn copy_in(&mut self, sql: &str, parts: Vec<Vec<u8>>) -> Result<u64, Error> {
        self.wait(async |asked| {
            let mut sink = pin!(asked.copy_in::<_, Cursor<Vec<u8>>>(sql).await?);
            for part in parts {
                sink.send(Cursor::new(part)).await?;
            }
            sink.finish().await
        })
    }

    /// Waits for an answer as long as there is patience. The way is given up with it: what is still asked then ends with
    /// an error, as where the server has closed the connection.
    fn wait<T>(&mut self, ask: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<T, Error>) -> Result<T, Error> {
        let (asked, patience) = (self.asked.as_ref().expect("invariant: only dropping takes it"), self.patience);
        let (way, late) = (&mut self.way, &mut self.late);
        let outcome = self.runtime.block_on(async {
            let mut answer = pin!(ask(asked));
            if let Ok(answer) = timeout(patience, &mut answer).await {
                return answer;
            }
            *late = true;
            if let Some(way) = way.take() {
                way.abort();
            }
            answer.await
        });
        match outcome {
            // The way knows better why it is closed: it may have been told.
            Err(closed) if closed.is_closed() => Err(self.farewell().unwrap_or(closed)),
            outcome => outcome,
        }
    }

    /// What the server said at the end of the connection.
    fn farewell(&mut self) -> Option<Error> {
        let way = self.way.take()?;
        let ended = self.runtime.block_on(async { timeout(GOODBYE_MAX, way).await });
        ended.ok()?.ok()?.err()
    }
}

impl Drop for Client {
    /// Tells the server, unless it has stopped to listen.
    fn drop(&mut self) {
        drop(self.asked.take());
        if let Some(way) = self.way.take() {
            let _ = self.runtime.block_on(async { timeout(GOODBYE_MAX, way).await });
        }
    }
}
