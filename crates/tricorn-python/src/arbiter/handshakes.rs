//! Clients between their SYN and the accept queue, as the kernel tells of them.
//!
//! A stop waits for them before it tells the workers, so the question has to be cheap: sock_diag looks for the very
//! sockets. /proc/net/tcp, which is read where the kernel has no sock_diag, makes a line of every socket of the machine,
//! those in TIME_WAIT as well; 50,000 of them take a tenth of a second of a CPU that is free.
//! Sources: sock_diag(7), proc_pid_net(5).
use std::net::SocketAddr;

/// Is a client of the listener at `address` in the middle of its handshake? False where the kernel does not tell.
pub fn in_progress(address: &SocketAddr) -> bool {
    ask_sock_diag(address).unwrap_or_else(|| read_proc(address))
}

/// `None` when there is no answer.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn ask_sock_diag(address: &SocketAddr) -> Option<bool> {
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send,
        socket_with,
    };
    /// The first message of an answer, as far as its type: of a `struct nlmsghdr`, length (4 bytes) and type (2).
    const LEAST: usize = 6;
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .ok()?;
    send(&socket, &sock_diag::question(address), SendFlags::empty()).ok()?;
    // The kernel begins to answer while it takes the question: there is nothing to wait for.
    let mut answer = [0u8; LEAST];
    let (_, length) = recv(&socket, &mut answer, RecvFlags::DONTWAIT).ok()?;
    match u16::from_ne_bytes([answer[4], answer[5]]) {
        sock_diag::SOCK_DIAG_BY_FAMILY if length == LEAST => Some(true),
        sock_diag::DONE if length == LEAST => Some(false),
        _ => None,
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn ask_sock_diag(_: &SocketAddr) -> Option<bool> {
    None
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod sock_diag {
    use std::net::SocketAddr;

    pub const DONE: u16 = libc::NLMSG_DONE as u16;
    pub const SOCK_DIAG_BY_FAMILY: u16 = 20;
    /// Source: the kernel's include/net/tcp_states.h.
    const TCP_SYN_RECV: u32 = 3;
    const LENGTH: usize = 72;

    /// A `struct nlmsghdr` and a `struct inet_diag_req_v2` that ask for the sockets of one port in one state.
    pub fn question(address: &SocketAddr) -> [u8; LENGTH] {
        let family = match address {
            SocketAddr::V4(_) => libc::AF_INET,
            // The IPv4 clients of such a listener are sockets of this family, too.
            SocketAddr::V6(_) => libc::AF_INET6,
        };
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let mut message = [0u8; LENGTH];
        message[..4].copy_from_slice(&(LENGTH as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message[16] = family as u8;
        message[17] = libc::IPPROTO_TCP as u8;
        message[20..24].copy_from_slice(&(1u32 << TCP_SYN_RECV).to_ne_bytes());
        message[24..26].copy_from_slice(&address.port().to_be_bytes());
        message
    }
}

/// False when there is no such table.
pub fn read_proc(address: &SocketAddr) -> bool {
    const SYN_RECV: &str = "03";
    let port = format!(":{:04X}", address.port());
    let is_ours = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let local = words.next().is_some_and(|local| local.ends_with(&port));
        local && words.nth(1) == Some(SYN_RECV)
    };
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    tables
        .into_iter()
        .any(|table| std::fs::read_to_string(table).is_ok_and(|text| text.lines().any(is_ours)))
}
