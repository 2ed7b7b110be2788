//! Sockets before the ring takes them: listening, connecting, addresses.
//!
//! Every socket here blocks: io_uring answers operations on non-blocking ones with `EAGAIN` instead of waiting.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::Address;

/// Opens a listening socket. With `reuse_port` several listeners may share the port and the kernel spreads the
/// connections. Accepted connections inherit `TCP_NODELAY`. A Unix socket that nobody serves any more is replaced.
///
/// # Errors
/// The address is in use or not allowed, or no descriptor is left: one sentence with the cure.
pub fn listen(address: &Address, backlog: u32, reuse_port: bool) -> io::Result<OwnedFd> {
    open(address, backlog, reuse_port).map_err(|error| {
        let cure = match error.raw_os_error() {
            Some(libc::EADDRINUSE) => "another process listens there; stop it or choose another port",
            Some(libc::EACCES | libc::EPERM) => "ports below 1024 need CAP_NET_BIND_SERVICE and Unix sockets a writable directory; choose another or grant it",
            Some(libc::EADDRNOTAVAIL) => "no interface of this machine has that address; use 0.0.0.0, [::] or one that `ip address` shows",
            Some(libc::EMFILE | libc::ENFILE) => "no descriptor is left; raise `ulimit -n`",
            Some(_) | None => "check the address",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}; {cure}"))
    })
}

fn open(address: &Address, backlog: u32, reuse_port: bool) -> io::Result<OwnedFd> {
    let name = Name::of(address)?;
    if let Address::Unix(path) = address {
        remove_stale(path)?;
    }
    let socket = stream_socket(address)?;
    if matches!(address, Address::Tcp(_)) {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        if reuse_port {
            set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
    }
    // SAFETY: `name` holds a socket address of the length that it gives.
    check(unsafe { libc::bind(socket.as_raw_fd(), name.pointer(), name.length) })?;
    // SAFETY: the call takes no pointers.
    check(unsafe { libc::listen(socket.as_raw_fd(), c_int::try_from(backlog).unwrap_or(c_int::MAX)) })?;
    Ok(socket)
}

/// Removes a Unix socket whose server is gone; one that answers is left and makes `bind` fail.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refuses = || UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket && refuses() { std::fs::remove_file(path) } else { Ok(()) }
}

/// A socket to connect to `address`, with `TCP_NODELAY`.
pub(super) fn for_connection(address: &Address) -> io::Result<OwnedFd> {
    let socket = stream_socket(address)?;
    if matches!(address, Address::Tcp(_)) {
        set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    }
    Ok(socket)
}

fn stream_socket(address: &Address) -> io::Result<OwnedFd> {
    let family = match address {
        Address::Tcp(SocketAddr::V4(_)) => libc::AF_INET,
        Address::Tcp(SocketAddr::V6(_)) => libc::AF_INET6,
        Address::Unix(_) => libc::AF_UNIX,
    };
    // SAFETY: the call takes no pointers.
    let socket = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// The address a socket is bound to; tells the port that the kernel chose for port 0.
///
/// # Errors
/// The descriptor is no TCP or Unix socket.
pub fn local_address(socket: &OwnedFd) -> io::Result<Address> {
    let mut name = Name::empty();
    // SAFETY: `name` is writable for the length it is given, and the kernel updates that length.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), name.pointer_mut(), &raw mut name.length) })?;
    name.address()
}

/// The address of the other end; `None` for Unix sockets and for connections that are gone.
pub(super) fn peer_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let mut name = Name::empty();
    // SAFETY: as in `local_address`.
    check(unsafe { libc::getpeername(socket.as_raw_fd(), name.pointer_mut(), &raw mut name.length) }).ok()?;
    match name.address() {
        Ok(Address::Tcp(address)) => Some(address),
        Ok(Address::Unix(_)) | Err(_) => None,
    }
}

/// Makes a socket that was made elsewhere block, as the ring needs it.
pub(super) fn set_blocking(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no pointers.
    let flags = check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK != 0 {
        // SAFETY: the call takes no pointers.
        check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK) })?;
    }
    Ok(())
}

/// Sends FIN. A failure means that the connection is gone already, which its next operation reports.
pub(super) fn shutdown_send(socket: BorrowedFd<'_>) {
    // SAFETY: the call takes no pointers.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// Makes accepts in flight on a listening socket fail, also one that the kernel works on. Nobody can connect any more.
#[cfg(feature = "appliance")]
pub(super) fn shutdown_listening(socket: BorrowedFd<'_>) {
    // SAFETY: the call takes no pointers. It cannot fail for a listening socket.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RD) };
}

/// Makes `close` drop what is queued and send a reset.
pub(super) fn reset_on_close(socket: BorrowedFd<'_>) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("invariant: a few bytes");
    // SAFETY: `linger` is readable for the length given. A failure leaves an orderly close, which is harmless.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), length)
    };
}

/// Limits what the kernel holds of bytes that the peer has not taken (it allows about twice as many).
///
/// # Errors
/// The descriptor is no socket.
pub fn limit_send_buffer(socket: &impl AsRawFd, bytes: usize) -> io::Result<()> {
    // SAFETY: the owner of the descriptor is borrowed for as long as this call takes.
    let socket = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, c_int::try_from(bytes).unwrap_or(c_int::MAX))
}

fn set_option(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<c_int>()).expect("invariant: a few bytes");
    // SAFETY: `value` is readable for the length given.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) })?;
    Ok(())
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A socket address as the kernel reads and writes it.
#[derive(Clone, Copy)]
pub(super) struct Name {
    storage: libc::sockaddr_storage,
    /// Bytes of `storage` that count.
    pub(super) length: libc::socklen_t,
}

impl Name {
    /// Room for any address.
    pub(super) fn empty() -> Self {
        // SAFETY: a sockaddr_storage is integers, for which all zeroes is a value.
        let storage = unsafe { MaybeUninit::zeroed().assume_init() };
        Self { storage, length: length_of::<libc::sockaddr_storage>() }
    }

    /// The kernel's form of `address`.
    ///
    /// # Errors
    /// The path of a Unix socket is too long or contains a zero byte.
    pub(super) fn of(address: &Address) -> io::Result<Self> {
        let mut name = Self::empty();
        match address {
            Address::Tcp(SocketAddr::V4(address)) => {
                let value = libc::sockaddr_in {
                    sin_family: family(libc::AF_INET),
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                    sin_zero: [0; 8],
                };
                name.write(value, length_of::<libc::sockaddr_in>());
            }
            Address::Tcp(SocketAddr::V6(address)) => {
                let value = libc::sockaddr_in6 {
                    sin6_family: family(libc::AF_INET6),
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                name.write(value, length_of::<libc::sockaddr_in6>());
            }
            Address::Unix(path) => {
                let bytes = path.as_os_str().as_bytes();
                let mut value = libc::sockaddr_un { sun_family: family(libc::AF_UNIX), sun_path: [0; 108] };
                if bytes.len() >= value.sun_path.len() || bytes.contains(&0) {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "the path of a Unix socket has at most 107 bytes and no zero byte",
                    ));
                }
                for (target, source) in value.sun_path.iter_mut().zip(bytes) {
                    *target = libc::c_char::from_ne_bytes([*source]);
                }
                name.write(value, length_of::<libc::sockaddr_un>());
            }
        }
        Ok(name)
    }

    pub(super) fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(super) fn pointer_mut(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }

    fn write<T: Copy>(&mut self, value: T, length: libc::socklen_t) {
        const {
            assert!(
                size_of::<T>() <= size_of::<libc::sockaddr_storage>()
                    && align_of::<T>() <= align_of::<libc::sockaddr_storage>()
            )
        };
        // SAFETY: the storage is large and aligned enough for every kind of address, as just asserted.
        unsafe { (&raw mut self.storage).cast::<T>().write(value) };
        self.length = length;
    }

    fn address(&self) -> io::Result<Address> {
        match c_int::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that the storage holds a sockaddr_in; it is large and aligned enough.
                let value = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(value.sin_addr.s_addr.to_ne_bytes());
                Ok(Address::Tcp(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(value.sin_port)))))
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that the storage holds a sockaddr_in6; it is large and aligned enough.
                let value = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(value.sin6_addr.s6_addr);
                let port = u16::from_be(value.sin6_port);
                // A dual-stack listener shows IPv4 peers in mapped form; people know them in their own.
                Ok(Address::Tcp(match ip.to_ipv4_mapped() {
                    Some(ip) => SocketAddr::new(IpAddr::V4(ip), port),
                    None => SocketAddr::V6(SocketAddrV6::new(ip, port, value.sin6_flowinfo, value.sin6_scope_id)),
                }))
            }
            libc::AF_UNIX => {
                // SAFETY: the family says that the storage holds a sockaddr_un; it is large and aligned enough.
                let value = unsafe { (&raw const self.storage).cast::<libc::sockaddr_un>().read() };
                let path: Vec<u8> =
                    value.sun_path.iter().take_while(|&&byte| byte != 0).map(|byte| byte.to_ne_bytes()[0]).collect();
                Ok(Address::Unix(PathBuf::from(std::ffi::OsString::from_vec(path))))
            }
            family => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a socket of family {family} is neither TCP nor Unix"),
            )),
        }
    }
}

fn family(value: c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(value).expect("invariant: address families are small numbers")
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("invariant: socket addresses are small")
}

#[cfg(test)]
mod tests {
    use super::{Name, listen, local_address};
    use crate::engine::Address;

    #[test]
    fn addresses_survive_the_kernel_form() {
        for text in ["127.0.0.1:80", "[::1]:8080", "[fe80::1%3]:1", "unix:/run/app.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(Name::of(&address).unwrap().address().unwrap(), address);
        }
    }

    #[test]
    fn port_zero_becomes_a_real_port() {
        let socket = listen(&"127.0.0.1:0".parse().unwrap(), 16, false).unwrap();
        match local_address(&socket).unwrap() {
            Address::Tcp(address) => assert_ne!(address.port(), 0),
            Address::Unix(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn a_port_in_use_is_one_sentence_with_the_cure() {
        let socket = listen(&"127.0.0.1:0".parse().unwrap(), 16, false).unwrap();
        let address = local_address(&socket).unwrap();
        let message = listen(&address, 16, false).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("cannot listen on {address}: "))
                && message.contains("another process listens there"),
            "{message}"
        );
    }

    #[test]
    fn listeners_may_share_a_port() {
        let first = listen(&"127.0.0.1:0".parse().unwrap(), 16, true).unwrap();
        let address = local_address(&first).unwrap();
        listen(&address, 16, true).unwrap();
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("twintier-socket-{}", std::process::id()));
        let address = Address::Unix(path.clone());
        drop(listen(&address, 16, false).unwrap());
        let live = listen(&address, 16, false).unwrap();
        assert_eq!(local_address(&live).unwrap(), address);
        assert!(listen(&address, 16, false).is_err());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_path_that_is_too_long_is_refused() {
        let address = Address::Unix("x".repeat(108).into());
        assert!(Name::of(&address).is_err());
    }
}
