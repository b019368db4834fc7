//! What a scope has besides its request: the dicts within it, and a template that has them already.
//!
//! They serve again while nobody holds on to them or has changed them, which a look at a few addresses tells for less than
//! a copy costs.
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tricorn_engine::Exchange;

use crate::gateway::environ::{copy, set};
use crate::gateway::kit::references;
use crate::gateway::template::{Arrival, KeptTarget};

/// A dict that scopes get copies of.
pub struct Original {
    dict: Py<PyDict>,
    /// Addresses of its keys and values.
    entries: Vec<(usize, usize)>,
}

/// `asgi` and `extensions` of one scope at a time.
pub struct Extras {
    asgi: Py<PyDict>,
    extensions: Py<PyDict>,
    /// They have served before, so they are likely to serve again.
    proven: bool,
    template: Option<Template>,
}

/// A scope with the extras in it, and the target that came twice in a row.
struct Template {
    arrival: Arrival,
    dict: Py<PyDict>,
    target: KeptTarget,
}

impl Original {
    pub fn of(dict: Bound<'_, PyDict>) -> Original {
        let entries = dict
            .iter()
            .map(|(key, value)| (key.as_ptr() as usize, value.as_ptr() as usize))
            .collect();
        Original {
            dict: dict.unbind(),
            entries,
        }
    }

    pub fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        copy(self.dict.bind(py))
    }

    /// Is a copy still what it was, and held so many times?
    fn is_as(&self, copy: &Py<PyDict>, holders: ffi::Py_ssize_t) -> bool {
        if references(copy) != holders {
            return false;
        }
        let copy = copy.as_ptr();
        let (mut place, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a live dict, which nobody changes meanwhile: the GIL is held and comparing addresses runs no Python code.
        unsafe {
            ffi::PyDict_Size(copy) == self.entries.len() as ffi::Py_ssize_t
                && self.entries.iter().all(|&(known_key, known)| {
                    ffi::PyDict_Next(copy, &mut place, &mut key, &mut value) != 0
                        && key as usize == known_key
                        && value as usize == known
                })
        }
    }
}

impl Extras {
    pub fn new(py: Python<'_>, asgi: &Original, extensions: &Original) -> PyResult<Extras> {
        Ok(Extras {
            asgi: asgi.copy(py)?.unbind(),
            extensions: extensions.copy(py)?.unbind(),
            proven: false,
            template: None,
        })
    }

    /// After the request: may another one have them?
    pub fn serve_again(&mut self, asgi: &Original, extensions: &Original) -> bool {
        self.proven = true;
        let holders = 1 + ffi::Py_ssize_t::from(self.template.is_some());
        asgi.is_as(&self.asgi, holders) && extensions.is_as(&self.extensions, holders)
    }

    pub fn put(&self, py: Python<'_>, scope: &Bound<'_, PyDict>) -> PyResult<()> {
        set(scope, intern!(py, "extensions"), self.extensions.bind(py))?;
        set(scope, intern!(py, "asgi"), self.asgi.bind(py))
    }

    /// A scope that has them already, and whether it has path, raw_path and query_string as well.
    pub fn scope<'py>(
        &self,
        py: Python<'py>,
        exchange: &Exchange,
    ) -> PyResult<Option<(Bound<'py, PyDict>, bool)>> {
        let Some(template) = &self.template else {
            return Ok(None);
        };
        if !template.arrival.fits(exchange) {
            return Ok(None);
        }
        let has_target = template.target.is(exchange.head().target());
        Ok(Some((copy(template.dict.bind(py))?, has_target)))
    }

    /// Keeps a scope that has nothing of its request yet, if that is worth it.
    pub fn keep(
        &mut self,
        py: Python<'_>,
        exchange: &Exchange,
        bare: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        if !self.proven {
            return Ok(());
        }
        let dict = copy(bare)?;
        self.put(py, &dict)?;
        self.template = Some(Template {
            arrival: Arrival::of(exchange),
            dict: dict.unbind(),
            target: KeptTarget::default(),
        });
        Ok(())
    }

    /// The template, when a target that it does not have has come twice in a row and is to be put there.
    pub fn keep_target(&mut self, target: &[u8]) -> Option<&Py<PyDict>> {
        let template = self.template.as_mut()?;
        if !template.target.comes_again(target) {
            return None;
        }
        template.target.keep(target);
        Some(&template.dict)
    }
}
