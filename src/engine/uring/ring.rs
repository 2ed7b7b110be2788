//! One io_uring: set-up with fallbacks, the queues, and the only call of `io_uring_enter`.
//!
//! Drop order is part of the design: the queues refer to the ring's memory, so they are declared before it.

use std::io;
use std::ptr::NonNull;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue, squeue};

use crate::engine::clock_monotonic_ns;

/// A ring and its queues, used by the thread that made it only.
pub(super) struct Ring {
    submitter: Submitter<'static>,
    submissions: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    features: Features,
    /// Only here to be dropped last.
    _owner: Owner,
}

/// What the kernel offers beyond what every ring needs.
#[derive(Clone, Copy, Debug)]
struct Features {
    /// Waits may end at an absolute time (6.12).
    absolute_time: bool,
    /// Waits need not count as waiting for a disk (6.15).
    no_iowait: bool,
}

/// Frees the ring when everything that refers to it is gone.
struct Owner(NonNull<IoUring>);

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::into_raw`, and `Ring` drops its queues before its owner.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// How one enter waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Run what is ready and return.
    Not,
    /// Until there is a completion or this time of the monotonic clock is reached.
    UntilNs(u64),
}

impl Ring {
    /// Makes a ring with at least `submissions` and `completions` entries. It keeps to the features that the kernel
    /// has, best first: deferred task work and no submission array, then without the array, then cooperative task work.
    ///
    /// # Errors
    /// One sentence with the cure when the kernel or a limit does not allow it.
    pub(super) fn new(submissions: u32, completions: u32) -> io::Result<Self> {
        let ring = build_smaller(submissions, completions).map_err(explain)?;
        let features = Features {
            absolute_time: ring.params().is_feature_min_timeout(),
            no_iowait: ring.params().is_feature_no_iowait(),
        };
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            let message = "this kernel's io_uring is too old: twintier needs Linux 6.0 or newer";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let owner = Owner(NonNull::from(Box::leak(Box::new(ring))));
        // SAFETY: the box is freed by `owner` only, after the queues (field order of `Ring`); nothing else borrows it.
        let ring: &'static mut IoUring = unsafe { &mut *owner.0.as_ptr() };
        let (mut submitter, submissions, completions) = ring.split();
        // Saves a look-up per enter. A thread may register 16 rings; one more works without.
        submitter.register_ring_fd().ok();
        Ok(Self { submitter, submissions, completions, features, _owner: owner })
    }

    /// For registrations.
    pub(super) fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    /// Puts an entry into the submission queue; `false` when it is full.
    ///
    /// # Safety
    /// Memory that the entry points to stays valid until its completion, or until the next enter where the kernel
    /// copies it on submission (message headers, vectors and addresses).
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.submissions.push(entry) }.is_ok()
    }

    /// Entries that wait for the next enter.
    pub(super) fn unsubmitted(&self) -> usize {
        self.submissions.len()
    }

    /// Entries of the submission queue.
    pub(super) fn capacity(&self) -> usize {
        self.submissions.capacity()
    }

    /// True if the kernel has work that only an enter runs: deferred task work, or completions that did not fit.
    pub(super) fn needs_enter(&self) -> bool {
        self.submissions.taskrun() || self.submissions.cq_overflow()
    }

    /// True if completions wait in the kernel because the queue was full.
    pub(super) fn overflown(&self) -> bool {
        self.submissions.cq_overflow()
    }

    /// Submits everything queued, runs deferred work, and waits as told. Says how many entries the kernel took.
    ///
    /// # Errors
    /// Only what a caller cannot cure by reaping completions and trying again.
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<usize> {
        self.submissions.sync();
        let mut flags = EnterFlags::GETEVENTS;
        let (want, at_ns) = match wait {
            Wait::Not => (0, None),
            Wait::UntilNs(u64::MAX) => (1, None),
            Wait::UntilNs(at_ns) => (1, Some(at_ns)),
        };
        if want > 0 && self.features.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let time = at_ns.map(|at_ns| {
            if self.features.absolute_time {
                flags |= EnterFlags::ABS_TIMER;
                timespec(at_ns)
            } else {
                timespec(at_ns.saturating_sub(clock_monotonic_ns()))
            }
        });
        let mut arguments = SubmitArgs::new();
        if let Some(time) = &time {
            arguments = arguments.timespec(time);
        }
        flags |= EnterFlags::EXT_ARG;
        let count = u32::try_from(self.submissions.len()).expect("invariant: the queue has at most 2^32 entries");
        // SAFETY: the argument is what EXT_ARG announces and outlives the call, as does the time it points to.
        let result = unsafe { self.submitter.enter(count, want, flags.bits(), Some(&arguments)) };
        self.submissions.sync();
        match result {
            Ok(taken) => Ok(taken),
            Err(error) => match error.raw_os_error() {
                // The time is over; a signal came; completions have to be reaped first; memory is short right now.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(0),
                Some(_) | None => Err(error),
            },
        }
    }

    /// The next completion, if one is there.
    pub(super) fn completion(&mut self) -> Option<cqueue::Entry> {
        self.completions.next()
    }

    /// Makes room for the kernel and looks for new completions; says whether there are any.
    pub(super) fn sync_completions(&mut self) -> bool {
        self.completions.sync();
        !self.completions.is_empty()
    }

    /// Ends every operation. Afterwards the kernel touches no buffer of ours any more.
    pub(super) fn cancel_everything(&mut self) {
        // A failure can only mean that there was nothing to cancel (ENOENT), or a time-out (ETIME) on an operation
        // that a kernel worker is executing; such an operation holds no buffer of the pool.
        let patience = Timespec::new().sec(1);
        self.submitter.register_sync_cancel(Some(patience), CancelBuilder::any().all()).ok();
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.submitter.unregister_ring_fd().ok();
    }
}

pub(super) fn timespec(ns: u64) -> Timespec {
    let rest = u32::try_from(ns % 1_000_000_000).expect("invariant: below a billion");
    Timespec::new().sec(ns / 1_000_000_000).nsec(rest)
}

/// Builds with fewer completions if the memlock limit does not allow the wanted number.
fn build_smaller(submissions: u32, completions: u32) -> io::Result<IoUring> {
    let mut completions = completions.max(submissions.saturating_mul(2));
    loop {
        match build(submissions, completions) {
            Err(error)
                if error.raw_os_error() == Some(libc::ENOMEM) && completions / 2 >= submissions.saturating_mul(2) =>
            {
                completions /= 2;
            }
            result => return result,
        }
    }
}

fn build(submissions: u32, completions: u32) -> io::Result<IoUring> {
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for recipe in [Recipe::Best, Recipe::WithArray, Recipe::Cooperative] {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize(completions).setup_clamp().setup_submit_all().setup_taskrun_flag();
        match recipe {
            Recipe::Best => builder.setup_single_issuer().setup_defer_taskrun().setup_no_sqarray(),
            Recipe::WithArray => builder.setup_single_issuer().setup_defer_taskrun(),
            Recipe::Cooperative => builder.setup_coop_taskrun(),
        };
        match builder.build(submissions) {
            Ok(ring) => return Ok(ring),
            // The kernel knows a flag not: the next recipe asks for less.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Sets of set-up flags, best first.
#[derive(Clone, Copy)]
enum Recipe {
    /// Linux 6.6.
    Best,
    /// Linux 6.1.
    WithArray,
    /// Linux 5.19.
    Cooperative,
}

/// Adds the cure to what the kernel refused at set-up.
pub(super) fn explain(error: io::Error) -> io::Error {
    let cure = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is blocked here: set `sysctl kernel.io_uring_disabled=0`, or allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile"
        }
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring, or the container's seccomp profile hides it: use Linux 6.1 or newer, or allow io_uring_setup, io_uring_enter and io_uring_register"
        }
        Some(libc::ENOMEM) => {
            "the rings do not fit into RLIMIT_MEMLOCK: raise `ulimit -l` (LimitMEMLOCK= in a unit), give CAP_IPC_LOCK, or lower completion_entries"
        }
        Some(libc::EMFILE | libc::ENFILE) => "no descriptor is left: raise `ulimit -n`",
        Some(libc::EINVAL) => "this kernel's io_uring is too old: use Linux 6.1 or newer",
        Some(_) | None => "this is unexpected; `dmesg` may say more",
    };
    io::Error::new(error.kind(), format!("cannot set up io_uring: {error}; {cure}"))
}

#[cfg(test)]
mod tests {
    use super::{Ring, Wait, explain};
    use crate::engine::clock_monotonic_ns;
    use std::io;

    #[test]
    fn waiting_ends_at_the_time_given() {
        let mut ring = Ring::new(8, 16).unwrap();
        // Both ways to name the time, of which a kernel may have one only.
        for absolute_time in [ring.features.absolute_time, false] {
            ring.features.absolute_time = absolute_time;
            let until = clock_monotonic_ns() + 3_000_000;
            ring.enter(Wait::UntilNs(until)).unwrap();
            assert!(clock_monotonic_ns() >= until);
            ring.enter(Wait::UntilNs(1)).unwrap();
            ring.enter(Wait::Not).unwrap();
        }
    }

    #[test]
    fn every_refusal_names_its_cure() {
        for (errno, word) in [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOSYS, "seccomp"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK"),
            (libc::EMFILE, "ulimit -n"),
        ] {
            let message = explain(io::Error::from_raw_os_error(errno)).to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn many_rings_of_one_thread_work_one_after_another_and_together() {
        let rings: Vec<Ring> = (0..20).map(|_| Ring::new(4, 8).unwrap()).collect();
        drop(rings);
        let mut ring = Ring::new(4, 8).unwrap();
        ring.enter(Wait::Not).unwrap();
    }
}
