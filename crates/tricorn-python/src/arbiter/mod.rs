//! The arbiter's hands: signals, fork, wait, listeners, pid file; it decides in tricorn-supervisor only.
use pyo3::prelude::*;

pub fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
