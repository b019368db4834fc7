//! Gateways: the only place that makes per-request Python objects.
//!
//! `wsgi` calls a WSGI application for one exchange (PEP 3333). Knows no socket and no loop: which thread calls it,
//! and when, is the driver's business.
mod access;
pub mod asgi;
mod cache;
mod deliver;
mod environ;
mod faults;
mod file_wrapper;
mod hooks;
mod input;
mod kit;
mod ready;
mod refill;
mod request;
mod response;
mod shapes;
mod socket;
mod start_response;
mod template;
mod text;
mod wsgi;

use pyo3::prelude::*;

pub use deliver::{Blocks, Failure};
pub use response::Waits;
pub use wsgi::{Call, Wsgi};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<file_wrapper::FileWrapper>()?;
    module.add_function(wrap_pyfunction!(faults::internal_error_page, module)?)?;
    asgi::register(module)?;
    module.add(
        "RequestBodyError",
        module.py().get_type::<response::RequestBodyError>(),
    )?;
    Ok(())
}
