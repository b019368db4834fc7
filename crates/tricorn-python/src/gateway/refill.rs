//! The environ of a request that is over, filled again for the next one of the same shape.
//!
//! To set what differs costs less than to copy a template and to free it. Invariants: a dict is filled again only when the
//! gateway has the last reference to it and it is as the gateway left it, so that nothing of one request can reach another;
//! no secret is in one that waits.
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::kit::references;

/// Parts of an environ that are set apart from the fields, a bit for each.
pub type Places = u32;
/// wsgi.input and wsgi.early_hints.
pub const INPUT: Places = 1;
/// gunicorn.socket.
pub const SOCKET: Places = 1 << 1;
/// REMOTE_ADDR.
pub const ADDRESS: Places = 1 << 2;
/// RAW_URI, QUERY_STRING and PATH_INFO.
pub const TARGET: Places = 1 << 3;
/// REQUEST_METHOD.
pub const METHOD: Places = 1 << 4;
/// SERVER_PROTOCOL.
pub const PROTOCOL: Places = 1 << 5;

/// An environ, and what is known of it. It stays where it is from request to request: to move it about would cost as
/// much as to fill the dict.
#[derive(Default)]
pub struct Refill {
    /// As long as no request has it.
    environ: Option<Py<PyDict>>,
    /// Of the template it was filled from; 0: of none, and it cannot be filled again.
    pub serial: u64,
    /// A bit for each field whose value is not the template's.
    pub fields: u64,
    /// Of which places it has values that are not the template's.
    pub own: Places,
    /// What is still to be set for the request at hand.
    pub lacks: Places,
    /// What the template wants to keep of that.
    pub keeps: Places,
    /// A secret is among its fields.
    pub secret: bool,
    /// Changes with the dict.
    version: u64,
}

impl Refill {
    /// For an environ from a template that is no shape's, and has nothing of a request. `line`: what it lacks of the request
    /// line, target apart.
    fn disown(&mut self, line: Places) {
        *self = Refill::default();
        self.lacks = INPUT | SOCKET | ADDRESS | TARGET | line;
    }

    /// For a fresh copy of the template of that serial.
    #[inline]
    pub fn begin(&mut self, serial: u64) {
        self.serial = serial;
        (self.fields, self.own) = (0, 0);
    }

    /// The environ is ready for the application.
    #[inline]
    pub fn seal(&mut self, environ: &Bound<'_, PyDict>) {
        self.version = version(environ);
    }

    /// The request is over. `scrub`: takes the secrets out of an environ of that serial, or says that it cannot.
    #[inline]
    fn keep(
        &mut self,
        py: Python<'_>,
        environ: Py<PyDict>,
        scrub: impl FnOnce(u64, &Bound<'_, PyDict>) -> bool,
    ) {
        let untouched = self.serial != 0
            && references(&environ) == 1
            && version(environ.bind(py)) == self.version
            && (!self.secret || scrub(self.serial, environ.bind(py)));
        self.environ = untouched.then_some(environ);
    }
}

/// So many kinds of clients may take turns; a waiting environ takes some 2 KiB.
const ROOM: usize = 8;

/// A kit's environs, of as many shapes.
#[derive(Default)]
pub struct Refills {
    places: [Refill; ROOM],
    /// The place of the request at hand, or of the last one.
    current: usize,
    /// The next one to give way.
    oldest: usize,
    /// Places in which an environ waits.
    kept: usize,
}

impl Refills {
    /// The place of the request at hand.
    #[inline]
    pub fn current(&mut self) -> &mut Refill {
        &mut self.places[self.current]
    }

    /// The place for a request whose template has that serial, which is current from now on, and its environ if there is one.
    #[inline]
    pub fn take<'py>(
        &mut self,
        py: Python<'py>,
        serial: u64,
    ) -> (&mut Refill, Option<Bound<'py, PyDict>>) {
        if self.places[self.current].serial != serial {
            self.turn_to(serial);
        }
        let refill = &mut self.places[self.current];
        let environ = refill.environ.take();
        self.kept -= usize::from(environ.is_some());
        let is_own = refill.serial == serial;
        (
            refill,
            environ
                .filter(|_| is_own)
                .map(|environ| environ.into_bound(py)),
        )
    }

    #[inline(never)]
    fn turn_to(&mut self, serial: u64) {
        let place = self.places.iter().position(|place| place.serial == serial);
        self.current = place.unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % ROOM;
            self.oldest
        });
    }

    /// For an environ from a template that is no shape's. `line`: what it lacks of the request line.
    pub fn disown(&mut self, py: Python<'_>, line: Places) {
        let (refill, _) = self.take(py, 0);
        refill.disown(line);
    }

    /// The request is over, see [`Refill::keep`].
    #[inline]
    pub fn keep(
        &mut self,
        py: Python<'_>,
        environ: Py<PyDict>,
        scrub: impl FnOnce(u64, &Bound<'_, PyDict>) -> bool,
    ) {
        let refill = &mut self.places[self.current];
        refill.keep(py, environ, scrub);
        self.kept += usize::from(refill.environ.is_some());
    }

    /// Environs that wait, each of which holds the parts of the kit.
    #[inline]
    pub fn kept(&self) -> usize {
        self.kept
    }
}

/// A number that each change of the dict makes another (PEP 509).
#[cfg(not(Py_3_14))]
#[allow(
    deprecated,
    reason = "CPython keeps it up to date up to 3.13, and `tells_changes` makes sure"
)]
#[inline]
fn version(dict: &Bound<'_, PyDict>) -> u64 {
    // SAFETY: a live dict, whose layout is that of the version this was built for.
    unsafe { (*dict.as_ptr().cast::<pyo3::ffi::PyDictObject>()).ma_version_tag }
}

/// Later versions have no such number.
#[cfg(Py_3_14)]
#[inline]
fn version(_: &Bound<'_, PyDict>) -> u64 {
    0
}

/// Does this interpreter say when a dict is changed? Where it does not, nothing is filled again.
pub fn tells_changes(py: Python<'_>) -> PyResult<bool> {
    let dict = PyDict::new(py);
    let mut seen = vec![version(&dict)];
    for value in ["a value", "another one"] {
        dict.set_item("key", value)?;
        seen.push(version(&dict));
    }
    dict.del_item("key")?;
    seen.push(version(&dict));
    Ok(seen.is_sorted_by(|before, after| before != after))
}
