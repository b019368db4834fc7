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

pub struct Kit {
    pub request: Py<AsgiRequest>,
    pub receive: Py<PyAny>,
    pub send: Py<PyAny>,
    pub extras: Extras,
}

/// References to the request that a kit itself has: its own, and those of its methods.
const OWN_REFERENCES: ffi::Py_ssize_t = 3;

impl Kit {
    pub fn new(py: Python<'_>, host: &Arc<Host>) -> PyResult<Kit> {
        let request = Bound::new(py, AsgiRequest::of(host))?;
        Ok(Kit {
            receive: request.getattr(intern!(py, "receive"))?.unbind(),
            send: request.getattr(intern!(py, "send"))?.unbind(),
            request: request.unbind(),
            extras: host.scopes.extras(py, Kind::Http)?,
        })
    }

    /// Nobody else holds any part of it, or has changed one. Without a GIL the counts say nothing.
    pub fn may_serve_again(&mut self, scopes: &ScopeBuilder) -> bool {
        let count = |object: *mut ffi::PyObject| {
            // SAFETY: a live object of the kit's; with the GIL held its count does not change meanwhile.
            unsafe { ffi::Py_REFCNT(object) }
        };
        !cfg!(Py_GIL_DISABLED)
            && count(self.request.as_ptr()) == OWN_REFERENCES
            && count(self.receive.as_ptr()) == 1
            && count(self.send.as_ptr()) == 1
            && scopes.may_serve_again(&mut self.extras, Kind::Http)
    }
}
