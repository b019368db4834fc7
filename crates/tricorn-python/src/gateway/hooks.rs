//! pre_request and post_request.
//!
//! The defaults cost nothing: only pre_request's debug line is written, and only when debug lines are.
use pyo3::intern;
use pyo3::prelude::*;
use tricorn_engine::Exchange;

use super::faults::ErrorLog;
use super::request::Request;
use super::text::latin1;

pub struct Hooks {
    pre: Option<Py<PyAny>>,
    post: Option<Py<PyAny>>,
    debug: bool,
}

impl Hooks {
    pub fn new(cfg: &Bound<'_, PyAny>, log: &Bound<'_, PyAny>) -> PyResult<Self> {
        let custom = |name: &str| -> PyResult<Option<Py<PyAny>>> {
            if cfg.call_method1("hook_is_default", (name,))?.is_truthy()? {
                return Ok(None);
            }
            Ok(Some(cfg.getattr(name)?.unbind()))
        };
        let debug = match log.getattr_opt("error_log")? {
            Some(logger) => logger.call_method1("isEnabledFor", (10,))?.is_truthy()?,
            None => true,
        };
        Ok(Hooks {
            pre: custom("pre_request")?,
            post: custom("post_request")?,
            debug,
        })
    }

    /// Does any hook want `req` and `resp`?
    pub fn any(&self) -> bool {
        self.pre.is_some() || self.post.is_some()
    }

    pub fn pre_is_custom(&self) -> bool {
        self.pre.is_some()
    }

    pub fn post_is_custom(&self) -> bool {
        self.post.is_some()
    }

    /// Errors: whatever the hook raises; it becomes a 500.
    pub fn pre_request(
        &self,
        py: Python<'_>,
        worker: &Py<PyAny>,
        request: Option<&Bound<'_, Request>>,
        log: &ErrorLog,
        exchange: &Exchange,
    ) -> PyResult<()> {
        match (&self.pre, request) {
            (Some(hook), Some(request)) => {
                hook.bind(py).call1((worker, request))?;
            }
            (None, _) if self.debug => {
                let (method, path) = (
                    latin1(py, exchange.head().method())?,
                    latin1(py, exchange.head().path())?,
                );
                log.logger(py)
                    .call_method1(intern!(py, "debug"), ("%s %s", method, path))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Exceptions are logged and go no further; those that are no `Exception` are returned.
    pub fn post_request(
        &self,
        py: Python<'_>,
        worker: &Py<PyAny>,
        request: Option<&Bound<'_, Request>>,
        environ: &Bound<'_, PyAny>,
        response: &Bound<'_, PyAny>,
        log: &ErrorLog,
    ) -> PyResult<()> {
        let (Some(hook), Some(request)) = (&self.post, request) else {
            return Ok(());
        };
        let arguments = (worker, request, environ, response);
        match hook.bind(py).call1(arguments) {
            Err(error) if error.is_instance_of::<pyo3::exceptions::PyException>(py) => {
                log.exception(py, &error, "Exception in post_request hook", &[]);
                Ok(())
            }
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }
}
