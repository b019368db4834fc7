//! One HTTP request of an ASGI application: its `receive` and `send`.
//!
//! Not the task that runs the application: that may go on when the answer is complete, and the next request of the
//! connection does not wait for it. Invariants: the lock is not held while Python code runs; an exchange ends exactly once;
//! blocks leave in the order of the calls of `send`. Source: the ASGI specification, "HTTP & WebSocket", 2.4.
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::{PyException, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tricorn_engine::{BodyError, Exchange, clock};
use tricorn_proto::response::status_line;
use tricorn_proto::{AppFault, Reject, RejectKind};

use super::answer::Unsent;
use super::awaitable::{Receive, Receiver, done};
use super::event::{HttpEvent, http_event, misplaced};
use super::hooks::{AsgiResponse, Looked, log_access};
use super::host::{Conversation, Host, locked};
use super::kit::Kit;
use super::native::Detached;
use super::scope::Kind;
use crate::gateway::access::Source;
use crate::gateway::response::OwnedField;

pyo3::create_exception!(
    tricorn._core,
    ClientDisconnected,
    PyOSError,
    "The client has left: nothing can be sent any more."
);

#[pyclass(frozen, module = "tricorn._core")]
pub struct AsgiRequest {
    pub(super) host: Arc<Host>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) key: u64,
    received_ns: u64,
    /// What hooks and custom loggers are shown.
    looked: Option<Looked>,
    /// Until the answer is complete or has failed.
    pub(super) exchange: Option<Exchange>,
    /// The request's place among those in flight.
    pub(super) mark: Option<usize>,
    pub(super) status: u16,
    /// The application's fields, when the access log wants them.
    pub(super) fields: Vec<OwnedField>,
    pub(super) started: bool,
    /// Trailer fields are to come after the body.
    pub(super) trailers_due: bool,
    pub(super) body_ended: bool,
    /// All of the request's body was given to the application.
    pub(super) received_all: bool,
    /// The peer has left.
    pub(super) left: bool,
    /// Futures of `receive()`, oldest first.
    pub(super) receivers: Vec<Py<PyAny>>,
    /// What `send()` has not handed over yet, oldest first.
    pub(super) backlog: VecDeque<Unsent>,
    /// Set while the application runs; a cycle that `end` breaks.
    pub(super) task: Option<Py<PyAny>>,
    pub(super) expires: bool,
    /// The host counts it as running.
    open: bool,
    /// The host tells it of what the engine reports.
    waits: bool,
}

/// What is left to do for an exchange that has ended.
pub(super) struct Ending {
    exchange: Option<Exchange>,
    /// The host counts it until now.
    open: bool,
    mark: Option<usize>,
    /// The key that the host knows it by.
    waits: Option<u64>,
    receivers: Vec<Py<PyAny>>,
}

/// What `receive()` gives.
enum Incoming {
    Body(Py<PyBytes>, bool),
    Left,
    /// The body is malformed, too large or too slow: the application hears only that the client is gone.
    Refused(Reject),
}

impl State {
    /// In its place: it is large, and little of it has changed since the last request.
    fn begin(&mut self, exchange: Exchange, mark: Option<usize>, looked: Option<Looked>) {
        self.key = exchange.key();
        self.received_ns = exchange.received_ns();
        self.looked = looked;
        self.exchange = Some(exchange);
        self.mark = mark;
        self.status = 0;
        self.fields.clear();
        self.started = false;
        self.trailers_due = false;
        self.body_ended = false;
        self.received_all = false;
        self.left = false;
        self.receivers.clear();
        self.backlog.clear();
        self.task = None;
        self.expires = false;
        self.open = true;
        self.waits = false;
    }

    /// Takes out what ends with the exchange.
    pub(super) fn end(&mut self) -> Ending {
        let waits = std::mem::replace(&mut self.waits, false);
        Ending {
            exchange: self.exchange.take(),
            open: std::mem::replace(&mut self.open, false),
            mark: self.mark.take(),
            waits: waits.then_some(self.key),
            receivers: std::mem::take(&mut self.receivers),
        }
    }

    /// What there is to receive now; `None` leaves it to the engine to report.
    fn poll_receive(&mut self, py: Python<'_>) -> Option<Incoming> {
        let Some(exchange) = self.exchange.as_mut().filter(|_| !self.left) else {
            return Some(Incoming::Left);
        };
        if self.received_all {
            self.left = exchange.peer_has_left();
            return self.left.then_some(Incoming::Left);
        }
        match exchange.poll_body() {
            Ok(None) => None,
            Ok(Some(())) => {
                let block = PyBytes::new(py, exchange.peek_body()).unbind();
                exchange.consume_body();
                self.received_all = exchange.body_has_ended();
                Some(Incoming::Body(block, !self.received_all))
            }
            Err(error) => {
                self.left = true;
                Some(match error {
                    BodyError::Reject(reject) => Incoming::Refused(reject),
                    _ => Incoming::Left,
                })
            }
        }
    }
}

impl AsgiRequest {
    /// One that has no request yet.
    pub fn of(host: &Arc<Host>) -> AsgiRequest {
        AsgiRequest {
            host: host.clone(),
            state: Mutex::default(),
        }
    }

    /// Calls the application for a request.
    pub fn begin(py: Python<'_>, host: &Arc<Host>, exchange: Exchange) -> PyResult<()> {
        let looked = match host.looks {
            true => Some(Looked::new(py, &exchange, host.access.is_enabled())?),
            false => None,
        };
        let request = looked.as_ref().map(|looked| looked.request.bind(py));
        let hook = host
            .hooks
            .pre_request(py, &host.worker, request, &host.log, &exchange);
        if let Err(error) = hook {
            host.log.before_head(py, &error, &exchange);
            exchange.fail(&Reject::of(RejectKind::Internal));
            return match error.is_instance_of::<PyException>(py) {
                true => Ok(()),
                false => Err(error),
            };
        }
        let mut kit = host.take_kit().map_or_else(|| Kit::new(py, host), Ok)?;
        let extras = &mut kit.extras;
        let scope = host.scopes.build(py, &exchange, Kind::Http, extras)?;
        let (head, received_ms) = (exchange.head(), exchange.received_ns() / 1_000_000);
        let slot = host.slot;
        let mark = slot.begin_request(head.method(), head.target(), received_ms);
        kit.request.get().lock().begin(exchange, mark, looked);
        let (receive, send) = (kit.receive.bind(py), kit.send.bind(py));
        let conversation = Conversation::Request(kit.request.clone_ref(py));
        if host.call(py, scope, receive, send, conversation)? {
            host.keep_kit(kit);
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// The application has not answered at once: from now on its client may leave.
    pub fn watch(this: &Bound<'_, Self>) -> PyResult<()> {
        let request = this.get();
        if request.lock().exchange.is_none() {
            return Ok(());
        }
        Self::wait(this);
        let left = {
            let mut state = request.lock();
            let left = state.exchange.as_mut().is_some_and(Exchange::peer_has_left);
            state.left |= left;
            left
        };
        if left { Self::on_left(this) } else { Ok(()) }
    }

    /// Has the host tell of what the engine reports.
    pub(super) fn wait(this: &Bound<'_, Self>) {
        let request = this.get();
        let key = {
            let mut state = request.lock();
            state.waits = true;
            state.key
        };
        let waiter = Conversation::Request(this.clone().unbind());
        request.host.wait(key, waiter);
    }

    /// The engine has something to report.
    pub fn wake(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let request = this.get();
        request.send_backlog(py)?;
        let left = {
            let mut state = request.lock();
            if let Some(exchange) = state.exchange.as_mut() {
                let left = exchange.peer_has_left();
                state.left |= left;
            }
            state.left
        };
        if left {
            return Self::on_left(this);
        }
        request.wake_receivers(py)
    }

    /// Those who wait for a message look again.
    fn wake_receivers(&self, py: Python<'_>) -> PyResult<()> {
        let receivers = std::mem::take(&mut self.lock().receivers);
        resolve_all(py, receivers)
    }

    /// The next message, if there is one.
    pub fn next_message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let incoming = self.lock().poll_receive(py);
        let Some(incoming) = incoming else {
            return Ok(None);
        };
        if let Incoming::Refused(reject) = &incoming {
            self.refuse_with(py, reject)?;
        }
        self.message(py, incoming).map(Some)
    }

    /// A future that is done once there is more to say.
    pub fn await_message<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let request = this.get();
        let future = request.host.future(this.py())?;
        request.lock().receivers.push(future.clone().unbind());
        Self::wait(this);
        Ok(future)
    }

    /// Tells those who wait that the client is gone, and gives the application some time.
    fn on_left(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let request = this.get();
        request.wake_receivers(py)?;
        if std::mem::replace(&mut request.lock().expires, true) {
            return Ok(());
        }
        let Some(grace) = request.host.grace else {
            return Ok(());
        };
        let expire = this.getattr(intern!(py, "expire"))?;
        request.host.call_later(py, grace, expire)
    }

    /// The answer is complete.
    pub(super) fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let mut ending = self.lock().end();
        self.finish_with(py, &mut ending)
    }

    pub(super) fn finish_with(&self, py: Python<'_>, ending: &mut Ending) -> PyResult<()> {
        if let Some(exchange) = ending.exchange.take() {
            self.record(py, &exchange)?;
            exchange.finish();
        }
        self.settle(py, ending)
    }

    /// The exchange has ended.
    pub(super) fn over(&self, py: Python<'_>) -> PyResult<()> {
        let mut ending = self.lock().end();
        self.settle(py, &mut ending)
    }

    fn settle(&self, py: Python<'_>, ending: &mut Ending) -> PyResult<()> {
        let host = &self.host;
        if !ending.open {
            return Ok(());
        }
        if let Some(mark) = ending.mark {
            host.slot.end_request(mark);
        }
        host.end_request();
        if let Some(key) = ending.waits {
            host.forget(key);
        }
        // Whoever waits for the client to leave has nothing left to wait for.
        resolve_all(py, std::mem::take(&mut ending.receivers))?;
        host.settle_soon(py)
    }

    /// Answers a request that is not what it should be, and closes the connection.
    pub(super) fn refuse_with(&self, py: Python<'_>, reject: &Reject) -> PyResult<()> {
        let exchange = {
            let mut state = self.lock();
            // For whoever goes on writing.
            state.left = true;
            state.exchange.take()
        };
        let Some(exchange) = exchange else {
            return Ok(());
        };
        if !exchange.head_sent() {
            self.lock().status = reject.status();
        }
        let log = &self.host.log;
        log.invalid_request(py, exchange.peer(), &reject.to_string());
        self.record(py, &exchange)?;
        exchange.fail(reject);
        self.over(py)
    }

    /// The access line, then the post_request hook.
    pub(super) fn record(&self, py: Python<'_>, exchange: &Exchange) -> PyResult<()> {
        let access = &self.host.access;
        if !access.is_enabled() && !self.host.looks {
            return Ok(());
        }
        let (status, fields, looked, received_ns) = {
            let mut state = self.lock();
            let fields = std::mem::take(&mut state.fields);
            (state.status, fields, state.looked.take(), state.received_ns)
        };
        let duration_ns = clock::now_ns().saturating_sub(received_ns);
        if access.is_enabled() && !access.uses_python() {
            let status = status.to_string();
            let source = Source::new(py, exchange, None, status.as_bytes(), &fields, duration_ns);
            access.record(&source);
        }
        let Some(looked) = &looked else {
            return Ok(());
        };
        let host = &self.host;
        let response = AsgiResponse::new(py, status, &fields, exchange.body_bytes())?;
        let response = Bound::new(py, response)?;
        if access.uses_python()
            && let Err(error) = log_access(host.log.logger(py), looked, &response, duration_ns)
        {
            let message = "Error writing the access log";
            host.log.exception(py, &error, message, &[]);
        }
        let (environ, response) = match &looked.environ {
            Some(environ) => (environ.bind(py).clone().into_any(), response.into_any()),
            None => (py.None().into_bound(py), py.None().into_bound(py)),
        };
        let request = Some(looked.request.bind(py));
        host.hooks
            .post_request(py, &host.worker, request, &environ, &response, &host.log)
    }

    fn message<'py>(&self, py: Python<'py>, incoming: Incoming) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(py);
        let kind = intern!(py, "type");
        match incoming {
            Incoming::Left | Incoming::Refused(_) => {
                dict.set_item(kind, intern!(py, "http.disconnect"))?
            }
            Incoming::Body(block, more) => {
                dict.set_item(kind, intern!(py, "http.request"))?;
                dict.set_item(intern!(py, "body"), block)?;
                dict.set_item(intern!(py, "more_body"), more)?;
            }
        }
        Ok(dict.into_any())
    }

    /// Why nothing can be sent any more.
    pub(super) fn closed(state: &State) -> PyErr {
        if state.left {
            gone()
        } else {
            misplaced("the response is complete already")
        }
    }

    /// The application has returned, or raised `error`.
    pub fn end(this: &Bound<'_, Self>, error: Option<&PyErr>) -> PyResult<()> {
        let py = this.py();
        let request = this.get();
        let (exchange, task, left) = {
            let mut state = request.lock();
            // A last block that waits for its peer is not lost when the application does not wait with it.
            let waits = state.backlog.back().is_some_and(|unsent| !unsent.more);
            let exchange = match waits && error.is_none() {
                true => None,
                false => state.exchange.take(),
            };
            (exchange, state.task.take(), state.left)
        };
        request.host.end(py, task, error);
        if let Some(exchange) = exchange {
            return request.give_up(py, exchange, error);
        }
        match error {
            Some(error) if !left && error.is_instance_of::<PyException>(py) => {
                let host = &request.host;
                host.log.exception(py, error, &host.error_in(), &[]);
            }
            _ => {}
        }
        Ok(())
    }

    /// The application has ended without completing the answer.
    fn give_up(&self, py: Python<'_>, exchange: Exchange, error: Option<&PyErr>) -> PyResult<()> {
        let (started, left) = {
            let mut state = self.lock();
            if !exchange.head_sent() {
                state.status = 500;
            }
            (state.started, state.left)
        };
        let host = &self.host;
        match error {
            _ if left => host
                .log
                .debug(py, "The client left before the answer was complete"),
            Some(error) => host.log.exception(py, error, &host.error_in(), &[]),
            None => {
                let left_out = match started {
                    true => "completing the response; closing the connection",
                    false => "starting a response",
                };
                let message = format!("{} application returned without {left_out}", host.name);
                host.log.error(py, &message);
            }
        }
        self.record(py, &exchange)?;
        exchange.fail(&Reject::of(RejectKind::Internal));
        self.over(py)
    }
}

pub fn gone() -> PyErr {
    ClientDisconnected::new_err("the client has left")
}

pub fn bad_field(fault: AppFault) -> PyErr {
    pyo3::exceptions::PyValueError::new_err(fault.message)
}

/// Was the future cancelled, or answered already?
pub fn is_over(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    future
        .call_method0(intern!(future.py(), "done"))?
        .is_truthy()
}

/// Ends the wait for those futures that are not over yet.
pub fn resolve_all(py: Python<'_>, futures: Vec<Py<PyAny>>) -> PyResult<()> {
    for future in futures {
        let future = future.bind(py);
        if !is_over(future)? {
            resolve(future)?;
        }
    }
    Ok(())
}

/// Ends the wait for a future.
pub fn resolve(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    Ok(())
}

#[pymethods]
impl AsgiRequest {
    fn receive(slf: &Bound<'_, Self>) -> PyResult<Py<Receive>> {
        Receive::of(slf.py(), Receiver::Request(slf.clone().unbind()))
    }

    fn send(slf: &Bound<'_, Self>, event: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let request = slf.get();
        match http_event(event)? {
            HttpEvent::Body { block, more } => Self::body(slf, block, more),
            HttpEvent::Start {
                status,
                fields,
                trailers,
            } => {
                request.start(status, &status_line(status), &fields, trailers)?;
                done(py)
            }
            HttpEvent::Trailers { fields, more } => request.trailers(py, &fields, more),
            HttpEvent::Informational {
                status,
                fields,
                late,
            } => request.informational(py, status, &fields, late),
            HttpEvent::Path(path) => {
                let file = std::fs::File::open(path)?;
                let length = file.metadata()?.len();
                Self::file(slf, file, 0, length, false)
            }
            HttpEvent::File {
                file,
                offset,
                count,
                more,
            } => {
                let number: i32 = match file.extract() {
                    Ok(number) => number,
                    Err(_) => file.call_method0(intern!(py, "fileno"))?.extract()?,
                };
                // SAFETY: the application's object, which we hold, has just told its descriptor; a wrong number gives
                // EBADF from the duplication.
                let file: std::fs::File = unsafe { BorrowedFd::borrow_raw(number) }
                    .try_clone_to_owned()?
                    .into();
                let offset = match offset {
                    Some(offset) => offset,
                    None => rustix::fs::tell(&file).map_err(std::io::Error::from)?,
                };
                let rest = file.metadata()?.len().saturating_sub(offset);
                let length = count.map_or(rest, |count| count.min(rest));
                Self::file(slf, file, offset, length, more)
            }
        }
    }

    /// Starts an answer with a reason of the application's own.
    fn start_answer(&self, status: u16, reason: &str, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        self.native_start(status, reason, headers)
    }

    fn write<'py>(
        slf: &Bound<'py, Self>,
        block: &Bound<'py, PyAny>,
        more: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::native_write(slf, block, more)
    }

    fn refuse(&self, py: Python<'_>, message: &str) -> PyResult<()> {
        self.native_refuse(py, message)
    }

    fn detach(&self, py: Python<'_>) -> PyResult<Detached> {
        self.native_detach(py)
    }

    /// The time after the client has left is over.
    fn expire(&self, py: Python<'_>) -> PyResult<()> {
        let task = {
            let state = self.lock();
            let running = state.exchange.is_some();
            state
                .task
                .as_ref()
                .filter(|_| running)
                .map(|task| task.clone_ref(py))
        };
        if let Some(task) = task {
            task.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }
}
