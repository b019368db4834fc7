//! The dicts that an application sends, read into plain values.
//!
//! Invariant: everything that may run Python code (odd iterables, buffers, ints of a subclass) is asked here, before any
//! lock is taken. Source: the ASGI specification, "HTTP & WebSocket"; Gunicorn's `http.response.informational`.
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple};

use crate::gateway::response::OwnedField;
use crate::gateway::text::{repr, wire_bytes};

/// Response fields, as the application's own objects: exact pairs of bytes.
pub enum Fields<'py> {
    /// A list that has nothing else in it, looked through with the GIL held.
    Plain(Bound<'py, PyList>),
    Made(Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>),
}

impl<'py> Fields<'py> {
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut index = 0;
        std::iter::from_fn(move || {
            let pair = match self {
                Fields::Plain(list) => plain_pair(list, index),
                Fields::Made(pairs) => pairs
                    .get(index)
                    .map(|(name, value)| (name.as_bytes(), value.as_bytes())),
            };
            index += 1;
            pair
        })
    }

    pub fn owned(&self) -> Vec<OwnedField> {
        self.iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect()
    }
}

/// The pair at a place of a list, if there is one and it is a tuple of two byte strings.
fn plain_pair<'a>(list: &'a Bound<'_, PyList>, index: usize) -> Option<(&'a [u8], &'a [u8])> {
    if index >= list.len() {
        return None;
    }
    // SAFETY: the list holds the item, the tuple its members, whose bytes never move. That the list itself stays as it is
    // follows from the GIL: nothing that looks through fields runs Python code. (Without a GIL none are plain.)
    unsafe {
        let item = ffi::PyList_GET_ITEM(list.as_ptr(), index as ffi::Py_ssize_t);
        if ffi::PyTuple_CheckExact(item) == 0 || ffi::PyTuple_GET_SIZE(item) != 2 {
            return None;
        }
        let member = |place| {
            let member = ffi::PyTuple_GET_ITEM(item, place);
            (ffi::PyBytes_CheckExact(member) != 0).then(|| {
                let bytes = ffi::PyBytes_AsString(member).cast::<u8>();
                std::slice::from_raw_parts(bytes, ffi::PyBytes_Size(member) as usize)
            })
        };
        Some((member(0)?, member(1)?))
    }
}

/// What an application wants of an HTTP response.
pub enum HttpEvent<'py> {
    Start {
        status: u16,
        fields: Fields<'py>,
        trailers: bool,
    },
    Body {
        block: Bound<'py, PyBytes>,
        more: bool,
    },
    Trailers {
        fields: Fields<'py>,
        more: bool,
    },
    Informational {
        status: u16,
        fields: Vec<OwnedField>,
        /// It may come behind the start event, whose head waits for the body.
        late: bool,
    },
    Path(std::path::PathBuf),
    File {
        file: Bound<'py, PyAny>,
        offset: Option<u64>,
        count: Option<u64>,
        more: bool,
    },
}

/// What an application wants of a WebSocket.
pub enum SocketEvent<'py> {
    Accept {
        subprotocol: Option<Vec<u8>>,
        fields: Fields<'py>,
    },
    Text(Bound<'py, PyString>),
    Bytes(Bound<'py, PyBytes>),
    Close {
        code: u16,
        reason: String,
    },
    ResponseStart {
        status: u16,
        fields: Fields<'py>,
    },
    ResponseBody {
        block: Bound<'py, PyBytes>,
        more: bool,
    },
}

/// The message as a dict, and its type.
fn opened<'a, 'py>(
    event: &'a Bound<'py, PyAny>,
) -> PyResult<(&'a Bound<'py, PyDict>, Bound<'py, PyString>)> {
    let Ok(dict) = event.cast::<PyDict>() else {
        return Err(PyTypeError::new_err(format!(
            "an ASGI message is a dict, not {}",
            repr(event)
        )));
    };
    let kind = wanted(dict, "type", intern!(event.py(), "type"))?;
    let Ok(kind) = kind.cast_into::<PyString>() else {
        return Err(PyTypeError::new_err("the type of an ASGI message is a str"));
    };
    Ok((dict, kind))
}

pub fn http_event<'py>(event: &Bound<'py, PyAny>) -> PyResult<HttpEvent<'py>> {
    let py = event.py();
    let (dict, kind) = opened(event)?;
    let is = |known: &Bound<'py, PyString>| kind.is(known);
    // Literals are interned, so the first two are nearly always found without comparing text.
    if is(intern!(py, "http.response.body")) {
        return body(dict);
    }
    if is(intern!(py, "http.response.start")) {
        return start(dict);
    }
    match kind.to_str()? {
        "http.response.start" => start(dict),
        "http.response.body" => body(dict),
        "http.response.trailers" => Ok(HttpEvent::Trailers {
            fields: fields(dict.get_item("headers")?.as_ref())?,
            more: flag(dict.get_item("more_trailers")?)?,
        }),
        "http.response.early_hint" => {
            let links = wanted(dict, "links", intern!(py, "links"))?;
            let mut fields = Vec::new();
            for link in links.try_iter()? {
                fields.push((b"link".to_vec(), bytes_of(&link?)?.as_bytes().to_vec()));
            }
            Ok(HttpEvent::Informational {
                status: 103,
                fields,
                late: true,
            })
        }
        "http.response.informational" => Ok(HttpEvent::Informational {
            status: wanted(dict, "status", intern!(py, "status"))?.extract()?,
            fields: fields(dict.get_item("headers")?.as_ref())?.owned(),
            late: false,
        }),
        "http.response.pathsend" => Ok(HttpEvent::Path(
            wanted(dict, "path", intern!(py, "path"))?.extract()?,
        )),
        "http.response.zerocopysend" => {
            let number = |name: &str| -> PyResult<Option<u64>> {
                match dict.get_item(name)? {
                    Some(value) if !value.is_none() => Ok(Some(value.extract()?)),
                    _ => Ok(None),
                }
            };
            Ok(HttpEvent::File {
                file: wanted(dict, "file", intern!(py, "file"))?,
                offset: number("offset")?,
                count: number("count")?,
                more: flag(dict.get_item("more_body")?)?,
            })
        }
        other => Err(unknown(other)),
    }
}

fn start<'py>(dict: &Bound<'py, PyDict>) -> PyResult<HttpEvent<'py>> {
    let py = dict.py();
    Ok(HttpEvent::Start {
        status: wanted(dict, "status", intern!(py, "status"))?.extract()?,
        fields: fields(dict.get_item(intern!(py, "headers"))?.as_ref())?,
        trailers: flag(dict.get_item(intern!(py, "trailers"))?)?,
    })
}

fn body<'py>(dict: &Bound<'py, PyDict>) -> PyResult<HttpEvent<'py>> {
    let py = dict.py();
    Ok(HttpEvent::Body {
        block: block(dict)?,
        more: flag(dict.get_item(intern!(py, "more_body"))?)?,
    })
}

pub fn socket_event<'py>(event: &Bound<'py, PyAny>) -> PyResult<SocketEvent<'py>> {
    let (dict, kind) = opened(event)?;
    let some = |name: &str| -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(dict.get_item(name)?.filter(|value| !value.is_none()))
    };
    match kind.to_str()? {
        "websocket.send" => {
            if let Some(bytes) = some("bytes")? {
                return Ok(SocketEvent::Bytes(bytes_of(&bytes)?));
            }
            match some("text")? {
                Some(text) => Ok(SocketEvent::Text(text.cast_into::<PyString>()?)),
                None => Err(PyKeyError::new_err("websocket.send needs bytes or text")),
            }
        }
        "websocket.accept" => Ok(SocketEvent::Accept {
            subprotocol: match some("subprotocol")? {
                Some(name) => Some(name.cast_into::<PyString>()?.to_str()?.as_bytes().to_vec()),
                None => None,
            },
            fields: fields(dict.get_item("headers")?.as_ref())?,
        }),
        "websocket.close" => Ok(SocketEvent::Close {
            code: some("code")?.map_or(Ok(1000), |code| code.extract())?,
            reason: some("reason")?.map_or(Ok(String::new()), |reason| reason.extract())?,
        }),
        "websocket.http.response.start" => Ok(SocketEvent::ResponseStart {
            status: wanted(dict, "status", intern!(event.py(), "status"))?.extract()?,
            fields: fields(dict.get_item("headers")?.as_ref())?,
        }),
        "websocket.http.response.body" => Ok(SocketEvent::ResponseBody {
            block: block(dict)?,
            more: flag(dict.get_item("more_body")?)?,
        }),
        other => Err(unknown(other)),
    }
}

fn unknown(kind: &str) -> PyErr {
    PyValueError::new_err(format!("unexpected ASGI message {kind:?}"))
}

/// What start events and bodies in the wrong order raise.
pub fn misplaced(message: &'static str) -> PyErr {
    PyRuntimeError::new_err(message)
}

fn wanted<'py>(
    dict: &Bound<'py, PyDict>,
    name: &'static str,
    key: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    dict.get_item(key)?
        .ok_or_else(|| PyKeyError::new_err(format!("an ASGI message lacks {name:?}")))
}

fn flag(value: Option<Bound<'_, PyAny>>) -> PyResult<bool> {
    value.map_or(Ok(false), |value| value.is_truthy())
}

fn block<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyBytes>> {
    let py = dict.py();
    match dict.get_item(intern!(py, "body"))? {
        None => Ok(PyBytes::new(py, b"")),
        Some(block) => match block.cast_into::<PyBytes>() {
            Ok(bytes) => Ok(bytes),
            Err(other) => bytes_of(&other.into_inner()),
        },
    }
}

/// bytes, or what can be had as bytes without a conversion of characters.
pub fn bytes_of<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    if value.cast::<PyByteArray>().is_ok() || value.cast::<PyMemoryView>().is_ok() {
        return Ok(py
            .get_type::<PyBytes>()
            .call1((value,))?
            .cast_into::<PyBytes>()?);
    }
    Err(PyTypeError::new_err(format!(
        "{} is not a byte string",
        repr(value)
    )))
}

pub fn fields<'py>(headers: Option<&Bound<'py, PyAny>>) -> PyResult<Fields<'py>> {
    let Some(headers) = headers.filter(|headers| !headers.is_none()) else {
        return Ok(Fields::Made(Vec::new()));
    };
    if !cfg!(Py_GIL_DISABLED)
        && let Ok(list) = headers.cast_exact::<PyList>()
        && (0..list.len()).all(|index| plain_pair(list, index).is_some())
    {
        return Ok(Fields::Plain(list.clone()));
    }
    let mut found = Vec::new();
    for item in headers.try_iter()? {
        found.push(pair(&item?)?);
    }
    Ok(Fields::Made(found))
}

fn pair<'py>(item: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let wrong = || PyTypeError::new_err(format!("{} is not a (name, value) pair", repr(item)));
    let (name, value) = if let Ok(tuple) = item.cast_exact::<PyTuple>() {
        if tuple.len() != 2 {
            return Err(wrong());
        }
        (tuple.get_item(0)?, tuple.get_item(1)?)
    } else {
        let both: Vec<Bound<'_, PyAny>> = item.try_iter()?.collect::<PyResult<_>>()?;
        let [name, value] = both.try_into().map_err(|_| wrong())?;
        (name, value)
    };
    Ok((field_bytes(&name)?, field_bytes(&value)?))
}

/// Gunicorn takes str as well.
fn field_bytes<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    match value.cast::<PyString>() {
        Ok(_) => Ok(PyBytes::new(value.py(), &wire_bytes(value)?)),
        Err(_) => bytes_of(value),
    }
}
