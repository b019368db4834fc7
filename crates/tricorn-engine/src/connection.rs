//! One connection: bytes from the socket to complete requests, responses back to the socket.
//!
//! Not the request's life in the application (that is `Exchange`). Runs under the engine's lock; never blocks.
//! Invariant: at most one request of a connection is in progress, so responses leave in the order of the requests.
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};
use tricorn_proto::h1::{BodyDecoder, BodyStep, HeadParser};
use tricorn_proto::response::error_page;
use tricorn_proto::{Framing, Head, PeerTrust, Reject, RejectKind};

use crate::engine::{Core, Ready};
use crate::exchange::{BodyError, StreamStep};
use crate::notice::Notice;
use crate::output::{Flush, Output};
use crate::peer::{ListenerInfo, Peer};
use crate::spool::Store;
use crate::table::NEVER;

/// How long a closed connection is still read, so that the peer sees the answer and not a reset.
const LINGER_MS: u64 = 2_000;
/// How much is read and thrown away meanwhile.
const LINGER_BYTES: usize = 64 * 1024;
/// Less output than this waits for company (a pipelined answer, the next block) until the turn or the tick ends.
const FLUSH_AT: u64 = 64 * 1024;

pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The memory of one request; reused from request to request.
#[derive(Default)]
pub struct Parts {
    pub head: Head,
    pub store: Store,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the response head is encoded.
    pub out: Vec<u8>,
}

impl Parts {
    pub fn clear(&mut self) {
        self.head.clear();
        match &mut self.store {
            Store::Memory(data) if data.capacity() <= 64 * 1024 => data.clear(),
            store => *store = Store::default(),
        }
        self.trailers.clear();
        if self.out.capacity() > 64 * 1024 {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
    }
}

pub enum Phase {
    /// Between requests, or in the middle of a head.
    Head,
    /// Collecting a buffered body.
    Body(Box<Collecting>),
    /// The request is with the application (or on its way there).
    Busy,
    /// Everything is said; what the peer still sends is thrown away.
    Linger { left: usize },
}

pub struct Collecting {
    decoder: BodyDecoder,
    started_ms: u64,
    received: u64,
}

impl Collecting {
    /// `count` bytes of a body of known length went past the decoder.
    fn skip(&mut self, count: u64) {
        self.decoder.skip(count);
        self.received += count;
    }
}

/// What becomes of a connection after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Keep,
    Close,
}

pub struct Connection {
    pub socket: OwnedFd,
    pub key: u64,
    pub peer: Peer,
    pub trust: PeerTrust,
    pub listener: Arc<ListenerInfo>,
    parser: HeadParser,
    pub parts: Option<Box<Parts>>,
    pub input: Vec<u8>,
    pub consumed: usize,
    pub phase: Phase,
    pub output: Output,
    pub requests: u32,
    /// The socket may hold bytes that were not read yet (edge-triggered: nobody will say so again).
    pub readable: bool,
    /// The peer has shut its side: what is left to read ends with that news.
    pub peer_closed: bool,
    pub read_closed: bool,
    /// Broken, but an exchange still refers to it.
    pub dead: bool,
    /// Close once the output has left.
    pub closing: bool,
    /// The request of this moment was not read to its end.
    pub unread: bool,
    watching_writable: bool,
    /// Output waits for the peer, and the deadline is that of its progress.
    stalled: bool,
    /// What the kernel had not delivered when the deadline for a stalled peer was set.
    unsent: u64,
    pub dirty: bool,
    pub deadline_ms: u64,
}

impl Connection {
    pub fn new(
        socket: OwnedFd,
        key: u64,
        peer: Peer,
        trust: PeerTrust,
        listener: Arc<ListenerInfo>,
        deadline_ms: u64,
    ) -> Self {
        Connection {
            socket,
            key,
            peer,
            trust,
            listener,
            parser: HeadParser::default(),
            parts: None,
            input: Vec::new(),
            consumed: 0,
            phase: Phase::Head,
            output: Output::default(),
            requests: 0,
            readable: false,
            peer_closed: false,
            read_closed: false,
            dead: false,
            closing: false,
            unread: false,
            watching_writable: false,
            stalled: false,
            unsent: 0,
            dirty: false,
            deadline_ms,
        }
    }

    /// A connection that could be closed without losing anything begun.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && !self.parser.started() && self.output.is_empty()
    }

    pub fn in_progress(&self) -> bool {
        matches!(self.phase, Phase::Body(_) | Phase::Busy)
    }

    // ---- input

    pub fn on_readable(&mut self, core: &mut Core) -> Fate {
        self.readable = true;
        while self.readable {
            match &self.phase {
                // The peer's next request stays in the kernel: that is its back-pressure.
                Phase::Busy => return Fate::Keep,
                Phase::Head
                    if self.output.pending() > core.config.response_buffer_memory as u64 =>
                {
                    return Fate::Keep;
                }
                _ => {}
            }
            match self.receive(core) {
                Ok(0) => {
                    self.readable = false;
                    self.read_closed = true;
                    return self.on_end_of_input();
                }
                Ok(_) => {
                    if self.advance(core) == Fate::Close {
                        return Fate::Close;
                    }
                }
                Err(Errno::AGAIN) => self.readable = false,
                Err(Errno::INTR) => {}
                Err(_) => return self.on_broken(),
            }
        }
        self.release_idle_memory(core);
        Fate::Keep
    }

    /// One read. A large body of known length goes straight to its place.
    fn receive(&mut self, core: &mut Core) -> Result<usize, Errno> {
        if self.consumed == self.input.len() {
            if self.body_has_place(core) {
                return self.receive_body();
            }
            self.input.clear();
            self.consumed = 0;
        }
        if self.input.capacity() == 0 {
            self.input = core.pool.take_buffer();
        } else if self.input.len() == self.input.capacity() {
            if self.consumed > 0 {
                self.input.drain(..self.consumed);
                self.consumed = 0;
            } else {
                self.input.reserve(self.input.len());
            }
        }
        let room = self.input.capacity() - self.input.len();
        let count = receive_into(&self.socket, &mut self.input)?;
        self.readable = count == room || self.peer_closed;
        Ok(count)
    }

    /// May the rest of the body go straight from the socket to where the application reads it?
    fn body_has_place(&self, core: &Core) -> bool {
        let (Phase::Body(body), Some(parts)) = (&self.phase, self.parts.as_deref()) else {
            return false;
        };
        let (Some(left), Store::Memory(data)) = (body.decoder.remaining(), &parts.store) else {
            return false;
        };
        left as usize > core.pool.buffer_size()
            && data.len() as u64 + left <= core.config.request_buffer_memory as u64
    }

    fn receive_body(&mut self) -> Result<usize, Errno> {
        let (Phase::Body(body), Some(parts)) = (&mut self.phase, self.parts.as_deref_mut()) else {
            return Ok(0);
        };
        let (Some(left), Store::Memory(data)) = (body.decoder.remaining(), &mut parts.store) else {
            return Ok(0);
        };
        let start = data.len();
        data.reserve_exact(left as usize);
        let room = data.capacity() - start;
        let count = receive_into(&self.socket, data)?;
        self.readable = count == room || self.peer_closed;
        // What lies behind the body is the next request.
        if count as u64 > left {
            self.input.clear();
            self.consumed = 0;
            self.input.extend_from_slice(&data[start + left as usize..]);
            data.truncate(start + left as usize);
        }
        body.skip((data.len() - start) as u64);
        Ok(count)
    }

    fn on_end_of_input(&mut self) -> Fate {
        match self.phase {
            Phase::Busy => Fate::Keep,
            Phase::Linger { .. } => Fate::Close,
            // A half request is nobody's; answers that are on their way are still delivered.
            Phase::Head | Phase::Body(_) => {
                if self.output.is_empty() {
                    return Fate::Close;
                }
                self.closing = true;
                Fate::Keep
            }
        }
    }

    /// Turns bytes into requests until more bytes, or the application's answer, are needed.
    pub fn advance(&mut self, core: &mut Core) -> Fate {
        loop {
            match &mut self.phase {
                Phase::Busy => return Fate::Keep,
                Phase::Linger { left } => {
                    let count = self.input.len() - self.consumed;
                    self.consumed = self.input.len();
                    *left = left.saturating_sub(count);
                    return if *left == 0 { Fate::Close } else { Fate::Keep };
                }
                Phase::Head if self.closing => {
                    self.consumed = self.input.len();
                    return Fate::Keep;
                }
                Phase::Head => match self.parse_head(core) {
                    Ok(true) => {}
                    Ok(false) => return Fate::Keep,
                    Err(reject) => return self.refuse(core, &reject),
                },
                Phase::Body(_) => match self.collect_body(core) {
                    Ok(true) => {}
                    Ok(false) => return Fate::Keep,
                    Err(reject) => return self.refuse(core, &reject),
                },
            }
        }
    }

    fn parse_head(&mut self, core: &mut Core) -> Result<bool, Reject> {
        let bytes = &self.input[self.consumed..];
        if bytes.is_empty() {
            return Ok(false);
        }
        let fresh = !self.parser.started();
        let parts = self.parts.get_or_insert_with(|| core.pool.take_parts());
        let Some(count) =
            self.parser
                .parse(bytes, &core.config.policy, self.trust, &mut parts.head)?
        else {
            if fresh {
                self.deadline_ms = core.now_ms + core.config.client_header_timeout_ms;
            }
            return Ok(false);
        };
        self.parser.reset();
        self.consumed += count;
        self.requests += 1;
        self.on_head(core)?;
        Ok(true)
    }

    fn on_head(&mut self, core: &mut Core) -> Result<(), Reject> {
        let parts = self.parts.as_mut().expect("parse_head has put them there");
        let framing = parts.head.framing;
        let limit = core.config.limit_request_body;
        self.unread = framing != Framing::None && framing != Framing::Length(0);
        if let Framing::Length(length) = framing
            && limit > 0
            && length > limit
        {
            return Err(too_large(length, limit));
        }
        core.in_progress += 1;
        if !self.unread || !core.config.request_buffering {
            self.make_ready(core);
            return Ok(());
        }
        if parts.head.expect_continue && self.consumed == self.input.len() {
            self.output.push(CONTINUE);
            self.flush(core);
        }
        self.phase = Phase::Body(Box::new(Collecting {
            decoder: BodyDecoder::new(framing),
            started_ms: core.now_ms,
            received: 0,
        }));
        self.deadline_ms = core.body_deadline(core.now_ms, 0);
        Ok(())
    }

    fn collect_body(&mut self, core: &mut Core) -> Result<bool, Reject> {
        let Phase::Body(body) = &mut self.phase else {
            return Ok(false);
        };
        let parts = self.parts.as_mut().expect("a body has a head");
        loop {
            match body
                .decoder
                .decode(&self.input[self.consumed..], &core.config.policy)?
            {
                BodyStep::NeedMore { consumed } => {
                    self.consumed += consumed;
                    self.deadline_ms = core.body_deadline(body.started_ms, body.received);
                    let limit = core.config.limit_request_body;
                    let announced = body.decoder.announced();
                    if limit > 0 && announced > limit {
                        return Err(too_large(announced, limit));
                    }
                    return Ok(false);
                }
                BodyStep::Data { data, consumed } => {
                    let block = &self.input[self.consumed..][data];
                    body.received += block.len() as u64;
                    let limit = core.config.limit_request_body;
                    if limit > 0 && body.received > limit {
                        return Err(too_large(body.received, limit));
                    }
                    let config = &core.config;
                    if let Err(error) =
                        parts
                            .store
                            .append(block, config.request_buffer_memory, &config.spool_dir)
                    {
                        core.notices.push(Notice::Spool(error));
                        let message = String::new();
                        return Err(Reject {
                            kind: RejectKind::Internal,
                            message,
                        });
                    }
                    self.consumed += consumed;
                }
                BodyStep::End { consumed } => {
                    self.consumed += consumed;
                    parts.trailers = body.decoder.take_trailers();
                    self.unread = false;
                    self.make_ready(core);
                    return Ok(true);
                }
            }
        }
    }

    fn make_ready(&mut self, core: &mut Core) {
        self.phase = Phase::Busy;
        self.deadline_ms = NEVER;
        let parts = self.parts.take().expect("a request has parts");
        core.ready.push_back(Ready {
            key: self.key,
            fd: self.socket.as_raw_fd(),
            parts,
            peer: self.peer.clone(),
            listener: self.listener.clone(),
            number: self.requests,
            received_ns: core.now_ns,
            streamed: self.unread,
        });
        if self.consumed == self.input.len() && !self.unread {
            self.release_input(core);
        }
    }

    /// Answers with the error page and closes; the peer's fault goes to the log through the notices.
    pub fn refuse(&mut self, core: &mut Core, reject: &Reject) -> Fate {
        if self.in_progress() {
            core.in_progress -= 1;
        }
        core.notices.push(Notice::Rejected {
            peer: self.peer.clone(),
            reject: reject.clone(),
        });
        let mut page = Vec::with_capacity(512);
        error_page(&mut page, reject);
        self.output.push(&page);
        self.phase = Phase::Head;
        self.closing = true;
        self.unread = true;
        self.consumed = self.input.len();
        if let Some(parts) = self.parts.take() {
            core.pool.put_parts(parts);
        }
        self.flush(core)
    }

    // ---- output

    /// Sends `first` and `second` after what is waiting. `last`: the response is complete with them.
    pub fn send(&mut self, core: &mut Core, first: &[u8], second: &[u8], last: bool) {
        let pipelined = self.consumed < self.input.len();
        let size = (first.len() + second.len()) as u64;
        let now = (last && !pipelined) || size >= FLUSH_AT;
        if now && self.output.is_empty() {
            let sent = self.send_directly(first, second);
            let from_second = sent.saturating_sub(first.len());
            self.output.push(&first[sent.min(first.len())..]);
            self.output.push(&second[from_second..]);
            if self.output.is_empty() || self.dead {
                return;
            }
            self.on_blocked(core, sent > 0);
            return;
        }
        self.output.push(first);
        self.output.push(second);
        if now || self.output.pending() >= FLUSH_AT {
            self.flush(core);
        } else if !self.dirty {
            self.dirty = true;
            core.mark_dirty(self.key);
        }
    }

    fn send_directly(&mut self, first: &[u8], second: &[u8]) -> usize {
        loop {
            let result = if second.is_empty() {
                rustix::net::send(&self.socket, first, rustix::net::SendFlags::NOSIGNAL)
            } else {
                rustix::io::writev(&self.socket, &[IoSlice::new(first), IoSlice::new(second)])
            };
            match result {
                Ok(count) => return count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return 0,
                Err(_) => {
                    self.on_broken();
                    return 0;
                }
            }
        }
    }

    /// Sends what the socket takes; closes when the last byte of a closing connection has left.
    pub fn flush(&mut self, core: &mut Core) -> Fate {
        self.dirty = false;
        if self.dead {
            return Fate::Keep;
        }
        if !self.output.is_empty() {
            match self.output.flush(self.socket.as_fd()) {
                Ok((Flush::Empty, _)) => {
                    self.stalled = false;
                    if matches!(self.phase, Phase::Busy) {
                        self.deadline_ms = NEVER;
                    }
                }
                Ok((Flush::Blocked, sent)) => {
                    self.on_blocked(core, sent > 0);
                    return Fate::Keep;
                }
                Ok((Flush::More, _)) => {
                    self.expect_progress(core);
                    self.dirty = true;
                    core.mark_dirty(self.key);
                    return Fate::Keep;
                }
                Err(_) => return self.on_broken(),
            }
        }
        if self.closing && !self.in_progress() {
            return self.begin_close(core);
        }
        Fate::Keep
    }

    fn expect_progress(&mut self, core: &Core) {
        self.stalled = true;
        self.unsent = crate::sys::unsent(&self.socket);
        self.deadline_ms = core.now_ms + core.config.send_timeout_ms;
    }

    /// The kernel tells of room only when a good part of its buffer is free, which is megabytes: a peer that
    /// takes little at a time makes progress long before that.
    fn peer_takes(&self) -> bool {
        crate::sys::unsent(&self.socket) < self.unsent
    }

    fn on_blocked(&mut self, core: &mut Core, progress: bool) {
        if progress || !self.stalled {
            self.expect_progress(core);
        }
        if !self.watching_writable {
            self.watching_writable = true;
            if core.poller.watch_writable(&self.socket, self.key).is_err() {
                self.on_broken();
            }
        }
    }

    pub fn on_writable(&mut self, core: &mut Core) -> Fate {
        if self.output.is_empty() {
            return Fate::Keep;
        }
        let fate = self.flush(core);
        if fate == Fate::Close || !self.output.is_empty() {
            return fate;
        }
        self.resume(core)
    }

    /// The output has room again: requests that waited for it may go on.
    fn resume(&mut self, core: &mut Core) -> Fate {
        if !matches!(self.phase, Phase::Head) || self.closing {
            return Fate::Keep;
        }
        self.deadline_ms = core.idle_deadline(self.parser.started());
        if self.readable {
            return self.on_readable(core);
        }
        Fate::Keep
    }

    // ---- a body that is read while the application runs

    /// Decodes what is at hand into `out`; reads from the socket at most once.
    pub fn read_streamed(
        &mut self,
        core: &mut Core,
        decoder: &mut BodyDecoder,
        out: &mut Vec<u8>,
    ) -> Result<StreamStep, BodyError> {
        loop {
            let step = decoder
                .decode(&self.input[self.consumed..], &core.config.policy)
                .map_err(BodyError::Reject)?;
            match step {
                BodyStep::Data { data, consumed } => {
                    out.extend_from_slice(&self.input[self.consumed..][data]);
                    self.consumed += consumed;
                }
                BodyStep::End { consumed } => {
                    self.consumed += consumed;
                    if out.is_empty() {
                        return Ok(StreamStep::End(decoder.take_trailers()));
                    }
                    return Ok(StreamStep::Data);
                }
                BodyStep::NeedMore { consumed } => {
                    self.consumed += consumed;
                    if !out.is_empty() {
                        return Ok(StreamStep::Data);
                    }
                    match self.receive(core) {
                        Ok(0) => {
                            self.read_closed = true;
                            return Err(BodyError::Disconnected);
                        }
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => {
                            self.readable = false;
                            return Ok(StreamStep::Wait);
                        }
                        Err(_) => {
                            self.on_broken();
                            return Err(BodyError::Disconnected);
                        }
                    }
                }
            }
        }
    }

    /// Throws away what the application left of the body, as far as it is here already. True when that was all.
    pub fn skip_body(&mut self, core: &mut Core, decoder: &mut BodyDecoder) -> bool {
        let mut skipped = 0;
        while !self.dead && skipped <= LINGER_BYTES {
            let mut out = Vec::new();
            match self.read_streamed(core, decoder, &mut out) {
                Ok(StreamStep::Data) => skipped += out.len(),
                Ok(StreamStep::End(_)) => return true,
                Ok(StreamStep::Wait) | Err(_) => return false,
            }
        }
        false
    }

    // ---- end of a request, end of the connection

    /// The application's answer is complete (it may still be in the output).
    pub fn end_exchange(&mut self, core: &mut Core, keep_alive: bool) -> Fate {
        core.in_progress -= 1;
        if self.dead {
            return Fate::Close;
        }
        self.phase = Phase::Head;
        if !keep_alive || (self.read_closed && self.consumed == self.input.len()) {
            self.closing = true;
            self.unread |= self.consumed < self.input.len() || self.readable;
            return self.flush(core);
        }
        if !self.stalled {
            self.deadline_ms = core.idle_deadline(false);
        }
        if self.consumed < self.input.len() && self.advance(core) == Fate::Close {
            return Fate::Close;
        }
        // A pipelined request that is ready already will share its write with this answer.
        let waits_for_company = self.dirty && matches!(self.phase, Phase::Busy);
        if !self.output.is_empty() && !waits_for_company {
            let fate = self.flush(core);
            if fate == Fate::Close {
                return fate;
            }
        }
        if self.read_closed && matches!(self.phase, Phase::Head | Phase::Body(_)) {
            return self.on_end_of_input();
        }
        if self.readable && !matches!(self.phase, Phase::Busy) {
            return self.on_readable(core);
        }
        self.release_idle_memory(core);
        Fate::Keep
    }

    fn begin_close(&mut self, core: &mut Core) -> Fate {
        let rest_unread = self.unread || self.readable || self.consumed < self.input.len();
        if self.read_closed || !rest_unread {
            return Fate::Close;
        }
        // Closing with unread input would reset the connection and take the answer with it.
        if rustix::net::shutdown(&self.socket, Shutdown::Write).is_err() {
            return Fate::Close;
        }
        self.phase = Phase::Linger { left: LINGER_BYTES };
        self.deadline_ms = core.now_ms + LINGER_MS;
        self.release_input(core);
        self.on_readable(core)
    }

    /// The connection failed or the peer reset it.
    pub fn on_broken(&mut self) -> Fate {
        self.dead = true;
        self.output.clear();
        self.deadline_ms = NEVER;
        if matches!(self.phase, Phase::Busy) {
            Fate::Keep
        } else {
            Fate::Close
        }
    }

    pub fn on_deadline(&mut self, core: &mut Core) -> Fate {
        if self.stalled {
            if self.peer_takes() {
                self.expect_progress(core);
                return Fate::Keep;
            }
            return self.on_broken();
        }
        match &self.phase {
            Phase::Busy => Fate::Keep,
            Phase::Linger { .. } => Fate::Close,
            Phase::Head if !self.parser.started() => Fate::Close,
            Phase::Head => self.refuse(core, &timed_out("request head")),
            Phase::Body(_) => self.refuse(core, &timed_out("request body")),
        }
    }

    fn release_input(&mut self, core: &mut Core) {
        self.consumed = 0;
        core.pool.put_buffer(std::mem::take(&mut self.input));
    }

    /// An idle connection keeps no buffer: that is what makes ten thousand of them cheap.
    fn release_idle_memory(&mut self, core: &mut Core) {
        if self.consumed == self.input.len()
            && self.input.capacity() > 0
            && !matches!(self.phase, Phase::Body(_))
        {
            self.release_input(core);
        }
        if matches!(self.phase, Phase::Head)
            && !self.parser.started()
            && let Some(parts) = self.parts.take()
        {
            core.pool.put_parts(parts);
        }
    }
}

fn receive_into(socket: &OwnedFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    let (count, _) = rustix::net::recv(
        socket,
        rustix::buffer::spare_capacity(buffer),
        RecvFlags::empty(),
    )?;
    Ok(count)
}

pub fn timed_out(what: &str) -> Reject {
    Reject {
        kind: RejectKind::RequestTimeout,
        message: format!("The {what} took too long"),
    }
}

pub fn too_large(length: u64, limit: u64) -> Reject {
    let message = format!("Request body is too large ({length} > {limit})");
    Reject {
        kind: RejectKind::ContentTooLarge,
        message,
    }
}
