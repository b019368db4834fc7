//! Half a handshake is seen in both ways that the arbiter knows, at its own listener only.
//!
//! The extension module has no test harness of its own; this file of it knows no Python and is included here.
#![cfg(target_os = "linux")]
#[path = "../src/arbiter/handshakes.rs"]
mod handshakes;

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, SockFilter, Socket, Type};

/// A client that does not hear the answer to its SYN.
fn half_open(address: SocketAddr) -> Socket {
    let client = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    client
        .attach_filter(&[SockFilter::new(libc::BPF_RET as u16, 0, 0, 0)])
        .unwrap();
    client.set_nonblocking(true).unwrap();
    assert!(client.connect(&address.into()).is_err());
    client
}

fn expect(address: SocketAddr, found: bool) {
    assert_eq!(handshakes::read_proc(&address), found, "{address}");
    // A kernel without sock_diag has no answer, and ours is that of /proc then.
    let asked = handshakes::ask_sock_diag(&address);
    assert!(asked.is_none() || asked == Some(found), "{address}");
    assert_eq!(handshakes::in_progress(&address), found, "{address}");
}

#[test]
fn half_a_handshake_is_seen_at_its_own_listener_only() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(any) else {
            // A machine without IPv6.
            continue;
        };
        let address = listener.local_addr().unwrap();
        let other = TcpListener::bind(any).unwrap();
        expect(address, false);
        let _client = half_open(address);
        expect(address, true);
        expect(other.local_addr().unwrap(), false);
    }
}

#[test]
fn a_listener_of_both_families_has_clients_of_either() {
    let Ok(listener) = TcpListener::bind("[::]:0") else {
        return;
    };
    let address = listener.local_addr().unwrap();
    let _client = half_open(SocketAddr::from(([127, 0, 0, 1], address.port())));
    expect(address, true);
}
