//! Environs for heads whose names came before, in the same order and spelling: a shape.
//!
//! A client sends the same names with each request and most of them with the same values. A shape is a template dict that
//! has the names already, and the values that came last (target and address of the peer among them); what is different
//! is set in the copy. Invariants: a copy never holds a value that is not this request's; secrets are never kept; the number of shapes, of their names
//! and the size of their values are bounded, so peers can only push one another's shapes out.
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::rc::Rc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tricorn_engine::{Exchange, Peer};
use tricorn_proto::{Head, places, same};

use super::cache::{NameKind, Names, Target, VALUE_MAX, Values};
use super::environ::{Parts, copy, set};
use super::kit::Lease;
use super::template::{Arrival, KeptTarget};
use super::text;

/// Browsers, proxies, health checks and API clients of one site; direct-mapped.
const SHAPES: usize = 32;
/// Heads with more names have no shape.
const MOST_NAMES: usize = 48;
/// A bit for each of them.
const ALL: u64 = u64::MAX >> (u64::BITS as usize - MOST_NAMES);
/// A longer name is no common client's.
const LONGEST_NAME: usize = 64;
/// A kept value that was wrong this often in a row gives way to the newest, the first time; then twice as often is needed,
/// up to the most, or what is another with each request would be kept anew all the time.
const FIRST_PATIENCE: u8 = 4;
const LAST_PATIENCE: u8 = 128;

struct Field {
    spelled: Box<[u8]>,
    key: Py<PyString>,
    kind: NameKind,
    /// The bytes of what the template has for it; `None` where nothing is kept.
    kept: Option<Box<[u8]>>,
    misses: u8,
    patience: u8,
}

struct Shape {
    arrival: Arrival,
    fields: Vec<Field>,
    /// The mark of the last head that fitted, when it had one.
    mark: Option<NonZeroU64>,
    /// A bit for each field of which the template has the value that heads of this mark have, where they are the same.
    held: u64,
    template: Py<PyDict>,
    /// Of the kit whose parts are in the template.
    lease: Option<Lease>,
    /// What the template has of these; nothing to begin with.
    address: Option<IpAddr>,
    target: KeptTarget,
}

impl Drop for Shape {
    fn drop(&mut self) {
        if let Some(lease) = &self.lease {
            lease.set(lease.get() - 1);
        }
    }
}

/// An environ with a request's fields in it.
pub struct Shaped<'py> {
    pub environ: Bound<'py, PyDict>,
    /// It has wsgi.input and wsgi.early_hints already.
    pub has_parts: bool,
    /// REMOTE_ADDR.
    pub has_address: bool,
    /// RAW_URI, QUERY_STRING and PATH_INFO.
    pub has_target: bool,
    /// The shape wants to keep what it did not have.
    pub keeper: Option<Keeper>,
}

impl<'py> Shaped<'py> {
    /// An environ that has none of it.
    pub fn bare(environ: Bound<'py, PyDict>) -> Self {
        Shaped {
            environ,
            has_parts: false,
            has_address: false,
            has_target: false,
            keeper: None,
        }
    }
}

/// Where to keep it.
pub struct Keeper {
    place: usize,
    address: bool,
    target: bool,
}

#[derive(Default)]
struct Place {
    shape: Option<Box<Shape>>,
    /// A shape is made for the second head in a row that finds none: a client that comes once is not worth it.
    candidate: u64,
}

impl Place {
    #[inline]
    fn fitting(&mut self, exchange: &Exchange) -> Option<&mut Shape> {
        let shape = self.shape.as_deref_mut()?;
        if !shape.fits(exchange) {
            return None;
        }
        self.candidate = 0;
        Some(shape)
    }
}

pub struct Shapes {
    places: RefCell<Vec<Place>>,
    /// The place that had the shape of the last head: the next one is likely of the same client or its like.
    last: Cell<usize>,
}

impl Shapes {
    pub fn new() -> Self {
        Shapes {
            places: RefCell::new((0..SHAPES).map(|_| Place::default()).collect()),
            last: Cell::new(0),
        }
    }

    /// The environ with the head's fields in it, when its shape is known; `None` leaves all the work to the caller.
    /// `base`: the template without fields.
    pub fn environ<'py>(
        &self,
        py: Python<'py>,
        exchange: &Exchange,
        (names, values): (&Names<PyString>, &Values),
        parts: &Parts<'_, 'py>,
        base: impl FnOnce() -> PyResult<Bound<'py, PyDict>>,
    ) -> PyResult<Option<Shaped<'py>>> {
        let head = exchange.head();
        if head.fields.len() > MOST_NAMES {
            return Ok(None);
        }
        let mut places = self.places.borrow_mut();
        let last = self.last.get();
        if let Some(shape) = places[last].fitting(exchange) {
            return shape.fill(exchange, values, parts, last).map(Some);
        }
        let mark = mark(head);
        let index = (mark >> 32) as usize & (SHAPES - 1);
        let place = &mut places[index];
        if let Some(shape) = place.fitting(exchange) {
            self.last.set(index);
            return shape.fill(exchange, values, parts, index).map(Some);
        }
        if std::mem::replace(&mut place.candidate, mark) == mark {
            place.candidate = 0;
            place.shape = Shape::of(py, exchange, names, base)?.map(Box::new);
        }
        Ok(None)
    }

    /// Keeps what a shape asked for. `address`, `target`: as they are in the environ.
    pub fn keep(
        &self,
        py: Python<'_>,
        keeper: &Keeper,
        exchange: &Exchange,
        address: Option<&Bound<'_, PyString>>,
        target: Option<&Target>,
    ) -> PyResult<()> {
        let mut places = self.places.borrow_mut();
        let Some(shape) = &mut places[keeper.place].shape else {
            return Ok(());
        };
        let template = shape.template.bind(py);
        if let (true, Some(address), Peer::Inet(peer)) = (keeper.address, address, exchange.peer())
        {
            set(template, intern!(py, "REMOTE_ADDR"), address)?;
            shape.address = Some(peer.ip());
        }
        if let (true, Some(target)) = (keeper.target, target) {
            target.put(py, template)?;
            shape.target.keep(exchange.head().target());
        }
        Ok(())
    }
}

/// What most heads differ in, in a few instructions a name.
fn mark(head: &Head) -> u64 {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    head.fields.iter().fold(SEED, |state, field| {
        let name = head.slice(field.name);
        let initial = name.first().map_or(0, |&byte| u64::from(byte));
        let last = name.last().map_or(0, |&byte| u64::from(byte));
        let word = name.len() as u64 | initial << 8 | last << 16;
        (state.rotate_left(5) ^ word).wrapping_mul(SEED)
    })
}

impl Shape {
    /// `None`: this head cannot have a shape, because a name is too long or comes twice.
    fn of<'py>(
        py: Python<'py>,
        exchange: &Exchange,
        names: &Names<PyString>,
        base: impl FnOnce() -> PyResult<Bound<'py, PyDict>>,
    ) -> PyResult<Option<Shape>> {
        let head = exchange.head();
        let template = base()?;
        let none = py.None();
        let mut fields = Vec::with_capacity(head.fields.len());
        for field in &head.fields {
            let spelled = head.slice(field.name);
            let (key, kind) = names.key(py, spelled)?;
            if spelled.len() > LONGEST_NAME || template.contains(&key)? {
                return Ok(None);
            }
            set(&template, &key, none.bind(py))?;
            fields.push(Field {
                spelled: spelled.into(),
                key: key.unbind(),
                kind,
                kept: None,
                misses: 0,
                patience: FIRST_PATIENCE,
            });
        }
        Ok(Some(Shape {
            arrival: Arrival::of(exchange),
            fields,
            template: template.unbind(),
            mark: head.known.map(|known| known.mark),
            held: 0,
            lease: None,
            address: None,
            target: KeptTarget::default(),
        }))
    }

    fn fits(&mut self, exchange: &Exchange) -> bool {
        let head = exchange.head();
        if !self.arrival.fits(exchange) {
            return false;
        }
        let mark = head.known.map(|known| known.mark);
        if self.mark.is_some() && self.mark == mark {
            return true;
        }
        let mut pairs = self.fields.iter().zip(&head.fields);
        let fits = self.fields.len() == head.fields.len()
            && pairs.all(|(known, field)| same(&known.spelled, head.slice(field.name)));
        if fits && mark.is_some() {
            self.mark = mark;
            self.held = 0;
        }
        fits
    }

    fn fill<'py>(
        &mut self,
        exchange: &Exchange,
        values: &Values,
        parts: &Parts<'_, 'py>,
        place: usize,
    ) -> PyResult<Shaped<'py>> {
        let head = exchange.head();
        let py = parts.input.py();
        let has_parts = self.hold(parts)?;
        let has_address = match (exchange.peer(), &self.address) {
            (Peer::Inet(peer), Some(kept)) => peer.ip() == *kept,
            _ => false,
        };
        let has_target = head.script_name.is_none() && self.target.is(head.target());
        let template = self.template.bind(py);
        let environ = copy(template)?;
        let same_again = head.known.map_or(0, |known| known.same);
        let others = !(same_again & self.held) & ALL >> (MOST_NAMES - self.fields.len());
        for index in places(others) {
            let bit = 1 << index;
            let (known, bytes) = (
                &mut self.fields[index],
                head.slice(head.fields[index].value),
            );
            if known.kept.as_deref().is_some_and(|kept| same(kept, bytes)) {
                known.misses = 0;
                self.held |= same_again & bit;
                continue;
            }
            let key = known.key.bind(py);
            if known.kind == NameKind::Secret || bytes.len() > VALUE_MAX {
                set(&environ, key, &text::latin1(py, bytes)?)?;
                continue;
            }
            let value = values.of(py, bytes)?;
            set(&environ, key, &value)?;
            known.misses += 1;
            if known.misses >= known.patience {
                known.misses = 0;
                known.patience = known.patience.saturating_mul(2).min(LAST_PATIENCE);
                set(template, key, &value)?;
                known.kept = Some(bytes.into());
                self.held = self.held & !bit | same_again & bit;
            }
        }
        let again = !has_target && self.target.comes_again(head.target());
        let keeper = (again || self.address.is_none()).then_some(Keeper {
            place,
            address: self.address.is_none() || (again && !has_address),
            target: again,
        });
        Ok(Shaped {
            environ,
            has_parts,
            has_address,
            has_target,
            keeper,
        })
    }

    /// Brings the kit's parts into the template, if they are to stay there.
    fn hold(&mut self, parts: &Parts<'_, '_>) -> PyResult<bool> {
        let Some(lease) = parts.lease else {
            return Ok(false);
        };
        if self
            .lease
            .as_ref()
            .is_some_and(|held| Rc::ptr_eq(held, lease))
        {
            return Ok(true);
        }
        let py = parts.input.py();
        let template = self.template.bind(py);
        set(template, intern!(py, "wsgi.input"), parts.input)?;
        set(template, intern!(py, "wsgi.early_hints"), parts.early_hints)?;
        lease.set(lease.get() + 1);
        if let Some(before) = self.lease.replace(lease.clone()) {
            before.set(before.get() - 1);
        }
        Ok(true)
    }
}
