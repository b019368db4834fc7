//! A request of an application that is called through Python code of ours instead of `receive` and `send`: what that code
//! does with the answer.
//!
//! Not another way to answer: state, back-pressure and the end are those of every request. `tricorn/tornado_http.py`
//! makes Tornado's own interface of it.
use std::os::fd::{IntoRawFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tricorn_engine::{Exchange, Gone};
use tricorn_proto::{Reject, RejectKind};

use super::event::{bytes_of, fields, misplaced};
use super::request::{AsgiRequest, gone};

/// The descriptor, what was read behind the request, and what has to be sent first.
pub type Detached = (RawFd, Py<PyBytes>, Py<PyBytes>);

impl AsgiRequest {
    pub(super) fn native_start(
        &self,
        status: u16,
        reason: &str,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let fields = fields(Some(headers))?;
        self.start(status, &format!("{status} {reason}"), &fields, false)
    }

    /// Returns a future when the next block has to wait for room.
    pub(super) fn native_write<'py>(
        this: &Bound<'py, Self>,
        block: &Bound<'py, PyAny>,
        more: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::push(this, bytes_of(block)?, more)
    }

    pub(super) fn native_refuse(&self, py: Python<'_>, message: &str) -> PyResult<()> {
        self.refuse_with(py, &Reject::new(RejectKind::BadRequest, message))
    }

    /// Gives the connection to the application, behind the head that it has started.
    pub(super) fn native_detach(&self, py: Python<'_>) -> PyResult<Detached> {
        let exchange = {
            let mut state = self.lock();
            if state.exchange.as_ref().is_some_and(Exchange::head_sent) {
                return Err(misplaced("the response is on its way already"));
            }
            state.exchange.take().ok_or_else(gone)?
        };
        self.record(py, &exchange)?;
        let detached = exchange.detach();
        self.over(py)?;
        let detached = detached.map_err(|Gone| gone())?;
        let unread = PyBytes::new(py, &detached.unread).unbind();
        let unsent = PyBytes::new(py, &detached.unsent).unbind();
        Ok((detached.socket.into_raw_fd(), unread, unsent))
    }
}
