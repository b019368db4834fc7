//! From the socket to complete requests.
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use tricorn_proto::h1::{BodyDecoder, BodyStep};
use tricorn_proto::response::error_page;
use tricorn_proto::{Framing, Reject, RejectKind};

use super::{CONTINUE, Collecting, Connection, Fate, LINGER_BYTES, Parts, Phase, within_limit};
use crate::engine::Core;
use crate::exchange::{BodyError, StreamStep};
use crate::notice::Notice;
use crate::pool::Pool;
use crate::table::NEVER;

/// Room for a head in the buffer of a whole upload, and for a byte behind it: a read that leaves some room free has taken
/// all that was there, and needs no second one.
const AHEAD_OF_UPLOAD: usize = 4 * 1024;

/// A body that is read while the application runs is read in such pieces, or somewhat larger ones. Each costs a call into
/// Python and, over ASGI, a message.
const STREAMED_PIECE: u64 = 64 * 1024;

impl Connection {
    pub fn on_readable(&mut self, core: &mut Core) -> Fate {
        self.readable = true;
        while self.readable {
            match &self.phase {
                // The peer's next request stays in the kernel: that is its back-pressure.
                Phase::Busy => return Fate::Keep,
                Phase::Socket(socket) if socket.is_full() => return Fate::Keep,
                Phase::Head | Phase::Socket(_)
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
                    return self.on_end_of_input(core);
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
            self.begun_at = None;
            if self.body_has_place(core) {
                return self.receive_body(core);
            }
            self.input.clear();
            self.consumed = 0;
        }
        if self.input.capacity() == 0 {
            self.input = match self.phase {
                Phase::Head if self.upload > 0 => {
                    core.pool.take_large(self.upload as usize + AHEAD_OF_UPLOAD)
                }
                _ => core.pool.take_buffer(),
            };
        } else if self.input.len() == self.input.capacity() {
            if self.consumed > 0 {
                self.begun_at = None;
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

    pub(super) fn on_end_of_input(&mut self, core: &mut Core) -> Fate {
        match self.phase {
            Phase::Busy => Fate::Keep,
            // A WebSocket ends with a Close; this is none.
            Phase::Socket(_) => self.on_broken(),
            Phase::Linger { .. } => Fate::Close,
            // It may have shut only its own side, and waits for an answer to what it takes for a request.
            Phase::Head if self.head_has_begun() && !self.closing => {
                self.refuse(core, &Reject::of(RejectKind::Incomplete))
            }
            Phase::Body(_) => self.refuse(core, &Reject::of(RejectKind::Incomplete)),
            Phase::Head if self.output.is_empty() => Fate::Close,
            // Answers that are on their way are still delivered.
            Phase::Head => {
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
                Phase::Socket(_) => return self.advance_socket(core),
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
        let parts = self.parts.get_or_insert_with(|| core.pool.take_parts());
        let Parts { parser, head, .. } = &mut **parts;
        let fresh = !parser.started();
        let (policy, familiar) = (&core.config.policy, &mut core.familiar);
        let Some(count) = parser.parse(bytes, policy, self.trust, head, familiar)? else {
            if fresh {
                self.deadline_ms = core.now_ms + core.config.client_header_timeout_ms;
            }
            return Ok(false);
        };
        self.begun_at = Some(self.consumed);
        self.consumed += count;
        self.requests += 1;
        self.on_head(core)?;
        Ok(true)
    }

    fn on_head(&mut self, core: &mut Core) -> Result<(), Reject> {
        let parts = self.parts.as_mut().expect("parse_head has put them there");
        let framing = parts.head.framing;
        self.unread = framing != Framing::None && framing != Framing::Length(0);
        if let Framing::Length(length) = framing {
            within_limit(length, &core.config)?;
        }
        if !self.unread || !core.config.request_buffering {
            self.make_ready(core);
            return Ok(());
        }
        if parts.head.expect_continue && self.consumed == self.input.len() {
            self.output.push(CONTINUE, &mut core.pool);
            self.flush(core);
        }
        self.phase = Phase::Body(Box::new(Collecting::new(framing, core.now_ms)));
        self.deadline_ms = core.body_deadline(core.now_ms, 0);
        Ok(())
    }

    pub(super) fn make_ready(&mut self, core: &mut Core) {
        core.in_progress += 1;
        self.upload = match &self.phase {
            Phase::Body(body) => body.large_in_memory(&core.config),
            _ => 0,
        };
        self.phase = Phase::Busy;
        self.deadline_ms = NEVER;
        let mut parts = self.parts.take().expect("a request has parts");
        parts.course.begin(self, core.now_ns);
        core.ready.push_back(parts);
    }

    /// Answers with the error page and closes; the peer's fault goes to the log through the notices.
    pub fn refuse(&mut self, core: &mut Core, reject: &Reject) -> Fate {
        core.notices.push(Notice::Rejected {
            peer: self.ends.peer.clone(),
            reject: reject.clone(),
        });
        let mut page = Vec::with_capacity(512);
        error_page(&mut page, reject);
        self.output.push(&page, &mut core.pool);
        self.phase = Phase::Head;
        self.closing = true;
        self.unread = true;
        self.consumed = self.input.len();
        if let Some(parts) = self.parts.take() {
            core.pool.put_parts(parts);
        }
        self.flush(core)
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
                    match self.receive_streamed(core, decoder, out) {
                        Ok(0) => {
                            self.read_closed = true;
                            return Err(BodyError::Disconnected);
                        }
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => {
                            self.readable = false;
                            // A peer that is slow holds no memory meanwhile.
                            core.pool.put_body(out);
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

    /// One read for the decoder. What can only be data of a large body goes straight to `out`, which is empty.
    fn receive_streamed(
        &mut self,
        core: &mut Core,
        decoder: &mut BodyDecoder,
        out: &mut Vec<u8>,
    ) -> Result<usize, Errno> {
        let left = decoder.remaining().unwrap_or(0);
        if left <= Pool::BUFFER as u64 || self.consumed < self.input.len() {
            return self.receive(core);
        }
        // A read that leaves the last byte free has taken all that was there.
        let wanted = left.min(STREAMED_PIECE) as usize + 1;
        if out.capacity() < wanted {
            *out = core.pool.take_large(wanted);
        }
        self.begun_at = None;
        self.consumed = 0;
        let (count, is_full) = receive_data(&self.socket, out, left, &mut self.input)?;
        self.readable = is_full || self.peer_closed;
        decoder.skip(out.len() as u64);
        Ok(count)
    }

    /// Throws away what the application left of the body, as far as it is here already. True when that was all.
    pub fn skip_body(&mut self, core: &mut Core, decoder: &mut BodyDecoder) -> bool {
        let (mut skipped, mut out) = (0, Vec::new());
        let ended = loop {
            if self.dead || skipped > LINGER_BYTES {
                break false;
            }
            out.clear();
            match self.read_streamed(core, decoder, &mut out) {
                Ok(StreamStep::Data) => skipped += out.len(),
                Ok(StreamStep::End(_)) => break true,
                Ok(StreamStep::Wait) | Err(_) => break false,
            }
        };
        core.pool.put_body(&mut out);
        ended
    }
}

/// One read, behind what `data` has, where `left` bytes of a body may come: what lies behind them is the next request, and is
/// all that `input` has then. Returns how many bytes came, and whether they have taken all the room there was.
pub(super) fn receive_data(
    socket: &OwnedFd,
    data: &mut Vec<u8>,
    left: u64,
    input: &mut Vec<u8>,
) -> Result<(usize, bool), Errno> {
    let (start, room) = (data.len(), data.capacity() - data.len());
    input.clear();
    let count = receive_into(socket, data)?;
    if count as u64 > left {
        let end = start + left as usize;
        input.extend_from_slice(&data[end..]);
        data.truncate(end);
    }
    Ok((count, count == room))
}

fn receive_into(socket: &OwnedFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    let (count, _) = rustix::net::recv(
        socket,
        rustix::buffer::spare_capacity(buffer),
        RecvFlags::empty(),
    )?;
    Ok(count)
}
