//! The scope of an ASGI connection: a dict copied from a template and filled for one request.
//!
//! Invariant: what peers send never makes a cache grow. Source: the ASGI specification, "HTTP & WebSocket", 2.4.
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use tricorn_engine::{Exchange, ListenerInfo, Peer};
use tricorn_proto::{Head, hash};

use super::extras::{Extras, Original};
use super::fields::FieldCache;
use crate::gateway::cache::port_place;
use crate::gateway::environ::{copy, protocol, set};
use crate::gateway::template::Arrival;
use crate::gateway::text;

const TARGETS: usize = 256;
const CLIENTS: usize = 1024;
/// Longer targets are made anew each time.
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
    pub asgi: Original,
    pub http_extensions: Original,
    pub websocket_extensions: Original,
    /// What lifespan has put there for the requests; each gets a copy.
    pub state: Option<Py<PyDict>>,
}

struct Target {
    spelled: Box<[u8]>,
    path: Py<PyString>,
    raw_path: Py<PyBytes>,
    query: Py<PyBytes>,
}

struct Template {
    arrival: Arrival,
    kind: Kind,
    dict: Py<PyDict>,
}

struct Caches {
    fields: FieldCache,
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
                fields: FieldCache::new(),
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
        extras: &mut Extras,
    ) -> PyResult<Bound<'py, PyDict>> {
        let head = exchange.head();
        let mut caches = self.caches();
        let (scope, has_target) = match extras.scope(py, exchange)? {
            Some(scope) => scope,
            None => {
                let bare = self.template(py, &mut caches, exchange, kind)?;
                extras.keep(py, exchange, &bare)?;
                extras.put(py, &bare)?;
                (bare, false)
            }
        };
        if head.version != (1, 1) {
            let version = &protocol(head.version)["HTTP/".len()..];
            let version = PyString::new(py, version);
            set(&scope, intern!(py, "http_version"), &version)?;
        }
        if kind == Kind::Http && head.method() != b"GET" {
            let method = text::latin1(py, head.method())?;
            set(&scope, intern!(py, "method"), &method)?;
        }
        if !has_target {
            caches.put_target(py, &scope, head)?;
            if let Some(template) = extras.keep_target(head.target()) {
                caches.put_target(py, template.bind(py), head)?;
            }
        }
        if let Peer::Inet(address) = exchange.peer() {
            set(&scope, intern!(py, "client"), &caches.client(py, *address)?)?;
        }
        let fields = caches.fields.list(py, head)?;
        drop(caches);
        set(&scope, intern!(py, "headers"), &fields)?;
        if kind == Kind::WebSocket {
            let offered = subprotocols(py, head)?;
            set(&scope, intern!(py, "subprotocols"), &offered)?;
        }
        if let Some(state) = &self.constants.state {
            set(&scope, intern!(py, "state"), &state.bind(py).copy()?)?;
        }
        Ok(scope)
    }

    pub fn extras(&self, py: Python<'_>, kind: Kind) -> PyResult<Extras> {
        let (asgi, extensions) = self.originals(kind);
        Extras::new(py, asgi, extensions)
    }

    pub fn may_serve_again(&self, extras: &mut Extras, kind: Kind) -> bool {
        let (asgi, extensions) = self.originals(kind);
        extras.serve_again(asgi, extensions)
    }

    fn originals(&self, kind: Kind) -> (&Original, &Original) {
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
        let mut known = caches.templates.iter();
        let known = known.find(|template| template.kind == kind && template.arrival.fits(exchange));
        if let Some(template) = known {
            return copy(template.dict.bind(py));
        }
        let arrival = Arrival::of(exchange);
        let dict = self.make_template(py, &arrival, kind)?;
        let copied = copy(&dict)?;
        if caches.templates.len() < TEMPLATES {
            caches.templates.push(Template {
                arrival,
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
        arrival: &Arrival,
        kind: Kind,
    ) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        let (name, scheme) = match (kind, arrival.https) {
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
        let server = match &*arrival.listener {
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
        let slot = &mut self.targets[hash(spelled) & (TARGETS - 1)];
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
        let slot = &mut self.clients[port_place(address.port()) & (CLIENTS - 1)];
        if let Some((known, tuple)) = slot
            && *known == address
        {
            return Ok(tuple.bind(py).clone());
        }
        let tuple = (address.ip().to_string(), address.port()).into_pyobject(py)?;
        *slot = Some((address, tuple.clone().unbind()));
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

/// What the client offers in Sec-WebSocket-Protocol.
fn subprotocols<'py>(py: Python<'py>, head: &Head) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for name in head.listed(b"sec-websocket-protocol") {
        if !name.is_empty() {
            list.append(text::latin1(py, name)?)?;
        }
    }
    Ok(list)
}
