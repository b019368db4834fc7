//! The response of one request: what start_response, write(), wsgi.input and the hooks share (`resp`).
//!
//! Owns the [`Exchange`] while the application runs. Invariants: the lock is never held while Python code runs, a
//! blocking call on the exchange holds it only without the GIL, and nothing waits for it with the GIL held. After
//! the request the exchange is gone and every late caller finds a finished response.
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::exceptions::{PyBrokenPipeError, PyConnectionResetError, PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};
use tricorn_engine::{BodyError, Exchange, Gone, Written};
use tricorn_proto::{Head, Reject};

use super::kit::references;
use super::text;

pyo3::create_exception!(
    tricorn._core,
    RequestBodyError,
    PyOSError,
    "The request body is malformed, too large or too slow; unless caught, the client gets the proper error answer."
);

/// A response field as the application gave it, latin-1.
pub type OwnedField = (Vec<u8>, Vec<u8>);

/// How a call of the application waits for its peer.
pub enum Waits {
    /// Its thread waits, without the GIL.
    InThread,
    /// Python code waits in the application's loop until the engine reports the exchange whose key it is given.
    InLoop(Py<PyAny>),
    /// Not at all: the loop's only thread must not be held. The driver waits between two blocks; what does not fit is
    /// taken all the same.
    Never,
}

impl Waits {
    pub fn clone_ref(&self, py: Python<'_>) -> Waits {
        match self {
            Waits::InThread => Waits::InThread,
            Waits::InLoop(waiter) => Waits::InLoop(waiter.clone_ref(py)),
            Waits::Never => Waits::Never,
        }
    }
}

/// Why a block was not taken.
pub enum Unsent {
    /// start_response was not called.
    NotStarted,
    /// The peer has left, or the request is over.
    Gone,
    /// The loop has thrown this into the wait for the peer.
    Interrupted(PyErr),
}

impl Unsent {
    /// What write() raises for it.
    pub fn into_error(self) -> PyErr {
        match self {
            Unsent::NotStarted | Unsent::Gone => broken_pipe(),
            Unsent::Interrupted(error) => error,
        }
    }
}

impl From<PyErr> for Unsent {
    fn from(error: PyErr) -> Self {
        Unsent::Interrupted(error)
    }
}

impl From<Gone> for Unsent {
    fn from(_: Gone) -> Self {
        Unsent::Gone
    }
}

/// What the lock protects.
#[derive(Default)]
pub struct State {
    pub exchange: Option<Exchange>,
    /// Set once start_response has been called successfully.
    pub status: Option<Py<PyString>>,
    /// The application's fields; kept only when `keep_fields`.
    pub fields: Vec<OwnedField>,
    pub keep_fields: bool,
    /// Content-Length as the application gave it.
    pub response_length: Option<u64>,
    /// `write`, handed out by start_response; a cycle that [`Response::retire`] breaks.
    pub write: Option<Py<PyAny>>,
    /// Why reading the request body failed: the answer, if the application does not give one.
    pub body_fault: Option<Reject>,
    /// The peer has left.
    pub gone: bool,
    pub force_close: bool,
    /// The gateway knew the length of the whole body when it ended the head.
    pub length_known: bool,
    /// Figures of a finished exchange.
    pub sent: u64,
    pub head_sent: bool,
    pub chunked: bool,
    pub peer_keeps: bool,
}

impl State {
    /// Ready for the next request; `write` and `keep_fields` stay. Returns what may only go without the lock.
    fn reset(&mut self) -> Option<Py<PyString>> {
        self.fields.clear();
        self.response_length = None;
        self.body_fault = None;
        self.gone = false;
        self.force_close = false;
        self.length_known = false;
        self.status.take()
    }

    pub fn head_ended(&self) -> bool {
        self.exchange
            .as_ref()
            .map_or(self.head_sent, Exchange::head_ended)
    }

    /// Ends the head, unless that is done. Returns whether it was not.
    pub fn end_head(&mut self, known_length: Option<u64>) -> bool {
        let exchange = self.exchange.as_mut();
        let Some(exchange) = exchange.filter(|exchange| !exchange.head_ended()) else {
            return false;
        };
        exchange.end_head(known_length);
        self.length_known = known_length.is_some();
        true
    }

    fn status_code(&self, py: Python<'_>) -> Option<u16> {
        let code = text::as_latin1(self.status.as_ref()?.bind(py))?.get(..3)?;
        core::str::from_utf8(code).ok()?.parse().ok()
    }

    /// Is the response one that has a body, of a length that nobody has told?
    fn is_unbounded(&self, py: Python<'_>, head: &Head) -> bool {
        let bodiless = matches!(self.status_code(py), None | Some(100..=199 | 204 | 304));
        !bodiless
            && head.method() != b"HEAD"
            && self.response_length.is_none()
            && !self.length_known
    }

    /// Keeps what `resp` tells of an exchange that ends.
    fn sum_up(&mut self, py: Python<'_>, exchange: &Exchange) {
        let head = exchange.head();
        let unbounded = self.is_unbounded(py, head);
        self.head_sent = exchange.head_ended();
        self.sent = exchange.body_bytes();
        self.chunked = unbounded && head.is_http_1_1();
        self.peer_keeps = head.keep_alive && (self.chunked || !unbounded);
    }
}

/// Gunicorn's response object, as far as hooks and custom loggers look at it.
#[pyclass(frozen, module = "tricorn._core")]
pub struct Response {
    waits: Waits,
    state: Mutex<State>,
}

impl Response {
    pub fn new(keep_fields: bool, waits: Waits) -> Self {
        Response {
            waits,
            state: Mutex::new(State {
                keep_fields,
                ..State::default()
            }),
        }
    }

    /// The state, for a short section without Python code.
    #[inline]
    pub fn lock(&self, py: Python<'_>) -> MutexGuard<'_, State> {
        loop {
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                // Another thread reads or writes without the GIL; it may need the GIL next.
                Err(TryLockError::WouldBlock) => py.detach(|| drop(self.lock_detached())),
            }
        }
    }

    /// The state, for a call that may block. Only without the GIL.
    fn lock_detached(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on the exchange with the GIL released. `None` when the request is over.
    pub fn detached<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Exchange) -> T + Send,
    ) -> Option<T> {
        py.detach(|| self.lock_detached().exchange.as_mut().map(work))
    }

    /// Begins a request.
    pub fn take_on(&self, py: Python<'_>, exchange: Exchange) {
        self.lock(py).exchange = Some(exchange);
    }

    /// Forgets the last request, if nobody has kept `write`. Returns whether that was so.
    pub fn clear(&self, py: Python<'_>) -> bool {
        let mut state = self.lock(py);
        let write = state.write.as_ref();
        let free = write.is_some_and(|write| references(write) == 1);
        let status = if free { state.reset() } else { None };
        drop(state);
        drop(status);
        free
    }

    /// Ends a request: hands the exchange back and keeps the figures. Waits for a reader in another thread.
    pub fn release(&self, py: Python<'_>) -> Option<Exchange> {
        let mut state = self.lock(py);
        let exchange = state.exchange.take()?;
        // Otherwise nobody will ask.
        if state.keep_fields {
            state.sum_up(py, &exchange);
        }
        Some(exchange)
    }

    /// The state with its figures brought up to date.
    fn summed_up(&self, py: Python<'_>) -> MutexGuard<'_, State> {
        let mut state = self.lock(py);
        if let Some(exchange) = state.exchange.take() {
            state.sum_up(py, &exchange);
            state.exchange = Some(exchange);
        }
        state
    }

    /// Breaks the cycle with `write`, when the application has kept a part of it and it cannot be used again.
    pub fn retire(&self, py: Python<'_>) {
        let write = self.lock(py).write.take();
        drop(write);
    }

    /// Sends a block of body, with the head before the first one. `known_length`: the length of the whole body, all of
    /// which is at hand. Otherwise waits, without the GIL, while the output is full.
    pub fn send(
        &self,
        py: Python<'_>,
        block: &[u8],
        known_length: Option<u64>,
    ) -> Result<(), Unsent> {
        // What is at hand anyway is better off with the engine: the thread need not wait for a slow peer.
        let whole = known_length.is_some() || matches!(self.waits, Waits::Never);
        let outcome = {
            let mut guard = self.lock(py);
            let state = &mut *guard;
            if state.status.is_none() {
                return Err(Unsent::NotStarted);
            }
            let begins = state.end_head(known_length);
            let Some(exchange) = state.exchange.as_mut() else {
                return Err(Unsent::Gone);
            };
            if begins && known_length == Some(block.len() as u64) && exchange.put_whole(block) {
                return Ok(());
            }
            match whole {
                true => exchange.write_whole(block),
                false => exchange.write(block),
            }
        };
        let waited = match outcome {
            Ok(Written::All) => return Ok(()),
            Ok(Written::Full) if whole => return Ok(()),
            Ok(Written::Full) => self.wait_for_room(py)?,
            Ok(Written::Part(rest)) if whole => {
                let may_wait = matches!(self.waits, Waits::InThread);
                self.detached(py, |exchange| exchange.leave_rest(&block[rest], may_wait))
            }
            Ok(Written::Part(rest)) => self.write_rest(py, &block[rest])?,
            Err(gone) => Some(Err(gone)),
        };
        Ok(self.settle(py, waited.unwrap_or(Err(Gone)))?)
    }

    /// Waits until the output has room. `None` when the request is over.
    fn wait_for_room(&self, py: Python<'_>) -> PyResult<Option<Result<(), Gone>>> {
        if !self.is_in_loop() {
            return Ok(self.detached(py, Exchange::wait_writable));
        }
        self.wait_in_loop(py, |exchange| {
            exchange.has_room().map(|room| room.then_some(()))
        })
    }

    fn write_rest(&self, py: Python<'_>, mut rest: &[u8]) -> PyResult<Option<Result<(), Gone>>> {
        if !self.is_in_loop() {
            return Ok(self.detached(py, |exchange| exchange.write_rest(rest)));
        }
        self.wait_in_loop(py, |exchange| {
            let taken = exchange.try_write_rest(rest)?;
            rest = &rest[taken..];
            Ok(rest.is_empty().then_some(()))
        })
    }

    /// Tries `attempt` until it has a result; the loop goes on meanwhile. `None` when the request is over.
    ///
    /// Errors: what the loop throws into the wait.
    pub fn wait_in_loop<T, E>(
        &self,
        py: Python<'_>,
        mut attempt: impl FnMut(&mut Exchange) -> Result<Option<T>, E>,
    ) -> PyResult<Option<Result<T, E>>> {
        loop {
            let key = {
                let mut state = self.lock(py);
                let Some(exchange) = state.exchange.as_mut() else {
                    return Ok(None);
                };
                match attempt(exchange) {
                    Ok(Some(result)) => return Ok(Some(Ok(result))),
                    Ok(None) => exchange.key(),
                    Err(error) => return Ok(Some(Err(error))),
                }
            };
            if let Waits::InLoop(waiter) = &self.waits {
                waiter.bind(py).call1((key,))?;
            }
        }
    }

    /// Python code waits in the application's loop.
    pub fn is_in_loop(&self) -> bool {
        matches!(self.waits, Waits::InLoop(_))
    }

    /// Is there room for another block? Where nobody is left to take it, nothing has to be waited for.
    pub fn has_room(&self, py: Python<'_>) -> bool {
        let mut state = self.lock(py);
        let exchange = state.exchange.as_mut();
        exchange.is_none_or(|exchange| exchange.has_room().unwrap_or(true))
    }

    /// Remembers that the peer is gone.
    pub fn settle(&self, py: Python<'_>, outcome: Result<(), Gone>) -> Result<(), Gone> {
        if outcome.is_err() {
            self.lock(py).gone = true;
        }
        outcome
    }

    /// The Python exception for a failed read of the request body, which is remembered for the answer.
    pub fn body_error(&self, py: Python<'_>, error: BodyError) -> PyErr {
        match error {
            BodyError::Reject(reject) => {
                let error = RequestBodyError::new_err(reject.message.clone());
                self.lock(py).body_fault = Some(reject);
                error
            }
            BodyError::Disconnected => {
                self.lock(py).gone = true;
                PyConnectionResetError::new_err((
                    libc::ECONNRESET,
                    "the client closed the connection",
                ))
            }
            BodyError::Io(error) => error.into(),
            BodyError::NotSeekable => {
                unsupported(py, "the request body is streamed and cannot seek")
            }
        }
    }
}

/// `io.UnsupportedOperation`.
pub fn unsupported(py: Python<'_>, message: &str) -> PyErr {
    let made = py
        .import("io")
        .and_then(|io| io.getattr("UnsupportedOperation"))
        .and_then(|class| class.call1((message.to_owned(),)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// What write() raises when the peer is gone, so that the application stops.
fn broken_pipe() -> PyErr {
    PyBrokenPipeError::new_err((libc::EPIPE, "the client closed the connection"))
}

/// What start_response and write() raise after the request.
pub fn finished() -> PyErr {
    PyRuntimeError::new_err("the request is finished")
}

#[pymethods]
impl Response {
    #[getter]
    fn status(&self, py: Python<'_>) -> Option<Py<PyString>> {
        self.lock(py)
            .status
            .as_ref()
            .map(|status| status.clone_ref(py))
    }

    #[getter]
    fn status_code(&self, py: Python<'_>) -> Option<u16> {
        self.lock(py).status_code(py)
    }

    /// The application's fields; empty unless hooks or a custom logger may want them.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let fields = self.lock(py).fields.clone();
        let list = PyList::empty(py);
        for (name, value) in fields {
            list.append(PyTuple::new(
                py,
                [text::latin1(py, &name)?, text::latin1(py, &value)?],
            )?)?;
        }
        Ok(list)
    }

    /// Bytes of body sent so far.
    #[getter]
    fn sent(&self, py: Python<'_>) -> u64 {
        self.summed_up(py).sent
    }

    #[getter]
    fn chunked(&self, py: Python<'_>) -> bool {
        self.summed_up(py).chunked
    }

    /// The application answers with a change of protocol.
    #[getter]
    fn upgrade(&self, py: Python<'_>) -> bool {
        self.lock(py).fields.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case(b"connection") && value.eq_ignore_ascii_case(b"upgrade")
        })
    }

    #[getter]
    fn response_length(&self, py: Python<'_>) -> Option<u64> {
        self.lock(py).response_length
    }

    #[getter]
    fn headers_sent(&self, py: Python<'_>) -> bool {
        self.lock(py).head_ended()
    }

    #[getter]
    fn must_close(&self, py: Python<'_>) -> bool {
        self.lock(py).force_close
    }

    #[getter]
    fn version(&self) -> &'static str {
        "tricorn"
    }

    fn force_close(&self, py: Python<'_>) {
        self.lock(py).force_close = true;
    }

    fn should_close(&self, py: Python<'_>) -> bool {
        let state = self.summed_up(py);
        state.force_close || !state.peer_keeps
    }
}
