//! The system calls of this engine: none of them waits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::engine::Chunk;
use crate::engine::socket::Name;

/// Chunks that one send takes at most.
const PARTS_MAX: usize = 16;

/// Reads what is there into `room`; `WouldBlock` when nothing is.
pub(super) fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `room` is writable for the length given.
    let count = unsafe { libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT) };
    length(count)
}

/// Sends as much of the chunks as the kernel takes, at most [`PARTS_MAX`] chunks at once.
pub(super) fn send<'a>(socket: BorrowedFd<'_>, chunks: impl Iterator<Item = &'a Chunk>) -> io::Result<usize> {
    let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PARTS_MAX];
    let mut used = 0;
    for (part, chunk) in parts.iter_mut().zip(chunks) {
        let bytes = chunk.as_slice();
        *part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        used += 1;
    }
    // SAFETY: a msghdr is integers and pointers, for which all zeroes is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = used;
    // A broken connection is an error, not a signal.
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the message points to `used` parts, and those to bytes that the borrowed chunks hold; the kernel only
    // reads them.
    length(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
}

/// The next connection of a listener that does not block.
pub(super) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: without a place for the address, the call takes no pointers.
    let socket =
        unsafe { libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
    check(socket)?;
    // SAFETY: the descriptor is new and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// Begins to connect a socket that does not block.
pub(super) fn connect(socket: BorrowedFd<'_>, name: &Name) -> io::Result<()> {
    // SAFETY: `name` holds a socket address of the length that it gives.
    check(unsafe { libc::connect(socket.as_raw_fd(), name.pointer(), name.length) })
}

/// How a connect ended: `None` while it goes on, else the error or zero.
pub(super) fn connect_outcome(socket: BorrowedFd<'_>) -> Option<i32> {
    let mut error = 0_i32;
    let mut bytes = libc::socklen_t::try_from(size_of::<i32>()).expect("invariant: a few bytes");
    // SAFETY: `error` is writable for the length given.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &raw mut bytes)
    };
    if result != 0 {
        return Some(libc::EBADF);
    }
    if error != 0 {
        return Some(error);
    }
    is_connected(socket).then_some(0)
}

fn is_connected(socket: BorrowedFd<'_>) -> bool {
    let mut name = Name::empty();
    // SAFETY: `name` is writable for the length it is given, and the kernel updates that length.
    unsafe { libc::getpeername(socket.as_raw_fd(), name.pointer_mut(), &raw mut name.length) == 0 }
}

/// Makes `accept` and `connect` return at once.
pub(super) fn set_nonblocking(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) };
    check(flags)?;
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
}

/// Ends a TCP connection with a reset at once, however many descriptors name it. On a Unix socket it does nothing.
pub(super) fn abort(socket: BorrowedFd<'_>) {
    let mut name = Name::empty();
    name.length = libc::socklen_t::try_from(size_of::<libc::sa_family_t>()).expect("invariant: a few bytes");
    // AF_UNSPEC is zero, as is all of an empty name: a connect to it takes the connection apart. A failure leaves the
    // reset to the close that follows.
    // SAFETY: `name` is readable for the length given.
    unsafe { libc::connect(socket.as_raw_fd(), name.pointer(), name.length) };
}

/// Ends both directions of a connection, or a listener's accepting. Whoever waits for it is told.
pub(super) fn shutdown(socket: BorrowedFd<'_>) {
    // SAFETY: the call takes no pointers. A failure means that the connection is gone already.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// A timer of the monotonic clock that becomes readable.
pub(super) fn timer() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
    check(timer)?;
    // SAFETY: the descriptor is new and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(timer) })
}

/// Sets the timer to one time of the clock, not zero. An old expiry is forgotten.
pub(super) fn set_timer(timer: BorrowedFd<'_>, at_ns: u64) {
    let value = libc::timespec {
        tv_sec: libc::time_t::try_from(at_ns / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::try_from(at_ns % 1_000_000_000).expect("invariant: below a billion"),
    };
    let setting = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    // SAFETY: `setting` is readable. The call cannot fail for a timer and a time that is not negative.
    unsafe {
        libc::timerfd_settime(timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &raw const setting, std::ptr::null_mut())
    };
}

/// Makes an expired timer unreadable.
pub(super) fn clear_timer(timer: BorrowedFd<'_>) {
    let mut count = [0_u8; 8];
    // SAFETY: `count` is eight writable bytes. The timer does not block; there may be nothing to read.
    unsafe { libc::read(timer.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn length(count: isize) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}
