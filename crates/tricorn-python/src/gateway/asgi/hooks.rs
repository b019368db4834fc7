//! pre_request, post_request and custom access loggers, as Gunicorn's asgi worker calls them.
//!
//! Made only when somebody will look. Source: Gunicorn settings `pre_request`, `post_request`, `logger_class`.
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use tricorn_engine::{Exchange, Peer};

use crate::gateway::access::request_time;
use crate::gateway::environ::protocol;
use crate::gateway::request::Request;
use crate::gateway::response::OwnedField;
use crate::gateway::text::{latin1, percent_decoded};

/// `resp`: what the answer has become.
#[pyclass(frozen, get_all, module = "tricorn._core")]
pub struct AsgiResponse {
    status: u16,
    headers: Py<PyList>,
    sent: u64,
}

impl AsgiResponse {
    pub fn new(py: Python<'_>, status: u16, fields: &[OwnedField], sent: u64) -> PyResult<Self> {
        let headers = PyList::empty(py);
        for (name, value) in fields {
            let pair = [latin1(py, name)?, latin1(py, value)?];
            headers.append(PyTuple::new(py, pair)?)?;
        }
        Ok(AsgiResponse {
            status,
            headers: headers.unbind(),
            sent,
        })
    }
}

/// What the hooks of one request share.
pub struct Looked {
    pub request: Py<Request>,
    /// With an access log only, as with Gunicorn.
    pub environ: Option<Py<PyDict>>,
}

impl Looked {
    pub fn new(py: Python<'_>, exchange: &Exchange, logged: bool) -> PyResult<Looked> {
        Ok(Looked {
            request: Py::new(py, Request::of_asgi(exchange))?,
            environ: match logged {
                true => Some(environ(py, exchange)?.unbind()),
                false => None,
            },
        })
    }
}

/// What access loggers read of an environ.
fn environ<'py>(py: Python<'py>, exchange: &Exchange) -> PyResult<Bound<'py, PyDict>> {
    let head = exchange.head();
    let dict = PyDict::new(py);
    dict.set_item("REQUEST_METHOD", latin1(py, head.method())?)?;
    dict.set_item("RAW_URI", latin1(py, head.target())?)?;
    dict.set_item("PATH_INFO", latin1(py, &percent_decoded(head.path()))?)?;
    dict.set_item("QUERY_STRING", latin1(py, head.query())?)?;
    dict.set_item("SERVER_PROTOCOL", protocol(head.version))?;
    let (address, port) = match exchange.peer() {
        Peer::Inet(address) => (address.ip().to_string(), address.port().to_string()),
        Peer::Unix => (String::new(), String::new()),
    };
    dict.set_item("REMOTE_ADDR", address)?;
    dict.set_item("REMOTE_PORT", port)?;
    for field in &head.fields {
        let name = head.slice(field.name).to_ascii_uppercase();
        let value = latin1(py, head.slice(field.value))?;
        let name = String::from_utf8_lossy(&name).replace('-', "_");
        let key = match name.as_str() {
            "CONTENT_TYPE" | "CONTENT_LENGTH" => name,
            _ => format!("HTTP_{name}"),
        };
        let joined = match dict.get_item(&key)? {
            Some(before) => PyString::new(py, &format!("{before},{value}")),
            None => value,
        };
        dict.set_item(key, joined)?;
    }
    Ok(dict)
}

/// `log.access(resp, req, environ, request_time)`.
pub fn log_access(
    log: &Bound<'_, PyAny>,
    looked: &Looked,
    response: &Bound<'_, AsgiResponse>,
    duration_ns: u64,
) -> PyResult<()> {
    let py = log.py();
    let duration = request_time(py, duration_ns)?;
    let arguments = (response, &looked.request, &looked.environ, duration);
    log.call_method1(intern!(py, "access"), arguments)?;
    Ok(())
}
