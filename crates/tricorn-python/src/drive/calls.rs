//! The driver of loops that call WSGI applications from Python: green threads (gevent, eventlet), and tornado's.
//!
//! Not the loop, which `python/tricorn/workers` has. Invariant: no borrow is held while Python code runs, because any of it
//! may switch to another green thread.
use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBool;

use super::pollable::Pollable;
use crate::gateway::{Blocks, Call, Failure, Waits, Wsgi};

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

    /// Is there a request for `answer`?
    fn has_request(&self) -> bool {
        let shared = &self.shared;
        shared.pollable.has_request(shared.running.get())
    }

    /// Calls the application for the next request. True: it is answered. A WsgiCall: its blocks have to be asked for one by
    /// one. None: there is no request, or as many run as may.
    ///
    /// Raises what is no `Exception`, once the request is answered.
    fn answer<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let shared = &self.shared;
        let running = shared.running.get();
        let Some(exchange) = shared.pollable.next(py, running)? else {
            return Ok(None);
        };
        let key = exchange.key();
        let mut call = shared.gateway.begin(py, &exchange)?;
        shared.running.set(running + 1);
        let outcome = shared.gateway.open(py, &mut call, exchange);
        if let Ok(false) = outcome {
            let call = WsgiCall {
                shared: shared.clone(),
                key,
                state: RefCell::new(Some(State {
                    call,
                    blocks: Blocks::default(),
                    failed: None,
                })),
            };
            return Bound::new(py, call).map(|call| Some(call.into_any()));
        }
        shared.end(py, call, outcome.map(drop))?;
        Ok(Some(PyBool::new(py, true).to_owned().into_any()))
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

impl Shared {
    fn end(&self, py: Python<'_>, call: Call, outcome: Result<(), Failure>) -> PyResult<()> {
        let ended = self.gateway.end(py, call, outcome);
        self.running.set(self.running.get() - 1);
        ended
    }
}

struct State {
    call: Call,
    blocks: Blocks,
    /// Why nothing more is to be sent.
    failed: Option<Failure>,
}

/// A call that has returned something to be iterated over: `write` each of the `blocks`, then `end`.
#[pyclass(unsendable, frozen, module = "tricorn._core")]
struct WsgiCall {
    shared: Rc<Shared>,
    key: u64,
    state: RefCell<Option<State>>,
}

fn over() -> PyErr {
    PyRuntimeError::new_err("the call is over")
}

#[pymethods]
impl WsgiCall {
    /// What the application returned.
    #[getter]
    fn blocks(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let state = self.state.borrow();
        let state = state.as_ref().ok_or_else(over)?;
        Ok(state.call.iterable(py))
    }

    #[getter]
    fn key(&self) -> u64 {
        self.key
    }

    /// Sends a block; waits while the peer does not take it. False: no more are wanted.
    fn write(&self, py: Python<'_>, block: &Bound<'_, PyAny>) -> PyResult<bool> {
        // Nothing is borrowed meanwhile.
        let mut state = self.state.take().ok_or_else(over)?;
        let response = state.call.response();
        state.failed = state.blocks.send(py, response, block).err();
        let wants_more = state.failed.is_none();
        self.state.replace(Some(state));
        Ok(wants_more)
    }

    /// Is there room for another block? If not, `turn` returns `key` once there is.
    fn has_room(&self, py: Python<'_>) -> PyResult<bool> {
        let state = self.state.borrow();
        let state = state.as_ref().ok_or_else(over)?;
        Ok(state.call.response().has_room(py))
    }

    /// Answers what is not answered yet. `error`: what the application raised.
    ///
    /// Raises as `WsgiEngine.answer`.
    fn end(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let mut state = self.state.take().ok_or_else(over)?;
        let outcome = match (state.failed.take(), error) {
            (Some(failure), _) => Err(failure),
            (None, Some(error)) => Err(PyErr::from_value(error.clone()).into()),
            (None, None) => state.blocks.end(py, state.call.response()),
        };
        self.shared.end(py, state.call, outcome)
    }
}
