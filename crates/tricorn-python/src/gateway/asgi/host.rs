//! What the requests of one asgi worker share: the application, the loop, the logs, and who waits for what.
//!
//! Invariant: no lock is held while Python code runs.
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tricorn_scoreboard::Slot;

use super::extras::Original;
use super::kit::Kit;
use super::request::AsgiRequest;
use super::scope::{Constants, ScopeBuilder};
use super::socket::{AsgiSocket, SocketSettings};
use super::task::{Carrier, Tasks};
use crate::gateway::faults::ErrorLog;
use crate::gateway::hooks::Hooks;
use crate::log::access::AccessLog;

/// What the driver is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A step of the loop begins which has to be settled.
    Begins,
    /// It is settled.
    Ends,
    /// The application exits: from here on nobody new is to come.
    Exits,
}

pub type OnStep = Box<dyn Fn(Step) + Send + Sync>;

/// What the application is called for, and who is told when the engine reports an exchange.
pub enum Conversation {
    Request(Py<AsgiRequest>),
    Socket(Py<AsgiSocket>),
}

pub struct Host {
    pub log: ErrorLog,
    pub access: AccessLog,
    pub slot: &'static Slot,
    pub scopes: ScopeBuilder,
    pub keep_fields: bool,
    pub hooks: Hooks,
    pub worker: Py<PyAny>,
    pub sockets: SocketSettings,
    /// Seconds that an application may go on after its client has left; without them it has to see for itself.
    pub grace: Option<f64>,
    /// What the application speaks, for the log.
    pub name: &'static str,
    /// WebSockets are ours, and not the application's.
    pub has_sockets: bool,
    /// Requests whose answer is not complete, and handshakes.
    running: AtomicUsize,
    app: Py<PyAny>,
    event_loop: Py<PyAny>,
    create_future: Py<PyAny>,
    call_soon: Py<PyAny>,
    /// `context=`: that of the worker, so that nothing of the request that happens to be running gets into others.
    outside: Py<PyDict>,
    calls: Arc<Tasks>,
    /// The driver's end of a step, and whether it is on its way.
    settle: Mutex<Option<Py<PyAny>>>,
    settling: AtomicBool,
    on_step: OnStep,
    waiters: Mutex<HashMap<u64, Conversation, Plain>>,
    /// Requests whose application did not answer at once; their clients are not watched yet.
    fresh: Mutex<Vec<Py<AsgiRequest>>>,
    /// Asyncio itself forgets tasks that nobody else holds.
    tasks: Mutex<HashMap<usize, Py<PyAny>, Plain>>,
    kit: Mutex<Option<Box<Kit>>>,
    /// Hooks or a custom logger want to see requests.
    pub looks: bool,
}

type Plain = BuildHasherDefault<PlainHasher>;

/// For keys of our own making: no peer can choose them, so that nothing has to be hidden.
#[derive(Default)]
struct PlainHasher(u64);

impl Hasher for PlainHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 << 8 | u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        // Addresses and places are told apart by their low bits, the table goes by the high ones.
        self.0 = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, key: usize) {
        self.write_u64(key as u64);
    }
}

impl Host {
    /// Reads what it needs of `worker.cfg` and `worker.log`. `state`: what lifespan leaves to requests; `native`: the
    /// application behind `app` speaks Tornado's own interface.
    pub fn new(
        worker: &Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
        app: Py<PyAny>,
        state: Option<Py<PyDict>>,
        native: bool,
        on_step: OnStep,
    ) -> PyResult<Host> {
        let py = worker.py();
        let (cfg, log) = (worker.getattr("cfg")?, worker.getattr("log")?);
        let access = AccessLog::from_config(py, &cfg, &log)?;
        let hooks = Hooks::new(&cfg, &log)?;
        let constants = Constants {
            root_path: cfg
                .getattr("root_path")?
                .extract::<Option<String>>()?
                .unwrap_or_default(),
            asgi: versions(py)?,
            http_extensions: extensions(
                py,
                &[
                    "http.response.early_hint",
                    "http.response.informational",
                    "http.response.pathsend",
                    "http.response.zerocopysend",
                    "http.response.trailers",
                ],
            )?,
            websocket_extensions: extensions(py, &["websocket.http.response"])?,
            state,
        };
        Ok(Host {
            sockets: SocketSettings::from_config(&cfg)?,
            keep_fields: access.needs_response_fields()
                || access.uses_python()
                || hooks.post_is_custom(),
            looks: hooks.any() || access.uses_python(),
            hooks,
            worker: worker.clone().unbind(),
            access,
            log: ErrorLog::new(log.unbind()),
            slot: crate::arbiter::slot_of(worker)?,
            scopes: ScopeBuilder::new(constants),
            grace: match native {
                true => None,
                false => Some(cfg.getattr("asgi_disconnect_grace_period")?.extract()?),
            },
            name: if native { "Tornado" } else { "ASGI" },
            has_sockets: !native,
            running: AtomicUsize::new(0),
            app,
            create_future: event_loop.getattr("create_future")?.unbind(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            outside: outside(py)?,
            calls: Tasks::new(event_loop)?,
            event_loop: event_loop.clone().unbind(),
            settle: Mutex::new(None),
            settling: AtomicBool::new(false),
            on_step,
            waiters: Mutex::default(),
            fresh: Mutex::default(),
            tasks: Mutex::default(),
            kit: Mutex::default(),
        })
    }

    /// What stands before a traceback.
    pub fn error_in(&self) -> String {
        format!("Error in {} application", self.name)
    }

    // ---- the driver's side

    /// `settle`: called at the end of a step of the loop in which something was written or ended.
    pub fn set_settle(&self, settle: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut *locked(&self.settle), settle);
        drop(before);
    }

    /// The driver settles now, or is about to at the end of what it does. True when that was so already.
    pub fn begin_step(&self) -> bool {
        let due = self.settling.swap(true, Ordering::Relaxed);
        if !due {
            (self.on_step)(Step::Begins);
        }
        due
    }

    pub fn end_step(&self) {
        self.settling.store(false, Ordering::Relaxed);
        (self.on_step)(Step::Ends);
    }

    /// Has `settle` called at the end of the step that has begun.
    pub fn settle_at_end(&self, py: Python<'_>) -> PyResult<()> {
        let settle = locked(&self.settle)
            .as_ref()
            .map(|settle| settle.clone_ref(py));
        if let Some(settle) = settle {
            let call_soon = self.call_soon.bind(py);
            call_soon.call((settle,), Some(self.outside.bind(py)))?;
        }
        Ok(())
    }

    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Tasks that have not ended, those with nothing left to answer included.
    pub fn tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let tasks = locked(&self.tasks);
        tasks.values().map(|task| task.clone_ref(py)).collect()
    }

    /// Tells whoever waits for the exchange.
    pub fn wake(&self, py: Python<'_>, key: u64) -> PyResult<()> {
        let waiter = match locked(&self.waiters).get(&key) {
            Some(waiter) => waiter.clone_ref(py),
            None => return Ok(()),
        };
        waiter.wake(py)
    }

    pub fn has_fresh(&self) -> bool {
        !locked(&self.fresh).is_empty()
    }

    /// Watches the clients of requests that the application has not answered in its first step.
    pub fn watch_fresh(&self, py: Python<'_>) -> PyResult<()> {
        let fresh = std::mem::take(&mut *locked(&self.fresh));
        for request in fresh {
            AsgiRequest::watch(request.bind(py))?;
        }
        Ok(())
    }

    // ---- the side of requests

    /// Has `settle` called once the present step of the loop is over.
    pub fn settle_soon(&self, py: Python<'_>) -> PyResult<()> {
        if self.settling.load(Ordering::Relaxed) || self.begin_step() {
            return Ok(());
        }
        self.settle_at_end(py)
    }

    pub fn wait(&self, key: u64, waiter: Conversation) {
        let before = locked(&self.waiters).insert(key, waiter);
        drop(before);
    }

    /// The exchange is over: nothing is reported of it any more.
    pub fn forget(&self, key: u64) {
        let before = locked(&self.waiters).remove(&key);
        drop(before);
    }

    /// One fewer is in the application.
    pub fn end_request(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.create_future.bind(py).call0()
    }

    pub fn call_later(
        &self,
        py: Python<'_>,
        seconds: f64,
        callback: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.event_loop
            .bind(py)
            .call_method1(intern!(py, "call_later"), (seconds, callback))?;
        Ok(())
    }

    /// Calls the application. True when the call has ended already.
    pub fn call(
        &self,
        py: Python<'_>,
        scope: Bound<'_, PyDict>,
        receive: &Bound<'_, PyAny>,
        send: &Bound<'_, PyAny>,
        conversation: Conversation,
    ) -> PyResult<bool> {
        self.running.fetch_add(1, Ordering::Relaxed);
        let this = conversation.clone_ref(py);
        let called = self
            .calls
            .call(py, self.app.bind(py), (scope, receive, send), conversation);
        let (task, carrier) = match called {
            Ok(Some(taken)) => taken,
            Ok(None) => return Ok(true),
            Err(error) if is_exit(error.value(py)) => return Err(error),
            Err(error) => {
                // Also what kept the call from beginning: nobody else would answer the request.
                if let Err(error) = this.end(py, Err(error)) {
                    self.log.exception(py, &error, &self.error_in(), &[]);
                }
                return Ok(true);
            }
        };
        let place = task.as_ptr() as usize;
        let before = locked(&self.tasks).insert(place, task.clone_ref(py));
        drop(before);
        match this {
            Conversation::Request(request) => {
                request.get().lock().task = Some(task);
                locked(&self.fresh).push(request);
            }
            Conversation::Socket(socket) => socket.get().run_in(task),
        }
        Carrier::wake(carrier.bind(py)).map(|()| false)
    }

    /// The application has returned, or raised `error`. `task`: what has taken the call over.
    pub fn end(&self, py: Python<'_>, task: Option<Py<PyAny>>, error: Option<&PyErr>) {
        if error.is_some_and(|error| is_exit(error.value(py))) {
            (self.on_step)(Step::Exits);
        }
        if let Some(task) = task {
            let before = locked(&self.tasks).remove(&(task.as_ptr() as usize));
            drop((before, task));
        }
    }

    /// A kit that has served before.
    pub fn take_kit(&self) -> Option<Box<Kit>> {
        locked(&self.kit).take()
    }

    /// Keeps a kit for the next request if nobody else does.
    pub fn keep_kit(&self, mut kit: Box<Kit>) {
        if kit.may_serve_again(&self.scopes) {
            let before = locked(&self.kit).replace(kit);
            drop(before);
        }
    }

    /// No more calls come.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        // They refer to the engine and to us, which refer to them.
        self.set_settle(None);
        drop(self.take_kit());
        self.calls.close(py)
    }
}

impl Conversation {
    fn clone_ref(&self, py: Python<'_>) -> Conversation {
        match self {
            Conversation::Request(request) => Conversation::Request(request.clone_ref(py)),
            Conversation::Socket(socket) => Conversation::Socket(socket.clone_ref(py)),
        }
    }

    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Conversation::Request(request) => AsgiRequest::wake(request.bind(py)),
            Conversation::Socket(socket) => AsgiSocket::wake(socket.bind(py)),
        }
    }

    /// The call is over. Errors: what ends more than it.
    pub fn end(&self, py: Python<'_>, outcome: PyResult<()>) -> PyResult<()> {
        let error = outcome.err();
        match self {
            Conversation::Request(request) => AsgiRequest::end(request.bind(py), error.as_ref())?,
            Conversation::Socket(socket) => AsgiSocket::end(socket.bind(py), error.as_ref())?,
        }
        let only_its_own = |error: &PyErr| {
            error.is_instance_of::<PyException>(py) || error.is_instance_of::<CancelledError>(py)
        };
        match error {
            Some(error) if !only_its_own(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Does the application want the worker to end?
fn is_exit(error: &Bound<'_, PyAny>) -> bool {
    error.is_instance_of::<PySystemExit>() || error.is_instance_of::<PyKeyboardInterrupt>()
}

fn outside(py: Python<'_>) -> PyResult<Py<PyDict>> {
    let context = py.import("contextvars")?.call_method0("copy_context")?;
    let dict = PyDict::new(py);
    dict.set_item("context", context)?;
    Ok(dict.unbind())
}

fn versions(py: Python<'_>) -> PyResult<Original> {
    let dict = PyDict::new(py);
    dict.set_item("version", "3.0")?;
    dict.set_item("spec_version", "2.4")?;
    Ok(Original::of(dict))
}

fn extensions(py: Python<'_>, names: &[&str]) -> PyResult<Original> {
    let dict = PyDict::new(py);
    for name in names {
        dict.set_item(name, PyDict::new(py))?;
    }
    Ok(Original::of(dict))
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
