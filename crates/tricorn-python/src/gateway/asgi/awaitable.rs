//! What `receive()` and `send()` return: an awaitable whose result is there already, or one that waits for a future.
//!
//! Applications mostly await it at once; some make a task of it, so it also answers to the coroutine protocol. Invariant:
//! one without a value can be awaited again and again, so that all of them are the same object.
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

/// A result that is there.
#[pyclass(frozen, module = "tricorn._core")]
pub struct Ready {
    value: Option<Py<PyAny>>,
}

/// A result that comes with a future of the loop.
#[pyclass(frozen, module = "tricorn._core")]
pub struct Pending {
    future: Py<PyAny>,
    /// The future's own iterator, once somebody drives it by hand.
    steps: PyOnceLock<Py<PyAny>>,
}

/// Lets `asyncio` take them for coroutines.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let register = py
        .import("collections.abc")?
        .getattr("Coroutine")?
        .getattr("register")?;
    register.call1((py.get_type::<Ready>(),))?;
    register.call1((py.get_type::<Pending>(),))?;
    Ok(())
}

/// Nothing more to wait for, and no value.
pub fn done(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static DONE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let done = DONE.get_or_try_init(py, || {
        Ok::<_, PyErr>(Py::new(py, Ready { value: None })?.into_any())
    })?;
    Ok(done.clone_ref(py))
}

pub fn ready(value: Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let py = value.py();
    let value = Some(value.unbind());
    Ok(Py::new(py, Ready { value })?.into_any())
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

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &self.value {
            None => Ok(None),
            Some(value) => Err(PyStopIteration::new_err((value.clone_ref(py),))),
        }
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyErr {
        let value = self.value.as_ref().map(|value| value.clone_ref(py));
        PyStopIteration::new_err((value,))
    }

    #[pyo3(signature = (error, *_rest))]
    fn throw(&self, error: &Bound<'_, PyAny>, _rest: &Bound<'_, PyTuple>) -> PyErr {
        PyErr::from_value(error.clone())
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
