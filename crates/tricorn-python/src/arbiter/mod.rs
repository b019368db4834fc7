//! The arbiter's hands: signals, fork, wait, listeners, pid file; it decides in tricorn-supervisor only.
//!
//! Python's part (`tricorn.arbiter.Arbiter`) carries what hooks and configuration files touch; the loop,
//! and everything that must not lose an event, is here.
mod core;
mod handshakes;
mod listen;
mod signals;
mod slot;

use std::io;
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tricorn_engine::Passage;
use tricorn_scoreboard::Scoreboard;

pub use slot::Slot;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Slot>()?;
    module.add_class::<core::Core>()?;
    module.add_function(wrap_pyfunction!(listen::listen_tcp, module)?)?;
    module.add_function(wrap_pyfunction!(listen::listen_unix, module)?)?;
    module.add_function(wrap_pyfunction!(listen::adopt_listener, module)?)?;
    module.add_function(wrap_pyfunction!(listen::listener_address, module)?)?;
    module.add_function(wrap_pyfunction!(listen::refuse_newcomers, module)?)?;
    module.add_function(wrap_pyfunction!(listen::handshake_in_progress, module)?)?;
    module.add_function(wrap_pyfunction!(listen::stop_listening, module)?)?;
    module.add_function(wrap_pyfunction!(signals::follow_parent, module)?)?;
    module.add_function(wrap_pyfunction!(listen::close_descriptor, module)?)?;
    Ok(())
}

/// The `OSError` Python itself would raise: with its errno, and so of the right subclass.
fn os_error(error: &io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(code) => {
            let text = error.to_string();
            let text = text
                .split(" (os error")
                .next()
                .unwrap_or_default()
                .to_owned();
            PyOSError::new_err((code, text))
        }
        None => PyOSError::new_err(error.to_string()),
    }
}

/// Monotonic milliseconds, the clock of the scoreboard.
fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

static BOARD: OnceLock<&'static Scoreboard> = OnceLock::new();

/// Between the workers; made with the board.
static PASSAGE: OnceLock<Arc<Passage>> = OnceLock::new();

pub fn passage() -> Option<Arc<Passage>> {
    PASSAGE.get().cloned()
}

/// The slot that the arbiter gave a worker. Errors: AttributeError, TypeError for something that is no worker.
pub fn slot_of(worker: &Bound<'_, PyAny>) -> PyResult<&'static tricorn_scoreboard::Slot> {
    Ok(worker.getattr("slot")?.cast::<Slot>()?.get().slot())
}

/// The arbiter is shutting down and takes nothing from the listeners any more. Needs no GIL.
pub fn stopping() -> bool {
    BOARD.get().is_some_and(|board| board.stopping())
}
