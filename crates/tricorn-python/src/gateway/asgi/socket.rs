//! One WebSocket of an ASGI application: its `receive` and `send`.
//!
//! Not the frames: those are the engine's. Invariants: the lock is not held while Python code runs; the handshake is
//! answered exactly once. Source: the ASGI specification, "HTTP & WebSocket", 2.4; RFC 6455, 4.2.
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::{PyException, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use tricorn_engine::{Channel, Exchange, Gone, Inbound, SocketConfig};
use tricorn_proto::response::status_line;
use tricorn_proto::ws::handshake::{DeflatePolicy, accept_key, key_is_valid, negotiate};
use tricorn_proto::ws::{CloseCode, DeflateParams, MessageKind};
use tricorn_proto::{AppFault, Framing, Head, Reject, RejectKind};

use super::answer::encode_head;
use super::awaitable::{Receive, Receiver, done, pending};
use super::event::{Fields, SocketEvent, misplaced, socket_event};
use super::host::{Conversation, Host, locked};
use super::request::{bad_field, gone, is_over, resolve, resolve_all};
use super::scope::Kind;

/// What the settings say of WebSockets.
#[derive(Clone, Copy, Debug)]
pub struct SocketSettings {
    pub config: SocketConfig,
    /// `None`: permessage-deflate is not offered.
    pub deflate: Option<DeflatePolicy>,
}

impl SocketSettings {
    pub fn from_config(cfg: &Bound<'_, PyAny>) -> PyResult<SocketSettings> {
        let seconds = |name: &str| -> PyResult<u64> {
            Ok((cfg.getattr(name)?.extract::<f64>()? * 1_000.0) as u64)
        };
        let deflate = cfg.getattr("websocket_deflate")?.is_truthy()?;
        Ok(SocketSettings {
            config: SocketConfig {
                max_message_size: cfg.getattr("websocket_max_message_size")?.extract()?,
                ping_interval_ms: seconds("websocket_ping_interval")?,
                ping_timeout_ms: seconds("websocket_ping_timeout")?,
            },
            deflate: deflate.then(DeflatePolicy::default),
        })
    }
}

#[pyclass(frozen, module = "tricorn._core")]
pub struct AsgiSocket {
    host: Arc<Host>,
    key: u64,
    state: Mutex<State>,
}

enum Line {
    /// The handshake waits for an answer. True once the application knows of it.
    Connecting(Exchange, bool),
    /// It is refused with a response of the application's, whose head is written.
    Refusing(Exchange),
    Open(Channel),
    Over,
}

struct State {
    line: Line,
    /// What `receive()` tells of the end.
    ended: Option<(u16, String)>,
    receivers: Vec<Py<PyAny>>,
    /// Futures of `send()` that wait for room.
    senders: Vec<Py<PyAny>>,
    /// The handshake counts as a request of the application; what follows does not.
    counted: bool,
    /// What has taken the call of the application over.
    task: Option<Py<PyAny>>,
}

/// What `receive()` gives.
enum Incoming {
    Connect,
    Inbound(Inbound),
}

impl State {
    fn poll_receive(&mut self) -> Option<Incoming> {
        match &mut self.line {
            Line::Connecting(_, told) if !*told => {
                *told = true;
                Some(Incoming::Connect)
            }
            Line::Connecting(exchange, _) | Line::Refusing(exchange) => exchange
                .peer_has_left()
                .then(|| Incoming::Inbound(abnormal())),
            Line::Open(channel) => {
                let inbound = channel.try_receive()?;
                if let Inbound::Closed { code, reason } = &inbound {
                    self.ended = Some((*code, reason.clone()));
                    self.line = Line::Over;
                }
                Some(Incoming::Inbound(inbound))
            }
            Line::Over => {
                let ended = self.ended.clone();
                Some(Incoming::Inbound(ended.map_or_else(
                    abnormal,
                    |(code, reason)| Inbound::Closed { code, reason },
                )))
            }
        }
    }
}

fn abnormal() -> Inbound {
    Inbound::Closed {
        code: 1006,
        reason: String::new(),
    }
}

/// Does the request ask for a WebSocket?
pub fn is_handshake(head: &Head) -> bool {
    // The only question that each request has to answer.
    head.upgrade
        && head.method() == b"GET"
        && head.is_http_1_1()
        && head
            .field(b"upgrade")
            .is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
}

/// Answers a handshake that is none. Returns the exchange of a proper one.
fn checked(mut exchange: Exchange) -> Option<Exchange> {
    let head = exchange.head();
    if head.field(b"sec-websocket-version") != Some(b"13") {
        let status: &[u8] = b"426 Upgrade Required";
        let fields: [(&[u8], &[u8]); 1] = [(b"Sec-WebSocket-Version", b"13")];
        answer(&mut exchange, status, fields).expect("a head of ours is well formed");
        exchange.force_close();
        exchange.finish();
        return None;
    }
    let key = head.field(b"sec-websocket-key");
    if head.framing != Framing::None || !key.is_some_and(key_is_valid) {
        let reject = Reject::new(RejectKind::BadRequest, "Invalid WebSocket handshake");
        exchange.fail(&reject);
        return None;
    }
    Some(exchange)
}

/// A whole answer without a body.
fn answer<'a>(
    exchange: &mut Exchange,
    status: &[u8],
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), AppFault> {
    exchange.begin_head(status)?;
    for (name, value) in fields {
        exchange.head_field(name, value)?;
    }
    exchange.end_head(Some(0));
    Ok(())
}

impl AsgiSocket {
    /// Calls the application for a handshake; one that is none is answered here.
    pub fn begin(py: Python<'_>, host: &Arc<Host>, exchange: Exchange) -> PyResult<()> {
        let Some(exchange) = checked(exchange) else {
            return Ok(());
        };
        let scopes = &host.scopes;
        let mut extras = scopes.extras(py, Kind::WebSocket)?;
        let scope = scopes.build(py, &exchange, Kind::WebSocket, &mut extras)?;
        let socket = AsgiSocket {
            host: host.clone(),
            key: exchange.key(),
            state: Mutex::new(State {
                line: Line::Connecting(exchange, false),
                ended: None,
                receivers: Vec::new(),
                senders: Vec::new(),
                counted: true,
                task: None,
            }),
        };
        let this = Bound::new(py, socket)?;
        let waiter = Conversation::Socket(this.clone().unbind());
        this.get().host.wait(this.get().key, waiter);
        let receive = this.getattr(intern!(py, "receive"))?;
        let send = this.getattr(intern!(py, "send"))?;
        let conversation = Conversation::Socket(this.unbind());
        host.call(py, scope, &receive, &send, conversation)
            .map(drop)
    }

    /// `task` has taken the call of the application over.
    pub fn run_in(&self, task: Py<PyAny>) {
        self.lock().task = Some(task);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// The engine has something to report.
    pub fn wake(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let socket = this.get();
        let receivers = std::mem::take(&mut socket.lock().receivers);
        resolve_all(py, receivers)?;
        let (senders, room) = {
            let mut state = socket.lock();
            let awaited = !state.senders.is_empty();
            let room = match &mut state.line {
                Line::Open(channel) if awaited => channel.has_room(),
                _ => Err(Gone),
            };
            let senders = match room {
                Ok(false) => Vec::new(),
                _ => std::mem::take(&mut state.senders),
            };
            (senders, room)
        };
        for sender in senders {
            let sender = sender.bind(py);
            if is_over(sender)? {
                continue;
            }
            match room {
                Ok(_) => resolve(sender)?,
                Err(Gone) => {
                    sender.call_method1(intern!(py, "set_exception"), (gone(),))?;
                }
            }
        }
        socket.host.settle_soon(py)
    }

    /// The next message, if there is one.
    pub fn next_message<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let incoming = self.lock().poll_receive();
        incoming.map(|incoming| message(py, incoming)).transpose()
    }

    /// A future that is done once there is more to say.
    pub fn await_message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.host.future(py)?;
        self.lock().receivers.push(future.clone().unbind());
        Ok(future)
    }

    fn accept(&self, subprotocol: Option<&[u8]>, fields: &Fields<'_>) -> PyResult<()> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.line, Line::Over) {
            Line::Connecting(mut exchange, _) => {
                let settings = &self.host.sockets;
                match open(&mut exchange, settings, subprotocol, fields) {
                    Ok(deflate) => {
                        state.line = Line::Open(exchange.upgrade(settings.config, deflate));
                        Ok(())
                    }
                    Err(fault) => {
                        state.line = Line::Connecting(exchange, true);
                        Err(bad_field(fault))
                    }
                }
            }
            other => {
                state.line = other;
                Err(state.misplaced("websocket.accept after the handshake was answered"))
            }
        }
    }

    fn say(this: &Bound<'_, Self>, kind: MessageKind, payload: &[u8]) -> PyResult<Py<PyAny>> {
        let py = this.py();
        let socket = this.get();
        let room = {
            let mut state = socket.lock();
            match &mut state.line {
                Line::Open(channel) => channel
                    .send(kind, payload)
                    .and_then(|()| channel.has_room())
                    .map_err(|_| gone())?,
                _ => return Err(state.misplaced("websocket.send before websocket.accept")),
            }
        };
        socket.host.settle_soon(py)?;
        if room {
            return done(py);
        }
        let future = socket.host.future(py)?;
        socket.lock().senders.push(future.clone().unbind());
        pending(future)
    }

    fn close(&self, py: Python<'_>, code: u16, reason: &str) -> PyResult<()> {
        let Some(close_code) = CloseCode::new(code) else {
            return Err(PyValueError::new_err(format!(
                "{code} is no close code that can be sent"
            )));
        };
        let line = {
            let mut state = self.lock();
            if matches!(state.line, Line::Refusing(_)) {
                return Err(state.misplaced("websocket.close after a response has started"));
            }
            if matches!(state.line, Line::Over) {
                return Err(gone());
            }
            state.ended = Some((code, reason.to_owned()));
            std::mem::replace(&mut state.line, Line::Over)
        };
        match line {
            Line::Connecting(exchange, _) => self.refuse(py, exchange, b"403 Forbidden"),
            Line::Open(channel) => {
                channel.close(close_code, reason);
                self.over(py)
            }
            Line::Refusing(_) | Line::Over => Ok(()),
        }
    }

    fn refuse(&self, py: Python<'_>, mut exchange: Exchange, status: &[u8]) -> PyResult<()> {
        exchange.force_close();
        answer(&mut exchange, status, []).expect("a head of ours is well formed");
        exchange.finish();
        self.over(py)
    }

    fn response_start(&self, status: u16, fields: &Fields<'_>) -> PyResult<()> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.line, Line::Over) {
            Line::Connecting(mut exchange, told) => {
                exchange.force_close();
                let line = status_line(status);
                let encoded = encode_head(&mut exchange, line.as_bytes(), fields);
                if let Err(fault) = encoded {
                    state.line = Line::Connecting(exchange, told);
                    return Err(bad_field(fault));
                }
                state.line = Line::Refusing(exchange);
                Ok(())
            }
            other => {
                state.line = other;
                Err(state.misplaced("a response after the handshake was answered"))
            }
        }
    }

    fn response_body(&self, py: Python<'_>, block: &[u8], more: bool) -> PyResult<()> {
        let ended = {
            let mut state = self.lock();
            let Line::Refusing(exchange) = &mut state.line else {
                return Err(state.misplaced("a response body before its start"));
            };
            if !exchange.head_ended() {
                exchange.end_head((!more).then_some(block.len() as u64));
            }
            // A page that refuses is small: what does not fit waits in a file rather than in the application.
            match exchange.write(block) {
                Ok(tricorn_engine::Written::Part(rest)) => {
                    exchange
                        .leave_rest(&block[rest], false)
                        .map_err(|_| gone())?;
                }
                Ok(_) => {}
                Err(Gone) => return Err(gone()),
            }
            if more {
                return Ok(());
            }
            std::mem::replace(&mut state.line, Line::Over)
        };
        if let Line::Refusing(exchange) = ended {
            exchange.finish();
        }
        self.over(py)
    }

    /// The handshake is answered.
    fn uncount(&self) {
        if std::mem::take(&mut self.lock().counted) {
            self.host.end_request();
        }
    }

    /// The application has returned, or raised `error`.
    pub fn end(this: &Bound<'_, Self>, error: Option<&PyErr>) -> PyResult<()> {
        let py = this.py();
        let socket = this.get();
        let (line, gone_already, task) = {
            let mut state = socket.lock();
            let ended = state.ended.is_some();
            let line = std::mem::replace(&mut state.line, Line::Over);
            (line, ended, state.task.take())
        };
        socket.host.end(py, task, error);
        let is_over = matches!(line, Line::Over);
        if let Some(error) = error
            && error.is_instance_of::<PyException>(py)
            && !(is_over && gone_already && error.is_instance_of::<super::ClientDisconnected>(py))
        {
            let log = &socket.host.log;
            log.exception(py, error, "Error in ASGI application", &[]);
        }
        match line {
            Line::Connecting(exchange, _) => {
                let status: &[u8] = match error {
                    Some(_) => b"500 Internal Server Error",
                    None => b"403 Forbidden",
                };
                socket.refuse(py, exchange, status)
            }
            Line::Refusing(exchange) => {
                exchange.fail(&Reject::of(RejectKind::Internal));
                socket.over(py)
            }
            Line::Open(channel) => {
                channel.close(CloseCode::INTERNAL_ERROR, "");
                socket.over(py)
            }
            Line::Over => socket.over(py),
        }
    }

    fn over(&self, py: Python<'_>) -> PyResult<()> {
        self.uncount();
        self.host.forget(self.key);
        self.host.settle_soon(py)
    }
}

impl State {
    /// Why an event has no place here.
    fn misplaced(&self, message: &'static str) -> PyErr {
        match self.line {
            Line::Over => gone(),
            _ => misplaced(message),
        }
    }
}

/// Encodes the 101.
fn open(
    exchange: &mut Exchange,
    settings: &SocketSettings,
    subprotocol: Option<&[u8]>,
    fields: &Fields<'_>,
) -> Result<Option<DeflateParams>, AppFault> {
    let head = exchange.head();
    let accept = accept_key(head.field(b"sec-websocket-key").unwrap_or_default());
    let offers: Vec<&[u8]> = head.listed(b"sec-websocket-extensions").collect();
    let offers = offers.join(&b","[..]);
    let agreed = settings
        .deflate
        .as_ref()
        .and_then(|policy| negotiate(&offers, policy));
    exchange.begin_head(b"101 Switching Protocols")?;
    exchange.head_field(b"Upgrade", b"websocket")?;
    exchange.head_field(b"Connection", b"Upgrade")?;
    exchange.head_field(b"Sec-WebSocket-Accept", &accept)?;
    if let Some(name) = subprotocol {
        exchange.head_field(b"Sec-WebSocket-Protocol", name)?;
    }
    if let Some(agreed) = &agreed {
        let mut value = Vec::new();
        agreed.write(&mut value);
        exchange.head_field(b"Sec-WebSocket-Extensions", &value)?;
    }
    for (name, value) in fields.iter() {
        exchange.head_field(name, value)?;
    }
    exchange.end_head(None);
    Ok(agreed.map(|agreed| agreed.params))
}

fn message(py: Python<'_>, incoming: Incoming) -> PyResult<Bound<'_, PyAny>> {
    let dict = PyDict::new(py);
    let kind = intern!(py, "type");
    match incoming {
        Incoming::Connect => dict.set_item(kind, intern!(py, "websocket.connect"))?,
        Incoming::Inbound(Inbound::Message(message)) => {
            dict.set_item(kind, intern!(py, "websocket.receive"))?;
            match message.kind {
                MessageKind::Binary => {
                    let bytes = PyBytes::new(py, &message.payload);
                    dict.set_item(intern!(py, "bytes"), bytes)?;
                }
                MessageKind::Text => {
                    let text = PyString::from_bytes(py, &message.payload)?;
                    dict.set_item(intern!(py, "text"), text)?;
                }
            }
        }
        Incoming::Inbound(Inbound::Closed { code, reason }) => {
            dict.set_item(kind, intern!(py, "websocket.disconnect"))?;
            dict.set_item(intern!(py, "code"), code)?;
            dict.set_item(intern!(py, "reason"), reason)?;
        }
    }
    Ok(dict.into_any())
}

#[pymethods]
impl AsgiSocket {
    fn receive(slf: &Bound<'_, Self>) -> PyResult<Py<Receive>> {
        Receive::of(slf.py(), Receiver::Socket(slf.clone().unbind()))
    }

    fn send(slf: &Bound<'_, Self>, event: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let socket = slf.get();
        match socket_event(event)? {
            SocketEvent::Text(text) => {
                return Self::say(slf, MessageKind::Text, text.to_str()?.as_bytes());
            }
            SocketEvent::Bytes(bytes) => {
                return Self::say(slf, MessageKind::Binary, bytes.as_bytes());
            }
            SocketEvent::Accept {
                subprotocol,
                fields,
            } => {
                socket.accept(subprotocol.as_deref(), &fields)?;
                socket.uncount();
                // What waits for a message has been waiting for the handshake.
                Self::wake(slf)?;
            }
            SocketEvent::Close { code, reason } => socket.close(py, code, &reason)?,
            SocketEvent::ResponseStart { status, fields } => {
                socket.response_start(status, &fields)?;
            }
            SocketEvent::ResponseBody { block, more } => {
                socket.response_body(py, block.as_bytes(), more)?;
            }
        }
        done(py)
    }
}
