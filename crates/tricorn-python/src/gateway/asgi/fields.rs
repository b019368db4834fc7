//! `scope["headers"]`: pairs of bytes, most of which came before.
//!
//! Invariants: names are lower-case, in the order of the wire; what peers send never makes a cache grow; secrets are not
//! kept. Used under a lock: making bytes and tuples of them runs no Python code.
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use tricorn_proto::Head;

use crate::gateway::cache::{NameKind, kind_of};
use crate::gateway::text;

const PAIRS: usize = 1024;
const NAMES: usize = 128;
/// Longer lines are made anew each time.
const LONGEST: usize = 256;
/// Heads with more fields go without `last` behind it.
const MOST_FIELDS: usize = 64;

struct Pair {
    /// The field as it was sent, from the first byte of its name to the last one of its value.
    line: Box<[u8]>,
    tuple: Py<PyTuple>,
}

struct Name {
    spelled: Box<[u8]>,
    lower: Py<PyBytes>,
    kind: NameKind,
}

/// Direct-mapped, both of them.
pub struct FieldCache {
    pairs: Vec<Option<Pair>>,
    names: Vec<Option<Name>>,
    /// Where the fields of the last head are: clients send the same ones again, mostly, and a look spares a hash.
    last: [u16; MOST_FIELDS],
}

impl FieldCache {
    pub fn new() -> Self {
        FieldCache {
            pairs: (0..PAIRS).map(|_| None).collect(),
            names: (0..NAMES).map(|_| None).collect(),
            last: [0; MOST_FIELDS],
        }
    }

    pub fn list<'py>(&mut self, py: Python<'py>, head: &Head) -> PyResult<Bound<'py, PyList>> {
        let length = head.fields.len() as ffi::Py_ssize_t;
        // SAFETY: a new list has room for `length` items, and each is set once, in order; should making one fail, the list
        // is dropped with the rest still empty. Nobody else has seen it.
        unsafe {
            let list = Bound::from_owned_ptr_or_err(py, ffi::PyList_New(length))?;
            for index in 0..head.fields.len() {
                let pair = self.pair(py, head, index)?;
                ffi::PyList_SET_ITEM(list.as_ptr(), index as ffi::Py_ssize_t, pair.into_ptr());
            }
            Ok(list.cast_into_unchecked())
        }
    }

    fn pair<'py>(
        &mut self,
        py: Python<'py>,
        head: &Head,
        index: usize,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let field = head.fields[index];
        let (name, value) = (head.slice(field.name), head.slice(field.value));
        let range = field.name.start as usize..field.value.end as usize;
        let line = head.bytes.get(range).unwrap_or_default();
        if line.len() > LONGEST || line.len() < name.len() + value.len() {
            return Ok(self.make(py, name, value)?.0);
        }
        let place = self.last.get(index).map_or(0, |&place| place as usize);
        if let Some(known) = &self.pairs[place]
            && *known.line == *line
        {
            return Ok(known.tuple.bind(py).clone());
        }
        let place = text::hash(line) & (PAIRS - 1);
        if let Some(last) = self.last.get_mut(index) {
            *last = place as u16;
        }
        if let Some(known) = &self.pairs[place]
            && *known.line == *line
        {
            return Ok(known.tuple.bind(py).clone());
        }
        let (tuple, kind) = self.make(py, name, value)?;
        if kind != NameKind::Secret {
            self.pairs[place] = Some(Pair {
                line: line.into(),
                tuple: tuple.clone().unbind(),
            });
        }
        Ok(tuple)
    }

    fn make<'py>(
        &mut self,
        py: Python<'py>,
        name: &[u8],
        value: &[u8],
    ) -> PyResult<(Bound<'py, PyTuple>, NameKind)> {
        let slot = &mut self.names[text::hash(name) & (NAMES - 1)];
        let known = slot.take_if(|known| *known.spelled == *name);
        let known = known.unwrap_or_else(|| Name {
            spelled: name.into(),
            lower: PyBytes::new(py, &name.to_ascii_lowercase()).unbind(),
            kind: kind_of(name),
        });
        let pair = [known.lower.bind(py).clone(), PyBytes::new(py, value)];
        let kind = known.kind;
        if name.len() <= LONGEST {
            *slot = Some(known);
        }
        Ok((PyTuple::new(py, pair)?, kind))
    }
}
