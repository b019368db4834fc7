//! The driver of loops that call WSGI applications from Python: green threads (gevent, eventlet), and tornado's.
//!
//! Not the loop, which `python/tricorn/workers` has. Invariant: no borrow is held while Python code runs, because any of it
//! may switch to another green thread.
use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tricorn_engine::Exchange;

use super::pollable::Pollable;
use crate::gateway::{Blocks, Call, Failure, Waits, Wsgi, deliver_whole};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WsgiEngine>()?;
    module.add_class::<WsgiCall>()?;
    Ok(())
}

struct Shared {
    pollable: Pollable,
    gateway: Wsgi,
    /// Requests in the application.
    running: Cell<usize>,
}

/// The engine of a worker whose loop calls a WSGI application.
#[pyclass(unsendable, frozen, module = "tricorn._core")]
struct WsgiEngine {
    shared: Rc<Shared>,
}

#[pymethods]
impl WsgiEngine {
    /// `waiter(key)`: waits in the calling green thread until `turn` returns that key. None: a call cannot wait, the loop
    /// asks for room between two blocks.
    #[new]
    #[pyo3(signature = (worker, waiter))]
    fn new(worker: &Bound<'_, PyAny>, waiter: Option<Py<PyAny>>) -> PyResult<Self> {
        let pollable = Pollable::open(worker, |config| {
            // Who cannot wait cannot read a body that is still to come.
            config.request_buffering |= waiter.is_none();
        })?;
        let gateway = Wsgi::new(worker, waiter.map_or(Waits::Never, Waits::InLoop))?;
        Ok(WsgiEngine {
            shared: Rc::new(Shared {
                pollable,
                gateway,
                running: Cell::new(0),
            }),
        })
    }

    fn fileno(&self) -> RawFd {
        self.shared.pollable.fileno()
    }

    fn turn(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        self.shared.pollable.turn(py)
    }

    /// The next request, as a call to be made; None when there is none, or when as many run as may.
    fn next(&self, py: Python<'_>) -> PyResult<Option<WsgiCall>> {
        let running = &self.shared.running;
        let Some(exchange) = self.shared.pollable.next(py, running.get())? else {
            return Ok(None);
        };
        running.set(running.get() + 1);
        let call = self.shared.gateway.begin(py, &exchange)?;
        Ok(Some(WsgiCall {
            shared: self.shared.clone(),
            key: exchange.key(),
            state: RefCell::new(Some(State {
                call,
                exchange: Some(exchange),
                blocks: Blocks::default(),
                whole: false,
                failed: None,
            })),
        }))
    }

    /// Before whatever may call the application.
    fn begin_step(&self) {
        self.shared.pollable.begin_step();
    }

    /// What waits leaves.
    fn end_step(&self) {
        self.shared.pollable.flush();
        self.shared.pollable.end_step();
    }

    fn attend(&self, py: Python<'_>) -> PyResult<bool> {
        self.shared.pollable.attend(py)
    }

    fn close(&self, py: Python<'_>) {
        self.shared.pollable.close(py);
    }
}

struct State {
    call: Call,
    /// Until the call is prepared.
    exchange: Option<Exchange>,
    blocks: Blocks,
    /// All of it was sent by `deliver`.
    whole: bool,
    /// Why nothing more is to be sent.
    failed: Option<Failure>,
}

/// One call of the application: `begin`, then the application, then `deliver` and perhaps `write`, then `end`.
#[pyclass(unsendable, frozen, module = "tricorn._core")]
struct WsgiCall {
    shared: Rc<Shared>,
    key: u64,
    state: RefCell<Option<State>>,
}

impl WsgiCall {
    /// Runs `step` while nothing is borrowed. Its failure is remembered for the end.
    fn with(&self, step: impl FnOnce(&mut State) -> Result<bool, Failure>) -> PyResult<bool> {
        let mut state = self.state.take().ok_or_else(over)?;
        let outcome = step(&mut state);
        let going_on = match outcome {
            Ok(going_on) => going_on,
            Err(failure) => {
                state.failed = Some(failure);
                false
            }
        };
        self.state.replace(Some(state));
        Ok(going_on)
    }
}

fn over() -> PyErr {
    PyRuntimeError::new_err("the call is over")
}

#[pymethods]
impl WsgiCall {
    /// environ and start_response, for the application; None when it is not to be called.
    fn begin<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let gateway = &self.shared.gateway;
        self.with(|state| match state.exchange.take() {
            Some(exchange) => gateway
                .prepare(py, &mut state.call, exchange)
                .map(|()| true),
            None => Ok(true),
        })?;
        let state = self.state.borrow();
        let Some(call) = state.as_ref().map(|state| &state.call) else {
            return Ok(None);
        };
        let Some(environ) = call.environ(py) else {
            return Ok(None);
        };
        let arguments = [environ.as_any(), call.start_response(py)];
        PyTuple::new(py, arguments).map(Some)
    }

    #[getter]
    fn key(&self) -> u64 {
        self.key
    }

    /// Takes what the application returned. True when its blocks have to be asked for and written one by one.
    fn deliver(&self, py: Python<'_>, iterable: Bound<'_, PyAny>) -> PyResult<bool> {
        self.with(|state| {
            state.call.keep(iterable.clone());
            state.whole = deliver_whole(py, state.call.response(), &iterable)?;
            Ok(!state.whole)
        })
    }

    /// Sends a block; waits while the peer does not take it. False: no more are wanted.
    fn write(&self, py: Python<'_>, block: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.with(|state| {
            state.blocks.send(py, state.call.response(), block)?;
            Ok(true)
        })
    }

    /// Is there room for another block? If not, `turn` returns `key` once there is.
    fn has_room(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.state.borrow();
        let state = state.as_ref().ok_or_else(over)?;
        Ok(state.call.response().has_room(py))
    }

    /// Answers what is not answered yet. `error`: what the application raised.
    ///
    /// Raises what is no `Exception`, once the request is answered.
    fn end(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let mut state = self.state.take().ok_or_else(over)?;
        let gateway = &self.shared.gateway;
        let response = state.call.response();
        let outcome = match (error, state.failed.take()) {
            (_, Some(failure)) => Err(failure),
            (Some(error), None) => Err(PyErr::from_value(error.clone()).into()),
            (None, None) if state.whole => Ok(()),
            (None, None) => state.blocks.end(py, response),
        };
        let ended = gateway.end(py, state.call, outcome);
        let running = &self.shared.running;
        running.set(running.get() - 1);
        ended
    }
}
