//! Where and how a thread runs: the clock, cores, priority, and the limit of descriptors.

use std::io;
use std::mem::MaybeUninit;

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn clock_monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of processor time (user and system) that the calling thread has used.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a writable timespec. Both clocks exist on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    // Neither clock is ever negative.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Lets the calling thread run on `core` only.
///
/// # Errors
/// The core does not exist or is not among [`allowed_cores`]; the sentence names those that are.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    let allowed = allowed_cores();
    let outside = || {
        let message = format!(
            "cannot run on core {core}: this process may use the cores {allowed:?}; change the profile, `taskset` or the cpuset"
        );
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    if core >= CORES_MAX {
        return Err(outside());
    }
    // SAFETY: a cpu_set_t is plain bits, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `core` was checked to lie within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is a readable cpu_set_t of the size given; 0 means the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINVAL) => Err(outside()),
        Some(_) | None => Err(io::Error::new(
            error.kind(),
            format!("cannot pin to core {core}: {error}; give CAP_SYS_NICE or drop the sandbox rule"),
        )),
    }
}

/// Cores that a `cpu_set_t` can name.
const CORES_MAX: usize = size_of::<libc::cpu_set_t>() * 8;

/// The cores that the calling thread may run on, in ascending order; core 0 alone if the kernel does not say.
pub fn allowed_cores() -> Vec<usize> {
    // SAFETY: a cpu_set_t is plain bits, for which all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `set` is a writable cpu_set_t of the size given; 0 means the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } != 0 {
        return vec![0];
    }
    // SAFETY: every index is below the number of bits of the set.
    (0..CORES_MAX).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Raises the soft limit of descriptors to the hard one and returns what holds now.
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        // SAFETY: `raised` is a readable rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            return raised.rlim_cur;
        }
    }
    limit.rlim_cur
}

/// Makes the calling thread yield to the workers: nice 10, for threads that do no request's work.
pub fn lower_priority() {
    // SAFETY: the call takes no pointers. On Linux, `PRIO_PROCESS` with 0 means the calling thread. Lowering one's own
    // priority needs no permission; if it fails all the same, the thread merely keeps its share.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

#[cfg(test)]
mod tests {
    use super::{allowed_cores, clock_monotonic_ns, pin_to_core, raise_descriptor_limit, thread_cpu_ns};

    #[test]
    fn clocks_advance() {
        let (wall, cpu) = (clock_monotonic_ns(), thread_cpu_ns());
        let mut sum = 0_u64;
        while clock_monotonic_ns() < wall + 2_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(thread_cpu_ns() > cpu);
    }

    #[test]
    fn pinning_leaves_one_core() {
        std::thread::spawn(|| {
            let last = *allowed_cores().last().unwrap();
            pin_to_core(last).unwrap();
            assert_eq!(allowed_cores(), [last]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_core_that_does_not_exist_is_named() {
        for core in [1023, 1 << 20] {
            let message = pin_to_core(core).unwrap_err().to_string();
            assert!(message.contains(&format!("core {core}:")), "{message}");
        }
    }

    #[test]
    fn the_descriptor_limit_is_known() {
        assert!(raise_descriptor_limit() >= 64);
    }
}
