//! The response, from its head to its end.
use std::fs::File;

use rustix::event::PollFlags;
use tricorn_proto::response::{
    BodyEncoder, HeadEncoder, ReadyField, ResponseContext, Status, error_page, informational,
    trailer_fields,
};
use tricorn_proto::{AppFault, Reject};

use super::{Body, Exchange, Gone, Record, Response, Written, wait_for};
use crate::clock;
use crate::connection::{Fate, Parts, Place, Rest};
use crate::engine::Engine;
use crate::notice::Notice;

/// Fields that the application says itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signed {
    pub server: bool,
    pub date: bool,
}

/// Blocks from this size on are offered to the socket from where they lie instead of being copied first.
const DIRECT: usize = 8 * 1024;
/// A peer that makes room within this time, again and again, is quick: a proxy or another client on the same machine. The
/// kernel tells of room when a third of its buffer is free, as a rule more than a megabyte.
const QUICK_MS: u64 = 4;
/// Where that buffer is small, room is soon made: in this many bytes a millisecond, 2 Gbit/s, a quick peer takes the whole.
const QUICK_RATE: u64 = 256 * 1024;

impl Exchange {
    /// Informational response (`103 Early Hints`): sent at once. No-op on HTTP/1.0 or after `end_head`.
    pub fn informational<'a>(
        &mut self,
        status: &[u8],
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), AppFault> {
        let mut out = Vec::with_capacity(256);
        informational(&mut out, status, fields)?;
        if self.parts.head.is_http_1_1() && !self.head_ended() {
            self.engine.send_now(self.parts.course.key, &out);
        }
        Ok(())
    }

    /// Fields to be sent behind a chunked body; with any other framing there is no place for them.
    pub fn add_trailers<'a>(
        &mut self,
        fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), AppFault> {
        trailer_fields(&mut self.parts.last_fields, fields)
    }

    /// Starts the head, throwing away one that was begun but did not leave. `status` is `200 OK`.
    pub fn begin_head(&mut self, status: &[u8]) -> Result<(), AppFault> {
        self.begin_signed_head(status, Signed::default())
    }

    /// As `begin_head`, for an application that gives fields which are ours otherwise.
    pub fn begin_signed_head(&mut self, status: &[u8], signed: Signed) -> Result<(), AppFault> {
        let Parts {
            head,
            body,
            out,
            response,
            course,
            ..
        } = &mut *self.parts;
        let unread = match body {
            Body::Streamed(stream) => stream.continue_due,
            Body::Buffered { .. } => false,
        };
        let mut inner = self.engine.lock();
        let context = ResponseContext {
            version: head.version,
            is_head: head.method() == b"HEAD",
            is_connect: head.method() == b"CONNECT",
            keep_alive: course.keep_alive && !unread && !inner.core.draining,
        };
        let stamp = &mut inner.core.stamp;
        let encoder = if head.version == (1, 1) && !signed.server && !signed.date {
            let opening = stamp.opening(status)?;
            out.clear();
            HeadEncoder::begin_again(out, &context, opening)
        } else {
            let status = Status::parse(status)?;
            out.clear();
            HeadEncoder::begin(out, &context, status, &stamp.signature(signed))
        };
        *response = Response::Begun(encoder);
        Ok(())
    }

    /// Adds a field, in the order of the calls. Hop-by-hop fields, Server and Date are dropped by the encoder.
    pub fn head_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), AppFault> {
        let parts = &mut *self.parts;
        match &mut parts.response {
            Response::Begun(encoder) => encoder.field(&mut parts.out, name, value),
            _ => Err(AppFault {
                message: "a field outside of a response head".into(),
            }),
        }
    }

    /// As `head_field`, for a field that was checked before. `false`: it is for `head_field` to decide about.
    #[inline]
    pub fn ready_field(&mut self, field: &ReadyField) -> bool {
        let parts = &mut *self.parts;
        match &mut parts.response {
            Response::Begun(encoder) => encoder.ready_field(&mut parts.out, field),
            _ => false,
        }
    }

    /// Ends the head. `known_length`: the whole length of the body when the caller knows it; becomes Content-Length
    /// unless the application gave one.
    pub fn end_head(&mut self, known_length: Option<u64>) {
        let parts = &mut *self.parts;
        if let Response::Begun(encoder) = &parts.response {
            let plan = encoder.end(&mut parts.out, known_length);
            parts.course.keep_alive = plan.keep_alive;
            parts.response = Response::Ended(BodyEncoder::new(plan));
        }
    }

    pub fn head_ended(&self) -> bool {
        matches!(self.parts.response, Response::Ended(_))
    }

    /// Has anything of the response (informational ones apart) left or become impossible to take back?
    pub fn head_sent(&self) -> bool {
        self.parts.course.sent_any
    }

    /// Makes this the last response of the connection (before `begin_head`: it says `Connection: close`).
    pub fn force_close(&mut self) {
        self.parts.course.keep_alive = false;
    }

    /// Bytes of response body accepted so far (before chunk encoding).
    pub fn body_bytes(&self) -> u64 {
        self.parts.course.body_bytes
    }

    pub fn can_send_file(&self) -> bool {
        self.engine.config.sendfile
    }

    /// Puts a block of body into the output buffer, or straight onto the socket. Cuts at Content-Length, drops for
    /// HEAD/204/304. Never blocks; what it leaves to do then has to be done before the next block.
    pub fn write(&mut self, block: &[u8]) -> Result<Written, Gone> {
        self.write_block(block, Rest::Kept)
    }

    /// As `write`, for a block behind which nothing is made: what the socket does not take of a large one is not copied.
    pub fn write_whole(&mut self, block: &[u8]) -> Result<Written, Gone> {
        match block.len() > self.engine.config.response_buffer_memory {
            true => self.write_block(block, Rest::Left),
            false => self.write_block(block, Rest::Kept),
        }
    }

    fn write_block(&mut self, block: &[u8], rest: Rest) -> Result<Written, Gone> {
        if self.parts.course.gone {
            return Err(Gone);
        }
        let parts = &mut *self.parts;
        let Response::Ended(encoder) = &mut parts.response else {
            return Ok(Written::All);
        };
        if parts.course.complete {
            return Ok(Written::All);
        }
        let out = &mut parts.out;
        if out.is_empty()
            && let Some(taken) = self.engine.append(parts.course.key, encoder, block)
        {
            parts.course.body_bytes += taken;
            return Ok(Written::All);
        }
        let mut tail = &block[..0];
        if block.len() < DIRECT {
            parts.course.body_bytes += encoder.put(out, block);
        } else {
            let count = encoder.take(block.len() as u64);
            encoder.put_head(out, count);
            tail = &block[..count as usize];
            parts.course.body_bytes += count;
        }
        let last = encoder.is_complete();
        parts.course.complete = last;
        let result = self
            .engine
            .send(parts.course.key, out, tail, Place { last, rest });
        out.clear();
        parts.course.sent_any = true;
        if !tail.is_empty() {
            encoder.put_tail(out);
        }
        match result {
            Ok((taken, _)) if taken < tail.len() => Ok(Written::Part(taken..tail.len())),
            Ok((_, true)) => Ok(Written::All),
            Ok((_, false)) => Ok(Written::Full),
            Err(gone) => {
                parts.course.gone = true;
                Err(gone)
            }
        }
    }

    /// Gives the engine the rest of a block as the peer makes room for it. To be called without the GIL.
    ///
    /// Errors: as `wait_writable`.
    pub fn write_rest(&mut self, mut rest: &[u8]) -> Result<(), Gone> {
        while !rest.is_empty() {
            self.wait_writable()?;
            rest = &rest[self.send_more(rest, Rest::Kept)?..];
        }
        Ok(())
    }

    /// Leaves the rest of the last block to the engine: in memory what `response_buffer_memory` allows, more in an unlinked
    /// temporary file. A slow peer holds neither the thread nor memory. For a quick one the thread waits, if it `may_wait`,
    /// which costs less than the file. To be called without the GIL.
    ///
    /// Errors: as `wait_writable`, which is the way out when there is no room for the file.
    pub fn leave_rest(&mut self, mut rest: &[u8], may_wait: bool) -> Result<(), Gone> {
        let mut deadline_ms = clock::now_ms();
        // What lies behind the rest of another block will not leave soon.
        if may_wait && !self.output_waits() {
            deadline_ms += QUICK_MS + rest.len() as u64 / QUICK_RATE;
        }
        let memory = self.engine.config.response_buffer_memory;
        while rest.len() > memory {
            let patience_ms = deadline_ms.saturating_sub(clock::now_ms()).min(QUICK_MS);
            let taken = match wait_for(self.parts.course.fd, PollFlags::OUT, patience_ms) {
                true => self.send_more(rest, Rest::Left)?,
                false => 0,
            };
            if taken == 0 {
                return self.spool(rest);
            }
            rest = &rest[taken..];
        }
        if !rest.is_empty() {
            rest = &rest[self.send_more(rest, Rest::Kept)?..];
        }
        match rest.is_empty() {
            true => Ok(()),
            false => self.spool(rest),
        }
    }

    fn output_waits(&self) -> bool {
        let mut inner = self.engine.lock();
        let waits = inner.with(self.parts.course.key, |connection, _| {
            (Fate::Keep, !connection.output.is_empty())
        });
        waits.unwrap_or(false)
    }

    fn send_more(&mut self, block: &[u8], rest: Rest) -> Result<usize, Gone> {
        let place = Place { last: true, rest };
        let sent = self.engine.send(self.parts.course.key, &[], block, place);
        let (taken, _) = sent.inspect_err(|_| self.parts.course.gone = true)?;
        Ok(taken)
    }

    /// As `write_rest`, without waiting: how much of it was taken. When that was not all, the engine reports the
    /// exchange's key as soon as there is room again.
    pub fn try_write_rest(&mut self, rest: &[u8]) -> Result<usize, Gone> {
        let mut taken = 0;
        loop {
            taken += self.send_more(&rest[taken..], Rest::Kept)?;
            // A peer that has made room meanwhile is not reported any more.
            if taken == rest.len() || !self.has_room()? {
                return Ok(taken);
            }
        }
    }

    /// Has the output room for another block? If not, the engine reports the exchange's key as soon as it has.
    pub fn has_room(&mut self) -> Result<bool, Gone> {
        let mut inner = self.engine.lock();
        inner.core.now_ms = clock::now_ms();
        let room = inner.with(self.parts.course.key, |connection, core| {
            let fate = connection.flush(core);
            (fate, connection.poll_room(core))
        });
        drop(inner);
        room.flatten()
            .ok_or(Gone)
            .inspect_err(|_| self.parts.course.gone = true)
    }

    fn spool(&mut self, rest: &[u8]) -> Result<(), Gone> {
        match crate::spool::file_of(rest, &self.engine.config.spool_dir) {
            Ok(file) => self.push_file(&[], file, 0, rest.len() as u64),
            Err(error) => {
                self.engine
                    .lock()
                    .core
                    .notices
                    .push(Notice::SpoolResponse(error));
                self.write_rest(rest)
            }
        }
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
            let state = inner.with(self.parts.course.key, |connection, core| {
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
                self.parts.course.gone = true;
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
                self.parts.course.gone = true;
                return Err(Gone);
            }
            wait_for(self.parts.course.fd, PollFlags::OUT, deadline - now_ms);
        }
    }

    /// The engine sends `length` bytes of `file` from `offset`, behind everything written so far, without holding a
    /// thread. `file` is a duplicate of the application's descriptor.
    pub fn send_file(&mut self, file: File, offset: u64, length: u64) -> Result<(), Gone> {
        if self.parts.course.gone {
            return Err(Gone);
        }
        let parts = &mut *self.parts;
        let Response::Ended(encoder) = &mut parts.response else {
            return Ok(());
        };
        let count = encoder.take(length);
        parts.course.body_bytes += count;
        let out = &mut parts.out;
        if count > 0 {
            encoder.put_head(out, count);
        }
        let mut lead = std::mem::take(out);
        self.push_file(&lead, file, offset, count)?;
        lead.clear();
        self.parts.out = lead;
        let parts = &mut *self.parts;
        if count > 0
            && let Response::Ended(encoder) = &mut parts.response
        {
            encoder.put_tail(&mut parts.out);
        }
        Ok(())
    }

    /// Queues bytes, then a range of a file.
    fn push_file(&mut self, lead: &[u8], file: File, offset: u64, count: u64) -> Result<(), Gone> {
        let mut inner = self.engine.lock();
        inner.core.now_ms = clock::now_ms();
        let alive = inner.with(self.parts.course.key, |connection, core| {
            if connection.dead {
                return (Fate::Keep, false);
            }
            connection.output.push(lead, &mut core.pool);
            connection.output.push_file(file, offset, count);
            (connection.flush(core), !connection.dead)
        });
        drop(inner);
        let course = &mut self.parts.course;
        course.sent_any = true;
        course.gone = alive != Some(true);
        if course.gone { Err(Gone) } else { Ok(()) }
    }

    /// The whole of a small body: it leaves at the end of the exchange, with everything else. False: it has to be written.
    pub fn put_whole(&mut self, block: &[u8]) -> bool {
        let parts = &mut *self.parts;
        let course = &mut parts.course;
        if block.len() >= DIRECT || course.gone || course.sent_any || course.complete {
            return false;
        }
        let Response::Ended(encoder) = &mut parts.response else {
            return false;
        };
        course.body_bytes += encoder.put(&mut parts.out, block);
        course.complete = true;
        true
    }

    /// The application is done. A body shorter than Content-Length closes the connection.
    pub fn finish(mut self) -> Record {
        let parts = &mut *self.parts;
        let course = &parts.course;
        let (body_bytes, keep_alive) = (course.body_bytes, course.keep_alive);
        let mut cut = course.gone;
        let mut sends = false;
        if let Response::Ended(encoder) = &mut parts.response {
            cut |= !encoder.finish(&mut parts.out, &parts.last_fields);
            sends = !parts.out.is_empty() || !course.sent_any;
        } else {
            cut = true;
        }
        cut |= self.end(keep_alive && !cut, sends);
        Record { body_bytes, cut }
    }

    /// The request cannot be answered properly: the error page when no head has left, else the connection is cut.
    pub fn fail(mut self, reject: &Reject) -> Record {
        let Parts { out, course, .. } = &mut *self.parts;
        let mut body_bytes = course.body_bytes;
        let cut = course.sent_any || course.gone;
        if !cut {
            out.clear();
            error_page(out, reject);
            let head_end = memchr::memmem::find(out, b"\r\n\r\n").map_or(0, |at| at + 4);
            body_bytes += (out.len() - head_end) as u64;
            let _ = self.engine.send(course.key, out, &[], Place::LAST);
            out.clear();
        }
        self.end(false, false);
        Record { body_bytes, cut }
    }
}

impl Engine {
    /// Says how much of `second` was taken, and whether the output has room for more. Errors: the peer is gone.
    fn send(
        &self,
        key: u64,
        first: &[u8],
        second: &[u8],
        place: Place,
    ) -> Result<(usize, bool), Gone> {
        let mut inner = self.lock();
        let limit = self.config.response_buffer_memory as u64;
        let state = inner.with(key, |connection, core| {
            let taken = match connection.dead {
                true => 0,
                false => connection.send(core, first, second, place),
            };
            let room = connection.output.pending() <= limit;
            (Fate::Keep, (connection.dead, taken, room))
        });
        match state {
            Some((false, taken, room)) => Ok((taken, room)),
            _ => Err(Gone),
        }
    }

    fn append(&self, key: u64, encoder: &mut BodyEncoder, block: &[u8]) -> Option<u64> {
        self.lock().table.get_mut(key)?.append(encoder, block)
    }

    /// Sends without waiting for company.
    pub(super) fn send_now(&self, key: u64, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.core.now_ms = clock::now_ms();
        inner.with(key, |connection, core| {
            if connection.dead {
                return (Fate::Keep, ());
            }
            connection.output.push(bytes, &mut core.pool);
            (connection.flush(core), ())
        });
    }
}
