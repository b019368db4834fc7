//! Error and access log writers.
pub mod access;
mod basic;
mod clock;
mod escape;
mod format;
mod record;
mod sink;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<access::AccessSink>()
}
