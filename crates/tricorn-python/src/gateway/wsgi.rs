//! One WSGI call: environ in, the application called, its blocks out, the exchange ended exactly once.
//!
//! Source: PEP 3333. Invariants: no borrow and no lock is held while Python code runs; `close()` of the iterable is
//! called once on every path, after the exchange has ended; an application's mistake never reaches the next response.
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tricorn_engine::{Exchange, clock};
use tricorn_proto::response::status_line;
use tricorn_proto::{Reject, RejectKind};
use tricorn_scoreboard::Slot;

use super::access::{Source, request_time};
use super::deliver::{Cause, Failure, deliver_blocks, deliver_whole, needs_no_close};
use super::environ::{Constants, EnvironBuilder};
use super::faults::ErrorLog;
use super::file_wrapper::FileWrapper;
use super::hooks::Hooks;
use super::kit::Kit;
use super::request::{Changes, Request};
use super::response::{Response, Waits};
use super::text::as_latin1;
use crate::log::access::AccessLog;

/// Calls one application; one per thread, because its caches are.
pub struct Wsgi {
    app: Py<PyAny>,
    worker: Py<PyAny>,
    log: ErrorLog,
    hooks: Hooks,
    access: AccessLog,
    environ: EnvironBuilder,
    slot: &'static Slot,
    /// The kit of the last request, when nobody kept a part of it.
    spare: RefCell<Option<Box<Kit>>>,
    keep_fields: bool,
    waits: Waits,
}

/// One request on its way through the gateway.
pub struct Call {
    kit: Box<Kit>,
    /// Made only for hooks and custom loggers.
    request: Option<Py<Request>>,
    environ: Option<Py<PyDict>>,
    /// What the application returned, while it may have to be closed.
    iterable: Option<Py<PyAny>>,
    received_ns: u64,
    /// The request's place among those in flight.
    mark: Option<usize>,
}

impl Call {
    pub fn response(&self) -> &Response {
        self.kit.response.get()
    }

    fn environ<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyDict>> {
        self.environ.as_ref().map(|environ| environ.bind(py))
    }

    /// What the application returned.
    pub fn iterable(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.iterable.as_ref().map(|kept| kept.clone_ref(py))
    }
}

impl Wsgi {
    /// Reads what it needs of `worker.cfg`, `worker.log` and `worker.wsgi`.
    pub fn new(worker: &Bound<'_, PyAny>, waits: Waits) -> PyResult<Wsgi> {
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
            environ: EnvironBuilder::new(py, constants)?,
            slot: crate::arbiter::slot_of(worker)?,
            worker: worker.clone().unbind(),
            spare: RefCell::new(None),
            waits,
        })
    }

    /// Answers one request. Errors: as `end`.
    pub fn call(&self, py: Python<'_>, exchange: Exchange) -> PyResult<()> {
        let kit = self.kit(py)?;
        let mut call = self.begin_with(kit, &exchange);
        let outcome = self.respond(py, &mut call, exchange);
        self.end(py, call, outcome)
    }

    /// Takes a request in. What was begun has to be ended.
    pub fn begin(&self, py: Python<'_>, exchange: &Exchange) -> PyResult<Call> {
        Ok(self.begin_with(self.kit(py)?, exchange))
    }

    #[inline]
    fn kit(&self, py: Python<'_>) -> PyResult<Box<Kit>> {
        let spare = self.spare.borrow_mut().take();
        match spare {
            Some(kit) => Ok(kit),
            None => Kit::new(py, self.keep_fields, self.waits.clone_ref(py)),
        }
    }

    #[inline(always)]
    fn begin_with(&self, kit: Box<Kit>, exchange: &Exchange) -> Call {
        let received_ns = exchange.received_ns();
        let head = exchange.head();
        Call {
            kit,
            request: None,
            environ: None,
            iterable: None,
            received_ns,
            mark: self
                .slot
                .begin_request(head.method(), head.target(), received_ns / 1_000_000),
        }
    }

    /// Environ, application, blocks.
    #[inline]
    fn respond(&self, py: Python<'_>, call: &mut Call, exchange: Exchange) -> Result<(), Failure> {
        match (self.open(py, call, exchange)?, &call.iterable) {
            (false, Some(iterable)) => deliver_blocks(py, call.response(), iterable.bind(py)),
            _ => Ok(()),
        }
    }

    /// Calls the application and sends what it returns, if all of it is at hand. `false`: its blocks have to be asked for one
    /// by one.
    #[inline]
    pub fn open(
        &self,
        py: Python<'_>,
        call: &mut Call,
        exchange: Exchange,
    ) -> Result<bool, Failure> {
        self.prepare(py, call, exchange)?;
        let arguments = (call.environ.as_ref(), call.kit.start_response.bind(py));
        let iterable = self.app.bind(py).call1(arguments)?;
        let iterable = &*call.iterable.insert(iterable.unbind());
        deliver_whole(py, call.kit.response.get(), iterable.bind(py))
    }

    /// The pre_request hook, then the environ. The exchange is in the response afterwards.
    fn prepare(&self, py: Python<'_>, call: &mut Call, exchange: Exchange) -> Result<(), Failure> {
        let built = self.build(py, call, &exchange);
        call.response().take_on(py, exchange);
        call.environ = Some(built?.unbind());
        Ok(())
    }

    /// Ends what was begun: fault, access line, `close()`, post_request. Errors: only exceptions that are no `Exception`
    /// (SystemExit, KeyboardInterrupt), after the request was answered or cut; everything else is answered and logged.
    pub fn end(
        &self,
        py: Python<'_>,
        mut call: Call,
        outcome: Result<(), Failure>,
    ) -> PyResult<()> {
        let exit = self.conclude(py, &call, outcome);
        let closed = self.close(py, &mut call);
        let hook = self.after(py, &call);
        if let Some(mark) = call.mark {
            self.slot.end_request(mark);
        }
        let Call {
            mut kit,
            request,
            environ,
            ..
        } = call;
        // They hold parts of the kit.
        drop(request);
        if let Some(environ) = environ {
            self.environ.keep(py, &mut kit.refills, environ);
        }
        if let Some(kit) = kit.recycled(py) {
            let before = self.spare.borrow_mut().replace(kit);
            drop(before);
        }
        exit?;
        closed?;
        hook
    }

    fn build<'py>(
        &self,
        py: Python<'py>,
        call: &mut Call,
        exchange: &Exchange,
    ) -> Result<Bound<'py, PyDict>, Failure> {
        let kit = &mut call.kit;
        if self.hooks.any() || self.access.uses_python() {
            let (input, response) = (kit.input.clone_ref(py), kit.response.clone_ref(py));
            call.request = Some(Py::new(py, Request::new(exchange, input, response))?);
        }
        let request = call.request.as_ref().map(|request| request.bind(py));
        self.hooks
            .pre_request(py, &self.worker, request, &self.log, exchange)?;
        let (parts, refills) = kit.parts(py);
        let changes = match request {
            Some(request) if self.hooks.pre_is_custom() => Some(Changes::of(request)?),
            _ => None,
        };
        let Some(changes) = changes else {
            return Ok(self.environ.build(py, exchange, (&parts, refills), None)?);
        };
        let fields = changes.fields()?;
        let environ = self
            .environ
            .build(py, exchange, (&parts, refills), fields.as_deref())?;
        changes.apply(&environ)?;
        Ok(environ)
    }

    /// Ends the exchange: logs the fault, answers it when nothing has left, writes the access line.
    fn conclude(&self, py: Python<'_>, call: &Call, outcome: Result<(), Failure>) -> PyResult<()> {
        let response = call.response();
        let Some(exchange) = response.release(py) else {
            return Ok(());
        };
        let (answer, exit) = match outcome.map_err(Failure::cause) {
            Ok(()) => (None, None),
            Err(Cause::Gone) => {
                self.log.debug(py, "Ignoring EPIPE");
                (None, None)
            }
            Err(Cause::Reject(reject)) => {
                self.log
                    .invalid_request(py, exchange.peer(), &reject.to_string());
                (Some(reject), None)
            }
            Err(Cause::Raised(error)) => {
                let exit = !error.is_instance_of::<PyException>(py);
                let answer = self.explain(py, call, &error, &exchange);
                (Some(answer), exit.then_some(error))
            }
        };
        let refusal = answer.as_ref().filter(|_| !exchange.head_sent());
        self.record(py, call, &exchange, refusal);
        match answer {
            Some(reject) => exchange.fail(&reject),
            None => exchange.finish(),
        };
        exit.map_or(Ok(()), Err)
    }

    /// Puts an exception into the log. Returns what to answer if nothing has left yet.
    fn explain(&self, py: Python<'_>, call: &Call, error: &PyErr, exchange: &Exchange) -> Reject {
        let (fault, gone) = {
            let mut state = call.response().lock(py);
            (state.body_fault.take(), state.gone)
        };
        if let Some(fault) = fault {
            let message = fault.to_string();
            self.log.invalid_request(py, exchange.peer(), &message);
            return fault;
        }
        if gone {
            let message = "Ignoring an error of the application after the client left";
            self.log.debug(py, message);
        } else if exchange.head_sent() {
            self.log.after_head(py, error);
        } else {
            self.log.before_head(py, error, exchange);
        }
        Reject::of(RejectKind::Internal)
    }

    /// Calls the iterable's `close()`. The response is over: an exception is only logged, unless it is no `Exception`.
    fn close(&self, py: Python<'_>, call: &mut Call) -> PyResult<()> {
        let iterable = call.iterable.take();
        let iterable = iterable.as_ref().map(|iterable| iterable.bind(py));
        let Some(iterable) = iterable.filter(|kept| !needs_no_close(kept)) else {
            return Ok(());
        };
        let closed = match iterable.getattr_opt(intern!(py, "close")) {
            Ok(Some(close)) => close.call0().map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match closed {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                self.log.after_head(py, &error);
                Ok(())
            }
            closed => closed,
        }
    }

    /// The post_request hook; without an environ there is no response worth showing either.
    fn after(&self, py: Python<'_>, call: &Call) -> PyResult<()> {
        if !self.hooks.post_is_custom() {
            return Ok(());
        }
        let request = call.request.as_ref().map(|request| request.bind(py));
        let (environ, response) = match call.environ(py) {
            Some(environ) => (
                environ.clone().into_any(),
                call.kit.response.bind(py).clone().into_any(),
            ),
            None => (PyDict::new(py).into_any(), py.None().into_bound(py)),
        };
        self.hooks
            .post_request(py, &self.worker, request, &environ, &response, &self.log)
    }

    /// The access line. `refusal`: what is answered instead of the application's response.
    fn record(&self, py: Python<'_>, call: &Call, exchange: &Exchange, refusal: Option<&Reject>) {
        if !self.access.is_enabled() {
            return;
        }
        let duration_ns = clock::now_ns().saturating_sub(call.received_ns);
        if let Some(refusal) = refusal {
            let status = PyString::new(py, &status_line(refusal.status())).unbind();
            let before = call.response().lock(py).status.replace(status);
            drop(before);
        }
        if self.access.uses_python() {
            if let Err(error) = self.record_in_python(py, call, duration_ns) {
                let message = "Error writing the access log";
                self.log.exception(py, &error, message, &[]);
            }
            return;
        }
        let (status, fields) = {
            let state = call.response().lock(py);
            let status = state.status.as_ref().map(|status| status.clone_ref(py));
            (status, state.fields.clone())
        };
        let status = status.as_ref().map(|status| status.bind(py));
        let status = status.and_then(|status| as_latin1(status)).unwrap_or(b"-");
        let environ = call.environ(py);
        let source = Source::new(py, exchange, environ, status, &fields, duration_ns);
        self.access.record(&source);
    }

    /// `log.access(resp, req, environ, request_time)`.
    fn record_in_python(&self, py: Python<'_>, call: &Call, duration_ns: u64) -> PyResult<()> {
        let kit = &call.kit;
        let (Some(request), Some(environ)) = (&call.request, &call.environ) else {
            return Ok(());
        };
        let duration = request_time(py, duration_ns)?;
        let arguments = (kit.response.bind(py), request, environ, duration);
        self.log
            .logger(py)
            .call_method1(intern!(py, "access"), arguments)?;
        Ok(())
    }
}
