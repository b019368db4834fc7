//! How the answer of an ASGI request is sent: start, blocks, files, trailers, and what waits for the peer.
//!
//! Invariant: blocks leave in the order of the calls of `send`, each whole before the next.
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tricorn_engine::{Exchange, Gone, Signed, Written};
use tricorn_proto::response::status_line;
use tricorn_proto::{AppFault, Head};

use super::awaitable::{done, pending};
use super::event::{Fields, misplaced};
use super::request::{AsgiRequest, Ending, State, bad_field, gone, is_over, resolve};
use crate::gateway::response::OwnedField;

/// A block on its way to the engine.
pub(super) struct Unsent {
    pub(super) block: Py<PyBytes>,
    pub(super) more: bool,
    pub(super) stage: Stage,
    pub(super) future: Py<PyAny>,
}

/// What is left to do for a block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Write,
    /// From this offset on.
    Rest(usize),
    Room,
}

impl State {
    /// Hands over what can be. True when that was all of it.
    pub(super) fn hand_over(
        &mut self,
        block: &[u8],
        more: bool,
        stage: &mut Stage,
    ) -> Result<bool, Gone> {
        let exchange = self.exchange.as_mut().ok_or(Gone)?;
        loop {
            match *stage {
                Stage::Write => {
                    if !exchange.head_ended() {
                        let whole = !more && !self.trailers_due;
                        exchange.end_head(whole.then_some(block.len() as u64));
                        if whole && exchange.put_whole(block) {
                            return Ok(true);
                        }
                    }
                    *stage = match exchange.write(block)? {
                        Written::All => return Ok(true),
                        Written::Full => Stage::Room,
                        Written::Part(rest) => Stage::Rest(rest.start),
                    };
                }
                Stage::Rest(offset) => {
                    let taken = exchange.try_write_rest(&block[offset..])?;
                    if offset + taken < block.len() {
                        *stage = Stage::Rest(offset + taken);
                        return Ok(false);
                    }
                    *stage = Stage::Room;
                }
                // The engine has all of it; the last block need not wait for a slow peer.
                Stage::Room if !more => return Ok(true),
                Stage::Room => return exchange.has_room(),
            }
        }
    }

    /// The last block is with the engine: what ends with it, unless trailers are to come.
    fn end_body(&mut self) -> Option<Ending> {
        self.body_ended = true;
        (!self.trailers_due).then(|| self.end())
    }

    /// May the application send more of its body?
    pub(super) fn may_go_on(&self) -> PyResult<()> {
        if self.exchange.is_none() || self.body_ended {
            return Err(AsgiRequest::closed(self));
        }
        if !self.started {
            return Err(misplaced("the response has not started yet"));
        }
        Ok(())
    }
}

impl AsgiRequest {
    pub(super) fn send_backlog(&self, py: Python<'_>) -> PyResult<()> {
        loop {
            let Some(mut unsent) = self.lock().backlog.pop_front() else {
                return Ok(());
            };
            let block = unsent.block.bind(py).as_bytes();
            let outcome = self.lock().hand_over(block, unsent.more, &mut unsent.stage);
            match outcome {
                Ok(false) => {
                    self.lock().backlog.push_front(unsent);
                    return Ok(());
                }
                Ok(true) => {
                    if !unsent.more {
                        self.complete_body(py)?;
                    }
                    let future = unsent.future.bind(py);
                    if !is_over(future)? {
                        resolve(future)?;
                    }
                }
                Err(Gone) => {
                    self.lock().left = true;
                    let future = unsent.future.bind(py);
                    if !is_over(future)? {
                        future.call_method1(intern!(py, "set_exception"), (gone(),))?;
                    }
                }
            }
        }
    }

    /// The last block is with the engine.
    pub(super) fn complete_body(&self, py: Python<'_>) -> PyResult<()> {
        let ending = self.lock().end_body();
        ending.map_or(Ok(()), |mut ending| self.finish_with(py, &mut ending))
    }

    pub(super) fn start(
        &self,
        status: u16,
        line: &str,
        fields: &Fields<'_>,
        trailers: bool,
    ) -> PyResult<()> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(exchange) = state.exchange.as_mut() else {
            return Err(Self::closed(state));
        };
        if state.started {
            return Err(misplaced("the response has started already"));
        }
        encode_head(exchange, line.as_bytes(), fields).map_err(bad_field)?;
        state.started = true;
        state.status = status;
        state.trailers_due = trailers;
        if self.host.keep_fields {
            state.fields = fields.owned();
        }
        Ok(())
    }

    pub(super) fn body(
        this: &Bound<'_, Self>,
        block: Bound<'_, PyBytes>,
        more: bool,
    ) -> PyResult<Py<PyAny>> {
        match Self::push(this, block, more)? {
            Some(future) => pending(future),
            None => done(this.py()),
        }
    }

    /// Sends a block. Returns a future when that has to wait for the client.
    pub(super) fn push<'py>(
        this: &Bound<'py, Self>,
        block: Bound<'py, PyBytes>,
        more: bool,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let request = this.get();
        let mut stage = Stage::Write;
        let mut ending = None;
        let outcome = {
            let mut state = request.lock();
            state.may_go_on()?;
            let outcome = if state.backlog.is_empty() {
                state.hand_over(block.as_bytes(), more, &mut stage)
            } else {
                Ok(false)
            };
            if outcome == Ok(true) && !more {
                ending = state.end_body();
            }
            outcome
        };
        match outcome {
            Ok(true) => {
                match ending {
                    Some(mut ending) => request.finish_with(py, &mut ending)?,
                    None => request.host.settle_soon(py)?,
                }
                Ok(None)
            }
            Ok(false) => {
                let future = request.host.future(py)?;
                request.lock().backlog.push_back(Unsent {
                    block: block.unbind(),
                    more,
                    stage,
                    future: future.clone().unbind(),
                });
                Self::wait(this);
                request.host.settle_soon(py)?;
                Ok(Some(future))
            }
            Err(Gone) => {
                request.lock().left = true;
                Err(gone())
            }
        }
    }

    /// The engine sends a range of a file behind what was written.
    pub(super) fn file(
        this: &Bound<'_, Self>,
        file: std::fs::File,
        offset: u64,
        length: u64,
        more: bool,
    ) -> PyResult<Py<PyAny>> {
        let py = this.py();
        let request = this.get();
        let outcome = {
            let mut state = request.lock();
            state.may_go_on()?;
            let whole = !more && !state.trailers_due;
            let exchange = state.exchange.as_mut().ok_or_else(gone)?;
            if !exchange.head_ended() {
                exchange.end_head(whole.then_some(length));
            }
            exchange.send_file(file, offset, length)
        };
        if outcome.is_err() {
            request.lock().left = true;
            return Err(gone());
        }
        if more {
            // An empty block waits for the file in front of it.
            return Self::body(this, PyBytes::new(py, b""), true);
        }
        request.complete_body(py)?;
        done(py)
    }

    pub(super) fn trailers(
        &self,
        py: Python<'_>,
        fields: &Fields<'_>,
        more: bool,
    ) -> PyResult<Py<PyAny>> {
        {
            let mut guard = self.lock();
            let state = &mut *guard;
            let Some(exchange) = state.exchange.as_mut() else {
                return Err(Self::closed(state));
            };
            if !(state.trailers_due && state.body_ended) {
                return Err(misplaced("trailers come after the body, once announced"));
            }
            // Others might lose them, or take them for something else (RFC 9110, 6.5.1).
            if wants_trailers(exchange.head()) {
                exchange.add_trailers(fields.iter()).map_err(bad_field)?;
            }
        }
        if !more {
            self.finish(py)?;
        }
        done(py)
    }

    pub(super) fn informational(
        &self,
        py: Python<'_>,
        status: u16,
        fields: &[OwnedField],
        late: bool,
    ) -> PyResult<Py<PyAny>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(exchange) = state.exchange.as_mut() else {
            return Err(Self::closed(state));
        };
        if state.started && !late {
            return Err(misplaced(
                "an informational response after the response has started",
            ));
        }
        let line = status_line(status);
        let fields = fields.iter().map(|(name, value)| (&name[..], &value[..]));
        exchange
            .informational(line.as_bytes(), fields)
            .map_err(bad_field)?;
        drop(guard);
        done(py)
    }
}

/// Status line and fields. Server and Date may be the application's.
pub fn encode_head(
    exchange: &mut Exchange,
    line: &[u8],
    fields: &Fields<'_>,
) -> Result<(), AppFault> {
    let has = |known: &[u8]| {
        fields
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(known))
    };
    let signed = Signed {
        server: has(b"server"),
        date: has(b"date"),
    };
    exchange.begin_signed_head(line, signed)?;
    fields
        .iter()
        .try_for_each(|(name, value)| exchange.head_field(name, value))
}

fn wants_trailers(head: &Head) -> bool {
    head.listed(b"te")
        .any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}
