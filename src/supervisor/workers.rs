//! The workers: the ways into them, their start, their end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel;

use super::Failure;
use super::start::{Shared, Start};
use crate::database::contract::Publisher;
use crate::engine::Waker;
use crate::front::log::Log;
use crate::limits;
use crate::mesh::grid::grid;
use crate::mesh::inbox::{Inbox, inbox};
use crate::profile::Profile;
use crate::replication::Backlog;
use crate::worker::access_log;
use crate::worker::placement::Placement;
use crate::worker::watch::Patience;
use crate::worker::{Control, ControlSender, Layout, Message, Port, deliver};

pub(super) fn layout_of(placement: &Placement) -> Layout {
    let mut fronts: Vec<(u16, usize)> = placement
        .workers
        .iter()
        .enumerate()
        .filter_map(|(index, plan)| plan.front.map(|front| (front, index)))
        .collect();
    fronts.sort_unstable();
    Layout {
        replica_workers: placement.replica_workers(),
        front_workers: fronts.into_iter().map(|(_, index)| index).collect(),
    }
}

/// When a worker counts as hung, and its replica as dead.
pub(super) fn patience(profile: &Profile) -> Patience {
    Patience { hung_ns: profile.timeouts.hung_ms * 1_000_000, dead_ns: profile.timeouts.dead_ms * 1_000_000 }
}

/// The ways into the workers. They exist before the workers: other threads are given them first.
pub(super) struct Ways {
    pub(super) senders: Vec<ControlSender>,
    inboxes: Vec<Inbox<Control>>,
    ports: Vec<Port>,
    wakers: Vec<Waker>,
}

impl Ways {
    pub(super) fn make(count: usize) -> Result<Self, Failure> {
        let mut wakers = Vec::with_capacity(count);
        for _ in 0..count {
            let waker = Waker::new();
            wakers.push(waker.map_err(|error| Failure::failed(format!("no eventfd: {error}; raise `ulimit -n`")))?);
        }
        let ports: Vec<Port> = grid::<Message, Waker>(count, limits::MESH_RING_SLOTS, wakers.clone());
        let (senders, inboxes) =
            ports.iter().map(|port| inbox::<Control, Waker>(limits::INBOX_SLOTS, port.bell())).unzip();
        Ok(Self { senders, inboxes, ports, wakers })
    }

    /// What the database commits goes to every replica.
    pub(super) fn publisher(&self, layout: &Layout, backlog: Backlog) -> Publisher {
        let replicas: Vec<ControlSender> =
            layout.replica_workers.iter().map(|&worker| self.senders[worker].clone()).collect();
        Arc::new(move |batch| {
            for replica in &replicas {
                let unapplied = backlog.add(batch.updates.len());
                deliver(replica, Control::Published { batch: Arc::clone(&batch), unapplied });
            }
        })
    }
}

/// The access log's thread, if the profile wants one, and each front server's end of it.
pub(super) fn open_access_log(
    profile: &Profile,
    fronts: usize,
) -> Result<(Option<access_log::Handle>, Vec<Option<Log>>), Failure> {
    let path = &profile.log.access;
    if path.as_os_str().is_empty() {
        return Ok((None, Vec::new()));
    }
    let (handle, logs) = access_log::spawn(path, u16::try_from(fronts).unwrap_or(u16::MAX)).map_err(Failure::failed)?;
    Ok((Some(handle), logs.into_iter().map(Some).collect()))
}

/// Starts every worker and waits until each is ready. Afterwards one that fails says so to `end`.
pub(super) fn spawn_workers(
    shared: &Arc<Shared>,
    placement: &Placement,
    ways: Ways,
    listeners: Vec<OwnedFd>,
    mut logs: Vec<Option<Log>>,
    end: &channel::Sender<String>,
) -> Result<Vec<JoinHandle<()>>, Failure> {
    let Ways { senders, inboxes, ports, wakers } = ways;
    let count = placement.workers.len();
    let mut listeners: Vec<Option<OwnedFd>> = listeners.into_iter().map(Some).collect();
    let (ready_sender, ready) = channel::bounded::<Result<(), String>>(count);
    let mut workers: Vec<JoinHandle<()>> = Vec::with_capacity(count);
    for (index, ((plan, port), (waker, control))) in
        placement.workers.iter().zip(ports).zip(wakers.into_iter().zip(inboxes)).enumerate()
    {
        let start = Start {
            index,
            plan: plan.clone(),
            waker,
            sender: senders[index].clone(),
            listener: plan.front.and_then(|front| listeners[usize::from(front)].take()),
            log: plan.front.and_then(|front| logs.get_mut(usize::from(front))?.take()),
            shared: Arc::clone(shared),
        };
        let (ready, end) = (ready_sender.clone(), end.clone());
        let body = move || {
            let outcome = start.run(port, control, &ready);
            if let Err(wrong) = outcome {
                // Before the start is complete the first message matters, afterwards the second.
                let _ = ready.try_send(Err(wrong.clone()));
                let _ = end.try_send(wrong);
            }
        };
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(body);
        workers.push(thread.map_err(|error| Failure::failed(format!("worker {index} could not be started: {error}")))?);
    }
    for _ in 0..count {
        match ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(wrong)) => return Err(Failure::failed(wrong)),
            Err(_) => return Err(Failure::failed("a worker ended while it started")),
        }
    }
    Ok(workers)
}
