//! What `receive()` and `send()` return: awaitables that cost little while there is nothing to wait for.
//!
//! Applications mostly await it at once; some make a task of it, so it also answers to the coroutine protocol. Invariant:
//! one that has nothing to wait for can be awaited again and again, so that all of them are the same object.
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use super::request::AsgiRequest;
use super::socket::AsgiSocket;
use super::task::Carrier;

/// Nothing to wait for.
#[pyclass(frozen, module = "tricorn._core")]
pub struct Ready;

/// A result that comes with a future of the loop.
#[pyclass(frozen, module = "tricorn._core")]
pub struct Pending {
    future: Py<PyAny>,
    /// The future's own iterator, once somebody drives it by hand.
    steps: PyOnceLock<Py<PyAny>>,
}

/// The next message. It is taken when the application goes on with it in its hands and not before, so that one that was
/// cancelled meanwhile loses nothing.
#[pyclass(frozen, module = "tricorn._core")]
pub struct Receive {
    from: Receiver,
}

/// Whose message.
pub enum Receiver {
    Request(Py<AsgiRequest>),
    Socket(Py<AsgiSocket>),
}

impl Receive {
    pub fn of(py: Python<'_>, from: Receiver) -> PyResult<Py<Receive>> {
        Py::new(py, Receive { from })
    }

    /// One step: the message as a StopIteration, or a future to wait for.
    fn step(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let message = match &self.from {
            Receiver::Request(request) => request.get().next_message(py)?,
            Receiver::Socket(socket) => socket.get().next_message(py)?,
        };
        if let Some(message) = message {
            return Err(PyStopIteration::new_err((message.unbind(),)));
        }
        let future = match &self.from {
            Receiver::Request(request) => AsgiRequest::await_message(request.bind(py))?,
            Receiver::Socket(socket) => socket.get().await_message(py)?,
        };
        // What a future says of itself when a task is to wait for it.
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        Ok(future.unbind())
    }
}

#[pymethods]
impl Receive {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.step(py)
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py)
    }

    #[pyo3(signature = (error, *_rest))]
    fn throw(&self, error: &Bound<'_, PyAny>, _rest: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(PyErr::from_value(error.clone()))
    }

    fn close(&self) {}
}

/// Lets `asyncio` take them for coroutines.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let register = py
        .import("collections.abc")?
        .getattr("Coroutine")?
        .getattr("register")?;
    register.call1((py.get_type::<Ready>(),))?;
    register.call1((py.get_type::<Receive>(),))?;
    register.call1((py.get_type::<Pending>(),))?;
    register.call1((py.get_type::<Carrier>(),))?;
    Ok(())
}

/// Nothing more to wait for, and no value.
pub fn done(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static DONE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let done = DONE.get_or_try_init(py, || Ok::<_, PyErr>(Py::new(py, Ready)?.into_any()))?;
    Ok(done.clone_ref(py))
}

pub fn pending(future: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = future.py();
    let steps = PyOnceLock::new();
    let future = future.unbind();
    Ok(Py::new(py, Pending { future, steps })?.into_any())
}

#[pymethods]
impl Ready {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    fn send(&self, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (error, *_rest))]
    fn throw(&self, error: &Bound<'_, PyAny>, _rest: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(PyErr::from_value(error.clone()))
    }

    fn close(&self) {}
}

impl Pending {
    fn steps<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let steps = self.steps.get_or_try_init(py, || {
            let future = self.future.bind(py);
            Ok::<_, PyErr>(future.call_method0(intern!(py, "__await__"))?.unbind())
        })?;
        Ok(steps.bind(py))
    }
}

#[pymethods]
impl Pending {
    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.future.bind(py).call_method0(intern!(py, "__await__"))
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.steps(py)?.call_method0(intern!(py, "__next__"))
    }

    fn send<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.steps(py)?.call_method1(intern!(py, "send"), (value,))
    }

    #[pyo3(signature = (*error))]
    fn throw<'py>(
        &self,
        py: Python<'py>,
        error: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.steps(py)?.call_method1(intern!(py, "throw"), error)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.steps(py)?.call_method0(intern!(py, "close")).map(drop)
    }
}
