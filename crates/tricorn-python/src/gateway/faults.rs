//! The application's faults in the error log, in Gunicorn's words.
//!
//! Not the answer to the client: that is the exchange's `fail`.
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use tricorn_engine::{Exchange, Peer};
use tricorn_proto::response::error_page;
use tricorn_proto::{Reject, RejectKind};

use super::text::latin1;

/// A whole answer that says 500 and nothing more, for worker classes that write to sockets themselves.
#[pyfunction]
pub fn internal_error_page(py: Python<'_>) -> Bound<'_, PyBytes> {
    let mut page = Vec::new();
    error_page(&mut page, &Reject::of(RejectKind::Internal));
    PyBytes::new(py, &page)
}

/// The worker's logger (`worker.log`).
pub struct ErrorLog {
    log: Py<PyAny>,
}

impl ErrorLog {
    pub fn new(log: Py<PyAny>) -> Self {
        ErrorLog { log }
    }

    pub fn logger<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.log.bind(py)
    }

    /// `Error handling request METHOD URI` and the traceback.
    pub fn before_head(&self, py: Python<'_>, error: &PyErr, exchange: &Exchange) {
        let head = exchange.head();
        if let (Ok(method), Ok(target)) = (latin1(py, head.method()), latin1(py, head.target())) {
            self.exception(py, error, "Error handling request %s %s", &[method, target]);
        }
    }

    /// `Error handling request` and the traceback: the response has begun, the connection is cut.
    pub fn after_head(&self, py: Python<'_>, error: &PyErr) {
        self.exception(py, error, "Error handling request", &[]);
    }

    /// A traceback under `message`. Logged by `log.exception` while the error is the one being handled, so that
    /// loggers that ask `sys.exc_info()` see it.
    pub fn exception(
        &self,
        py: Python<'_>,
        error: &PyErr,
        message: &str,
        args: &[Bound<'_, PyString>],
    ) {
        let call = || -> PyResult<()> {
            let mut all = vec![PyString::new(py, message)];
            all.extend(args.iter().cloned());
            self.log
                .bind(py)
                .getattr(intern!(py, "exception"))?
                .call1(PyTuple::new(py, all)?)?;
            Ok(())
        };
        if let Err(failure) = handling(py, error, call) {
            failure.write_unraisable(py, Some(self.log.bind(py)));
        }
    }

    /// `Invalid request from ip=IP: ERROR`: the peer's fault, found while the application read the body.
    pub fn invalid_request(&self, py: Python<'_>, peer: &Peer, message: &str) {
        let address = match peer {
            Peer::Inet(address) => address.ip().to_string(),
            Peer::Unix => String::new(),
        };
        self.plain(
            py,
            "warning",
            &format!("Invalid request from ip={address}: {message}"),
        );
    }

    pub fn debug(&self, py: Python<'_>, message: &str) {
        self.plain(py, "debug", message);
    }

    pub fn error(&self, py: Python<'_>, message: &str) {
        self.plain(py, "error", message);
    }

    fn plain(&self, py: Python<'_>, level: &str, message: &str) {
        if let Err(failure) = self.log.bind(py).call_method1(level, (message,)) {
            failure.write_unraisable(py, Some(self.log.bind(py)));
        }
    }
}

/// Runs `call` while `error` is the exception being handled.
fn handling<T>(py: Python<'_>, error: &PyErr, call: impl FnOnce() -> T) -> T {
    let value = error.value(py).clone();
    if let Some(traceback) = error.traceback(py) {
        // SAFETY: an exception and a traceback, both live. Versions before 3.12 may not have them joined yet.
        unsafe { ffi::PyException_SetTraceback(value.as_ptr(), traceback.as_ptr()) };
    }
    let mut before = [core::ptr::null_mut(); 3];
    let [class, instance, traceback] = &mut before;
    // SAFETY: GetExcInfo gives three new references (or NULL) that the second SetExcInfo takes back; the first one
    // takes new references to the error's parts. `call` returns before the state is restored, also on an error.
    unsafe {
        ffi::PyErr_GetExcInfo(class, instance, traceback);
        let trace = error
            .traceback(py)
            .map_or(core::ptr::null_mut(), |trace| trace.into_ptr());
        ffi::PyErr_SetExcInfo(value.get_type().into_ptr(), value.into_ptr(), trace);
    }
    let outcome = call();
    // SAFETY: see above.
    unsafe { ffi::PyErr_SetExcInfo(before[0], before[1], before[2]) };
    outcome
}
