//! Descriptors, connections, exchanges, deadlines, draining: one HTTP engine behind one pollable
//! descriptor. No Python.
#![deny(unsafe_code)]

mod batch;
mod budget;
pub mod clock;
pub mod config;
mod connection;
pub mod engine;
pub mod exchange;
pub mod helm;
mod load;
pub mod notice;
mod output;
mod passage;
pub mod peer;
pub mod poller;
mod pool;
mod predictor;
mod spool;
mod sys;
mod table;
mod tick;

pub use config::EngineConfig;
pub use connection::{Inbound, SocketConfig};
pub use engine::{Engine, Turn};
pub use exchange::{BodyError, Channel, Detached, Exchange, Gone, Record, Signed, Written};
pub use helm::Helm;
pub use notice::Notice;
pub use passage::Passage;
pub use peer::{ListenerInfo, Peer};
pub use poller::Events;
pub use sys::block_all_signals as block_signals;
