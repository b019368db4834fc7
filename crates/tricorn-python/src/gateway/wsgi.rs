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
use pyo3::types::{PyDelta, PyDict, PyString};
use tricorn_engine::{Exchange, clock};
use tricorn_proto::{Reject, RejectKind};
use tricorn_scoreboard::Slot;

use super::access::Source;
use super::deliver::{Failure, deliver, needs_no_close};
use super::environ::{Constants, EnvironBuilder, Parts};
use super::faults::ErrorLog;
use super::file_wrapper::FileWrapper;
use super::hooks::Hooks;
use super::kit::Kit;
use super::request::{Changes, Request};
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
    spare: RefCell<Option<Kit>>,
    keep_fields: bool,
}

/// One request on its way through the gateway.
struct Call<'a, 'py> {
    py: Python<'py>,
    kit: &'a Kit,
    /// Made only for hooks and custom loggers.
    request: Option<Bound<'py, Request>>,
    environ: Option<Bound<'py, PyDict>>,
    /// What the application returned, while it may have to be closed.
    iterable: Option<Bound<'py, PyAny>>,
    received_ns: u64,
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
        result
    }

    fn call_with_kit(&self, py: Python<'_>, exchange: Exchange, received_ns: u64) -> PyResult<()> {
        let spare = self.spare.borrow_mut().take();
        let kit = match spare {
            Some(kit) => kit,
            None => Kit::new(py, self.keep_fields)?,
        };
        let mut call = Call {
            py,
            kit: &kit,
            request: None,
            environ: None,
            iterable: None,
            received_ns,
        };
        let outcome = self.respond(&mut call, exchange);
        let exit = self.conclude(&call, outcome);
        let closed = self.close(&mut call);
        let hook = self.hooks.post_request(
            py,
            &self.worker,
            call.request.as_ref(),
            call.environ.as_ref(),
            kit.response.bind(py),
            &self.log,
        );
        drop(call);
        if let Some(kit) = kit.recycled(py) {
            let before = self.spare.borrow_mut().replace(kit);
            drop(before);
        }
        exit.and(closed).and(hook)
    }

    /// Hook, environ, application, blocks. The exchange is in the response afterwards.
    fn respond(&self, call: &mut Call<'_, '_>, exchange: Exchange) -> Result<(), Failure> {
        let py = call.py;
        let response = call.kit.response.get();
        let built = self.prepare(call, &exchange);
        response.take_on(py, exchange);
        let environ = call.environ.insert(built?);
        let app = self.app.bind(py);
        let iterable = app.call1((&*environ, call.kit.start_response.bind(py)))?;
        let iterable = call.iterable.insert(iterable);
        deliver(py, response, iterable)
    }

    /// The pre_request hook, then the environ.
    fn prepare<'py>(
        &self,
        call: &mut Call<'_, 'py>,
        exchange: &Exchange,
    ) -> Result<Bound<'py, PyDict>, Failure> {
        let (py, kit) = (call.py, call.kit);
        if self.hooks.any() || self.access.uses_python() {
            let (input, response) = (kit.input.clone_ref(py), kit.response.clone_ref(py));
            call.request = Some(Bound::new(py, Request::new(exchange, input, response))?);
        }
        let request = call.request.as_ref();
        self.hooks
            .pre_request(py, &self.worker, request, &self.log, exchange)?;
        let parts = Parts {
            input: kit.input.bind(py),
            early_hints: kit.early_hints.bind(py),
            socket: kit.socket.bind(py).as_any(),
            lease: kit.lease(),
        };
        let changes = match request {
            Some(request) if self.hooks.pre_is_custom() => Some(Changes::of(request)?),
            _ => None,
        };
        let Some(changes) = changes else {
            return Ok(self.environ.build(py, exchange, &parts, None)?);
        };
        let fields = changes.fields()?;
        let environ = self
            .environ
            .build(py, exchange, &parts, fields.as_deref())?;
        changes.apply(&environ)?;
        Ok(environ)
    }

    /// Ends the exchange: logs the fault, answers it when nothing has left, writes the access line.
    fn conclude(&self, call: &Call<'_, '_>, outcome: Result<(), Failure>) -> PyResult<()> {
        let py = call.py;
        let response = call.kit.response.get();
        let Some(exchange) = response.release(py) else {
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
                let answer = self.explain(call, &error, &exchange);
                (Some(answer), exit.then_some(error))
            }
        };
        let refusal = answer.as_ref().filter(|_| !exchange.head_sent());
        self.record(call, &exchange, refusal);
        match answer {
            Some(reject) => exchange.fail(&reject),
            None => exchange.finish(),
        };
        exit.map_or(Ok(()), Err)
    }

    /// Puts an exception into the log. Returns what to answer if nothing has left yet.
    fn explain(&self, call: &Call<'_, '_>, error: &PyErr, exchange: &Exchange) -> Reject {
        let py = call.py;
        let (fault, gone) = {
            let mut state = call.kit.response.get().lock(py);
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
    fn close(&self, call: &mut Call<'_, '_>) -> PyResult<()> {
        let py = call.py;
        let Some(iterable) = call.iterable.take().filter(|kept| !needs_no_close(kept)) else {
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

    /// The access line. `refusal`: what is answered instead of the application's response.
    fn record(&self, call: &Call<'_, '_>, exchange: &Exchange, refusal: Option<&Reject>) {
        if !self.access.is_enabled() {
            return;
        }
        let py = call.py;
        let duration_ns = clock::now_ns().saturating_sub(call.received_ns);
        if let Some(refusal) = refusal {
            let line = format!("{} {}", refusal.status(), refusal.reason());
            let status = PyString::new(py, &line).unbind();
            let before = call.kit.response.get().lock(py).status.replace(status);
            drop(before);
        }
        if self.access.uses_python() {
            if let Err(error) = self.record_in_python(call, duration_ns) {
                let message = "Error writing the access log";
                self.log.exception(py, &error, message, &[]);
            }
            return;
        }
        let (status, fields) = {
            let state = call.kit.response.get().lock(py);
            let status = state.status.as_ref().map(|status| status.clone_ref(py));
            (status, state.fields.clone())
        };
        let status = status.as_ref().map(|status| status.bind(py));
        let status = status.and_then(|status| as_latin1(status)).unwrap_or(b"-");
        let environ = call.environ.as_ref();
        let source = Source::new(py, exchange, environ, status, &fields, duration_ns);
        self.access.record(&source);
    }

    /// `log.access(resp, req, environ, request_time)`.
    fn record_in_python(&self, call: &Call<'_, '_>, duration_ns: u64) -> PyResult<()> {
        let (py, kit) = (call.py, call.kit);
        let (Some(request), Some(environ)) = (&call.request, &call.environ) else {
            return Ok(());
        };
        let micros = duration_ns / 1_000;
        let (days, micros) = (micros / 86_400_000_000, micros % 86_400_000_000);
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let duration = PyDelta::new(py, days as i32, seconds as i32, micros as i32, false)?;
        let arguments = (kit.response.bind(py), request, environ, duration);
        self.log
            .logger(py)
            .call_method1(intern!(py, "access"), arguments)?;
        Ok(())
    }
}
