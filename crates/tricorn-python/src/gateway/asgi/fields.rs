//! `scope["headers"]`: pairs of bytes, most of which came before.
//!
//! Invariants: names are lower-case, in the order of the wire; what peers send never makes a cache grow; secrets are not
//! kept. Used under a lock: making bytes and tuples of them runs no Python code.
use std::num::NonZeroU64;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use tricorn_proto::{Head, Known, hash};

use crate::gateway::cache::{NameKind, Names, kind_of};

const PAIRS: usize = 1024;
/// Longer lines are made anew each time.
const LONGEST: usize = 256;
/// Heads with more fields go without `last` behind it.
const MOST_FIELDS: usize = 64;

struct Pair {
    /// The field as it was sent, from the first byte of its name to the last one of its value.
    line: Box<[u8]>,
    tuple: Py<PyTuple>,
}

pub struct FieldCache {
    /// Direct-mapped.
    pairs: Vec<Option<Pair>>,
    names: Names<PyBytes>,
    /// Where the fields of the last head are: clients send the same ones again, mostly, and a look spares a hash.
    last: [u16; MOST_FIELDS],
    /// The pairs that heads of this mark have, where their fields are the same.
    same: [Option<Py<PyTuple>>; MOST_FIELDS],
    mark: Option<NonZeroU64>,
}

impl FieldCache {
    pub fn new() -> Self {
        FieldCache {
            pairs: (0..PAIRS).map(|_| None).collect(),
            names: Names::new(lower_name),
            last: [0; MOST_FIELDS],
            same: [const { None }; MOST_FIELDS],
            mark: None,
        }
    }

    pub fn list<'py>(&mut self, py: Python<'py>, head: &Head) -> PyResult<Bound<'py, PyList>> {
        let length = head.fields.len() as ffi::Py_ssize_t;
        let same = head.known.map_or(0, |known| self.same_as(known));
        // SAFETY: a new list has room for `length` items, and each is set once, in order; should making one fail, the list
        // is dropped with the rest still empty. Nobody else has seen it.
        unsafe {
            let list = Bound::from_owned_ptr_or_err(py, ffi::PyList_New(length))?;
            for index in 0..head.fields.len() {
                let pair = match self.same.get_mut(index) {
                    Some(kept) if same >> index & 1 == 1 => match kept {
                        Some(pair) => pair.bind(py).clone(),
                        None => {
                            let pair = self.pair(py, head, index)?;
                            self.same[index] = Some(pair.clone().unbind());
                            pair
                        }
                    },
                    _ => self.pair(py, head, index)?,
                };
                ffi::PyList_SET_ITEM(list.as_ptr(), index as ffi::Py_ssize_t, pair.into_ptr());
            }
            Ok(list.cast_into_unchecked())
        }
    }

    /// The fields for which `same` may be asked, once it is about heads of that mark.
    fn same_as(&mut self, Known { mark, same }: Known) -> u64 {
        if self.mark.replace(mark) != Some(mark) {
            self.same = [const { None }; MOST_FIELDS];
        }
        same
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
        let place = hash(line) & (PAIRS - 1);
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
        &self,
        py: Python<'py>,
        name: &[u8],
        value: &[u8],
    ) -> PyResult<(Bound<'py, PyTuple>, NameKind)> {
        let (name, kind) = self.names.key(py, name)?;
        Ok((PyTuple::new(py, [name, PyBytes::new(py, value)])?, kind))
    }
}

fn lower_name<'py>(py: Python<'py>, name: &[u8]) -> PyResult<(Bound<'py, PyBytes>, NameKind)> {
    Ok((PyBytes::new(py, &name.to_ascii_lowercase()), kind_of(name)))
}
