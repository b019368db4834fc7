//! start_response, write and wsgi.early_hints: builtin functions bound to a [`Response`].
//!
//! Builtin functions (METH_FASTCALL), not classes with `__call__`: no argument tuple is made for a call. They can be
//! kept by the application; after the request they raise. Source: PEP 3333, "The start_response() Callable".
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use tricorn_proto::AppFault;

use super::ready;
use super::response::{OwnedField, Response, State, Unsent, finished};
use super::text::{self, repr};

struct Method(ffi::PyMethodDef);

// SAFETY: a method definition is read only; its pointers are to static data.
unsafe impl Sync for Method {}

static START_RESPONSE: Method = Method(ffi::PyMethodDef {
    ml_name: c"start_response".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer {
        PyCFunctionFastWithKeywords: start_response_entry,
    },
    ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
    ml_doc: c"start_response(status, headers, exc_info=None)".as_ptr(),
});
static WRITE: Method = Method(ffi::PyMethodDef {
    ml_name: c"write".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer {
        PyCFunction: write_entry,
    },
    ml_flags: ffi::METH_O,
    ml_doc: c"write(data)".as_ptr(),
});
static EARLY_HINTS: Method = Method(ffi::PyMethodDef {
    ml_name: c"early_hints".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer {
        PyCFunction: early_hints_entry,
    },
    ml_flags: ffi::METH_O,
    ml_doc: c"early_hints(headers)".as_ptr(),
});

fn bound<'py>(
    response: &Bound<'py, Response>,
    method: &'static Method,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the definition is static, self is a live object; a new reference or NULL with an exception comes back.
    unsafe {
        let function = ffi::PyCFunction_NewEx(
            (&raw const method.0).cast_mut(),
            response.as_ptr(),
            core::ptr::null_mut(),
        );
        Bound::from_owned_ptr_or_err(response.py(), function)
    }
}

pub fn start_response_of<'py>(response: &Bound<'py, Response>) -> PyResult<Bound<'py, PyAny>> {
    bound(response, &START_RESPONSE)
}

pub fn write_of<'py>(response: &Bound<'py, Response>) -> PyResult<Bound<'py, PyAny>> {
    bound(response, &WRITE)
}

pub fn early_hints_of<'py>(response: &Bound<'py, Response>) -> PyResult<Bound<'py, PyAny>> {
    bound(response, &EARLY_HINTS)
}

/// Runs a builtin's body: Rust errors and panics become Python exceptions.
fn entered(
    slf: *mut ffi::PyObject,
    body: impl for<'py> FnOnce(&Bound<'py, Response>) -> PyResult<Py<PyAny>>,
) -> *mut ffi::PyObject {
    Python::attach(|py| {
        // SAFETY: self is the Response that `bound` tied to the function, borrowed for the call.
        let response =
            unsafe { Bound::from_borrowed_ptr(py, slf).cast_into_unchecked::<Response>() };
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&response))).unwrap_or_else(|_| {
            Err(pyo3::exceptions::PySystemError::new_err(
                "the gateway failed in a call of the application",
            ))
        });
        match outcome {
            Ok(value) => value.into_ptr(),
            Err(error) => {
                error.restore(py);
                core::ptr::null_mut()
            }
        }
    })
}

unsafe extern "C" fn start_response_entry(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    entered(slf, |response| {
        // SAFETY: `args` holds `count` positional values and one for each name in `keywords`, all borrowed.
        let arguments = unsafe { parse(response.py(), args, count, keywords) }?;
        start_response(response, arguments)
    })
}

unsafe extern "C" fn write_entry(
    slf: *mut ffi::PyObject,
    data: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    entered(slf, |response| {
        // SAFETY: METH_O passes one borrowed, live argument.
        let data = unsafe { Borrowed::from_ptr(response.py(), data) };
        write(response, &data)
    })
}

unsafe extern "C" fn early_hints_entry(
    slf: *mut ffi::PyObject,
    fields: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    entered(slf, |response| {
        // SAFETY: METH_O passes one borrowed, live argument.
        let fields = unsafe { Borrowed::from_ptr(response.py(), fields) };
        early_hints(response, &fields)
    })
}

/// status, headers, exc_info.
type Arguments<'a, 'py> = [Option<Borrowed<'a, 'py, PyAny>>; 3];

/// # Safety
/// As for a METH_FASTCALL | METH_KEYWORDS function.
unsafe fn parse<'a, 'py>(
    py: Python<'py>,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> PyResult<Arguments<'a, 'py>> {
    let count = count as usize;
    let mut parsed = [None; 3];
    if count > 3 {
        return Err(PyTypeError::new_err(format!(
            "start_response() takes 2 or 3 arguments ({count} given)"
        )));
    }
    for (index, slot) in parsed.iter_mut().enumerate().take(count) {
        // SAFETY: index < count.
        *slot = Some(unsafe { Borrowed::from_ptr(py, *args.add(index)) });
    }
    if !keywords.is_null() {
        // SAFETY: a non-null `keywords` is a tuple of str.
        let names = unsafe { Borrowed::from_ptr(py, keywords).cast_unchecked::<PyTuple>() };
        for (index, name) in names.iter().enumerate() {
            let place = ["status", "headers", "exc_info"]
                .iter()
                .position(|known| name.eq(known).unwrap_or(false));
            match place {
                Some(place) if parsed[place].is_none() => {
                    // SAFETY: the values of keywords follow the positional ones.
                    parsed[place] =
                        Some(unsafe { Borrowed::from_ptr(py, *args.add(count + index)) });
                }
                _ => {
                    return Err(PyTypeError::new_err(format!(
                        "start_response() got an unexpected keyword argument {}",
                        repr(&name)
                    )));
                }
            }
        }
    }
    Ok(parsed)
}

fn start_response(
    response: &Bound<'_, Response>,
    arguments: Arguments<'_, '_>,
) -> PyResult<Py<PyAny>> {
    let py = response.py();
    let [Some(status), Some(headers), exc_info] = arguments else {
        return Err(PyTypeError::new_err(
            "start_response() needs status and headers",
        ));
    };
    let exc_info = match exc_info {
        Some(info) if info.is_truthy()? => Some(info),
        _ => None,
    };
    // What may run Python code comes before the lock.
    let given = plain(&status, &headers);
    let mut state = response.get().lock(py);
    if state.exchange.is_none() {
        return Err(finished());
    }
    match exc_info {
        Some(info) if state.head_ended() => {
            drop(state);
            return Err(raised(&info)?);
        }
        None if state.status.is_some() => {
            return Err(PyAssertionError::new_err("Response headers already set!"));
        }
        _ => {}
    }
    let (status, fields) = given?;
    let outcome = encode(&mut state, status, &fields);
    let before = match &outcome {
        Ok(()) => state.status.replace(status.clone().unbind()),
        // A head that was begun before still stands.
        Err(Fault::Status(_)) => None,
        Err(_) => state.status.take(),
    };
    let write = state.write.as_ref().map(|write| write.clone_ref(py));
    drop(state);
    drop(before);
    outcome.map_err(Fault::into_error)?;
    write.ok_or_else(finished)
}

/// The exception of an exc_info triple, with the traceback given there.
fn raised(info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let (class, value, traceback): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) =
        info.extract()?;
    let value = if value.is_none() {
        class.call0()?
    } else {
        value
    };
    if !traceback.is_none() {
        value.setattr("__traceback__", traceback)?;
    }
    Ok(PyErr::from_value(value))
}

/// Status and fields as objects that no Python code stands behind.
fn plain<'a, 'py>(
    status: &'a Bound<'py, PyAny>,
    headers: &Bound<'py, PyAny>,
) -> PyResult<(&'a Bound<'py, PyString>, Bound<'py, PyList>)> {
    match status.cast::<PyString>() {
        Ok(status) => Ok((status, plain_list(headers)?)),
        Err(_) => Err(not_a_string(status)),
    }
}

fn not_a_string(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{} is not a string", repr(object)))
}

/// `headers` as a list of pairs that no Python code stands behind: the list itself when it is one already.
fn plain_list<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    if !cfg!(Py_GIL_DISABLED)
        && let Ok(list) = headers.cast_exact::<PyList>()
        // SAFETY: nothing runs meanwhile that could change it.
        && unsafe { items(list) }.all(|item| item.cast_exact::<PyTuple>().is_ok())
    {
        return Ok(list.clone());
    }
    let plain = PyList::empty(headers.py());
    for pair in headers.try_iter()? {
        plain.append(PyTuple::new(
            headers.py(),
            pair?.try_iter()?.collect::<PyResult<Vec<_>>>()?,
        )?)?;
    }
    Ok(plain)
}

/// Why a head was refused, before it is put into words (which may run Python code).
enum Fault {
    Finished,
    NotAPair(Py<PyAny>),
    NotAString(Py<PyAny>),
    Status(Py<PyAny>),
    Field(Py<PyAny>, Option<AppFault>),
}

impl Fault {
    fn into_error(self) -> PyErr {
        Python::attach(|py| match self {
            Fault::Finished => finished(),
            Fault::NotAPair(item) => PyTypeError::new_err(format!(
                "{} is not a (name, value) pair",
                repr(item.bind(py))
            )),
            Fault::NotAString(item) => not_a_string(item.bind(py)),
            Fault::Status(status) => {
                PyValueError::new_err(format!("Invalid status {}", repr(status.bind(py))))
            }
            // The value may be a secret: only the name is told.
            Fault::Field(name, None) => {
                PyValueError::new_err(format!("Invalid response header: {}", repr(name.bind(py))))
            }
            Fault::Field(_, Some(fault)) => PyValueError::new_err(fault.message),
        })
    }
}

/// Hands status and fields to the encoder. Runs no Python code: the state is locked.
fn encode(
    state: &mut State,
    status: &Bound<'_, PyString>,
    fields: &Bound<'_, PyList>,
) -> Result<(), Fault> {
    let keep = state.keep_fields;
    let mut kept: Vec<OwnedField> = Vec::new();
    let mut response_length = None;
    let exchange = state.exchange.as_mut().ok_or(Fault::Finished)?;
    if state.force_close {
        exchange.force_close();
    }
    text::as_latin1(status)
        .and_then(|status| exchange.begin_head(status).ok())
        .ok_or_else(|| Fault::Status(status.clone().into_any().unbind()))?;
    // SAFETY: nothing runs meanwhile that could change it; with other threads beside us it is a copy of ours.
    for item in unsafe { items(fields) } {
        let pair = item.cast_exact::<PyTuple>();
        let Some(pair) = pair.ok().filter(|pair| pair.len() == 2) else {
            return Err(Fault::NotAPair(item.to_owned().unbind()));
        };
        let (name, value) = (borrowed_item(pair, 0), borrowed_item(pair, 1));
        let (Ok(name), Ok(value)) = (name.cast::<PyString>(), value.cast::<PyString>()) else {
            let wrong = if name.cast::<PyString>().is_err() {
                name
            } else {
                value
            };
            return Err(Fault::NotAString(wrong.to_owned().unbind()));
        };
        if !keep && ready::put(exchange, name, value) {
            continue;
        }
        let refused = |fault| Fault::Field(name.to_owned().into_any().unbind(), fault);
        let name_bytes = text::as_latin1(&name).ok_or_else(|| refused(None))?;
        let value_bytes = text::as_latin1(&value).ok_or_else(|| refused(None))?;
        exchange
            .head_field(name_bytes, value_bytes)
            .map_err(|fault| refused(Some(fault)))?;
        if keep {
            let value_bytes = trimmed(value_bytes);
            kept.push((name_bytes.to_vec(), value_bytes.to_vec()));
            if name_bytes.eq_ignore_ascii_case(b"content-length") {
                response_length = core::str::from_utf8(value_bytes)
                    .ok()
                    .and_then(|digits| digits.parse().ok());
            }
        }
    }
    state.fields = kept;
    state.response_length = response_length;
    Ok(())
}

/// The items of a list, without a reference to each.
///
/// # Safety
/// The list must not change as long as any of them is used.
#[inline]
unsafe fn items<'a, 'py>(
    list: &'a Bound<'py, PyList>,
) -> impl Iterator<Item = Borrowed<'a, 'py, PyAny>> {
    (0..list.len()).map(|index| {
        // SAFETY: the list has as many items, and keeps them.
        unsafe {
            Borrowed::from_ptr(
                list.py(),
                ffi::PyList_GET_ITEM(list.as_ptr(), index as ffi::Py_ssize_t),
            )
        }
    })
}

/// An item of a tuple of known length.
#[inline]
fn borrowed_item<'a, 'py>(
    pair: Borrowed<'a, 'py, PyTuple>,
    index: usize,
) -> Borrowed<'a, 'py, PyAny> {
    // SAFETY: the caller has checked the length; a tuple does not change.
    unsafe {
        Borrowed::from_ptr(
            pair.py(),
            ffi::PyTuple_GET_ITEM(pair.as_ptr(), index as ffi::Py_ssize_t),
        )
    }
}

/// Without blanks and tabs at the ends (RFC 9110, 5.5).
#[inline]
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn write(response: &Bound<'_, Response>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = response.py();
    let Ok(block) = data.cast::<PyBytes>() else {
        return Err(PyTypeError::new_err(format!(
            "{} is not a byte string",
            repr(data)
        )));
    };
    if response.get().lock(py).exchange.is_none() {
        return Err(finished());
    }
    response
        .get()
        .send(py, block.as_bytes(), None)
        .map_err(Unsent::into_error)?;
    Ok(py.None())
}

fn early_hints(response: &Bound<'_, Response>, headers: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = response.py();
    let mut fields: Vec<OwnedField> = Vec::new();
    for pair in headers.try_iter()? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
        fields.push((
            text::wire_bytes(&name)?,
            trimmed(&text::wire_bytes(&value)?).to_vec(),
        ));
    }
    let borrowed: Vec<(&[u8], &[u8])> = fields
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
        .collect();
    let mut state = response.get().lock(py);
    let outcome = match state.exchange.as_mut() {
        Some(exchange) => exchange.informational(b"103 Early Hints", borrowed),
        _ => Ok(()),
    };
    drop(state);
    outcome.map_err(|fault| PyValueError::new_err(fault.message))?;
    Ok(py.None())
}
