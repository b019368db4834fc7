//! environ: a real dict, copied from a template per listener and filled for one request.
//!
//! Invariants: keys and values are native strings of latin-1 code points (PEP 3333); repeated fields are joined
//! with "," in linear time; what peers send never makes a cache grow.
use std::cell::RefCell;
use std::net::IpAddr;

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use tricorn_engine::{Exchange, ListenerInfo, Peer};
use tricorn_proto::{Head, Reject, RejectKind, Scheme};

use super::cache::{NameKind, Names, Ports, Target, Targets, Values, environ_key};
use super::kit::Lease;
use super::refill::{
    ADDRESS, INPUT, METHOD, PROTOCOL, Places, Refills, SOCKET, TARGET, tells_changes,
};
use super::response::OwnedField;
use super::shapes::{Shapes, own_line};
use super::template::Arrival;
use super::text::{self, latin1, percent_decoded};

/// More listeners and schemes than this are not kept as templates (they cannot be, in one worker).
const TEMPLATES: usize = 64;

/// Values that never change in a worker.
pub struct Constants {
    pub multithread: bool,
    pub multiprocess: bool,
    pub server_software: String,
    pub errors: Py<PyAny>,
    pub file_wrapper: Py<PyAny>,
    /// Environment variable SCRIPT_NAME.
    pub script_name: Vec<u8>,
}

/// The request's own objects in the environ.
pub struct Parts<'a, 'py> {
    pub input: &'a Bound<'py, PyAny>,
    pub early_hints: &'a Bound<'py, PyAny>,
    pub socket: &'a Bound<'py, PyAny>,
    pub lease: Option<&'a Lease>,
}

/// Why there is no environ.
pub enum EnvironError {
    Python(PyErr),
    /// SCRIPT_NAME is not a prefix of the path.
    Reject(Reject),
}

impl From<PyErr> for EnvironError {
    fn from(error: PyErr) -> Self {
        EnvironError::Python(error)
    }
}

struct Template {
    arrival: Arrival,
    dict: Py<PyDict>,
}

/// Builds environs; one per thread.
pub struct EnvironBuilder {
    constants: Constants,
    templates: RefCell<Vec<Template>>,
    names: Names<PyString>,
    values: Values,
    targets: Targets,
    ports: Ports,
    shapes: Shapes,
    last_address: RefCell<Option<(IpAddr, Py<PyString>)>>,
    refills: bool,
}

impl EnvironBuilder {
    pub fn new(py: Python<'_>, constants: Constants) -> PyResult<Self> {
        Ok(EnvironBuilder {
            constants,
            templates: RefCell::new(Vec::new()),
            names: Names::new(environ_key),
            values: Values::new(),
            targets: Targets::new(),
            ports: Ports::new(),
            shapes: Shapes::new(),
            last_address: RefCell::new(None),
            refills: tells_changes(py)?,
        })
    }

    /// The environ of a request. `refills`: of the kit that has the parts; `fields`: instead of the head's, when a hook has
    /// changed them.
    pub fn build<'py>(
        &self,
        py: Python<'py>,
        exchange: &Exchange,
        (parts, refills): (&Parts<'_, 'py>, &mut Refills),
        fields: Option<&[OwnedField]>,
    ) -> Result<Bound<'py, PyDict>, EnvironError> {
        let head = exchange.head();
        let shaped = match fields {
            Some(_) => None,
            None => {
                let caches = (&self.names, &self.values);
                self.shapes
                    .environ(exchange, caches, (parts, refills), || {
                        self.template(py, exchange)
                    })?
            }
        };
        let has_fields = shaped.is_some();
        let environ = match shaped {
            Some(environ) => environ,
            None => {
                refills.disown(py, own_line(head));
                self.template(py, exchange)?
            }
        };
        let refill = refills.current();
        self.own(&environ, head, parts, refill.lacks)?;
        let address = self.peer(py, &environ, exchange.peer(), refill.lacks & ADDRESS != 0)?;
        if !has_fields {
            self.all_fields(&environ, head, fields)?;
        }
        if let ListenerInfo::Unix(path) = &**exchange.listener() {
            let host = host(head, fields);
            let path = path.as_os_str().as_encoded_bytes();
            self.unix_server(py, &environ, path, host, head)?;
        }
        let target = match refill.lacks & TARGET {
            0 => None,
            _ => Some(self.target(py, &environ, head)?),
        };
        if refill.keeps != 0 {
            let target = target.as_ref().filter(|_| head.script_name.is_none());
            self.shapes
                .keep(py, refill, exchange, (address.as_ref(), target))?;
        }
        if head.script_name.is_some() {
            refill.serial = 0;
        }
        // The length of a chunked body is known once it is buffered: applications that go by CONTENT_LENGTH alone
        // (Django) would see no body otherwise.
        if head.framing == tricorn_proto::Framing::Chunked
            && let Some(length) = exchange.body_len()
        {
            let mut digits = itoa::Buffer::new();
            let digits = latin1(py, digits.format(length).as_bytes())?;
            set(&environ, intern!(py, "CONTENT_LENGTH"), &digits)?;
            // The template has no such key.
            refill.serial = 0;
        }
        refill.seal(&environ);
        Ok(environ)
    }

    /// Of the head, or those that a hook has left.
    fn all_fields(
        &self,
        environ: &Bound<'_, PyDict>,
        head: &Head,
        changed: Option<&[OwnedField]>,
    ) -> PyResult<()> {
        let py = environ.py();
        match changed {
            Some(fields) => {
                let pairs = fields.iter();
                self.fields(
                    py,
                    environ,
                    pairs.map(|(name, value)| (&name[..], &value[..])),
                )
            }
            None => {
                let pairs = head.fields.iter();
                let slices = |field: &tricorn_proto::Field| {
                    (head.slice(field.name), head.slice(field.value))
                };
                self.fields(py, environ, pairs.map(slices))
            }
        }
    }

    /// What the environ `lacks` of the request's own: objects of its kit, method and version.
    #[inline(always)]
    fn own<'py>(
        &self,
        environ: &Bound<'py, PyDict>,
        head: &Head,
        parts: &Parts<'_, 'py>,
        lacks: Places,
    ) -> PyResult<()> {
        let py = environ.py();
        if lacks & INPUT != 0 {
            set(environ, intern!(py, "wsgi.input"), parts.input)?;
            set(environ, intern!(py, "wsgi.early_hints"), parts.early_hints)?;
        }
        if lacks & SOCKET != 0 {
            set(environ, intern!(py, "gunicorn.socket"), parts.socket)?;
        }
        if lacks & METHOD != 0 {
            let method = self.values.of(py, head.method())?;
            set(environ, intern!(py, "REQUEST_METHOD"), &method)?;
        }
        if lacks & PROTOCOL != 0 {
            let protocol = self.values.of(py, protocol(head.version).as_bytes())?;
            set(environ, intern!(py, "SERVER_PROTOCOL"), &protocol)?;
        }
        Ok(())
    }

    /// The request is over: its environ may serve the next one.
    #[inline]
    pub fn keep(&self, py: Python<'_>, refills: &mut Refills, environ: Py<PyDict>) {
        if self.refills {
            refills.keep(py, environ, |serial, environ| {
                self.shapes.scrub(serial, environ)
            });
        }
    }

    fn template<'py>(&self, py: Python<'py>, exchange: &Exchange) -> PyResult<Bound<'py, PyDict>> {
        for template in self.templates.borrow().iter() {
            if template.arrival.fits(exchange) {
                return copy(template.dict.bind(py));
            }
        }
        let arrival = Arrival::of(exchange);
        let dict = self.make_template(py, &arrival)?;
        let copied = copy(&dict)?;
        let mut templates = self.templates.borrow_mut();
        if templates.len() < TEMPLATES {
            templates.push(Template {
                arrival,
                dict: dict.unbind(),
            });
        }
        Ok(copied)
    }

    /// Everything that is the same for most requests, and a place for what always comes.
    fn make_template<'py>(
        &self,
        py: Python<'py>,
        arrival: &Arrival,
    ) -> PyResult<Bound<'py, PyDict>> {
        let constants = &self.constants;
        let dict = PyDict::new(py);
        let put =
            |key: &str, value: Bound<'py, PyAny>| dict.set_item(PyString::intern(py, key), value);
        let text = |value: &str| PyString::intern(py, value).into_any();
        put("wsgi.errors", constants.errors.bind(py).clone())?;
        put("wsgi.version", PyTuple::new(py, [1, 0])?.into_any())?;
        put("wsgi.multithread", flag(py, constants.multithread))?;
        put("wsgi.multiprocess", flag(py, constants.multiprocess))?;
        put("wsgi.run_once", flag(py, false))?;
        put("wsgi.file_wrapper", constants.file_wrapper.bind(py).clone())?;
        put("wsgi.input_terminated", flag(py, true))?;
        put("SERVER_SOFTWARE", text(&constants.server_software))?;
        for key in ["wsgi.input", "wsgi.early_hints", "gunicorn.socket"] {
            put(key, py.None().into_bound(py))?;
        }
        put("REQUEST_METHOD", text("GET"))?;
        for key in ["QUERY_STRING", "RAW_URI"] {
            put(key, text(""))?;
        }
        put("SERVER_PROTOCOL", text("HTTP/1.1"))?;
        put(
            "wsgi.url_scheme",
            text(if arrival.https { "https" } else { "http" }),
        )?;
        put("REMOTE_ADDR", text(""))?;
        let (name, port) = match &*arrival.listener {
            ListenerInfo::Inet(address) => (address.ip().to_string(), address.port().to_string()),
            ListenerInfo::Unix(_) => (String::new(), String::new()),
        };
        put("SERVER_NAME", text(&name))?;
        put("SERVER_PORT", text(&port))?;
        put("PATH_INFO", text("/"))?;
        put(
            "SCRIPT_NAME",
            latin1(py, &constants.script_name)?.into_any(),
        )?;
        // Also there on a unix socket, for a moment: it is the key that makes the table grow, and a copy keeps the
        // size of the original, so that no request has to grow its own.
        put("REMOTE_PORT", text(""))?;
        if matches!(*arrival.listener, ListenerInfo::Unix(_)) {
            dict.del_item("REMOTE_PORT")?;
        }
        Ok(dict)
    }

    /// REMOTE_ADDR and REMOTE_PORT. Returns the address when it had to be set.
    fn peer<'py>(
        &self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        peer: &Peer,
        lacks_address: bool,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        let mut text = None;
        if let Peer::Inet(address) = peer {
            if lacks_address {
                let text = text.insert(self.address(py, address.ip())?);
                set(environ, intern!(py, "REMOTE_ADDR"), text)?;
            }
            let port = self.ports.of(py, address.port())?;
            set(environ, intern!(py, "REMOTE_PORT"), &port)?;
        }
        Ok(text)
    }

    /// The text of an address, which is mostly that of the last one.
    fn address<'py>(&self, py: Python<'py>, address: IpAddr) -> PyResult<Bound<'py, PyString>> {
        if let Some((last, text)) = &*self.last_address.borrow()
            && *last == address
        {
            return Ok(text.bind(py).clone());
        }
        let text = latin1(py, address.to_string().as_bytes())?;
        *self.last_address.borrow_mut() = Some((address, text.clone().unbind()));
        Ok(text)
    }

    /// CONTENT_TYPE, CONTENT_LENGTH and HTTP_*.
    fn fields<'a, 'py>(
        &self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> PyResult<()> {
        let mut repeated: Option<Bound<'py, PyDict>> = None;
        let mut size = environ.len();
        for (name, value) in fields {
            let (key, kind) = self.names.key(py, name)?;
            let text = if kind == NameKind::Secret {
                latin1(py, value)?
            } else {
                self.values.of(py, value)?
            };
            if kind == NameKind::Content {
                set(environ, &key, &text)?;
                size = environ.len();
                continue;
            }
            if !insert(environ, &mut size, &key, &text)? {
                let lists = repeated.get_or_insert_with(|| PyDict::new(py));
                match lists.get_item(&key)? {
                    Some(list) => list.cast_into::<PyList>()?.append(text)?,
                    None => {
                        let first = environ.get_item(&key)?;
                        lists.set_item(&key, PyList::new(py, [first, Some(text.into_any())])?)?;
                    }
                }
            }
        }
        if let Some(lists) = repeated {
            let comma = intern!(py, ",");
            for (key, values) in lists.iter() {
                environ.set_item(key, comma.call_method1(intern!(py, "join"), (values,))?)?;
            }
        }
        Ok(())
    }

    /// SERVER_NAME and SERVER_PORT on a unix socket: from Host, else the socket's path and no port.
    fn unix_server(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        path: &[u8],
        host: Option<&[u8]>,
        head: &Head,
    ) -> PyResult<()> {
        let default: &[u8] = if head.scheme == Some(Scheme::Https) {
            b"443"
        } else {
            b"80"
        };
        let (name, port) = match host {
            Some(host) if !host.is_empty() => {
                let bracket = memchr::memrchr(b']', host).unwrap_or(0);
                match memchr::memchr(b':', &host[bracket..]) {
                    Some(colon) => (&host[..bracket + colon], &host[bracket + colon + 1..]),
                    None => (host, default),
                }
            }
            _ => (path, &b""[..]),
        };
        set(
            environ,
            intern!(py, "SERVER_NAME"),
            &self.values.of(py, name)?,
        )?;
        set(
            environ,
            intern!(py, "SERVER_PORT"),
            &self.values.of(py, port)?,
        )
    }

    /// RAW_URI, QUERY_STRING, PATH_INFO and SCRIPT_NAME.
    fn target(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        head: &Head,
    ) -> Result<Target, EnvironError> {
        let from_peer = head.script_name.map(|span| head.slice(span));
        let script = from_peer.unwrap_or(&self.constants.script_name);
        let inner = match script.is_empty() {
            true => Some(head.path()),
            false => head.path().strip_prefix(script),
        };
        let Some(path) = inner else {
            return Err(EnvironError::Reject(Reject {
                kind: RejectKind::ScriptName,
                message: format!(
                    "Configuration problem: Request path {} does not start with SCRIPT_NAME {}",
                    text::repr(latin1(py, head.path())?.as_any()),
                    text::repr(latin1(py, script)?.as_any()),
                ),
            }));
        };
        let make = || -> PyResult<Target> {
            let query = latin1(py, head.query())?.unbind();
            let raw = latin1(py, head.target())?.unbind();
            let decoded = if memchr::memchr(b'%', path).is_some() {
                &percent_decoded(path)[..]
            } else {
                path
            };
            let path = latin1(py, decoded)?.unbind();
            Ok(Target { raw, path, query })
        };
        let target = if from_peer.is_some() {
            make()?
        } else {
            self.targets.of(py, head.target(), make)?
        };
        target.put(py, environ)?;
        if from_peer.is_some() {
            set(environ, intern!(py, "SCRIPT_NAME"), &latin1(py, script)?)?;
        }
        Ok(target)
    }
}

/// The value of Host; the last one where a hook has made several.
fn host<'a>(head: &'a Head, changed: Option<&'a [OwnedField]>) -> Option<&'a [u8]> {
    let Some(fields) = changed else {
        return head.field(b"host");
    };
    let mut fields = fields.iter().rev();
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case(b"host"))?;
    Some(value)
}

fn flag(py: Python<'_>, value: bool) -> Bound<'_, PyAny> {
    pyo3::types::PyBool::new(py, value).to_owned().into_any()
}

/// `HTTP/1.1`.
pub fn protocol(version: (u8, u8)) -> String {
    format!("HTTP/{}.{}", version.0, version.1)
}

#[inline]
pub(super) fn copy<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: `dict` is a live dict; a new reference or NULL with an exception comes back.
    unsafe {
        Ok(
            Bound::from_owned_ptr_or_err(dict.py(), ffi::PyDict_Copy(dict.as_ptr()))?
                .cast_into_unchecked(),
        )
    }
}

#[inline]
pub(super) fn set<T>(
    dict: &Bound<'_, PyDict>,
    key: &Bound<'_, PyString>,
    value: &Bound<'_, T>,
) -> PyResult<()> {
    // SAFETY: all three are live objects; the dict takes its own references.
    let outcome = unsafe { ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(dict.py()))
    }
}

/// Sets a key that is not there yet; `false` when it is. `size`: how many keys there are, before and after.
#[inline]
fn insert(
    dict: &Bound<'_, PyDict>,
    size: &mut usize,
    key: &Bound<'_, PyString>,
    value: &Bound<'_, PyString>,
) -> PyResult<bool> {
    // SAFETY: all three are live objects; the dict takes its own references and lends the value it holds, which is
    // only compared with NULL.
    let held = unsafe { ffi::PyDict_SetDefault(dict.as_ptr(), key.as_ptr(), value.as_ptr()) };
    if held.is_null() {
        return Err(PyErr::fetch(dict.py()));
    }
    // The dict is still private to this thread, so its size tells whether it grew.
    let before = std::mem::replace(size, dict.len());
    Ok(*size > before)
}
