//! Bytes in, events out: the HTTP/1.1 grammar, message framing and header policy; WebSocket.
//!
//! Knows no socket, no clock, no logger and no Python. Peer bytes never panic; a fault of the peer
//! is a [`Reject`] (a [`ws::Fault`] there), a fault of the application an [`AppFault`], "need more bytes" is neither.
//! Source: RFC 9110, RFC 9112, RFC 6455, RFC 7692; limits and options are Gunicorn's settings of the same names.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bytes;
mod grammar;
pub mod h1;
pub mod head;
mod lines;
mod patience;
pub mod policy;
pub mod reject;
pub mod response;
pub mod trust;
pub mod ws;

pub use bytes::{hash, places, same};
pub use head::{Field, Framing, Head, Known, Scheme, Span, is_secret};
pub use patience::Patience;
pub use policy::{HeaderMap, PeerTrust, Policy};
pub use reject::{AppFault, Reject, RejectKind};
pub use trust::AddrList;
