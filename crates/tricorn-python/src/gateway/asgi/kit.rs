//! The objects that the application gets for a request, used again while nobody holds on to them.
//!
//! As the kit of WSGI calls: it serves again only when it has the last reference to each of its parts, so that nothing
//! an application kept of one request can touch another.
use std::sync::Arc;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;

use super::extras::Extras;
use super::host::Host;
use super::request::AsgiRequest;
use super::scope::{Kind, ScopeBuilder};
use crate::gateway::kit::references;

pub struct Kit {
    pub request: Py<AsgiRequest>,
    pub receive: Py<PyAny>,
    pub send: Py<PyAny>,
    pub extras: Extras,
}

/// References to the request that a kit itself has: its own, and those of its methods.
const OWN_REFERENCES: ffi::Py_ssize_t = 3;

impl Kit {
    pub fn new(py: Python<'_>, host: &Arc<Host>) -> PyResult<Box<Kit>> {
        let request = Bound::new(py, AsgiRequest::of(host))?;
        Ok(Box::new(Kit {
            receive: request.getattr(intern!(py, "receive"))?.unbind(),
            send: request.getattr(intern!(py, "send"))?.unbind(),
            request: request.unbind(),
            extras: host.scopes.extras(py, Kind::Http)?,
        }))
    }

    /// Nobody else holds any part of it, or has changed one.
    pub fn may_serve_again(&mut self, scopes: &ScopeBuilder) -> bool {
        references(&self.request) == OWN_REFERENCES
            && references(&self.receive) == 1
            && references(&self.send) == 1
            && scopes.may_serve_again(&mut self.extras, Kind::Http)
    }
}
