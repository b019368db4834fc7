//! The one table of settings, its kinds and validators, and the readers made from it.
//!
//! What it is: every setting's name, section, flags, kind, default, status and help, once ([`table`]); the
//! rules a value must pass ([`kind`]); docs/settings.md rendered from the table ([`render`]).
//! What it is not: it reads no file, no environment and no command line; values arrive as [`Value`].
//! Invariant: pure. No I/O, no libc, no pyo3, no clock.
//! Source: the settings of Gunicorn 27, and our own.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
pub mod kind;
pub mod render;
pub mod table;
mod value;

pub use kind::{Fault, Invalid, Kind};
pub use table::{Action, Default, Setting, Status, find, settings};
pub use value::Value;
