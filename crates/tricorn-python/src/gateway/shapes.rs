//! Environs for heads whose names came before, in the same order and spelling: a shape.
//!
//! A client sends the same names with each request and most of them with the same values. A shape is a template dict that
//! has the names already, and the values that came last; what is different is set in the copy. Invariants: a
//! copy never holds a value that this request has not sent; secrets are never kept; the number of shapes, of their names
//! and the size of their values are bounded, so peers can only push one another's shapes out.
use std::cell::RefCell;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tricorn_engine::{Exchange, ListenerInfo};
use tricorn_proto::{Head, Scheme};

use super::cache::{NameKind, Names, VALUE_MAX, Values};
use super::environ::{copy, set};
use super::text;

/// Browsers, proxies, health checks and API clients of one site; direct-mapped.
const SHAPES: usize = 32;
/// Heads with more names have no shape.
const MOST_NAMES: usize = 48;
/// A longer name is no common client's.
const LONGEST_NAME: usize = 64;
/// A kept value that was wrong this often in a row gives way to the newest.
const MISSES: u8 = 4;

struct Field {
    spelled: Box<[u8]>,
    key: Py<PyString>,
    kind: NameKind,
    /// What the template has for it; `None` where nothing is kept.
    value: Option<Py<PyString>>,
    misses: u8,
}

struct Shape {
    listener: Arc<ListenerInfo>,
    https: bool,
    fields: Vec<Field>,
    template: Py<PyDict>,
}

#[derive(Default)]
struct Place {
    shape: Option<Box<Shape>>,
    /// A shape is made for the second head in a row that finds none: a client that comes once is not worth it.
    candidate: u64,
}

pub struct Shapes {
    places: RefCell<Vec<Place>>,
}

impl Shapes {
    pub fn new() -> Self {
        Shapes {
            places: RefCell::new((0..SHAPES).map(|_| Place::default()).collect()),
        }
    }

    /// The environ with the head's fields in it, when its shape is known; `None` leaves all the work to the caller.
    /// `base`: the template without fields.
    pub fn environ<'py>(
        &self,
        py: Python<'py>,
        exchange: &Exchange,
        (names, values): (&Names, &Values),
        base: impl FnOnce() -> PyResult<Bound<'py, PyDict>>,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let head = exchange.head();
        if head.fields.len() > MOST_NAMES {
            return Ok(None);
        }
        let mark = mark(head);
        let mut places = self.places.borrow_mut();
        let place = &mut places[(mark >> 32) as usize & (SHAPES - 1)];
        if let Some(shape) = &mut place.shape
            && shape.fits(exchange)
        {
            place.candidate = 0;
            return shape.fill(py, head, values).map(Some);
        }
        if std::mem::replace(&mut place.candidate, mark) == mark {
            place.candidate = 0;
            place.shape = Shape::of(py, exchange, names, base)?.map(Box::new);
        }
        Ok(None)
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
        names: &Names,
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
                value: None,
                misses: 0,
            });
        }
        Ok(Some(Shape {
            listener: exchange.listener().clone(),
            https: head.scheme == Some(Scheme::Https),
            fields,
            template: template.unbind(),
        }))
    }

    fn fits(&self, exchange: &Exchange) -> bool {
        let head = exchange.head();
        let mut pairs = self.fields.iter().zip(&head.fields);
        self.fields.len() == head.fields.len()
            && self.https == (head.scheme == Some(Scheme::Https))
            && Arc::ptr_eq(&self.listener, exchange.listener())
            && pairs.all(|(known, field)| *known.spelled == *head.slice(field.name))
    }

    fn fill<'py>(
        &mut self,
        py: Python<'py>,
        head: &Head,
        values: &Values,
    ) -> PyResult<Bound<'py, PyDict>> {
        let template = self.template.bind(py);
        let environ = copy(template)?;
        for (known, field) in self.fields.iter_mut().zip(&head.fields) {
            let bytes = head.slice(field.value);
            if let Some(kept) = &known.value
                && text::as_latin1(kept.bind(py)) == Some(bytes)
            {
                known.misses = 0;
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
            if known.misses == MISSES {
                known.misses = 0;
                set(template, key, &value)?;
                known.value = Some(value.unbind());
            }
        }
        Ok(environ)
    }
}
