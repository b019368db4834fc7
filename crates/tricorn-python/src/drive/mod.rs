//! Drivers: which loop turns the engine. `threads` are our own (sync, gthread); `pollable` is for somebody else's loop.
//!
//! No protocol, no limits, no header policy here: a driver looks for requests, hands them to the gateway and looks
//! after the worker's signals, heartbeat and end.
mod aio;
mod calls;
mod pollable;
mod settings;
mod station;
mod threads;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    threads::register(module)?;
    calls::register(module)?;
    aio::register(module)
}
