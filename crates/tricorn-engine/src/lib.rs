//! Descriptors, connections, exchanges, deadlines, draining: one HTTP engine behind one pollable
//! descriptor. No Python.
#![deny(unsafe_code)]

pub mod exchange;
pub mod peer;

pub use exchange::{BodyError, Exchange, Gone, Record};
pub use peer::{ListenerInfo, Peer};
