//! The gateway of ASGI applications: scope, receive and send for each request.
//!
//! Knows no poller and no loop beyond making futures and tasks: when a request comes, and when the engine has something
//! to report, is the driver's to say. Source: the ASGI specification 3.0.
mod answer;
mod awaitable;
mod event;
mod extras;
mod fields;
mod hooks;
mod host;
mod kit;
mod native;
mod request;
mod scope;
mod socket;
mod task;

use std::sync::Arc;

use pyo3::prelude::*;
use tricorn_engine::Exchange;

pub use host::{Host, OnStep, Step};
use request::{AsgiRequest, ClientDisconnected};
use socket::AsgiSocket;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    awaitable::register(module)?;
    module.add_class::<hooks::AsgiResponse>()?;
    module.add("ClientDisconnected", py.get_type::<ClientDisconnected>())
}

/// Gives a request to the application.
pub fn begin(py: Python<'_>, host: &Arc<Host>, exchange: Exchange) -> PyResult<()> {
    if host.has_sockets && socket::is_handshake(exchange.head()) {
        AsgiSocket::begin(py, host, exchange)
    } else {
        AsgiRequest::begin(py, host, exchange)
    }
}
