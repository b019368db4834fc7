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
use tricorn_proto::{Head, Patience, places, same};

use super::cache::{NameKind, Names, Target, VALUE_MAX, Values};
use super::environ::{Parts, copy, set};
use super::kit::Lease;
use super::refill::{ADDRESS, INPUT, METHOD, PROTOCOL, Places, Refill, Refills, SOCKET, TARGET};
use super::template::{Arrival, KeptTarget};
use super::text;

/// Browsers, proxies, health checks and API clients of one site. Each may be in one of two places next to each other.
const SHAPES: usize = 64;
/// As many as kinds of heads are remembered ([`tricorn_proto::Known`]); two of one place only cost a longer look.
const MARKS: usize = 16;
/// Heads with more names have no shape.
const MOST_NAMES: usize = 48;
/// A bit for each of them.
const ALL: u64 = u64::MAX >> (u64::BITS as usize - MOST_NAMES);
/// A longer name is no common client's.
const LONGEST_NAME: usize = 64;

struct Field {
    spelled: Box<[u8]>,
    key: Py<PyString>,
    kind: NameKind,
    /// The bytes of what the template has for it; `None` where nothing is kept.
    kept: Option<Box<[u8]>>,
    patience: Patience,
}

struct Shape {
    arrival: Arrival,
    fields: Vec<Field>,
    /// The mark of the last head that fitted, when it had one.
    mark: Option<NonZeroU64>,
    /// A bit for each field of which the template has the value that heads of this mark have, where they are the same.
    held: u64,
    template: Py<PyDict>,
    /// Another with each change of what the template has, so that environs filled before are not taken for its copies.
    serial: u64,
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
    /// The place that had the shape of the last head.
    last: Cell<usize>,
    /// That of the last head of each mark, by its lowest bits: the next one of that mark is likely of the same shape.
    likely: [Cell<usize>; MARKS],
    serials: Serials,
}

/// Where the serials of templates come from.
#[derive(Default)]
struct Serials(Cell<u64>);

impl Serials {
    fn next(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

impl Shapes {
    pub fn new() -> Self {
        Shapes {
            places: RefCell::new((0..SHAPES).map(|_| Place::default()).collect()),
            last: Cell::new(0),
            likely: [const { Cell::new(0) }; MARKS],
            serials: Serials::default(),
        }
    }

    /// The environ with the head's fields in it, when its shape is known; `None` leaves all the work to the caller.
    /// The current one of `refills` says what it lacks then; `base`: the template without fields.
    pub fn environ<'py>(
        &self,
        exchange: &Exchange,
        (names, values): (&Names<PyString>, &Values),
        (parts, refills): (&Parts<'_, 'py>, &mut Refills),
        base: impl FnOnce() -> PyResult<Bound<'py, PyDict>>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let head = exchange.head();
        if head.fields.len() > MOST_NAMES {
            return Ok(None);
        }
        let mut places = self.places.borrow_mut();
        let likely = head.known.map_or(0, |known| known.mark.get() as usize) % MARKS;
        let likely = &self.likely[likely];
        let sources = (&self.serials, values);
        if let Some(shape) = places[likely.get()].fitting(exchange) {
            self.last.set(likely.get());
            return shape.fill(exchange, sources, parts, refills).map(Some);
        }
        let mark = mark(head);
        let home = (mark >> 32) as usize & (SHAPES - 1);
        let neighbour = home ^ 1;
        for index in [home, neighbour] {
            if let Some(shape) = places[index].fitting(exchange) {
                self.last.set(index);
                likely.set(index);
                return shape.fill(exchange, sources, parts, refills).map(Some);
            }
        }
        if std::mem::replace(&mut places[home].candidate, mark) == mark {
            places[home].candidate = 0;
            let serial = self.serials.next();
            if let Some(shape) = Shape::of(exchange, names, serial, base)? {
                let before = places[home].shape.replace(Box::new(shape));
                // Two of one home are likely used in turn.
                if before.is_some() {
                    places[neighbour].shape = before;
                }
            }
        }
        Ok(None)
    }

    /// Keeps what the shape of the last head asked for. `address`, `target`: as they are in the environ, where they were set.
    pub fn keep(
        &self,
        py: Python<'_>,
        refill: &mut Refill,
        exchange: &Exchange,
        (address, target): (Option<&Bound<'_, PyString>>, Option<&Target>),
    ) -> PyResult<()> {
        let mut places = self.places.borrow_mut();
        let Some(shape) = &mut places[self.last.get()].shape else {
            return Ok(());
        };
        let template = shape.template.bind(py);
        let mut kept = 0;
        if let (Some(address), Peer::Inet(peer)) = (address, exchange.peer())
            && refill.keeps & ADDRESS != 0
        {
            set(template, intern!(py, "REMOTE_ADDR"), address)?;
            shape.address = Some(peer.ip());
            kept |= ADDRESS;
        }
        if let Some(target) = target
            && refill.keeps & TARGET != 0
        {
            target.put(py, template)?;
            shape.target.keep(exchange.head().target());
            kept |= TARGET;
        }
        if kept != 0 {
            refill.own &= !kept;
            shape.serial = self.serials.next();
            refill.serial = shape.serial;
        }
        Ok(())
    }

    /// Takes the secrets out of an environ that was filled from the template of that serial. `false`: it is not known any more.
    pub fn scrub(&self, serial: u64, environ: &Bound<'_, PyDict>) -> bool {
        let py = environ.py();
        let places = self.places.borrow();
        let shape = places[self.last.get()].shape.as_deref();
        let Some(shape) = shape.filter(|shape| shape.serial == serial) else {
            return false;
        };
        let mut secrets = shape
            .fields
            .iter()
            .filter(|field| field.kind == NameKind::Secret);
        secrets.all(|field| set(environ, field.key.bind(py), py.None().bind(py)).is_ok())
    }
}

/// Which of REQUEST_METHOD and SERVER_PROTOCOL are not those of each template.
#[inline]
pub fn own_line(head: &Head) -> Places {
    let mut own = 0;
    if head.method() != b"GET" {
        own |= METHOD;
    }
    if head.version != (1, 1) {
        own |= PROTOCOL;
    }
    own
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
        exchange: &Exchange,
        names: &Names<PyString>,
        serial: u64,
        base: impl FnOnce() -> PyResult<Bound<'py, PyDict>>,
    ) -> PyResult<Option<Shape>> {
        let head = exchange.head();
        let template = base()?;
        let py = template.py();
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
                patience: Patience::default(),
            });
        }
        Ok(Some(Shape {
            arrival: Arrival::of(exchange),
            fields,
            template: template.unbind(),
            mark: head.known.map(|known| known.mark),
            held: 0,
            serial,
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

    /// The environ that the kit had before, if it was filled from this very template, or else a copy of that, with the
    /// head's fields.
    fn fill<'py>(
        &mut self,
        exchange: &Exchange,
        (serials, values): (&Serials, &Values),
        parts: &Parts<'_, 'py>,
        refills: &mut Refills,
    ) -> PyResult<Bound<'py, PyDict>> {
        let py = parts.input.py();
        let (refill, waiting) = refills.take(py, self.serial);
        let environ = match waiting {
            Some(environ) => {
                refill.lacks = refill.own;
                environ
            }
            None => {
                // Before the copy: what the template holds now is in it.
                refill.lacks = match self.hold(parts)? {
                    true => SOCKET,
                    false => INPUT | SOCKET,
                };
                refill.begin(self.serial);
                copy(self.template.bind(py))?
            }
        };
        let head = exchange.head();
        self.fields(head, &environ, (serials, values), refill)?;
        self.set_apart(exchange, refill);
        Ok(environ)
    }

    /// Sets the fields that the environ has not as the head has them.
    fn fields(
        &mut self,
        head: &Head,
        environ: &Bound<'_, PyDict>,
        (serials, values): (&Serials, &Values),
        refill: &mut Refill,
    ) -> PyResult<()> {
        let py = environ.py();
        let same_again = head.known.map_or(0, |known| known.same);
        let all = ALL >> (MOST_NAMES - self.fields.len());
        refill.secret = false;
        for index in places((!(same_again & self.held) | refill.fields) & all) {
            let bit = 1 << index;
            let (known, bytes) = (
                &mut self.fields[index],
                head.slice(head.fields[index].value),
            );
            let key = known.key.bind(py);
            if known.kept.as_deref().is_some_and(|kept| same(kept, bytes)) {
                known.patience.hit();
                self.held |= same_again & bit;
                if refill.fields & bit != 0 {
                    set(environ, key, &values.of(py, bytes)?)?;
                    refill.fields &= !bit;
                }
                continue;
            }
            refill.fields |= bit;
            if known.kind == NameKind::Secret || bytes.len() > VALUE_MAX {
                refill.secret |= known.kind == NameKind::Secret;
                set(environ, key, &text::latin1(py, bytes)?)?;
                continue;
            }
            let value = values.of(py, bytes)?;
            set(environ, key, &value)?;
            if known.patience.miss() {
                known.patience.renew();
                set(self.template.bind(py), key, &value)?;
                known.kept = Some(bytes.into());
                self.held = self.held & !bit | same_again & bit;
                refill.fields &= !bit;
                self.serial = serials.next();
                refill.serial = self.serial;
            }
        }
        Ok(())
    }

    /// What is to be set besides the fields, and what of it the template wants to keep.
    #[inline]
    fn set_apart(&mut self, exchange: &Exchange, refill: &mut Refill) {
        let head = exchange.head();
        let mut own = own_line(head);
        let (is_inet, is_kept) = match exchange.peer() {
            Peer::Inet(peer) => (true, self.address == Some(peer.ip())),
            Peer::Unix => (false, true),
        };
        if !is_kept {
            own |= ADDRESS;
        }
        if head.script_name.is_some() || !self.target.is(head.target()) {
            own |= TARGET;
        }
        refill.keeps = 0;
        if own & TARGET != 0 && self.target.comes_again(head.target()) {
            refill.keeps = own & (ADDRESS | TARGET);
        }
        if is_inet && self.address.is_none() {
            refill.keeps |= ADDRESS;
        }
        // What another request has set there gives way, too.
        refill.lacks |= own;
        refill.own = own;
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
