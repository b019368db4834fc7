//! Between bytes of the wire and Python's native strings (PEP 3333: latin-1 both ways).
//!
//! Not a cache. Every function here needs the GIL and runs no Python code.
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A native string whose code points are the bytes of `bytes`.
#[inline]
pub fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: pointer and length describe `bytes`; the call returns a new exact str or NULL with an exception set.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast(),
            bytes.len() as ffi::Py_ssize_t,
            core::ptr::null(),
        );
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// The bytes of a native string; `None` when it has a code point above U+00FF.
#[inline]
pub fn as_latin1<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a [u8]> {
    // SAFETY: `text` is a str (or a subclass), made ready first on the versions that still know unready ones. A
    // string of the one-byte kind stores exactly one byte a code point, is immutable and lives as long as the borrow.
    unsafe {
        let object = text.as_ptr();
        if ffi::PyUnicode_READY(object) != 0 {
            ffi::PyErr_Clear();
            return None;
        }
        if ffi::PyUnicode_KIND(object) != ffi::PyUnicode_1BYTE_KIND {
            return None;
        }
        let length = ffi::PyUnicode_GET_LENGTH(object) as usize;
        Some(core::slice::from_raw_parts(
            ffi::PyUnicode_DATA(object).cast::<u8>(),
            length,
        ))
    }
}

/// A str or bytes given by an application, as the bytes that go on the wire.
///
/// Errors: TypeError for other types, ValueError for characters outside latin-1.
pub fn wire_bytes(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = value.cast::<pyo3::types::PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    let text = value
        .cast::<PyString>()
        .map_err(|_| PyTypeError::new_err(format!("{} is not a string", repr(value))))?;
    as_latin1(text).map(<[u8]>::to_vec).ok_or_else(|| {
        pyo3::exceptions::PyValueError::new_err(format!("{} is not latin-1", repr(value)))
    })
}

/// `repr()` for an error text; never fails.
pub fn repr(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(
        |_| "<object without repr>".to_owned(),
        |text| text.to_string_lossy().into_owned(),
    )
}

/// `%XX` decoded, everything else as it is (also a `%` without two hex digits).
pub fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        match (
            rest.get(at + 1).copied().and_then(hex),
            rest.get(at + 2).copied().and_then(hex),
        ) {
            (Some(high), Some(low)) => {
                out.push(high << 4 | low);
                rest = &rest[at + 3..];
            }
            _ => {
                out.push(b'%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}
