//! Listening sockets, made with every option before the first connection can arrive.
//!
//! Descriptors are handed to Python as numbers: `tricorn.sock` owns them, the workers inherit them.
//! Source: settings `bind`, `backlog`, `reuse_port`, `umask`, `user`, `group`.
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, chown};
use std::path::{Path, PathBuf};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustix::fs::Mode;
use rustix::process::umask;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{handshakes, os_error};

/// Listens on a TCP address. Shape: (host, port, backlog, reuse_port) -> descriptor.
///
/// Errors: `OSError` as `bind` and `getaddrinfo` give it.
#[pyfunction]
pub(super) fn listen_tcp(host: &str, port: u16, backlog: i32, reuse_port: bool) -> PyResult<RawFd> {
    tcp_listener(host, port, backlog, reuse_port).map_err(|error| os_error(&error))
}

fn tcp_listener(host: &str, port: u16, backlog: i32, reuse_port: bool) -> io::Result<RawFd> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let bare = if bare.is_empty() { "0.0.0.0" } else { bare };
    let candidates: Vec<SocketAddr> = (bare, port).to_socket_addrs()?.collect();
    // A name means its IPv4 address when it has one, as with Gunicorn.
    let address = candidates
        .iter()
        .find(|address| address.is_ipv4())
        .or(candidates.first());
    let address = *address.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    if address.ip().is_loopback() {
        do_not_pace(&socket);
    }
    socket.set_nonblocking(true)?;
    socket.listen(backlog)?;
    Ok(socket.into_raw_fd())
}

/// For peers on this machine, such as a proxy: BBR spaces packets out by timers, for a network that is not there. With it a
/// response of 10 MB costs 1.7 times the CPU. Other algorithms stay, and so does BBR where peers may be remote.
fn do_not_pace(socket: &Socket) {
    let paced = socket
        .tcp_congestion()
        .is_ok_and(|name| name.starts_with(b"bbr"));
    if paced {
        // A system that does not let it be chosen is no reason not to listen.
        let _ = socket.set_tcp_congestion(b"reno");
    }
}

/// Listens on a unix socket: a path, or an abstract name (leading NUL). A stale socket is replaced.
///
/// Shape: (path, backlog, umask, owner as (uid, gid)) -> descriptor.
/// Errors: `ValueError` when something that is no socket lies there; `OSError`.
#[pyfunction]
pub(super) fn listen_unix(
    path: Vec<u8>,
    backlog: i32,
    mask: u32,
    owner: (u32, u32),
) -> PyResult<RawFd> {
    let named =
        (path.first() != Some(&0)).then(|| PathBuf::from(std::ffi::OsStr::from_bytes(&path)));
    if let Some(file) = &named {
        remove_stale(file)?;
    }
    unix_listener(&path, named.as_deref(), backlog, mask, owner).map_err(|error| os_error(&error))
}

fn remove_stale(path: &Path) -> PyResult<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            std::fs::remove_file(path).map_err(|error| os_error(&error))
        }
        Ok(_) => Err(PyValueError::new_err(format!(
            "'{}' is not a socket",
            path.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(os_error(&error)),
    }
}

fn unix_listener(
    path: &[u8],
    named: Option<&Path>,
    backlog: i32,
    mask: u32,
    owner: (u32, u32),
) -> io::Result<RawFd> {
    let address = SockAddr::unix(std::ffi::OsStr::from_bytes(path))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let before = umask(Mode::from_raw_mode(mask));
    let bound = socket.bind(&address);
    umask(before);
    bound?;
    if let Some(path) = named {
        chown(path, Some(owner.0), Some(owner.1))?;
    }
    socket.set_nonblocking(true)?;
    socket.listen(backlog)?;
    Ok(socket.into_raw_fd())
}

/// Takes an inherited descriptor: non-blocking, not passed on to programs the application starts, listening.
#[pyfunction]
pub(super) fn adopt_listener(fd: RawFd, backlog: i32) -> PyResult<()> {
    borrowed(fd, |socket| {
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        if socket.is_listener()? {
            return Ok(());
        }
        socket.listen(backlog)
    })
}

/// Where a listener listens: ("tcp", host, port), ("tcp6", host, port) or ("unix", path, 0).
#[pyfunction]
pub(super) fn listener_address(fd: RawFd) -> PyResult<(&'static str, Vec<u8>, u16)> {
    borrowed(fd, |socket| {
        let address = socket.local_addr()?;
        if let Some(inet) = address.as_socket() {
            let kind = if inet.is_ipv6() { "tcp6" } else { "tcp" };
            return Ok((kind, inet.ip().to_string().into_bytes(), inet.port()));
        }
        let path = address
            .as_pathname()
            .map(|path| path.as_os_str().as_bytes().to_vec());
        let name = address
            .as_abstract_namespace()
            .map(|name| [&[0], name].concat());
        Ok(("unix", path.or(name).unwrap_or_default(), 0))
    })
}

/// Drops every SYN to a TCP listener from now on: no further handshake begins, and those that have begun may end.
#[pyfunction]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    allow(unused_variables)
)]
pub(super) fn refuse_newcomers(fd: RawFd) -> PyResult<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    borrowed(fd, |socket| socket.attach_filter(&all_but_syn()))?;
    Ok(())
}

/// A classic BPF programme; a TCP listener's filter sees a packet from its TCP header on.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn all_but_syn() -> [socket2::SockFilter; 5] {
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let step = |code: u32, if_so, if_not, operand| {
        socket2::SockFilter::new(code as u16, if_so, if_not, operand)
    };
    [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN | ACK),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ]
}

/// Is a client of this listener between its SYN and the end of the handshake? (It may already be sending.)
///
/// False where the kernel does not tell.
#[pyfunction]
pub(super) fn handshake_in_progress(fd: RawFd) -> PyResult<bool> {
    let address = borrowed(fd, |socket| socket.local_addr())?.as_socket();
    Ok(address.is_some_and(|address| handshakes::in_progress(&address)))
}

/// Ends the listening itself, in every process that holds the socket: newcomers are refused from now on.
#[pyfunction]
pub(super) fn stop_listening(fd: RawFd) -> PyResult<()> {
    borrowed(fd, |socket| socket.shutdown(std::net::Shutdown::Both))
}

/// Closes a descriptor that `listen_tcp` and its kin opened.
#[pyfunction]
pub(super) fn close_descriptor(fd: RawFd) {
    // SAFETY: the Python object that owns the descriptor gives it away here, once.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

fn borrowed<T>(fd: RawFd, ask: impl FnOnce(&socket2::SockRef<'_>) -> io::Result<T>) -> PyResult<T> {
    if fd < 0 {
        return Err(os_error(&io::Error::from_raw_os_error(libc::EBADF)));
    }
    // SAFETY: a non-negative number; the caller keeps it open during the call, or the kernel says EBADF.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    ask(&socket2::SockRef::from(&fd)).map_err(|error| os_error(&error))
}
