//! One WSGI call: environ in, the application called, its blocks out, the exchange ended exactly once.
//!
//! Source: PEP 3333. Invariants: no borrow and no lock is held while Python code runs; `close()` of the iterable is
//! called once on every path; an application's mistake never reaches the next response.
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use pyo3::exceptions::{PyAssertionError, PyException, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDelta, PyDict, PyList, PyTuple};
use tricorn_engine::{Exchange, Gone, clock};
use tricorn_proto::{Reject, RejectKind};
use tricorn_scoreboard::Slot;

use super::access::Source;
use super::environ::{Constants, EnvironBuilder, EnvironError, Parts};
use super::faults::ErrorLog;
use super::file_wrapper::FileWrapper;
use super::hooks::Hooks;
use super::input::Input;
use super::request::{Changes, Request};
use super::response::Response;
use super::socket::ConnectionSocket;
use super::start_response::{early_hints_of, start_response_of, write_of};
use super::text::repr;
use crate::log::access::AccessLog;

const SERVER_ERROR: &[u8] = b"500 Internal Server Error";

/// Calls one application; one per thread, because its caches are.
pub struct Wsgi {
    app: Py<PyAny>,
    worker: Py<PyAny>,
    log: ErrorLog,
    hooks: Hooks,
    access: AccessLog,
    environ: EnvironBuilder,
    slot: &'static Slot,
    /// The objects of the last request, when nobody kept one of them.
    spare: RefCell<Option<Kit>>,
    keep_fields: bool,
}

/// What an application gets besides strings; made once and used again while nobody holds on to it.
struct Kit {
    response: Py<Response>,
    start_response: Py<PyAny>,
    early_hints: Py<PyAny>,
    input: Py<PyAny>,
    socket: Py<ConnectionSocket>,
}

/// References to the response that a kit itself has: its own, and those of start_response, early_hints, write, input
/// and socket.
const KIT_REFERENCES: isize = 6;

impl Kit {
    fn new(py: Python<'_>, keep_fields: bool) -> PyResult<Kit> {
        let response = Bound::new(py, Response::new(keep_fields))?;
        let write = write_of(&response)?.unbind();
        response.get().lock(py).write = Some(write);
        let input = Bound::new(py, Input::new(response.clone().unbind()))?.into_any();
        let socket = Bound::new(py, ConnectionSocket::new(response.clone().unbind()))?;
        Ok(Kit {
            start_response: start_response_of(&response)?.unbind(),
            early_hints: early_hints_of(&response)?.unbind(),
            input: input.unbind(),
            socket: socket.unbind(),
            response: response.unbind(),
        })
    }

    /// Nobody but the kit holds any part of it.
    fn is_free(&self, py: Python<'_>) -> bool {
        if cfg!(Py_GIL_DISABLED) {
            return false;
        }
        let single = |object: *mut ffi::PyObject| {
            // SAFETY: a live object of the kit's; with the GIL held its count does not change meanwhile.
            unsafe { ffi::Py_REFCNT(object) == 1 }
        };
        let write_is_single = self
            .response
            .get()
            .lock(py)
            .write
            .as_ref()
            .is_some_and(|write| single(write.as_ptr()));
        // SAFETY: as above.
        let references = unsafe { ffi::Py_REFCNT(self.response.as_ptr()) };
        write_is_single
            && references == KIT_REFERENCES as ffi::Py_ssize_t
            && single(self.start_response.as_ptr())
            && single(self.early_hints.as_ptr())
            && single(self.input.as_ptr())
            && single(self.socket.as_ptr())
            && self.socket.get().is_untouched()
    }
}

/// Why the response did not come to its end.
enum Failure {
    /// The application (or a hook) raised.
    Raised(PyErr),
    /// The request asks for something the configuration does not allow.
    Reject(Reject),
    Gone,
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Failure::Raised(error)
    }
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Failure::Gone
    }
}

impl From<EnvironError> for Failure {
    fn from(error: EnvironError) -> Self {
        match error {
            EnvironError::Python(error) => Failure::Raised(error),
            EnvironError::Reject(reject) => Failure::Reject(reject),
        }
    }
}

impl Wsgi {
    /// Reads what it needs of `worker.cfg`, `worker.log` and `worker.wsgi`.
    pub fn new(worker: &Bound<'_, PyAny>) -> PyResult<Wsgi> {
        let py = worker.py();
        let cfg = worker.getattr("cfg")?;
        let log = worker.getattr("log")?;
        let access = AccessLog::from_config(py, &cfg, &log)?;
        let hooks = Hooks::new(&cfg, &log)?;
        let errors = py
            .import("tricorn.wsgi")?
            .getattr("ErrorStream")?
            .call1((&cfg,))?;
        let script_name = std::env::var_os("SCRIPT_NAME").unwrap_or_default();
        let constants = Constants {
            multithread: worker
                .getattr_opt("threaded")?
                .is_some_and(|value| value.is_truthy().unwrap_or(false)),
            multiprocess: cfg.getattr("workers")?.extract::<usize>()? > 1,
            server_software: concat!("tricorn/", env!("CARGO_PKG_VERSION")).to_owned(),
            errors: errors.unbind(),
            file_wrapper: py.get_type::<FileWrapper>().into_any().unbind(),
            script_name: OsStr::as_bytes(&script_name).to_vec(),
        };
        Ok(Wsgi {
            app: worker.getattr("wsgi")?.unbind(),
            keep_fields: hooks.any() || access.uses_python() || access.needs_response_fields(),
            log: ErrorLog::new(log.unbind()),
            hooks,
            access,
            environ: EnvironBuilder::new(constants),
            slot: crate::arbiter::slot_of(worker)?,
            worker: worker.clone().unbind(),
            spare: RefCell::new(None),
        })
    }

    /// Answers one request. Errors: only exceptions that are no `Exception` (SystemExit, KeyboardInterrupt), after
    /// the request was answered or cut; everything else is answered and logged here.
    pub fn call(&self, py: Python<'_>, exchange: Exchange) -> PyResult<()> {
        let received_ns = exchange.received_ns();
        let head = exchange.head();
        let mark = self
            .slot
            .begin_request(head.method(), head.target(), received_ns / 1_000_000);
        let result = self.call_with_kit(py, exchange, received_ns);
        if let Some(mark) = mark {
            self.slot.end_request(mark);
        }
        self.slot.add_request();
        result
    }

    fn call_with_kit(&self, py: Python<'_>, exchange: Exchange, received_ns: u64) -> PyResult<()> {
        let spare = self.spare.borrow_mut().take();
        let kit = match spare {
            Some(kit) => kit,
            None => Kit::new(py, self.keep_fields)?,
        };
        let wants_request = self.hooks.any() || self.access.uses_python();
        let request = if wants_request {
            let request = Request::new(
                &exchange,
                kit.input.clone_ref(py),
                kit.response.clone_ref(py),
            );
            Some(Bound::new(py, request)?)
        } else {
            None
        };
        let mut environ = None;
        let outcome = self.respond(py, &kit, request.as_ref(), exchange, &mut environ);
        let exit = self.conclude(
            py,
            &kit,
            request.as_ref(),
            environ.as_ref(),
            outcome,
            received_ns,
        );
        let response = kit.response.bind(py);
        let hook = self.hooks.post_request(
            py,
            &self.worker,
            request.as_ref(),
            environ.as_ref(),
            response,
            &self.log,
        );
        drop((environ, request));
        self.put_back(py, kit);
        exit.and(hook)
    }

    fn put_back(&self, py: Python<'_>, kit: Kit) {
        if kit.is_free(py) {
            kit.response.get().clear(py);
            let before = self.spare.borrow_mut().replace(kit);
            drop(before);
        } else {
            kit.response.get().retire(py);
        }
    }

    /// Hook, environ, application, blocks. The exchange is in the response afterwards.
    fn respond<'py>(
        &self,
        py: Python<'py>,
        kit: &Kit,
        request: Option<&Bound<'py, Request>>,
        exchange: Exchange,
        environ_out: &mut Option<Bound<'py, PyDict>>,
    ) -> Result<(), Failure> {
        let hooked = self
            .hooks
            .pre_request(py, &self.worker, request, &self.log, &exchange);
        let built = hooked
            .map_err(Failure::from)
            .and_then(|()| self.build_environ(py, kit, request, &exchange));
        kit.response.get().take_on(py, exchange);
        let environ = environ_out.insert(built?);
        let iterable = self
            .app
            .bind(py)
            .call1((&*environ, kit.start_response.bind(py)))?;
        self.deliver(py, kit.response.get(), &iterable)
    }

    fn build_environ<'py>(
        &self,
        py: Python<'py>,
        kit: &Kit,
        request: Option<&Bound<'py, Request>>,
        exchange: &Exchange,
    ) -> Result<Bound<'py, PyDict>, Failure> {
        let parts = Parts {
            input: kit.input.bind(py),
            early_hints: kit.early_hints.bind(py),
            socket: kit.socket.bind(py).as_any(),
        };
        let changes = match request {
            Some(request) if self.hooks.pre_is_custom() => Some(Changes::of(request)?),
            _ => None,
        };
        let fields = match &changes {
            Some(changes) => changes.fields()?,
            None => None,
        };
        let environ = self
            .environ
            .build(py, exchange, &parts, fields.as_deref())?;
        if let Some(changes) = changes {
            changes.apply(&environ)?;
        }
        Ok(environ)
    }

    /// Sends what the application returned, and closes it.
    fn deliver(
        &self,
        py: Python<'_>,
        response: &Response,
        iterable: &Bound<'_, PyAny>,
    ) -> Result<(), Failure> {
        // Lists, tuples and bytes have no close().
        if let Ok(list) = iterable.cast_exact::<PyList>() {
            let blocks: Vec<_> = list.iter().collect();
            return send_all(py, response, &blocks);
        }
        if let Ok(tuple) = iterable.cast_exact::<PyTuple>() {
            let blocks: Vec<_> = tuple.iter().collect();
            return send_all(py, response, &blocks);
        }
        let sent = send_iterable(py, response, iterable);
        let closed = match iterable.getattr_opt(intern!(py, "close")) {
            Ok(Some(close)) => close.call0().map(|_| ()),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match (sent, closed) {
            (Ok(()), closed) => Ok(closed?),
            (Err(failure), Ok(())) => Err(failure),
            (Err(failure), Err(error)) => {
                self.log
                    .exception(py, &error, "Error closing the application's iterable", &[]);
                Err(failure)
            }
        }
    }

    /// Ends the exchange: logs the fault, answers it when nothing has left, writes the access line.
    fn conclude<'py>(
        &self,
        py: Python<'py>,
        kit: &Kit,
        request: Option<&Bound<'py, Request>>,
        environ: Option<&Bound<'py, PyDict>>,
        outcome: Result<(), Failure>,
        received_ns: u64,
    ) -> PyResult<()> {
        let response = kit.response.bind(py);
        let (fault, gone) = {
            let mut state = response.get().lock(py);
            (state.body_fault.take(), state.gone)
        };
        let Some(exchange) = response.get().release(py) else {
            return Ok(());
        };
        let (answer, exit) = match outcome {
            Ok(()) => (None, None),
            Err(Failure::Gone) => {
                self.log.debug(py, "Ignoring EPIPE");
                (None, None)
            }
            Err(Failure::Reject(reject)) => {
                self.log
                    .invalid_request(py, exchange.peer(), &reject.to_string());
                (Some(reject), None)
            }
            Err(Failure::Raised(error)) => {
                let exit = !error.is_instance_of::<PyException>(py);
                let answer = self.explain(py, &error, &exchange, fault, gone);
                (Some(answer), exit.then_some(error))
            }
        };
        let failed = answer.is_some() && !exchange.head_sent();
        self.record(
            py,
            response,
            request,
            environ,
            &exchange,
            failed,
            received_ns,
        );
        match answer {
            Some(reject) => exchange.fail(&reject),
            None => exchange.finish(),
        };
        exit.map_or(Ok(()), Err)
    }

    /// Puts an exception into the log. Returns what to answer if nothing has left yet.
    fn explain(
        &self,
        py: Python<'_>,
        error: &PyErr,
        exchange: &Exchange,
        fault: Option<Reject>,
        gone: bool,
    ) -> Reject {
        if gone {
            self.log.debug(
                py,
                "Ignoring an error of the application after the client left",
            );
        } else if let Some(fault) = fault {
            self.log
                .invalid_request(py, exchange.peer(), &fault.to_string());
            return fault;
        } else if exchange.head_sent() {
            self.log.after_head(py, error);
        } else {
            self.log.before_head(py, error, exchange);
        }
        Reject {
            kind: RejectKind::Internal,
            message: String::new(),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one access line")]
    fn record<'py>(
        &self,
        py: Python<'py>,
        response: &Bound<'py, Response>,
        request: Option<&Bound<'py, Request>>,
        environ: Option<&Bound<'py, PyDict>>,
        exchange: &Exchange,
        failed: bool,
        received_ns: u64,
    ) {
        if !self.access.is_enabled() {
            return;
        }
        let duration_ns = clock::now_ns().saturating_sub(received_ns);
        if self.access.uses_python() {
            if let (Some(request), Some(environ)) = (request, environ)
                && let Err(error) =
                    self.record_in_python(py, response, request, environ, duration_ns)
            {
                self.log
                    .exception(py, &error, "Error writing the access log", &[]);
            }
            return;
        }
        let (status, fields) = {
            let state = response.get().lock(py);
            (
                state.status.as_ref().map(|status| status.clone_ref(py)),
                state.fields.clone(),
            )
        };
        let status = status.as_ref().map(|status| status.bind(py));
        let status = match status.and_then(|status| super::text::as_latin1(status)) {
            Some(status) if !failed => status,
            _ => SERVER_ERROR,
        };
        self.access.record(&Source::new(
            py,
            exchange,
            environ,
            status,
            &fields,
            duration_ns,
        ));
    }

    fn record_in_python<'py>(
        &self,
        py: Python<'py>,
        response: &Bound<'py, Response>,
        request: &Bound<'py, Request>,
        environ: &Bound<'py, PyDict>,
        duration_ns: u64,
    ) -> PyResult<()> {
        let micros = duration_ns / 1_000;
        let duration = PyDelta::new(
            py,
            (micros / 86_400_000_000) as i32,
            (micros / 1_000_000 % 86_400) as i32,
            (micros % 1_000_000) as i32,
            false,
        )?;
        self.log.logger(py).call_method1(
            intern!(py, "access"),
            (response, request, environ, duration),
        )?;
        Ok(())
    }
}

/// Blocks that are all at hand: the length of the whole is known.
fn send_all(
    py: Python<'_>,
    response: &Response,
    blocks: &[Bound<'_, PyAny>],
) -> Result<(), Failure> {
    let mut length = 0;
    for block in blocks {
        length += as_bytes(block)?.len() as u64;
    }
    ensure_started(py, response)?;
    if blocks.is_empty() {
        response.send(py, b"", Some(0))?;
    }
    for block in blocks {
        response.send(py, as_bytes(block)?, Some(length))?;
    }
    Ok(())
}

fn send_iterable(
    py: Python<'_>,
    response: &Response,
    iterable: &Bound<'_, PyAny>,
) -> Result<(), Failure> {
    if let Ok(wrapper) = iterable.cast_exact::<FileWrapper>()
        && send_file(py, response, wrapper.get())?
    {
        return Ok(());
    }
    let mut any = false;
    for block in iterable.try_iter()? {
        let block = block?;
        let bytes = as_bytes(&block)?;
        ensure_started(py, response)?;
        response.send(py, bytes, None)?;
        any = true;
    }
    if !any {
        ensure_started(py, response)?;
        response.send(py, b"", Some(0))?;
    }
    Ok(())
}

/// Lets the engine send the file. `false`: it cannot, its blocks have to be read.
fn send_file(py: Python<'_>, response: &Response, wrapper: &FileWrapper) -> Result<bool, Failure> {
    {
        let state = response.lock(py);
        let able = state.exchange.as_ref().is_some_and(Exchange::can_send_file);
        if !able || state.status.is_none() {
            return Ok(false);
        }
    }
    let Some(sendable) = wrapper.sendable(py)? else {
        return Ok(false);
    };
    response.send(py, b"", Some(sendable.length))?;
    let mut state = response.lock(py);
    let Some(exchange) = state.exchange.as_mut() else {
        return Err(Failure::Gone);
    };
    exchange.send_file(sendable.file, sendable.offset, sendable.length)?;
    Ok(true)
}

fn as_bytes<'a>(block: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    match block.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.as_bytes()),
        Err(_) => Err(PyTypeError::new_err(format!(
            "{} is not a byte string",
            repr(block)
        ))),
    }
}

fn ensure_started(py: Python<'_>, response: &Response) -> PyResult<()> {
    if response.lock(py).status.is_some() {
        return Ok(());
    }
    Err(PyAssertionError::new_err(
        "The application did not call start_response()",
    ))
}
