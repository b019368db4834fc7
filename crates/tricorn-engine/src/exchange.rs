//! One request and its response, held by the thread that runs the application.
//!
//! Not the connection: an exchange may outlive its peer; writes then report [`Gone`].
//! Invariant: an exchange ends exactly once (`finish`, `fail`, or being dropped, which cuts the connection).
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tricorn_proto::h1::BodyDecoder;
use tricorn_proto::response::{
    BodyEncoder, HeadEncoder, ResponseContext, error_page, informational,
};
use tricorn_proto::{AppFault, Framing, Head, Reject};

use crate::clock;
use crate::connection::{CONTINUE, Fate, Parts};
use crate::engine::{Engine, Ready};
use crate::peer::{ListenerInfo, Peer};

/// Blocks from this size on are offered to the socket from where they lie instead of being copied first.
const DIRECT: usize = 8 * 1024;

/// The peer has left, or a deadline of the connection has passed. Nothing more can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Why the request body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// Malformed body, or a limit or deadline passed: answer with this.
    Reject(Reject),
    /// The peer closed before the end of the body.
    Disconnected,
    /// The temporary file failed.
    Io(io::Error),
    /// Seeking is not possible on a streamed body.
    NotSeekable,
}

/// What is left of an exchange when it is over: the figures of the access log.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Bytes of response body accepted for sending (after chunk encoding is taken away).
    pub body_bytes: u64,
    /// The response was cut: peer gone, application failed after the head, body shorter than announced.
    pub cut: bool,
}

/// A body that is read from the peer while the application runs (`request_buffering = False`).
struct Stream {
    decoder: BodyDecoder,
    /// Decoded bytes nobody has asked for yet.
    surplus: Vec<u8>,
    taken: usize,
    ended: bool,
    continue_due: bool,
    started_ms: u64,
    received: u64,
}

enum Body {
    Buffered { position: u64 },
    Streamed(Box<Stream>),
}

enum Response {
    /// Nothing begun; the application may still change its mind.
    Unbegun,
    Begun(HeadEncoder),
    /// The head is encoded (in `parts.out` until something leaves).
    Ended(BodyEncoder),
}

pub struct Exchange {
    engine: Arc<Engine>,
    key: u64,
    fd: RawFd,
    parts: Box<Parts>,
    peer: Peer,
    listener: Arc<ListenerInfo>,
    number: u32,
    received_ns: u64,
    body: Body,
    response: Response,
    /// Something of the response is on its way (an informational response is not).
    sent_any: bool,
    complete: bool,
    keep_alive: bool,
    gone: bool,
    over: bool,
    body_bytes: u64,
}

// ---- request
impl Exchange {
    pub(crate) fn new(engine: Arc<Engine>, ready: Ready) -> Exchange {
        let head = &ready.parts.head;
        let body = if ready.streamed {
            Body::Streamed(Box::new(Stream {
                decoder: BodyDecoder::new(head.framing),
                surplus: Vec::new(),
                taken: 0,
                ended: false,
                continue_due: head.expect_continue,
                started_ms: ready.received_ns / 1_000_000,
                received: 0,
            }))
        } else {
            Body::Buffered { position: 0 }
        };
        let keep_alive = head.keep_alive && engine.config.keepalive_ms > 0;
        Exchange {
            engine,
            key: ready.key,
            fd: ready.fd,
            parts: ready.parts,
            peer: ready.peer,
            listener: ready.listener,
            number: ready.number,
            received_ns: ready.received_ns,
            body,
            response: Response::Unbegun,
            sent_any: false,
            complete: false,
            keep_alive,
            gone: false,
            over: false,
            body_bytes: 0,
        }
    }

    pub fn head(&self) -> &Head {
        &self.parts.head
    }

    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    pub fn listener(&self) -> &Arc<ListenerInfo> {
        &self.listener
    }

    /// Number of this request on its connection, from 1.
    pub fn request_number(&self) -> u32 {
        self.number
    }

    /// The connection's socket, for `gunicorn.socket`; valid while the exchange lives.
    pub fn socket_fd(&self) -> RawFd {
        self.fd
    }

    /// Monotonic nanoseconds when the request was complete (streamed: its head).
    pub fn received_ns(&self) -> u64 {
        self.received_ns
    }
}

// ---- request body
impl Exchange {
    /// Length when known: Content-Length, or the decoded length of a buffered chunked body.
    pub fn body_len(&self) -> Option<u64> {
        match (&self.body, self.parts.head.framing) {
            (Body::Buffered { .. }, _) => Some(self.parts.store.len()),
            (_, Framing::Length(length)) => Some(length),
            (_, Framing::None) => Some(0),
            (_, Framing::Chunked) => None,
        }
    }

    /// Buffered bodies (setting `request_buffering`) can seek and never block.
    pub fn body_is_buffered(&self) -> bool {
        matches!(self.body, Body::Buffered { .. })
    }

    /// Appends at most `max` bytes to `dst`; 0 = end of body. A streamed body waits for the peer: release the GIL
    /// around it unless `body_is_buffered`. The first read that has to wait sends `100 Continue` when it is expected.
    pub fn read_body(&mut self, dst: &mut Vec<u8>, max: usize) -> Result<usize, BodyError> {
        if max == 0 {
            return Ok(0);
        }
        match &mut self.body {
            Body::Buffered { position } => {
                let count = self
                    .parts
                    .store
                    .read_at(*position, max, dst)
                    .map_err(BodyError::Io)?;
                *position += count as u64;
                Ok(count)
            }
            Body::Streamed(_) => {
                self.fill_surplus()?;
                let Body::Streamed(stream) = &mut self.body else {
                    return Ok(0);
                };
                let rest = &stream.surplus[stream.taken..];
                let count = rest.len().min(max);
                dst.extend_from_slice(&rest[..count]);
                stream.taken += count;
                Ok(count)
            }
        }
    }

    /// Appends up to and including the next LF, at most `max` bytes.
    pub fn read_body_line(&mut self, dst: &mut Vec<u8>, max: usize) -> Result<usize, BodyError> {
        const PIECE: usize = 8 * 1024;
        let mut total = 0;
        while total < max {
            let start = dst.len();
            let piece = (max - total).min(PIECE);
            let count = if let Body::Streamed(_) = self.body {
                self.fill_surplus()?;
                let Body::Streamed(stream) = &mut self.body else {
                    return Ok(total);
                };
                let rest = &stream.surplus[stream.taken..];
                let rest = &rest[..rest.len().min(piece)];
                let count = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                dst.extend_from_slice(&rest[..count]);
                stream.taken += count;
                count
            } else {
                let count = self.read_body(dst, piece)?;
                match memchr::memchr(b'\n', &dst[start..]) {
                    Some(at) if at + 1 < count => {
                        dst.truncate(start + at + 1);
                        if let Body::Buffered { position } = &mut self.body {
                            *position -= (count - at - 1) as u64;
                        }
                        at + 1
                    }
                    _ => count,
                }
            };
            total += count;
            if count == 0 || dst.last() == Some(&b'\n') {
                break;
            }
        }
        Ok(total)
    }

    pub fn body_position(&self) -> u64 {
        match &self.body {
            Body::Buffered { position } => *position,
            Body::Streamed(stream) => {
                stream.received - (stream.surplus.len() - stream.taken) as u64
            }
        }
    }

    pub fn seek_body(&mut self, target: u64) -> Result<u64, BodyError> {
        match &mut self.body {
            Body::Buffered { position } => {
                *position = target;
                Ok(target)
            }
            Body::Streamed(_) => Err(BodyError::NotSeekable),
        }
    }

    /// Trailer fields, known once the body has ended.
    pub fn trailers(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.parts.trailers
    }

    /// Makes sure that decoded bytes are at hand, or that the body has ended. Waits for the peer.
    fn fill_surplus(&mut self) -> Result<(), BodyError> {
        let engine = self.engine.clone();
        let Body::Streamed(stream) = &mut self.body else {
            return Ok(());
        };
        loop {
            if stream.taken < stream.surplus.len() || stream.ended {
                return Ok(());
            }
            stream.surplus.clear();
            stream.taken = 0;
            let mut inner = engine.lock();
            inner.core.now_ms = clock::now_ms();
            let step = inner.with(self.key, |connection, core| {
                (
                    Fate::Keep,
                    connection.read_streamed(core, &mut stream.decoder, &mut stream.surplus),
                )
            });
            let deadline = inner.core.body_deadline(stream.started_ms, stream.received);
            let now_ms = inner.core.now_ms;
            drop(inner);
            match step.unwrap_or(Err(BodyError::Disconnected))? {
                StreamStep::Data => {
                    stream.received += stream.surplus.len() as u64;
                    let limit = engine.config.limit_request_body;
                    if limit > 0 && stream.received > limit {
                        return Err(BodyError::Reject(crate::connection::too_large(
                            stream.received,
                            limit,
                        )));
                    }
                }
                StreamStep::End(trailers) => {
                    stream.ended = true;
                    self.parts.trailers = trailers;
                    return Ok(());
                }
                StreamStep::Wait => {
                    if std::mem::take(&mut stream.continue_due) {
                        engine.send_now(self.key, CONTINUE);
                    }
                    if now_ms >= deadline || !wait_for(self.fd, PollFlags::IN, deadline - now_ms) {
                        return Err(BodyError::Reject(crate::connection::timed_out(
                            "request body",
                        )));
                    }
                }
            }
        }
    }
}

/// What an attempt to read a streamed body came to.
pub(crate) enum StreamStep {
    Data,
    End(Vec<(Vec<u8>, Vec<u8>)>),
    Wait,
}

// ---- response
impl Exchange {
    /// Informational response (103): sent at once. No-op on HTTP/1.0 or after `end_head`.
    pub fn early_hints(&mut self, fields: &[(&[u8], &[u8])]) -> Result<(), AppFault> {
        if !self.parts.head.is_http_1_1() || self.head_ended() {
            return Ok(());
        }
        let mut out = Vec::with_capacity(256);
        informational(&mut out, b"103 Early Hints", fields.iter().copied())?;
        self.engine.send_now(self.key, &out);
        Ok(())
    }

    /// Starts the head, throwing away one that was begun but did not leave. `status` is `200 OK`.
    pub fn begin_head(&mut self, status: &[u8]) -> Result<(), AppFault> {
        let head = &self.parts.head;
        let unread = match &self.body {
            Body::Streamed(stream) => stream.continue_due,
            Body::Buffered { .. } => false,
        };
        let mut inner = self.engine.lock();
        let context = ResponseContext {
            version: head.version,
            is_head: head.method() == b"HEAD",
            is_connect: head.method() == b"CONNECT",
            keep_alive: self.keep_alive && !unread && !inner.core.draining,
        };
        self.parts.out.clear();
        let date = inner.core.date.text();
        let encoder = HeadEncoder::begin(
            &mut self.parts.out,
            &context,
            status,
            &self.engine.config.server,
            date,
        )?;
        drop(inner);
        self.response = Response::Begun(encoder);
        Ok(())
    }

    /// Adds a field, in the order of the calls. Hop-by-hop fields, Server and Date are dropped by the encoder.
    pub fn head_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), AppFault> {
        match &mut self.response {
            Response::Begun(encoder) => encoder.field(&mut self.parts.out, name, value),
            _ => Err(AppFault {
                message: "a field outside of a response head".into(),
            }),
        }
    }

    /// Ends the head. `known_length`: the whole length of the body when the caller knows it; becomes Content-Length
    /// unless the application gave one.
    pub fn end_head(&mut self, known_length: Option<u64>) {
        self.response = match std::mem::replace(&mut self.response, Response::Unbegun) {
            Response::Begun(encoder) => {
                let plan = encoder.end(&mut self.parts.out, known_length);
                self.keep_alive = plan.keep_alive;
                Response::Ended(BodyEncoder::new(plan))
            }
            other => other,
        };
    }

    pub fn head_ended(&self) -> bool {
        matches!(self.response, Response::Ended(_))
    }

    /// Has anything of the response (informational ones apart) left or become impossible to take back?
    pub fn head_sent(&self) -> bool {
        self.sent_any
    }

    /// Makes this the last response of the connection (before `begin_head`: it says `Connection: close`).
    pub fn force_close(&mut self) {
        self.keep_alive = false;
    }

    /// Bytes of response body accepted so far (before chunk encoding).
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub fn can_send_file(&self) -> bool {
        self.engine.config.sendfile
    }

    /// Puts a block of body into the output buffer, or straight onto the socket. Cuts at Content-Length, drops for
    /// HEAD/204/304. Never blocks; `Ok(false)` = the buffer is above `response_buffer_memory`: release the GIL and
    /// call `wait_writable` before the next block.
    pub fn write(&mut self, block: &[u8]) -> Result<bool, Gone> {
        if self.gone {
            return Err(Gone);
        }
        let Response::Ended(encoder) = &mut self.response else {
            return Ok(true);
        };
        if self.complete {
            return Ok(true);
        }
        let out = &mut self.parts.out;
        let mut tail = &block[..0];
        if block.len() < DIRECT {
            self.body_bytes += encoder.put(out, block);
        } else {
            let count = encoder.take(block.len() as u64);
            encoder.put_head(out, count);
            tail = &block[..count as usize];
            self.body_bytes += count;
        }
        let last = encoder.is_complete();
        self.complete = last;
        let result = self.engine.send(self.key, out, tail, last);
        out.clear();
        self.sent_any = true;
        if !tail.is_empty() {
            encoder.put_tail(out);
        }
        self.gone = result.is_err();
        result
    }

    /// Waits until the output buffer has room. Errors: the peer left, or took nothing for `send_timeout`.
    /// To be called without the GIL.
    pub fn wait_writable(&mut self) -> Result<(), Gone> {
        let config = self.engine.config.clone();
        let mut deadline = clock::now_ms() + config.send_timeout_ms;
        let mut unsent = 0;
        loop {
            let now_ms = clock::now_ms();
            let mut inner = self.engine.lock();
            inner.core.now_ms = now_ms;
            let state = inner.with(self.key, |connection, core| {
                let before = connection.output.pending();
                let fate = connection.flush(core);
                let unsent = crate::sys::unsent(&connection.socket);
                (
                    fate,
                    (connection.dead, before, connection.output.pending(), unsent),
                )
            });
            drop(inner);
            let (dead, before, after, left) = state.unwrap_or((true, 0, 0, 0));
            if dead {
                self.gone = true;
                return Err(Gone);
            }
            if after <= config.response_buffer_memory as u64 / 2 {
                return Ok(());
            }
            // What the kernel holds counts as well: it tells of room only when much of it has gone.
            if after < before || left < unsent {
                deadline = now_ms + config.send_timeout_ms;
            }
            unsent = left;
            if now_ms >= deadline {
                self.gone = true;
                return Err(Gone);
            }
            wait_for(self.fd, PollFlags::OUT, deadline - now_ms);
        }
    }

    /// The engine sends `length` bytes of `file` from `offset`, behind everything written so far, without holding a
    /// thread. `file` is a duplicate of the application's descriptor.
    pub fn send_file(&mut self, file: File, offset: u64, length: u64) -> Result<(), Gone> {
        if self.gone {
            return Err(Gone);
        }
        let Response::Ended(encoder) = &mut self.response else {
            return Ok(());
        };
        let count = encoder.take(length);
        self.body_bytes += count;
        let out = &mut self.parts.out;
        if count > 0 {
            encoder.put_head(out, count);
        }
        let mut inner = self.engine.lock();
        inner.core.now_ms = clock::now_ms();
        let alive = inner.with(self.key, |connection, core| {
            if connection.dead {
                return (Fate::Keep, false);
            }
            connection.output.push(out);
            connection.output.push_file(file, offset, count);
            (connection.flush(core), !connection.dead)
        });
        drop(inner);
        out.clear();
        if count > 0 {
            encoder.put_tail(out);
        }
        self.sent_any = true;
        self.gone = alive != Some(true);
        if self.gone { Err(Gone) } else { Ok(()) }
    }

    /// The application is done. A body shorter than Content-Length closes the connection.
    pub fn finish(mut self) -> Record {
        let mut cut = self.gone;
        if let Response::Ended(encoder) = &mut self.response {
            let whole = encoder.finish(&mut self.parts.out);
            cut |= !whole;
            if !self.parts.out.is_empty() || !self.sent_any {
                let sent = self.engine.send(self.key, &self.parts.out, &[], true);
                self.parts.out.clear();
                cut |= sent.is_err();
            }
        } else {
            cut = true;
        }
        self.end(self.keep_alive && !cut);
        Record {
            body_bytes: self.body_bytes,
            cut,
        }
    }

    /// The request cannot be answered properly: the error page when no head has left, else the connection is cut.
    pub fn fail(mut self, reject: &Reject) -> Record {
        let mut bytes = 0;
        let cut = self.sent_any || self.gone;
        if !cut {
            self.parts.out.clear();
            error_page(&mut self.parts.out, reject);
            let head_end =
                memchr::memmem::find(&self.parts.out, b"\r\n\r\n").map_or(0, |at| at + 4);
            bytes = (self.parts.out.len() - head_end) as u64;
            let _ = self.engine.send(self.key, &self.parts.out, &[], true);
            self.parts.out.clear();
        }
        self.end(false);
        Record {
            body_bytes: self.body_bytes + bytes,
            cut,
        }
    }

    fn end(&mut self, mut keep_alive: bool) {
        if self.over {
            return;
        }
        self.over = true;
        let parts = std::mem::take(&mut self.parts);
        let mut inner = self.engine.lock();
        inner.core.pool.put_parts(parts);
        let body = &mut self.body;
        inner.with(self.key, |connection, core| {
            if let Body::Streamed(stream) = body {
                connection.unread =
                    !stream.ended && !connection.skip_body(core, &mut stream.decoder);
                keep_alive &= !connection.unread;
            }
            (connection.end_exchange(core, keep_alive), ())
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl Engine {
    /// Errors: the peer is gone. `Ok(false)`: the output buffer is full.
    fn send(&self, key: u64, first: &[u8], second: &[u8], last: bool) -> Result<bool, Gone> {
        let mut inner = self.lock();
        let limit = self.config.response_buffer_memory as u64;
        let state = inner.with(key, |connection, core| {
            if !connection.dead {
                connection.send(core, first, second, last);
            }
            (Fate::Keep, (connection.dead, connection.output.pending()))
        });
        match state {
            Some((false, pending)) => Ok(pending <= limit),
            _ => Err(Gone),
        }
    }

    /// Sends without waiting for company.
    fn send_now(&self, key: u64, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.core.now_ms = clock::now_ms();
        inner.with(key, |connection, core| {
            if connection.dead {
                return (Fate::Keep, ());
            }
            connection.output.push(bytes);
            (connection.flush(core), ())
        });
    }
}

/// Waits until the descriptor is ready; false after `timeout_ms`.
#[allow(unsafe_code)]
fn wait_for(fd: RawFd, flags: PollFlags, timeout_ms: u64) -> bool {
    // SAFETY: the table keeps the connection's socket open while its exchange lives.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let timeout = Timespec {
        tv_sec: (timeout_ms / 1000) as i64,
        tv_nsec: (timeout_ms % 1000 * 1_000_000) as i64,
    };
    let mut fds = [PollFd::new(&fd, flags)];
    !matches!(poll(&mut fds, Some(&timeout)), Ok(0))
}
