//! Replication lag over the mesh itself: from an edit on one replica until another one has applied it.
//!
//! ```text
//!   worker 0 (core 0)  edit, note the time ─▶ replicator ─▶ ring ─▶ replicator ─▶ applied: the time again   worker 1 (core 1)
//! ```
//! The library's replicators, tables and mesh ports on pinned threads that do nothing else and never sleep: what is left
//! is the protocol's own lag. That of the whole appliance is in [`super::levels`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use hdrhistogram::Histogram;
use twintier::engine::thread::{clock_monotonic_ns, pin_to_core};
use twintier::limits::{LOG_UPDATES_MAX, MESH_BATCH_MAX, MESH_RING_SLOTS};
use twintier::mesh::grid::{Port, grid};
use twintier::replication::{Message, Replicator, Settings};
use twintier::tables::{DataTables, ServerId};

use super::rows::Catalog;
use crate::failure::Failure;

/// Writes that one turn makes at most.
const WRITES_PER_TURN: u64 = 16;
/// Own writes without acknowledgement, while the capacity is looked for.
const OUTSTANDING_MAX: u64 = 1024;
/// Rows that each replica writes, over and over.
const ROWS: u64 = 1000;
/// For everything to be acknowledged after the last write.
const SETTLE: Duration = Duration::from_secs(5);
/// Turns without work between two yields of the core.
const TURNS_PER_YIELD: u32 = 64;

/// What two or more replicas did.
#[derive(Clone, Copy, Debug)]
pub struct Lag {
    /// Writes of all replicas together.
    pub writes_per_s: f64,
    pub p50_ns: f64,
    pub p99_ns: f64,
}

type MeshPort = Port<Message, Thread>;

/// One replica on one thread.
struct Worker<'a> {
    catalog: &'a Catalog,
    me: ServerId,
    port: MeshPort,
    replicator: Replicator,
    tables: DataTables,
    written: u64,
    lag: Histogram<u64>,
}

/// What the threads of a measurement share.
struct Shared {
    stop: AtomicBool,
    settled: AtomicUsize,
}

/// Measures one replica a core. Without a rate every replica writes as fast as the others acknowledge; with one, all of
/// them together write so many rows a second, evenly.
///
/// # Errors
/// A thread cannot be pinned, or the replicas do not agree at the end.
pub fn measure(catalog: &Catalog, cores: &[usize], rate: Option<f64>, duration: Duration) -> Result<Lag, Failure> {
    let count = cores.len();
    let replicas = u8::try_from(count).map_err(|_| Failure::Failed("too many cores".to_owned()))?;
    // Nobody sleeps, so nobody is woken.
    let ports: Vec<MeshPort> = grid(count, MESH_RING_SLOTS, vec![thread::current(); count]);
    let shared = &Shared { stop: AtomicBool::new(false), settled: AtomicUsize::new(0) };
    let gap_ns = rate.map(|rate| (count as f64 * 1e9 / rate).max(1.0) as u64);
    let outcomes: Vec<std::io::Result<(u64, u128, Histogram<u64>)>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..replicas)
            .zip(ports)
            .zip(cores)
            .map(|((me, port), &core)| {
                scope.spawn(move || {
                    pin_to_core(core)?;
                    let mut worker = Worker {
                        catalog,
                        me,
                        port,
                        replicator: Replicator::new(settings(me, replicas)),
                        tables: catalog.tables(),
                        written: 0,
                        lag: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("invariant: constant bounds"),
                    };
                    worker.run(shared, gap_ns, count);
                    Ok((worker.written, worker.tables.digest(catalog.table), worker.lag))
                })
            })
            .collect();
        thread::sleep(duration);
        shared.stop.store(true, Ordering::Relaxed);
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let outcomes: Vec<(u64, u128, Histogram<u64>)> =
        outcomes.into_iter().collect::<Result<_, _>>().map_err(|error| Failure::Failed(error.to_string()))?;
    if outcomes.iter().any(|(_, digest, _)| *digest != outcomes[0].1) {
        return Err(Failure::Invalid("the replicas' digests differ at the end".to_owned()));
    }
    let mut lag = outcomes[0].2.clone();
    for (.., other) in &outcomes[1..] {
        lag.add(other).map_err(|error| Failure::Failed(error.to_string()))?;
    }
    let written: u64 = outcomes.iter().map(|(written, ..)| written).sum();
    Ok(Lag {
        writes_per_s: written as f64 / duration.as_secs_f64(),
        p50_ns: lag.value_at_quantile(0.5) as f64,
        p99_ns: lag.value_at_quantile(0.99) as f64,
    })
}

fn settings(me: ServerId, replicas: u8) -> Settings {
    Settings { me, replicas, sweep_interval_ns: 1_000_000_000, retry_ns: 100_000_000, log_updates_max: LOG_UPDATES_MAX }
}

impl Worker<'_> {
    /// Writes until told to stop, then goes on until every replica holds what all of them wrote.
    fn run(&mut self, shared: &Shared, gap_ns: Option<u64>, count: usize) {
        let mut next_ns = clock_monotonic_ns();
        let (mut idle_turns, mut settled, mut give_up_ns) = (0_u32, false, u64::MAX);
        // ORDERING: Relaxed throughout: flag and count carry no data.
        while shared.settled.load(Ordering::Relaxed) < count && clock_monotonic_ns() < give_up_ns {
            let mut busy = self.receive();
            if shared.stop.load(Ordering::Relaxed) {
                let until = clock_monotonic_ns().saturating_add(u64::try_from(SETTLE.as_nanos()).unwrap_or(u64::MAX));
                give_up_ns = give_up_ns.min(until);
                if !settled && self.written == self.replicator.acknowledged() {
                    settled = true;
                    shared.settled.fetch_add(1, Ordering::Relaxed);
                }
            } else {
                busy |= self.write(gap_ns, &mut next_ns);
            }
            busy |= self.send();
            idle_turns = if busy { 0 } else { idle_turns + 1 };
            if idle_turns.is_multiple_of(TURNS_PER_YIELD) && !busy {
                thread::yield_now();
            }
        }
    }

    fn receive(&mut self) -> bool {
        let Self { catalog, port, replicator, tables, lag, .. } = self;
        port.receive(MESH_BATCH_MAX, |from, message| {
            let from = ServerId::try_from(from).expect("invariant: as many replicas as a version vector holds");
            let batch = match &message {
                Message::Batch(batch) => Some(std::sync::Arc::clone(batch)),
                Message::Ack(_)
                | Message::Resend { .. }
                | Message::Summary(_)
                | Message::Buckets(_)
                | Message::Keys(_)
                | Message::Wanted(_)
                | Message::Rows(_)
                | Message::SnapshotRequest(_)
                | Message::SnapshotChunk(_)
                | Message::CodeWanted { .. } => None,
            };
            replicator.receive(from, message, tables);
            let now_ns = clock_monotonic_ns();
            for record in batch.iter().flat_map(|batch| &batch.updates).filter_map(|update| update.record.as_ref()) {
                if let Some(made_ns) = catalog.made_ns(record) {
                    lag.saturating_record(now_ns.saturating_sub(made_ns).max(1));
                }
            }
        }) > 0
    }

    fn write(&mut self, gap_ns: Option<u64>, next_ns: &mut u64) -> bool {
        let mut made = 0;
        while made < WRITES_PER_TURN {
            let now_ns = clock_monotonic_ns();
            match gap_ns {
                Some(gap_ns) if now_ns >= *next_ns => *next_ns += gap_ns,
                None if self.written - self.replicator.acknowledged() < OUTSTANDING_MAX => {}
                Some(_) | None => break,
            }
            let key = format!("replica-{}-{}", self.me, self.written % ROWS);
            let record = Some(self.catalog.record(self.written, now_ns));
            let update = self.tables.edit(self.catalog.table, &key, record, self.me, now_ns);
            self.replicator.local_update(update, &mut self.tables);
            self.written += 1;
            made += 1;
        }
        made > 0
    }

    fn send(&mut self) -> bool {
        self.replicator.tick(clock_monotonic_ns(), &mut self.tables);
        let mut sent = false;
        while let Some((to, message)) = self.replicator.outgoing() {
            sent = true;
            if let Err(back) = self.port.send(usize::from(to), message) {
                self.replicator.undelivered(to, &back);
            }
        }
        self.port.flush();
        sent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Catalog, measure};
    use crate::build::source_root;
    use twintier::engine::thread::allowed_cores;

    #[test]
    fn replicas_agree_and_their_lag_is_known() {
        let catalog = Catalog::read(&source_root().unwrap()).unwrap();
        let core = allowed_cores()[0];
        let lag = measure(&catalog, &[core, core, core], Some(3000.0), Duration::from_millis(50)).unwrap();
        assert!(lag.writes_per_s > 0.0 && lag.p50_ns > 0.0 && lag.p50_ns <= lag.p99_ns, "{lag:?}");
    }
}
