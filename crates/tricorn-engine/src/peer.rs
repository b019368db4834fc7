//! The two ends of a connection, in words.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Inet(SocketAddr),
    /// A unix socket peer has no address.
    Unix,
}

/// Both, shared by the connection and its requests.
#[derive(Debug)]
pub struct Ends {
    pub peer: Peer,
    pub listener: Arc<ListenerInfo>,
}

/// What a listener is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerInfo {
    Inet(SocketAddr),
    Unix(PathBuf),
}
