//! Small bounded caches of strings: header values, header names, request targets.
//!
//! Direct-mapped or two-way, so peers can evict entries but never make the caches grow. One set per
//! thread (they live in a `Wsgi`) or behind a lock (`asgi`); the borrows are short and no Python code runs inside them.
use std::cell::RefCell;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tricorn_proto::{hash, is_secret, same};

use super::environ::set;
use super::text;

const VALUES: usize = 1024;
/// Longer values are made anew each time.
pub const VALUE_MAX: usize = 192;
const NAME_SETS: usize = 256;
const NAME_MAX: usize = 64;
const TARGETS: usize = 256;
const TARGET_MAX: usize = 256;

/// Native strings by their bytes.
pub struct Values {
    slots: RefCell<Vec<Option<Py<PyString>>>>,
}

impl Values {
    pub fn new() -> Self {
        Values {
            slots: RefCell::new((0..VALUES).map(|_| None).collect()),
        }
    }

    /// The string for `bytes`, from the cache when it was there.
    #[inline]
    pub fn of<'py>(&self, py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
        if bytes.len() > VALUE_MAX {
            return text::latin1(py, bytes);
        }
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[hash(bytes) & (VALUES - 1)];
        if let Some(cached) = slot {
            let cached = cached.bind(py);
            if text::as_latin1(cached).is_some_and(|cached| same(cached, bytes)) {
                return Ok(cached.clone());
            }
        }
        let made = text::latin1(py, bytes)?;
        *slot = Some(made.clone().unbind());
        Ok(made)
    }
}

/// Where a direct-mapped cache looks for what belongs to a peer's port. Linux gives ports of one parity to clients as long as
/// there are any, so that the lowest bit tells least.
#[inline]
pub fn port_place(number: u16) -> usize {
    usize::from(number.rotate_right(1))
}

/// Ports of peers as native strings, by their number: a kept connection has the same with each request.
pub struct Ports {
    slots: RefCell<Vec<Option<Port>>>,
}

struct Port {
    number: u16,
    text: Py<PyString>,
}

/// Slots for the ports of that many connections, as far as they do not share one.
const PORTS: usize = 2048;

impl Ports {
    pub fn new() -> Self {
        Ports {
            slots: RefCell::new((0..PORTS).map(|_| None).collect()),
        }
    }

    #[inline]
    pub fn of<'py>(&self, py: Python<'py>, number: u16) -> PyResult<Bound<'py, PyString>> {
        let slot = &mut self.slots.borrow_mut()[port_place(number) & (PORTS - 1)];
        if let Some(port) = slot
            && port.number == number
        {
            return Ok(port.text.bind(py).clone());
        }
        let made = text::latin1(py, itoa::Buffer::new().format(number).as_bytes())?;
        *slot = Some(Port {
            number,
            text: made.clone().unbind(),
        });
        Ok(made)
    }
}

/// What a field name means to the environ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// `HTTP_*`.
    Plain,
    /// CONTENT_TYPE and CONTENT_LENGTH, which carry no prefix.
    Content,
    /// A secret: its value is not kept in a cache.
    Secret,
}

struct Name<T> {
    spelled: Box<[u8]>,
    key: Py<T>,
    kind: NameKind,
}

type MakeKey<T> = for<'py> fn(Python<'py>, &[u8]) -> PyResult<(Bound<'py, T>, NameKind)>;

/// What field names become (keys of an environ, names of a scope), by the name as the peer spelled it.
pub struct Names<T> {
    make: MakeKey<T>,
    sets: RefCell<Vec<[Option<Name<T>>; 2]>>,
}

impl<T> Names<T> {
    pub fn new(make: MakeKey<T>) -> Self {
        Names {
            make,
            sets: RefCell::new((0..NAME_SETS).map(|_| [None, None]).collect()),
        }
    }

    /// What a field name becomes, and what kind of name it is.
    #[inline]
    pub fn key<'py>(&self, py: Python<'py>, name: &[u8]) -> PyResult<(Bound<'py, T>, NameKind)> {
        if name.len() > NAME_MAX {
            return (self.make)(py, name);
        }
        let mut sets = self.sets.borrow_mut();
        let set = &mut sets[hash(name) & (NAME_SETS - 1)];
        for cached in set.iter().flatten() {
            if same(&cached.spelled, name) {
                return Ok((cached.key.bind(py).clone(), cached.kind));
            }
        }
        let (key, kind) = (self.make)(py, name)?;
        set.swap(0, 1);
        set[0] = Some(Name {
            spelled: name.into(),
            key: key.clone().unbind(),
            kind,
        });
        Ok((key, kind))
    }
}

/// Names whose environ key is worth interning: applications look them up by literals. Others come from peers and
/// must not enter the interpreter's table, which on some versions never forgets.
const KNOWN: &[&str] = &[
    "ACCEPT",
    "ACCEPT-CHARSET",
    "ACCEPT-ENCODING",
    "ACCEPT-LANGUAGE",
    "AUTHORIZATION",
    "CACHE-CONTROL",
    "CONNECTION",
    "CONTENT-LENGTH",
    "CONTENT-TYPE",
    "COOKIE",
    "DNT",
    "EXPECT",
    "FORWARDED",
    "HOST",
    "IF-MATCH",
    "IF-MODIFIED-SINCE",
    "IF-NONE-MATCH",
    "IF-RANGE",
    "IF-UNMODIFIED-SINCE",
    "KEEP-ALIVE",
    "ORIGIN",
    "PRAGMA",
    "PRIORITY",
    "RANGE",
    "REFERER",
    "SEC-CH-UA",
    "SEC-CH-UA-MOBILE",
    "SEC-CH-UA-PLATFORM",
    "SEC-FETCH-DEST",
    "SEC-FETCH-MODE",
    "SEC-FETCH-SITE",
    "SEC-FETCH-USER",
    "TE",
    "TRANSFER-ENCODING",
    "UPGRADE",
    "UPGRADE-INSECURE-REQUESTS",
    "USER-AGENT",
    "VIA",
    "X-CSRFTOKEN",
    "X-FORWARDED-FOR",
    "X-FORWARDED-HOST",
    "X-FORWARDED-PORT",
    "X-FORWARDED-PROTO",
    "X-REAL-IP",
    "X-REQUEST-ID",
    "X-REQUESTED-WITH",
];

pub fn kind_of(name: &[u8]) -> NameKind {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        12 if is(b"content-type") => NameKind::Content,
        14 if is(b"content-length") => NameKind::Content,
        _ if is_secret(name) => NameKind::Secret,
        _ => NameKind::Plain,
    }
}

/// The environ key for a field name.
pub fn environ_key<'py>(
    py: Python<'py>,
    name: &[u8],
) -> PyResult<(Bound<'py, PyString>, NameKind)> {
    let upper = name.to_ascii_uppercase();
    let kind = kind_of(&upper);
    let mut key = Vec::with_capacity(upper.len() + 5);
    if kind != NameKind::Content {
        key.extend_from_slice(b"HTTP_");
    }
    key.extend(
        upper
            .iter()
            .map(|&byte| if byte == b'-' { b'_' } else { byte }),
    );
    let known = core::str::from_utf8(&upper).is_ok_and(|name| KNOWN.binary_search(&name).is_ok());
    match core::str::from_utf8(&key) {
        Ok(key) if known => Ok((PyString::intern(py, key), kind)),
        _ => Ok((text::latin1(py, &key)?, kind)),
    }
}

/// The strings that follow from a request target alone.
pub struct Target {
    pub raw: Py<PyString>,
    pub path: Py<PyString>,
    pub query: Py<PyString>,
}

impl Target {
    /// RAW_URI, QUERY_STRING and PATH_INFO.
    pub fn put(&self, py: Python<'_>, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        set(environ, intern!(py, "RAW_URI"), self.raw.bind(py))?;
        set(environ, intern!(py, "QUERY_STRING"), self.query.bind(py))?;
        set(environ, intern!(py, "PATH_INFO"), self.path.bind(py))
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Target {
        Target {
            raw: self.raw.clone_ref(py),
            path: self.path.clone_ref(py),
            query: self.query.clone_ref(py),
        }
    }
}

/// [`Target`]s by the bytes of the request target.
pub struct Targets {
    slots: RefCell<Vec<Option<Target>>>,
}

impl Targets {
    pub fn new() -> Self {
        Targets {
            slots: RefCell::new((0..TARGETS).map(|_| None).collect()),
        }
    }

    #[inline]
    pub fn of(
        &self,
        py: Python<'_>,
        target: &[u8],
        make: impl FnOnce() -> PyResult<Target>,
    ) -> PyResult<Target> {
        if target.len() > TARGET_MAX {
            return make();
        }
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[hash(target) & (TARGETS - 1)];
        if let Some(cached) = slot
            && text::as_latin1(cached.raw.bind(py)).is_some_and(|raw| same(raw, target))
        {
            return Ok(cached.clone_ref(py));
        }
        let made = make()?;
        *slot = Some(made.clone_ref(py));
        Ok(made)
    }
}
