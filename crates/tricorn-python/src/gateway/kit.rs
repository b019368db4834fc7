//! The objects an application gets besides strings, made once and used again while nobody holds on to them.
//!
//! Invariant: a kit is used again only when the gateway has the last reference to each of its parts, so that nothing
//! an application kept of one request can touch another.
use std::cell::Cell;
use std::rc::Rc;

use pyo3::ffi;
use pyo3::prelude::*;

use super::environ::Parts;
use super::input::Input;
use super::refill::Refills;
use super::response::{Response, Waits};
use super::socket::ConnectionSocket;
use super::start_response::{early_hints_of, start_response_of, write_of};

pub struct Kit {
    pub response: Py<Response>,
    pub start_response: Py<PyAny>,
    pub early_hints: Py<PyAny>,
    pub input: Py<PyAny>,
    pub socket: Py<ConnectionSocket>,
    pub refills: Refills,
    lease: Lease,
    /// It has served before, so it is likely to serve again.
    proven: bool,
}

/// How many templates hold the input and the early hints of a kit; both sides have one.
pub type Lease = Rc<Cell<ffi::Py_ssize_t>>;

/// How many references there are to an object. Without a GIL the counts say nothing, and the answer fits no expectation.
#[inline]
pub fn references<T>(object: &Py<T>) -> ffi::Py_ssize_t {
    if cfg!(Py_GIL_DISABLED) {
        return -1;
    }
    // SAFETY: a live object, which we hold; whoever asks has the GIL, so that its count does not change meanwhile.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// References to the response that a kit itself has: its own, and those of start_response, early_hints, write, input
/// and socket.
const OWN_REFERENCES: ffi::Py_ssize_t = 6;

impl Kit {
    pub fn new(py: Python<'_>, keep_fields: bool, waits: Waits) -> PyResult<Box<Kit>> {
        let response = Bound::new(py, Response::new(keep_fields, waits))?;
        let write = write_of(&response)?.unbind();
        response.get().lock(py).write = Some(write);
        let input = Bound::new(py, Input::new(response.clone().unbind()))?.into_any();
        let socket = Bound::new(py, ConnectionSocket::new(response.clone().unbind()))?;
        Ok(Box::new(Kit {
            start_response: start_response_of(&response)?.unbind(),
            early_hints: early_hints_of(&response)?.unbind(),
            input: input.unbind(),
            socket: socket.unbind(),
            response: response.unbind(),
            refills: Refills::default(),
            lease: Lease::default(),
            proven: false,
        }))
    }

    /// What an environ gets of it, and those that may be filled again.
    #[inline]
    pub fn parts<'a, 'py>(&'a mut self, py: Python<'py>) -> (Parts<'a, 'py>, &'a mut Refills) {
        let parts = Parts {
            input: self.input.bind(py),
            early_hints: self.early_hints.bind(py),
            socket: self.socket.bind(py).as_any(),
            // Whoever serves for the first time may be kept by the application.
            lease: Some(&self.lease).filter(|_| self.proven),
        };
        (parts, &mut self.refills)
    }

    /// After the request: the kit again, ready for the next one, or `None` when somebody kept a part of it.
    pub fn recycled(mut self: Box<Self>, py: Python<'_>) -> Option<Box<Kit>> {
        if self.is_free() && self.response.get().clear(py) {
            self.proven = true;
            Some(self)
        } else {
            self.response.get().retire(py);
            None
        }
    }

    /// Nobody but the kit holds any part of it, `write` apart: that one is the response's to look after.
    fn is_free(&self) -> bool {
        let kept = self.refills.kept() as ffi::Py_ssize_t;
        let lent = self.lease.get() + kept;
        references(&self.response) == OWN_REFERENCES
            && references(&self.start_response) == 1
            && references(&self.early_hints) == 1 + lent
            && references(&self.input) == 1 + lent
            && references(&self.socket) == 1 + kept
            && self.socket.get().is_untouched()
    }
}
