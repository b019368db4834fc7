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

/// Why a response did not come to its end. One pointer: results are handed on at every step, and nearly all are fine.
pub struct Failure(Box<Cause>);

pub enum Cause {
    /// The application (or a hook) raised.
    Raised(PyErr),
    /// The request asks for something the configuration does not allow.
    Reject(Reject),
    Gone,
}

impl Failure {
    pub fn cause(self) -> Cause {
        *self.0
    }
}

impl From<Cause> for Failure {
    #[cold]
    fn from(cause: Cause) -> Self {
        Failure(Box::new(cause))
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Cause::Raised(error).into()
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Cause::Gone.into()
    }
}

impl From<Unsent> for Failure {
    fn from(unsent: Unsent) -> Self {
        let cause = match unsent {
            Unsent::NotStarted => Cause::Raised(not_started()),
            Unsent::Gone => Cause::Gone,
            Unsent::Interrupted(error) => Cause::Raised(error),
        };
        cause.into()
    }
}

impl From<EnvironError> for Failure {
    fn from(error: EnvironError) -> Self {
        let cause = match error {
            EnvironError::Python(error) => Cause::Raised(error),
            EnvironError::Reject(reject) => Cause::Reject(reject),
        };
        cause.into()
    }
}

/// Asks for the blocks of an application's iterable and sends each. Closing it is the caller's.
pub fn deliver_blocks(
    py: Python<'_>,
    response: &Response,
    iterable: &Bound<'_, PyAny>,
) -> Result<(), Failure> {
    let mut blocks = Blocks::default();
    for block in iterable.try_iter()? {
        blocks.send(py, response, &block?)?;
    }
    blocks.end(py, response)
}

/// Sends what is at hand without running Python code: a list, a tuple, a file of the engine's. `false`: the blocks have to
/// be asked for one by one.
pub fn deliver_whole(
    py: Python<'_>,
    response: &Response,
    iterable: &Bound<'_, PyAny>,
) -> Result<bool, Failure> {
    if let Ok(list) = iterable.cast_exact::<PyList>() {
        match list.len() {
            1 => send_all(py, response, &[list.get_item(0)?]),
            _ => send_all(py, response, &list.iter().collect::<Vec<_>>()),
        }?;
        return Ok(true);
    }
    if let Ok(tuple) = iterable.cast_exact::<PyTuple>() {
        match tuple.len() {
            1 => send_all(py, response, &[tuple.get_item(0)?]),
            _ => send_all(py, response, &tuple.iter().collect::<Vec<_>>()),
        }?;
        return Ok(true);
    }
    match iterable.cast_exact::<FileWrapper>() {
        Ok(wrapper) => send_file(py, response, wrapper.get()),
        Err(_) => Ok(false),
    }
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
#[derive(Default)]
pub struct Blocks {
    /// Empty ones count.
    any: bool,
    sent: bool,
}

impl Blocks {
    pub fn send(
        &mut self,
        py: Python<'_>,
        response: &Response,
        block: &Bound<'_, PyAny>,
    ) -> Result<(), Failure> {
        let bytes = as_bytes(block)?;
        self.any = true;
        if bytes.is_empty() {
            ensure_started(py, response)?;
        } else {
            response.send(py, bytes, None)?;
            self.sent = true;
        }
        Ok(())
    }

    /// There are no more.
    pub fn end(&self, py: Python<'_>, response: &Response) -> Result<(), Failure> {
        if !self.sent {
            response.send(py, b"", (!self.any).then_some(0))?;
        }
        Ok(())
    }
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
    let outcome = {
        let mut state = response.lock(py);
        // The head leaves together with the file.
        state.end_head(Some(sendable.length));
        let exchange = state.exchange.as_mut().ok_or(Gone)?;
        exchange.send_file(sendable.file, sendable.offset, sendable.length)
    };
    response.settle(py, outcome)?;
    Ok(true)
}

#[inline(always)]
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
