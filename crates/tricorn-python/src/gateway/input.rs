//! wsgi.input: the request body as a readable, and when buffered seekable, binary stream.
//!
//! Never reads past the end of the body. Safe to keep: after the request it reads as empty. Readers in several
//! threads take turns. Source: PEP 3333 "Input and Error Streams"; `io.RawIOBase` for seek and tell.
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};
use tricorn_engine::{BodyError, Exchange};

use super::response::{Response, unsupported};

/// Largest piece asked from the engine at once when the application wants everything.
const PIECE: usize = 64 * 1024;

#[pyclass(frozen, module = "tricorn._core")]
pub struct Input {
    response: Py<Response>,
}

impl Input {
    pub fn new(response: Py<Response>) -> Self {
        Input { response }
    }

    /// Appends to `dst` by `read`, with the GIL released or the loop going on when it has to wait. 0 = end of body.
    fn fill(
        &self,
        py: Python<'_>,
        dst: &mut Vec<u8>,
        max: usize,
        read: fn(&mut Exchange, &mut Vec<u8>, usize) -> Result<usize, BodyError>,
    ) -> PyResult<usize> {
        let response = self.response.get();
        let quick = {
            let mut state = response.lock(py);
            match state.exchange.as_mut() {
                None => return Ok(0),
                Some(exchange) if exchange.body_is_buffered() => Some(read(exchange, dst, max)),
                Some(_) => None,
            }
        };
        let outcome = match quick {
            Some(outcome) => outcome,
            None if response.is_in_loop() => {
                // What is at hand then is read without waiting.
                let ready = response.wait_in_loop(py, Exchange::poll_body)?;
                match ready.unwrap_or(Ok(())) {
                    Ok(()) => {
                        let mut state = response.lock(py);
                        let exchange = state.exchange.as_mut();
                        exchange.map_or(Ok(0), |exchange| read(exchange, dst, max))
                    }
                    Err(error) => Err(error),
                }
            }
            None => response
                .detached(py, |exchange| read(exchange, dst, max))
                .unwrap_or(Ok(0)),
        };
        outcome.map_err(|error| response.body_error(py, error))
    }

    /// The next `max` bytes of a buffered body, copied once; `None` of any other.
    fn at_hand<'py>(&self, py: Python<'py>, max: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let response = self.response.get();
        let mut state = response.lock(py);
        let Some(exchange) = state.exchange.as_mut() else {
            return Ok(None);
        };
        // Making bytes runs no Python code.
        if let Some(block) = exchange.take_body(max) {
            return Ok(Some(PyBytes::new(py, block)));
        }
        let Some(count) = exchange.body_at_hand(max) else {
            return Ok(None);
        };
        let mut outcome = Ok(());
        let bytes = PyBytes::new_with(py, count, |out| {
            outcome = exchange.read_body_at_hand(out);
            Ok(())
        })?;
        drop(state);
        match outcome {
            Ok(()) => Ok(Some(bytes)),
            Err(error) => Err(response.body_error(py, BodyError::Io(error))),
        }
    }

    /// How much room a read of `size` bytes of a streamed body wants.
    fn room(&self, py: Python<'_>, size: Option<usize>) -> usize {
        let state = self.response.get().lock(py);
        let left = state.exchange.as_ref().and_then(|exchange| {
            exchange
                .body_len()
                .map(|length| length.saturating_sub(exchange.body_position()) as usize)
        });
        // A length that was only announced is not believed beyond a piece.
        let known = left.unwrap_or(PIECE).min(PIECE);
        size.map_or(known, |size| size.min(known))
    }

    /// Reads a body that is not `at_hand`.
    fn gather(&self, py: Python<'_>, size: Option<usize>) -> PyResult<Vec<u8>> {
        let mut block = Vec::with_capacity(self.room(py, size));
        loop {
            let want = size.map_or(PIECE.max(block.capacity() - block.len()), |size| {
                size - block.len()
            });
            if want == 0 || self.fill(py, &mut block, want, Exchange::read_body)? == 0 {
                return Ok(block);
            }
        }
    }

    fn line(&self, py: Python<'_>, size: Option<usize>) -> PyResult<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let want = size.map_or(PIECE, |size| size - line.len());
            if want == 0
                || self.fill(py, &mut line, want, Exchange::read_body_line)? == 0
                || line.ends_with(b"\n")
            {
                return Ok(line);
            }
        }
    }
}

/// Python's size argument: None and negative numbers mean everything.
fn limit(size: Option<isize>) -> Option<usize> {
    size.and_then(|size| usize::try_from(size).ok())
}

fn after_the_request() -> PyErr {
    PyValueError::new_err("I/O operation on the body of a finished request")
}

#[pymethods]
impl Input {
    /// At most `size` bytes, all that is left without one; empty at the end of the body.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let size = limit(size);
        match self.at_hand(py, size.unwrap_or(usize::MAX))? {
            Some(bytes) => Ok(bytes),
            None => Ok(PyBytes::new(py, &self.gather(py, size)?)),
        }
    }

    /// Up to and including the next LF, at most `size` bytes.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.line(py, limit(size))?))
    }

    /// The lines that are left; stops after about `hint` bytes when it is positive.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let hint = limit(hint).filter(|&hint| hint > 0);
        let lines = PyList::empty(py);
        let mut total = 0;
        loop {
            let line = self.line(py, None)?;
            total += line.len();
            if line.is_empty() {
                return Ok(lines);
            }
            lines.append(PyBytes::new(py, &line))?;
            if hint.is_some_and(|hint| total >= hint) {
                return Ok(lines);
            }
        }
    }

    /// Reads into a writable buffer; the number of bytes.
    fn readinto(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let view = PyMemoryView::from(buffer)?.call_method1(intern!(py, "cast"), ("B",))?;
        let mut block = Vec::new();
        let max = view.len()?;
        if max > 0 {
            self.fill(py, &mut block, max.min(PIECE), Exchange::read_body)?;
        }
        view.set_item(
            PySlice::new(py, 0, block.len() as isize, 1),
            PyBytes::new(py, &block),
        )?;
        Ok(block.len())
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.line(py, None)?;
        Ok((!line.is_empty()).then(|| PyBytes::new(py, &line)))
    }

    /// Moves to an offset from the start (0), from here (1) or from the end (2); the new position.
    #[pyo3(signature = (offset, whence=0, /))]
    fn seek(&self, py: Python<'_>, offset: i64, whence: i32) -> PyResult<u64> {
        let response = self.response.get();
        let mut state = response.lock(py);
        let exchange = state.exchange.as_mut().ok_or_else(after_the_request)?;
        if !exchange.body_is_buffered() {
            drop(state);
            return Err(unsupported(
                py,
                "the request body is streamed and cannot seek",
            ));
        }
        let base = match whence {
            0 => 0,
            1 => exchange.body_position() as i64,
            2 => exchange.body_len().unwrap_or(0) as i64,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "invalid whence ({whence}, should be 0, 1 or 2)"
                )));
            }
        };
        let position = u64::try_from(base.saturating_add(offset)).map_err(|_| {
            PyValueError::new_err(format!(
                "negative seek position {}",
                base.saturating_add(offset)
            ))
        })?;
        let outcome = exchange.seek_body(position);
        drop(state);
        outcome.map_err(|error| response.body_error(py, error))
    }

    fn tell(&self, py: Python<'_>) -> PyResult<u64> {
        let state = self.response.get().lock(py);
        Ok(state
            .exchange
            .as_ref()
            .ok_or_else(after_the_request)?
            .body_position())
    }

    fn seekable(&self, py: Python<'_>) -> bool {
        self.response
            .get()
            .lock(py)
            .exchange
            .as_ref()
            .is_some_and(Exchange::body_is_buffered)
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        false
    }

    /// Does nothing: the body belongs to the server.
    fn close(&self) {}

    #[getter]
    fn closed(&self) -> bool {
        false
    }
}
