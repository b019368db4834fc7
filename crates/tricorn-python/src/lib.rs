//! The extension module `tricorn._core`: gateways, drivers, the arbiter's hands, logging, settings.
//!
//! The only crate that knows Python. Each module registers what Python may see of it.
use pyo3::prelude::*;

mod arbiter;
mod config;
mod drive;
mod gateway;
mod log;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    config::register(module)?;
    log::register(module)?;
    arbiter::register(module)?;
    gateway::register(module)?;
    drive::register(module)?;
    Ok(())
}
