//! Response fields that come again as the very same objects: literals of the application and its framework.
//!
//! A str never changes, so that its identity says what it was found to say before. Invariants: an entry keeps its objects
//! alive, or their addresses could come to mean others; secrets are never kept; the number of entries and their size are
//! bounded; no Python code runs here.
use std::cell::RefCell;

use pyo3::prelude::*;
use pyo3::types::PyString;
use tricorn_engine::Exchange;
use tricorn_proto::response::ReadyField;

use super::cache::{NameKind, kind_of};
use super::text;

const ENTRIES: usize = 64;
const LONGEST_NAME: usize = 64;
const LONGEST_VALUE: usize = 192;
/// An entry that was not the one wanted so often in a row gives way: values made for one response alone would
/// push one another out with each.
const MISSES: u8 = 64;

struct Entry {
    name: Py<PyString>,
    value: Py<PyString>,
    field: ReadyField,
}

struct Slot {
    entry: Option<Entry>,
    misses: u8,
}

const EMPTY: Slot = Slot {
    entry: None,
    misses: 0,
};

thread_local! {
    /// One per thread: nothing guards it but the borrow.
    static SLOTS: RefCell<[Slot; ENTRIES]> = const { RefCell::new([EMPTY; ENTRIES]) };
}

/// Adds a field to the head. `false`: it is not known, or for [`Exchange::head_field`] to decide about.
#[inline]
pub fn put(
    exchange: &mut Exchange,
    name: Borrowed<'_, '_, PyString>,
    value: Borrowed<'_, '_, PyString>,
) -> bool {
    let place = (name.as_ptr() as usize >> 4).rotate_left(3) ^ (value.as_ptr() as usize >> 4);
    SLOTS.with_borrow_mut(|slots| {
        let slot = &mut slots[place % ENTRIES];
        match &slot.entry {
            Some(entry) if entry.name.is(&*name) && entry.value.is(&*value) => {
                slot.misses = 0;
                return exchange.ready_field(&entry.field);
            }
            Some(_) if slot.misses < MISSES => {
                slot.misses += 1;
                return false;
            }
            _ => {}
        }
        slot.misses = 0;
        slot.entry = Entry::of(&name, &value);
        match &slot.entry {
            Some(entry) => exchange.ready_field(&entry.field),
            None => false,
        }
    })
}

impl Entry {
    fn of(name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> Option<Entry> {
        // The end of a subclass's instance may run Python code.
        if !(name.is_exact_instance_of::<PyString>() && value.is_exact_instance_of::<PyString>()) {
            return None;
        }
        let (name_bytes, value_bytes) = (text::as_latin1(name)?, text::as_latin1(value)?);
        if name_bytes.len() > LONGEST_NAME
            || value_bytes.len() > LONGEST_VALUE
            || kind_of(name_bytes) == NameKind::Secret
        {
            return None;
        }
        Some(Entry {
            field: ReadyField::new(name_bytes, value_bytes)?,
            name: name.clone().unbind(),
            value: value.clone().unbind(),
        })
    }
}
