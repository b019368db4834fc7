//! The tasks that the application runs in.
//!
//! Most calls of an application end in their first step. So we take that step ourselves, in the name of a task that has
//! nothing to do and waits for its [`Carrier`]; when the application has to wait, the task takes the call over. A task
//! that nobody has seen lends its name to the next call: making one for each costs more than all the rest of a small call
//! does (0.5 us on Python 3.13; before 3.12, where a new task cannot start at once, a turn of the loop besides).
//!
//! Invariant: a task serves again only when nobody can tell: nothing refers to it, and nothing of it was changed.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::PyStopIteration;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::host::{Conversation, locked};
use crate::gateway::kit::references;

/// How the worker's loop makes tasks, and what says which of them runs.
pub struct Tasks {
    event_loop: Py<PyAny>,
    enter: Py<PyAny>,
    leave: Py<PyAny>,
    class: Py<PyAny>,
    options: Py<PyDict>,
    /// `awaited(awaitable)`: a coroutine, for applications that return something else.
    awaited: Py<PyAny>,
    spare: Mutex<Option<Idle>>,
}

/// A task without a call.
struct Idle {
    task: Py<PyAny>,
    carrier: Py<Carrier>,
    /// Address of the newest weak reference: asyncio's own.
    weakref: usize,
}

/// What else refers to a task without a call: what wakes it, or what is to call it for the first time.
const ELSEWHERE: ffi::Py_ssize_t = 1;

/// The coroutine of a task, and what the task waits for while it has no call.
#[pyclass(frozen, module = "tricorn._core")]
pub struct Carrier {
    tasks: Arc<Tasks>,
    /// A call takes its first step in the task's name.
    lent: AtomicBool,
    /// Somebody has changed something about the task.
    touched: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Makes the task take a step; set while it waits for us.
    wake: Option<Py<PyAny>>,
    /// What says that a task is to wait for it.
    blocking: bool,
    /// The task was cancelled, with this message.
    cancelled: Option<Py<PyAny>>,
    call: Option<Call>,
    /// Nothing more is to come.
    over: bool,
}

/// A call of the application that had to wait.
struct Call {
    coroutine: Py<PyAny>,
    context: Py<PyAny>,
    conversation: Conversation,
    /// What its first step has yielded, until the task waits for it.
    first: Option<Py<PyAny>>,
}

/// How far a step has come.
enum Progress<'py> {
    Waits(Bound<'py, PyAny>),
    Ends(PyResult<()>),
}

impl Tasks {
    pub fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Tasks>> {
        let py = event_loop.py();
        let options = PyDict::new(py);
        options.set_item("loop", event_loop)?;
        if py.version_info() >= (3, 12) {
            options.set_item("eager_start", true)?;
        }
        let asyncio = py.import("asyncio.tasks")?;
        let ours = py.import("tricorn.workers.aio")?;
        Ok(Arc::new(Tasks {
            event_loop: event_loop.clone().unbind(),
            enter: asyncio.getattr("_enter_task")?.unbind(),
            leave: asyncio.getattr("_leave_task")?.unbind(),
            class: ours.getattr("RequestTask")?.unbind(),
            options: options.unbind(),
            awaited: ours.getattr("awaited")?.unbind(),
            spare: Mutex::new(None),
        }))
    }

    /// Calls the application and takes the first step of the call. When that is not the last one, returns the task that has
    /// taken the call over and goes on once its carrier is woken.
    pub fn call(
        self: &Arc<Self>,
        py: Python<'_>,
        app: &Bound<'_, PyAny>,
        arguments: (Bound<'_, PyDict>, &Bound<'_, PyAny>, &Bound<'_, PyAny>),
        conversation: Conversation,
    ) -> PyResult<Option<(Py<PyAny>, Py<Carrier>)>> {
        let idle = self.idle(py)?;
        let carrier = idle.carrier.bind(py);
        carrier.get().lent.store(true, Ordering::Relaxed);
        let whom = (&self.event_loop, &idle.task);
        let context = copy_context(py)?;
        self.enter.bind(py).call1(whom)?;
        let progress = within(&context, || {
            let started = app.call1(arguments).and_then(|made| self.coroutine(made));
            let outcome = match started {
                Ok(coroutine) => match step(&coroutine, None) {
                    Progress::Waits(first) => return Ok(Some((coroutine, first))),
                    Progress::Ends(outcome) => outcome,
                },
                Err(error) => Err(error),
            };
            conversation.end(py, outcome).map(|()| None)
        });
        self.leave.bind(py).call1(whom)?;
        let waits = match progress {
            Ok(waits) => waits,
            Err(error) => {
                self.dismiss(py, idle)?;
                return Err(error);
            }
        };
        let Some((coroutine, first)) = waits else {
            self.recycle(py, idle)?;
            return Ok(None);
        };
        carrier.get().lent.store(false, Ordering::Relaxed);
        carrier.get().lock().call = Some(Call {
            coroutine: coroutine.unbind(),
            context: context.unbind(),
            conversation,
            first: Some(first.unbind()),
        });
        Ok(Some((idle.task, idle.carrier)))
    }

    /// Ends the task that waits for a call, with the next turn of the loop.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(idle) = locked(&self.spare).take() else {
            return Ok(());
        };
        let wake = {
            let mut state = idle.carrier.get().lock();
            state.over = true;
            state.wake.take()
        };
        wake.map_or(Ok(()), |wake| {
            self.call_soon(wake.bind(py), idle.carrier.bind(py))
        })
    }

    fn call_soon(&self, wake: &Bound<'_, PyAny>, carrier: &Bound<'_, Carrier>) -> PyResult<()> {
        let event_loop = self.event_loop.bind(wake.py());
        event_loop.call_method1(intern!(wake.py(), "call_soon"), (wake, carrier))?;
        Ok(())
    }

    fn coroutine<'py>(&self, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: a live object.
        match unsafe { ffi::PyCoro_CheckExact(awaitable.as_ptr()) } != 0 {
            true => Ok(awaitable),
            false => self.awaited.bind(awaitable.py()).call1((awaitable,)),
        }
    }

    fn idle(self: &Arc<Self>, py: Python<'_>) -> PyResult<Idle> {
        let spare = locked(&self.spare).take();
        if let Some(idle) = spare {
            if !idle.carrier.get().is_touched() {
                return Ok(idle);
            }
            self.dismiss(py, idle)?;
        }
        let carrier = Carrier {
            tasks: self.clone(),
            lent: AtomicBool::new(false),
            touched: AtomicBool::new(false),
            state: Mutex::default(),
        };
        let carrier = Bound::new(py, carrier)?;
        let options = Some(self.options.bind(py));
        let task = self.class.bind(py).call((&carrier,), options)?;
        Ok(Idle {
            weakref: newest_weakref(&task),
            task: task.unbind(),
            carrier: carrier.unbind(),
        })
    }

    /// After a call that took one step only.
    fn recycle(&self, py: Python<'_>, idle: Idle) -> PyResult<()> {
        let carrier = idle.carrier.get();
        carrier.lent.store(false, Ordering::Relaxed);
        let unseen = references(&idle.task) == 1 + ELSEWHERE
            && newest_weakref(idle.task.bind(py)) == idle.weakref
            && !carrier.is_touched();
        let mut idle = Some(idle);
        if unseen {
            let mut spare = locked(&self.spare);
            if spare.is_none() {
                *spare = idle.take();
            }
        }
        idle.map_or(Ok(()), |idle| self.dismiss(py, idle))
    }

    /// Lets a task end.
    fn dismiss(&self, py: Python<'_>, idle: Idle) -> PyResult<()> {
        idle.carrier.get().lock().over = true;
        Carrier::wake(idle.carrier.bind(py))
    }
}

impl Carrier {
    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    /// Makes the task take a step now. One that has not begun yet will come by itself.
    pub fn wake(this: &Bound<'_, Self>) -> PyResult<()> {
        let wake = this.get().lock().wake.take();
        if let Some(wake) = wake {
            wake.bind(this.py()).call1((this,))?;
        }
        Ok(())
    }

    /// A step of the task: what it has to wait for, or `None` at its end.
    fn step<'py>(
        this: &Bound<'py, Self>,
        error: Option<PyErr>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let carrier = this.get();
        let taken = carrier.lock().call.take();
        let Some(mut call) = taken else {
            return Self::wait(this, error);
        };
        if let Some(first) = call.first.take() {
            let first = first.into_bound(py);
            if error.is_some() {
                // Cancelled before the task came to wait for it.
                if let Some(cancel) = first.getattr_opt(intern!(py, "cancel"))? {
                    cancel.call0()?;
                }
            } else {
                carrier.lock().call = Some(call);
                return Ok(Some(first));
            }
        }
        let context = call.context.bind(py).clone();
        within(&context, || match step(call.coroutine.bind(py), error) {
            Progress::Waits(awaited) => {
                carrier.lock().call = Some(call);
                Ok(Some(awaited))
            }
            Progress::Ends(outcome) => call.conversation.end(py, outcome).map(|()| None),
        })
    }

    /// A step without a call.
    fn wait<'py>(
        this: &Bound<'py, Self>,
        error: Option<PyErr>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut state = this.get().lock();
        if let Some(error) = error {
            state.over = true;
            return Err(error);
        }
        if state.over {
            return Ok(None);
        }
        state.blocking = true;
        Ok(Some(this.clone().into_any()))
    }

    /// An attribute of the application's own coroutine.
    fn of_coroutine<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let coroutine = self
            .lock()
            .call
            .as_ref()
            .map(|call| call.coroutine.clone_ref(py));
        match coroutine {
            Some(coroutine) => coroutine.bind(py).getattr(name),
            None => Ok(py.None().into_bound(py)),
        }
    }
}

#[pymethods]
impl Carrier {
    // As a coroutine.

    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::step(slf, None)
    }

    fn send<'py>(
        slf: &Bound<'py, Self>,
        _value: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::step(slf, None)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (error, *_rest))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        error: &Bound<'py, PyAny>,
        _rest: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let error = PyErr::from_value(error.clone());
        Self::step(slf, Some(error))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn close(&self) {}

    // For those who look into a task.

    #[getter]
    fn cr_frame<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.of_coroutine(py, "cr_frame")
    }

    #[getter]
    fn cr_code<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.of_coroutine(py, "cr_code")
    }

    #[getter]
    fn cr_await<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.of_coroutine(py, "cr_await")
    }

    #[getter]
    fn cr_running(&self) -> bool {
        let state = self.lock();
        state.call.is_none() && state.wake.is_none()
    }

    #[getter]
    fn __qualname__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let name = self.of_coroutine(py, "__qualname__")?;
        match name.is_none() {
            true => Ok(intern!(py, "request").clone().into_any()),
            false => Ok(name),
        }
    }

    /// Called by the task when somebody changes something about it.
    fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    // As a future that its own task waits for.

    #[getter(_asyncio_future_blocking)]
    fn is_blocking(&self) -> bool {
        self.lock().blocking
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.lock().blocking = blocking;
    }

    fn get_loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.tasks.event_loop.bind(py).clone()
    }

    #[pyo3(signature = (callback, *, context=None))]
    fn add_done_callback(&self, callback: Py<PyAny>, context: Option<Py<PyAny>>) {
        // Each step of a call enters a context of its own.
        drop(context);
        self.lock().wake = Some(callback);
    }

    fn done(&self) -> bool {
        false
    }

    fn cancelled(&self) -> bool {
        self.lock().cancelled.is_some()
    }

    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let carrier = slf.get();
        carrier.touch();
        let wake = {
            let mut state = carrier.lock();
            state.cancelled = Some(msg.unwrap_or_else(|| py.None()));
            // Whose step is being taken hears of it when it has to wait.
            match carrier.lent.load(Ordering::Relaxed) {
                true => None,
                false => state.wake.take(),
            }
        };
        if let Some(wake) = wake {
            carrier.tasks.call_soon(wake.bind(py), slf)?;
        }
        Ok(true)
    }

    fn result(&self, py: Python<'_>) -> PyResult<()> {
        match self.lock().cancelled.take() {
            Some(message) if message.is_none(py) => Err(CancelledError::new_err(())),
            Some(message) => Err(CancelledError::new_err((message,))),
            None => Ok(()),
        }
    }
}

/// A step of a coroutine.
fn step<'py>(coroutine: &Bound<'py, PyAny>, error: Option<PyErr>) -> Progress<'py> {
    let py = coroutine.py();
    if let Some(error) = error {
        return match coroutine.call_method1(intern!(py, "throw"), (error,)) {
            Ok(awaited) => Progress::Waits(awaited),
            Err(end) if end.is_instance_of::<PyStopIteration>(py) => Progress::Ends(Ok(())),
            Err(error) => Progress::Ends(Err(error)),
        };
    }
    let mut yielded = std::ptr::null_mut();
    // SAFETY: live objects; `yielded` is owned by us when it is set, and an exception is set when an error is returned.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &mut yielded) {
            ffi::PySendResult::PYGEN_RETURN => {
                ffi::Py_XDECREF(yielded);
                Progress::Ends(Ok(()))
            }
            ffi::PySendResult::PYGEN_NEXT => Progress::Waits(Bound::from_owned_ptr(py, yielded)),
            ffi::PySendResult::PYGEN_ERROR => Progress::Ends(Err(PyErr::fetch(py))),
        }
    }
}

/// The head of an object's weak references. Another one comes in front of those with a callback, as asyncio's has.
fn newest_weakref(object: &Bound<'_, PyAny>) -> usize {
    // SAFETY: a live object; where its type has a place for weak references, the offset says where that is.
    unsafe {
        let place = (*ffi::Py_TYPE(object.as_ptr())).tp_weaklistoffset;
        match place {
            0 => 0,
            _ => *object.as_ptr().byte_offset(place).cast::<usize>(),
        }
    }
}

fn copy_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: returns a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// Runs `body` in a context.
fn within<T>(context: &Bound<'_, PyAny>, body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let py = context.py();
    // SAFETY: `context` is a context; that it is not entered already is checked by the call.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let outcome = body();
    // SAFETY: entered above, in this thread.
    match unsafe { ffi::PyContext_Exit(context.as_ptr()) } {
        0 => outcome,
        _ => outcome.and(Err(PyErr::fetch(py))),
    }
}
