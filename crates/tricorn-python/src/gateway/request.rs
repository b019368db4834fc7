//! `req`: the request as hooks and custom access loggers see it.
//!
//! Made only when somebody will look. Attributes are computed at first use into the instance's `__dict__`, where
//! hooks may also put their own; what a pre_request hook changes there is what the environ is built from.
use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString, PyTuple};
use tricorn_engine::{Exchange, Peer};
use tricorn_proto::{Framing, Head, Scheme, Span};

use super::response::{OwnedField, Response};
use super::text::{self, latin1, percent_decoded};

#[pyclass(dict, frozen, module = "tricorn._core")]
pub struct Request {
    head: Head,
    peer: Peer,
    number: u32,
    /// What a WSGI application has beside it.
    wsgi: Option<(Py<PyAny>, Py<Response>)>,
}

impl Request {
    pub fn new(exchange: &Exchange, input: Py<PyAny>, response: Py<Response>) -> Self {
        Request {
            head: exchange.head().clone(),
            peer: exchange.peer().clone(),
            number: exchange.request_number(),
            wsgi: Some((input, response)),
        }
    }

    /// As Gunicorn's asgi worker shows it: without the peer's address, body and trailers, the path decoded.
    pub fn of_asgi(exchange: &Exchange) -> Self {
        Request {
            head: exchange.head().clone(),
            peer: exchange.peer().clone(),
            number: exchange.request_number(),
            wsgi: None,
        }
    }

    /// What only one of both kinds has, or has otherwise.
    fn compute_own<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let head = &self.head;
        let value = match (name, &self.wsgi) {
            ("body", Some((input, _))) => input.bind(py).clone(),
            ("peer_addr" | "remote_addr", Some(_)) => match &self.peer {
                Peer::Inet(address) => (address.ip().to_string(), address.port())
                    .into_pyobject(py)?
                    .into_any(),
                Peer::Unix => PyString::new(py, "").into_any(),
            },
            ("path", Some(_)) => self.text(py, head.path)?,
            ("path", None) => {
                let decoded = percent_decoded(head.path());
                PyString::new(py, &String::from_utf8_lossy(&decoded)).into_any()
            }
            ("raw_path", None) => PyBytes::new(py, head.path()).into_any(),
            ("headers_bytes", None) => {
                let list = PyList::empty(py);
                for field in &head.fields {
                    let name = head.slice(field.name).to_ascii_lowercase();
                    let value = PyBytes::new(py, head.slice(field.value));
                    list.append(PyTuple::new(py, [PyBytes::new(py, &name), value])?)?;
                }
                list.into_any()
            }
            ("content_length", None) => match head.framing {
                Framing::Length(length) => length.into_pyobject(py)?.into_any(),
                Framing::None | Framing::Chunked => py.None().into_bound(py),
            },
            ("chunked", None) => {
                let chunked = head.framing == Framing::Chunked;
                PyBool::new(py, chunked).to_owned().into_any()
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    fn text<'py>(&self, py: Python<'py>, span: Span) -> PyResult<Bound<'py, PyAny>> {
        Ok(latin1(py, self.head.slice(span))?.into_any())
    }

    fn compute<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let value = match name {
            "method" => self.text(py, self.head.method)?,
            "uri" => self.text(py, self.head.target)?,
            "query" => self.text(py, self.head.query)?,
            "fragment" => self.text(py, self.head.fragment)?,
            "version" => PyTuple::new(py, [self.head.version.0, self.head.version.1])?.into_any(),
            "headers" => {
                let fields = self.head.fields.iter();
                let fields =
                    fields.map(|field| (self.head.slice(field.name), self.head.slice(field.value)));
                pairs(py, fields)?.into_any()
            }
            "scheme" => PyString::new(
                py,
                if self.head.scheme == Some(Scheme::Https) {
                    "https"
                } else {
                    "http"
                },
            )
            .into_any(),
            "proxy_protocol_info" => py.None().into_bound(py),
            "req_number" => self.number.into_pyobject(py)?.into_any(),
            _ => return self.compute_own(py, name),
        };
        Ok(Some(value))
    }
}

/// `[(UPPER-NAME, value)]`.
fn pairs<'a, 'py>(
    py: Python<'py>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (name, value) in fields {
        list.append(PyTuple::new(
            py,
            [latin1(py, &name.to_ascii_uppercase())?, latin1(py, value)?],
        )?)?;
    }
    Ok(list)
}

#[pymethods]
impl Request {
    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if let ("trailers", Some((_, response))) = (name, &slf.get().wsgi) {
            // Known only when the body has ended: not remembered.
            let fields: Vec<OwnedField> = {
                let state = response.get().lock(py);
                state
                    .exchange
                    .as_ref()
                    .map(|exchange| exchange.trailers().to_vec())
                    .unwrap_or_default()
            };
            return Ok(pairs(
                py,
                fields.iter().map(|(name, value)| (&name[..], &value[..])),
            )?
            .into_any());
        }
        let Some(value) = slf.get().compute(py, name)? else {
            return Err(PyAttributeError::new_err(format!(
                "'Request' object has no attribute '{name}'"
            )));
        };
        slf.setattr(name, &value)?;
        Ok(value)
    }

    fn should_close(&self, py: Python<'_>) -> bool {
        let forced = self.wsgi.as_ref();
        let forced = forced.is_some_and(|(_, response)| response.get().lock(py).force_close);
        !self.head.keep_alive || forced
    }

    fn force_close(&self, py: Python<'_>) {
        if let Some((_, response)) = &self.wsgi {
            response.get().lock(py).force_close = true;
        }
    }
}

/// What a pre_request hook made of the request.
pub struct Changes<'py> {
    dict: Bound<'py, PyDict>,
}

impl<'py> Changes<'py> {
    pub fn of(request: &Bound<'py, Request>) -> PyResult<Self> {
        let dict = request
            .getattr(intern!(request.py(), "__dict__"))?
            .cast_into::<PyDict>()?;
        Ok(Changes { dict })
    }

    /// The fields, when the hook has touched them.
    pub fn fields(&self) -> PyResult<Option<Vec<OwnedField>>> {
        let Some(headers) = self.dict.get_item(intern!(self.dict.py(), "headers"))? else {
            return Ok(None);
        };
        let mut fields = Vec::new();
        for pair in headers.try_iter()? {
            let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
            fields.push((text::wire_bytes(&name)?, text::wire_bytes(&value)?));
        }
        Ok(Some(fields))
    }

    /// Writes the hook's other changes into the environ.
    pub fn apply(&self, environ: &Bound<'py, PyDict>) -> PyResult<()> {
        let py = environ.py();
        for (name, key) in [
            ("method", "REQUEST_METHOD"),
            ("uri", "RAW_URI"),
            ("query", "QUERY_STRING"),
            ("scheme", "wsgi.url_scheme"),
        ] {
            if let Some(value) = self.dict.get_item(name)? {
                environ.set_item(key, value)?;
            }
        }
        if let Some(path) = self.dict.get_item("path")? {
            let script = environ.get_item("SCRIPT_NAME")?;
            let script = script
                .map(|name| text::wire_bytes(&name))
                .transpose()?
                .unwrap_or_default();
            let path = text::wire_bytes(&path)?;
            let inner = path.strip_prefix(script.as_slice()).unwrap_or(&path);
            environ.set_item("PATH_INFO", latin1(py, &percent_decoded(inner))?)?;
        }
        Ok(())
    }
}
