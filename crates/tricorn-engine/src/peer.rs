//! The two ends of a connection, in words.
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Inet(SocketAddr),
    /// A unix socket peer has no address.
    Unix,
}

/// What a listener is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerInfo {
    Inet(SocketAddr),
    Unix(PathBuf),
}
