//! `gunicorn.socket` in the environ: the connection's socket, made only when the application looks at it.
//!
//! environ has to be a plain dict, so the entry cannot be computed late; it is this small stand-in instead, which
//! turns into a `socket.socket` at the first attribute access. That socket owns a duplicate of the descriptor:
//! closing it closes nothing of the server's, and keeping it does no harm to the next connection.
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::sync::OnceLock;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::response::Response;

#[pyclass(frozen, module = "tricorn._core")]
pub struct ConnectionSocket {
    response: Py<Response>,
    made: OnceLock<Py<PyAny>>,
}

impl ConnectionSocket {
    pub fn new(response: Py<Response>) -> Self {
        ConnectionSocket {
            response,
            made: OnceLock::new(),
        }
    }

    /// Nobody has asked for the socket: the stand-in can serve the next request too.
    pub fn is_untouched(&self) -> bool {
        self.made.get().is_none()
    }

    fn socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(made) = self.made.get() {
            return Ok(made.bind(py).clone());
        }
        let duplicate = {
            let state = self.response.get().lock(py);
            let exchange = state.exchange.as_ref().ok_or_else(|| {
                PyOSError::new_err((libc::EBADF, "the request of this socket is finished"))
            })?;
            // SAFETY: the descriptor is open as long as the exchange lives, which the lock ensures here.
            let descriptor = unsafe { BorrowedFd::borrow_raw(exchange.socket_fd()) };
            descriptor.try_clone_to_owned()?
        };
        let keywords = pyo3::types::PyDict::new(py);
        keywords.set_item("fileno", duplicate.into_raw_fd())?;
        let socket = py
            .import("socket")?
            .getattr("socket")?
            .call((), Some(&keywords))?;
        let _ = self.made.set(socket.clone().unbind());
        Ok(self.made.get().map_or(socket, |made| made.bind(py).clone()))
    }
}

#[pymethods]
impl ConnectionSocket {
    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.socket(py)?.getattr(name)
    }
}
