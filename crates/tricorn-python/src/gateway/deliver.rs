//! What an application returned, block by block onto the exchange.
//!
//! Source: PEP 3333 "The start_response() Callable", "Handling the Content-Length Header". The head leaves with the
//! first block that is not empty, or at the end.
use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use tricorn_engine::{Exchange, Gone};
use tricorn_proto::Reject;

use super::environ::EnvironError;
use super::file_wrapper::FileWrapper;
use super::response::{Response, Unsent};
use super::text::repr;

/// Why a response did not come to its end.
pub enum Failure {
    /// The application (or a hook) raised.
    Raised(PyErr),
    /// The request asks for something the configuration does not allow.
    Reject(Reject),
    Gone,
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Failure::Raised(error)
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Failure::Gone
    }
}

impl From<Unsent> for Failure {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::NotStarted => Failure::Raised(not_started()),
            Unsent::Gone => Failure::Gone,
        }
    }
}

impl From<EnvironError> for Failure {
    fn from(error: EnvironError) -> Self {
        match error {
            EnvironError::Python(error) => Failure::Raised(error),
            EnvironError::Reject(reject) => Failure::Reject(reject),
        }
    }
}

/// Sends the blocks of an application's iterable. Closing it is the caller's.
pub fn deliver(
    py: Python<'_>,
    response: &Response,
    iterable: &Bound<'_, PyAny>,
) -> Result<(), Failure> {
    if let Ok(list) = iterable.cast_exact::<PyList>() {
        return match list.len() {
            1 => send_all(py, response, &[list.get_item(0)?]),
            _ => send_all(py, response, &list.iter().collect::<Vec<_>>()),
        };
    }
    if let Ok(tuple) = iterable.cast_exact::<PyTuple>() {
        return match tuple.len() {
            1 => send_all(py, response, &[tuple.get_item(0)?]),
            _ => send_all(py, response, &tuple.iter().collect::<Vec<_>>()),
        };
    }
    if let Ok(wrapper) = iterable.cast_exact::<FileWrapper>()
        && send_file(py, response, wrapper.get())?
    {
        return Ok(());
    }
    send_each(py, response, iterable)
}

/// Has the iterable no `close()`, for certain?
pub fn needs_no_close(iterable: &Bound<'_, PyAny>) -> bool {
    iterable.is_exact_instance_of::<PyList>() || iterable.is_exact_instance_of::<PyTuple>()
}

/// Blocks that are all at hand: the length of the whole is known.
fn send_all(
    py: Python<'_>,
    response: &Response,
    blocks: &[Bound<'_, PyAny>],
) -> Result<(), Failure> {
    let mut length = 0;
    for block in blocks {
        length += as_bytes(block)?.len() as u64;
    }
    if length == 0 {
        response.send(py, b"", Some(0))?;
    }
    for block in blocks {
        let bytes = as_bytes(block)?;
        if !bytes.is_empty() {
            response.send(py, bytes, Some(length))?;
        }
    }
    Ok(())
}

/// Blocks that are made one by one.
fn send_each(
    py: Python<'_>,
    response: &Response,
    iterable: &Bound<'_, PyAny>,
) -> Result<(), Failure> {
    let mut known_length = Some(0);
    let mut sent = false;
    for block in iterable.try_iter()? {
        let block = block?;
        let bytes = as_bytes(&block)?;
        known_length = None;
        if bytes.is_empty() {
            ensure_started(py, response)?;
        } else {
            response.send(py, bytes, None)?;
            sent = true;
        }
    }
    if !sent {
        response.send(py, b"", known_length)?;
    }
    Ok(())
}

/// Lets the engine send the file. `false`: it cannot, its blocks have to be read.
fn send_file(py: Python<'_>, response: &Response, wrapper: &FileWrapper) -> Result<bool, Failure> {
    {
        let state = response.lock(py);
        let able = state.exchange.as_ref().is_some_and(Exchange::can_send_file);
        if !able || state.status.is_none() {
            return Ok(false);
        }
    }
    let Some(sendable) = wrapper.sendable(py)? else {
        return Ok(false);
    };
    response.send(py, b"", Some(sendable.length))?;
    let outcome = {
        let mut state = response.lock(py);
        let exchange = state.exchange.as_mut().ok_or(Gone)?;
        exchange.send_file(sendable.file, sendable.offset, sendable.length)
    };
    response.settle(py, outcome)?;
    Ok(true)
}

fn as_bytes<'a>(block: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    match block.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "{} is not a byte string",
            repr(block)
        ))),
    }
}

fn ensure_started(py: Python<'_>, response: &Response) -> PyResult<()> {
    if response.lock(py).status.is_some() {
        return Ok(());
    }
    Err(not_started())
}

fn not_started() -> PyErr {
    PyAssertionError::new_err("The application did not call start_response()")
}
