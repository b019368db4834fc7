//! The scope of an ASGI connection: a dict copied from a template and filled for one request.
//!
//! Invariants: names are lower-case bytes, in the order of the wire; what peers send never makes a cache grow; secrets are
//! not kept. Source: the ASGI specification, "HTTP & WebSocket", 2.4.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use tricorn_engine::{Exchange, ListenerInfo, Peer};
use tricorn_proto::{Head, Scheme};

use crate::gateway::cache::{NameKind, kind_of};
use crate::gateway::environ::{copy, protocol, set};
use crate::gateway::text;

const PAIRS: usize = 1024;
const TARGETS: usize = 256;
const CLIENTS: usize = 256;
/// Longer names, values and targets are made anew each time.
const LONGEST: usize = 256;
const TEMPLATES: usize = 64;

/// What the application talks over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    WebSocket,
}

/// Values that never change in a worker.
pub struct Constants {
    pub root_path: String,
    /// The versions.
    pub asgi: Py<PyDict>,
    pub http_extensions: Py<PyDict>,
    pub websocket_extensions: Py<PyDict>,
    /// What lifespan has put there for the requests; each gets a copy.
    pub state: Option<Py<PyDict>>,
}

/// `asgi` and `extensions` of a scope.
pub struct Extras {
    asgi: Py<PyDict>,
    extensions: Py<PyDict>,
}

struct Pair {
    name: Box<[u8]>,
    value: Box<[u8]>,
    tuple: Py<PyTuple>,
}

struct Target {
    spelled: Box<[u8]>,
    path: Py<PyString>,
    raw_path: Py<PyBytes>,
    query: Py<PyBytes>,
}

struct Template {
    listener: Arc<ListenerInfo>,
    https: bool,
    kind: Kind,
    dict: Py<PyDict>,
}

struct Caches {
    pairs: Vec<Option<Pair>>,
    targets: Vec<Option<Target>>,
    clients: Vec<Option<(SocketAddr, Py<PyTuple>)>>,
    templates: Vec<Template>,
}

pub struct ScopeBuilder {
    constants: Constants,
    /// Never locked while Python code runs: making strings, bytes and tuples of them runs none.
    caches: Mutex<Caches>,
}

impl ScopeBuilder {
    pub fn new(constants: Constants) -> Self {
        ScopeBuilder {
            constants,
            caches: Mutex::new(Caches {
                pairs: (0..PAIRS).map(|_| None).collect(),
                targets: (0..TARGETS).map(|_| None).collect(),
                clients: (0..CLIENTS).map(|_| None).collect(),
                templates: Vec::new(),
            }),
        }
    }

    fn caches(&self) -> MutexGuard<'_, Caches> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn build<'py>(
        &self,
        py: Python<'py>,
        exchange: &Exchange,
        kind: Kind,
        extras: &Extras,
    ) -> PyResult<Bound<'py, PyDict>> {
        let head = exchange.head();
        let mut caches = self.caches();
        let scope = self.template(py, &mut caches, exchange, kind)?;
        if head.version != (1, 1) {
            let version = &protocol(head.version)["HTTP/".len()..];
            set(
                &scope,
                intern!(py, "http_version"),
                &PyString::new(py, version),
            )?;
        }
        if kind == Kind::Http && head.method() != b"GET" {
            let method = text::latin1(py, head.method())?;
            set(&scope, intern!(py, "method"), &method)?;
        }
        caches.put_target(py, &scope, head)?;
        if let Peer::Inet(address) = exchange.peer() {
            set(&scope, intern!(py, "client"), &caches.client(py, *address)?)?;
        }
        let fields = caches.fields(py, head)?;
        drop(caches);
        set(&scope, intern!(py, "headers"), &fields)?;
        if kind == Kind::WebSocket {
            set(
                &scope,
                intern!(py, "subprotocols"),
                &subprotocols(py, head)?,
            )?;
        }
        set(
            &scope,
            intern!(py, "extensions"),
            extras.extensions.bind(py),
        )?;
        set(&scope, intern!(py, "asgi"), extras.asgi.bind(py))?;
        if let Some(state) = &self.constants.state {
            set(&scope, intern!(py, "state"), &state.bind(py).copy()?)?;
        }
        Ok(scope)
    }

    /// The dicts within a scope, for one request.
    pub fn extras(&self, py: Python<'_>, kind: Kind) -> PyResult<Extras> {
        let (asgi, extensions) = self.originals(kind);
        Ok(Extras {
            asgi: copy(asgi.bind(py))?.unbind(),
            extensions: copy(extensions.bind(py))?.unbind(),
        })
    }

    /// May another request have them? Not when somebody holds on to one, or has changed it.
    pub fn are_as_new(&self, extras: &Extras, kind: Kind) -> bool {
        let (asgi, extensions) = self.originals(kind);
        is_unchanged(&extras.asgi, asgi) && is_unchanged(&extras.extensions, extensions)
    }

    fn originals(&self, kind: Kind) -> (&Py<PyDict>, &Py<PyDict>) {
        let extensions = match kind {
            Kind::Http => &self.constants.http_extensions,
            Kind::WebSocket => &self.constants.websocket_extensions,
        };
        (&self.constants.asgi, extensions)
    }

    fn template<'py>(
        &self,
        py: Python<'py>,
        caches: &mut Caches,
        exchange: &Exchange,
        kind: Kind,
    ) -> PyResult<Bound<'py, PyDict>> {
        let https = exchange.head().scheme == Some(Scheme::Https);
        let listener = exchange.listener();
        let known = caches.templates.iter().find(|template| {
            template.https == https
                && template.kind == kind
                && Arc::ptr_eq(&template.listener, listener)
        });
        if let Some(template) = known {
            return copy(template.dict.bind(py));
        }
        let dict = self.make_template(py, listener, https, kind)?;
        let copied = copy(&dict)?;
        if caches.templates.len() < TEMPLATES {
            caches.templates.push(Template {
                listener: listener.clone(),
                https,
                kind,
                dict: dict.unbind(),
            });
        }
        Ok(copied)
    }

    /// Everything that is the same for most requests, and a place for what always comes.
    fn make_template<'py>(
        &self,
        py: Python<'py>,
        listener: &ListenerInfo,
        https: bool,
        kind: Kind,
    ) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let (name, scheme) = match (kind, https) {
            (Kind::Http, false) => ("http", "http"),
            (Kind::Http, true) => ("http", "https"),
            (Kind::WebSocket, false) => ("websocket", "ws"),
            (Kind::WebSocket, true) => ("websocket", "wss"),
        };
        let put =
            |key: &str, value: Bound<'py, PyAny>| dict.set_item(PyString::intern(py, key), value);
        let text = |value: &str| PyString::intern(py, value).into_any();
        put("type", text(name))?;
        put("asgi", py.None().into_bound(py))?;
        put("http_version", text("1.1"))?;
        let server = match listener {
            ListenerInfo::Inet(address) => {
                (address.ip().to_string(), address.port()).into_pyobject(py)?
            }
            ListenerInfo::Unix(path) => (path.to_string_lossy(), py.None()).into_pyobject(py)?,
        };
        put("server", server.into_any())?;
        put("client", py.None().into_bound(py))?;
        put("scheme", text(scheme))?;
        if kind == Kind::Http {
            put("method", text("GET"))?;
        }
        put("root_path", text(&self.constants.root_path))?;
        for key in ["path", "raw_path", "query_string", "headers", "extensions"] {
            put(key, py.None().into_bound(py))?;
        }
        if kind == Kind::WebSocket {
            put("subprotocols", py.None().into_bound(py))?;
        }
        if self.constants.state.is_some() {
            put("state", py.None().into_bound(py))?;
        }
        Ok(dict)
    }
}

impl Caches {
    /// path, raw_path and query_string.
    fn put_target(
        &mut self,
        py: Python<'_>,
        scope: &Bound<'_, PyDict>,
        head: &Head,
    ) -> PyResult<()> {
        let spelled = head.target();
        let slot = &mut self.targets[text::hash(spelled) & (TARGETS - 1)];
        let target = match slot {
            Some(known) if *known.spelled == *spelled => known,
            _ => {
                let made = Target::of(py, head)?;
                if spelled.len() > LONGEST {
                    return made.put(py, scope);
                }
                slot.insert(made)
            }
        };
        target.put(py, scope)
    }

    fn client<'py>(
        &mut self,
        py: Python<'py>,
        address: SocketAddr,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let slot = &mut self.clients[address.port() as usize & (CLIENTS - 1)];
        if let Some((known, tuple)) = slot
            && *known == address
        {
            return Ok(tuple.bind(py).clone());
        }
        let tuple = (address.ip().to_string(), address.port()).into_pyobject(py)?;
        *slot = Some((address, tuple.clone().unbind()));
        Ok(tuple)
    }

    fn fields<'py>(&mut self, py: Python<'py>, head: &Head) -> PyResult<Bound<'py, PyList>> {
        let mut list = Vec::with_capacity(head.fields.len());
        for field in &head.fields {
            let (name, value) = (head.slice(field.name), head.slice(field.value));
            list.push(self.pair(py, name, value)?);
        }
        PyList::new(py, list)
    }

    fn pair<'py>(
        &mut self,
        py: Python<'py>,
        name: &[u8],
        value: &[u8],
    ) -> PyResult<Bound<'py, PyTuple>> {
        let place = text::hash(value).wrapping_add(text::hash(name).rotate_left(5)) & (PAIRS - 1);
        let slot = &mut self.pairs[place];
        if let Some(known) = slot
            && *known.name == *name
            && *known.value == *value
        {
            return Ok(known.tuple.bind(py).clone());
        }
        let lower = PyBytes::new(py, &name.to_ascii_lowercase());
        let tuple = PyTuple::new(py, [lower, PyBytes::new(py, value)])?;
        let small = name.len() + value.len() <= LONGEST;
        if small && kind_of(name) != NameKind::Secret {
            *slot = Some(Pair {
                name: name.into(),
                value: value.into(),
                tuple: tuple.clone().unbind(),
            });
        }
        Ok(tuple)
    }
}

impl Target {
    fn of(py: Python<'_>, head: &Head) -> PyResult<Target> {
        let raw = match head.path() {
            // An absolute target without a path asks for the root.
            b"" => &b"/"[..],
            path => path,
        };
        let decoded = text::percent_decoded(raw);
        Ok(Target {
            spelled: head.target().into(),
            path: PyString::new(py, &String::from_utf8_lossy(&decoded)).unbind(),
            raw_path: PyBytes::new(py, raw).unbind(),
            query: PyBytes::new(py, head.query()).unbind(),
        })
    }

    fn put(&self, py: Python<'_>, scope: &Bound<'_, PyDict>) -> PyResult<()> {
        set(scope, intern!(py, "path"), self.path.bind(py))?;
        set(scope, intern!(py, "raw_path"), self.raw_path.bind(py))?;
        set(scope, intern!(py, "query_string"), self.query.bind(py))
    }
}

/// Is a copy that nobody else holds still what it was copied from?
fn is_unchanged(copy: &Py<PyDict>, original: &Py<PyDict>) -> bool {
    let (mut place, mut other) = (0, 0);
    let (copy, original) = (copy.as_ptr(), original.as_ptr());
    let mut entry = [std::ptr::null_mut(); 4];
    let [key, value, wanted_key, wanted] = &mut entry;
    // SAFETY: live dicts, which nobody changes meanwhile: the GIL is held and comparing addresses runs no Python code.
    unsafe {
        if ffi::Py_REFCNT(copy) != 1 || ffi::PyDict_Size(copy) != ffi::PyDict_Size(original) {
            return false;
        }
        while ffi::PyDict_Next(original, &mut other, wanted_key, wanted) != 0 {
            if ffi::PyDict_Next(copy, &mut place, key, value) == 0
                || *key != *wanted_key
                || *value != *wanted
            {
                return false;
            }
        }
    }
    true
}

/// What the client offers in Sec-WebSocket-Protocol.
fn subprotocols<'py>(py: Python<'py>, head: &Head) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for field in &head.fields {
        if head
            .slice(field.name)
            .eq_ignore_ascii_case(b"sec-websocket-protocol")
        {
            for name in head.slice(field.value).split(|&byte| byte == b',') {
                let name = name.trim_ascii();
                if !name.is_empty() {
                    list.append(text::latin1(py, name)?)?;
                }
            }
        }
    }
    Ok(list)
}
