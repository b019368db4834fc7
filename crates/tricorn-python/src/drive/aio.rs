//! The driver of asyncio loops (asgi, tornado), as far as it is not Python: `python/tricorn/workers/aio.py` has the loop.
use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tricorn_engine::clock;

use super::pollable::Pollable;
use crate::gateway::asgi::{self, Host, OnStep, Step};

/// A step goes on with what has come while it answered, if all of that was quick: so long, and no longer, because others
/// wait for the loop. Going round through the loop costs as much as a fifth of a small request.
const AGAIN_NS: u64 = 200_000;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<AsgiEngine>()
}

/// The engine of a worker whose application lives in an asyncio loop.
#[pyclass(frozen, module = "tricorn._core")]
struct AsgiEngine {
    pollable: Arc<Pollable>,
    host: Arc<Host>,
}

/// Has somebody given this setting a value?
fn is_given(worker: &Bound<'_, PyAny>, name: &str) -> PyResult<bool> {
    let settings = worker.getattr("cfg")?.getattr("settings")?;
    settings.get_item(name)?.getattr("given")?.is_truthy()
}

impl AsgiEngine {
    /// Returns whether there were any.
    fn take_requests(&self, py: Python<'_>) -> PyResult<bool> {
        let mut any = false;
        while let Some(exchange) = self.pollable.next(py, self.host.running())? {
            asgi::begin(py, &self.host, exchange)?;
            any = true;
        }
        Ok(any)
    }
}

#[pymethods]
impl AsgiEngine {
    /// `app`: an ASGI application; `state`: what lifespan has left for requests;
    /// `native`: what is behind it speaks Tornado's own interface.
    #[new]
    #[pyo3(signature = (worker, event_loop, app, state=None, native=false))]
    fn new(
        worker: &Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
        app: Py<PyAny>,
        state: Option<Py<PyDict>>,
        native: bool,
    ) -> PyResult<Self> {
        let limited = is_given(worker, "worker_connections")?;
        let pollable = Pollable::open(worker, |config| {
            // The body belongs to the application while it comes: `receive()` is made for that.
            config.request_buffering = false;
            // Requests wait side by side here, thousands of event streams among them. Gunicorn does not limit them.
            if !limited {
                config.worker_connections = usize::MAX;
            }
        })?;
        let pollable = Arc::new(pollable);
        let stepping = pollable.clone();
        let on_step: OnStep = Box::new(move |step| match step {
            Step::Begins => stepping.begin_step(),
            Step::Ends => stepping.end_step(),
            Step::Exits => stepping.leave(),
        });
        let host = Arc::new(Host::new(worker, event_loop, app, state, native, on_step)?);
        Ok(AsgiEngine { pollable, host })
    }

    fn fileno(&self) -> RawFd {
        self.pollable.fileno()
    }

    /// To be called when the descriptor is readable: everything that can go on does.
    fn turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let engine = slf.get();
        let due = engine.host.begin_step();
        let begun_ns = clock::now_ns();
        loop {
            for key in engine.pollable.turn(py)? {
                engine.host.wake(py, key)?;
            }
            let answered = engine.take_requests(py)?;
            engine.pollable.flush();
            let quick = clock::now_ns().saturating_sub(begun_ns) < AGAIN_NS;
            if !answered || engine.host.has_fresh() || !quick {
                break;
            }
        }
        if engine.host.has_fresh() && !due {
            // Their first step is still to come.
            engine.host.settle_at_end(py)?;
        } else if !due {
            engine.host.end_step();
        }
        Ok(())
    }

    /// The end of a step of the loop in which something was written or ended.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        self.host.watch_fresh(py)?;
        self.take_requests(py)?;
        self.pollable.flush();
        match self.host.has_fresh() {
            true => self.host.settle_at_end(py),
            false => {
                self.host.end_step();
                Ok(())
            }
        }
    }

    /// Looks after signals, the heartbeat, the log, deadlines and the end. True when everything begun is answered.
    fn attend(&self, py: Python<'_>) -> PyResult<bool> {
        self.pollable.attend(py)
    }

    /// Tasks of the application that have not ended.
    fn tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.host.tasks(py)
    }

    /// Has `settle` called by the loop. To be called once, before the first turn.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let settle = slf.getattr("settle")?;
        slf.get().host.set_settle(Some(settle.unbind()));
        Ok(())
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let closed = self.host.close(py);
        self.pollable.close(py);
        closed
    }
}
