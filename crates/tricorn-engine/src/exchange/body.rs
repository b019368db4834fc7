//! The request body: buffered, or read from the peer while the application runs.
use std::io;

use rustix::event::PollFlags;
use tricorn_proto::Framing;

use super::{Body, BodyError, Exchange, Response, wait_for};
use crate::clock;
use crate::connection::{CONTINUE, Fate, within_limit};
use crate::spool::Store;

impl Exchange {
    /// Length when known: Content-Length, or the decoded length of a buffered chunked body.
    pub fn body_len(&self) -> Option<u64> {
        match (&self.parts.body, self.parts.head.framing) {
            (Body::Buffered { .. }, _) => Some(self.parts.store.len()),
            (_, Framing::Length(length)) => Some(length),
            (_, Framing::None) => Some(0),
            (_, Framing::Chunked) => None,
        }
    }

    /// Buffered bodies (setting `request_buffering`) can seek and never block.
    pub fn body_is_buffered(&self) -> bool {
        matches!(self.parts.body, Body::Buffered { .. })
    }

    /// Appends at most `max` bytes to `dst`; 0 = end of body. A streamed body waits for the peer: release the GIL
    /// around it unless `body_is_buffered`. The first read that has to wait sends `100 Continue` when it is expected.
    pub fn read_body(&mut self, dst: &mut Vec<u8>, max: usize) -> Result<usize, BodyError> {
        if max == 0 {
            return Ok(0);
        }
        if let Some(block) = self.take_body(max) {
            dst.extend_from_slice(block);
            return Ok(block.len());
        }
        if let Some(count) = self.body_at_hand(max) {
            let start = dst.len();
            dst.resize(start + count, 0);
            let read = self.read_body_at_hand(&mut dst[start..]);
            return read.map(|()| count).map_err(BodyError::Io);
        }
        self.fill_surplus()?;
        Ok(self.take_surplus(dst, max))
    }

    /// Makes sure that `read_body` need not wait for its first byte. `None` when nothing is there yet: the engine reports
    /// the exchange's key as soon as it is worth trying again.
    pub fn poll_body(&mut self) -> Result<Option<()>, BodyError> {
        Ok(match self.poll_surplus(true)? {
            Some(_) => None,
            None => Some(()),
        })
    }

    /// What `poll_body` has made sure of: bytes that are at hand. Empty at the end of the body.
    pub fn peek_body(&self) -> &[u8] {
        match &self.parts.body {
            Body::Streamed(stream) => &stream.surplus[stream.taken..],
            Body::Buffered { position } => match self.parts.store.bytes() {
                Some(data) => &data[(*position as usize).min(data.len())..],
                None => &[],
            },
        }
    }

    /// They were taken.
    pub fn consume_body(&mut self) {
        let length = self.parts.store.len();
        match &mut self.parts.body {
            Body::Streamed(stream) => stream.taken = stream.surplus.len(),
            Body::Buffered { position } => *position = length,
        }
    }

    /// The body has been read to its end, as far as is known without looking at the peer.
    pub fn body_has_ended(&self) -> bool {
        match &self.parts.body {
            Body::Buffered { position } => *position >= self.parts.store.len(),
            Body::Streamed(stream) => stream.ended && stream.taken == stream.surplus.len(),
        }
    }

    fn take_surplus(&mut self, dst: &mut Vec<u8>, max: usize) -> usize {
        let Body::Streamed(stream) = &mut self.parts.body else {
            return 0;
        };
        let rest = &stream.surplus[stream.taken..];
        let count = rest.len().min(max);
        dst.extend_from_slice(&rest[..count]);
        stream.taken += count;
        count
    }

    /// How many of the next `max` bytes of a buffered body there are; `None` when it is streamed.
    pub fn body_at_hand(&self, max: usize) -> Option<usize> {
        match &self.parts.body {
            Body::Buffered { position } => Some(left_of(&self.parts.store, *position, max)),
            Body::Streamed(_) => None,
        }
    }

    /// Fills `out` with what `body_at_hand` has found.
    pub fn read_body_at_hand(&mut self, out: &mut [u8]) -> io::Result<()> {
        let parts = &mut *self.parts;
        if let Body::Buffered { position } = &mut parts.body {
            parts.store.read_at(*position, out)?;
            *position += out.len() as u64;
        }
        Ok(())
    }

    /// The next `max` bytes of a body that lies in memory, without a copy; `None` when it does not.
    pub fn take_body(&mut self, max: usize) -> Option<&[u8]> {
        let parts = &mut *self.parts;
        let (Body::Buffered { position }, Some(data)) = (&mut parts.body, parts.store.bytes())
        else {
            return None;
        };
        let start = (*position).min(data.len() as u64) as usize;
        let end = start + max.min(data.len() - start);
        *position += (end - start) as u64;
        Some(&data[start..end])
    }

    /// Appends up to and including the next LF, at most `max` bytes; of a streamed body only what is at hand, once
    /// something is.
    pub fn read_body_line(&mut self, dst: &mut Vec<u8>, max: usize) -> Result<usize, BodyError> {
        const PIECE: usize = 8 * 1024;
        let mut total = 0;
        while total < max {
            let start = dst.len();
            let piece = (max - total).min(PIECE);
            let count = if let Body::Streamed(_) = self.parts.body {
                self.fill_surplus()?;
                let Body::Streamed(stream) = &mut self.parts.body else {
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
                        if let Body::Buffered { position } = &mut self.parts.body {
                            *position -= (count - at - 1) as u64;
                        }
                        at + 1
                    }
                    _ => count,
                }
            };
            total += count;
            if count == 0 || dst.last() == Some(&b'\n') || !self.body_is_buffered() {
                break;
            }
        }
        Ok(total)
    }

    pub fn body_position(&self) -> u64 {
        match &self.parts.body {
            Body::Buffered { position } => *position,
            Body::Streamed(stream) => {
                stream.received - (stream.surplus.len() - stream.taken) as u64
            }
        }
    }

    pub fn seek_body(&mut self, target: u64) -> Result<u64, BodyError> {
        match &mut self.parts.body {
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
        while let Some(deadline_ms) = self.poll_surplus(false)? {
            let now_ms = clock::now_ms();
            if now_ms >= deadline_ms
                || !wait_for(self.parts.course.fd, PollFlags::IN, deadline_ms - now_ms)
            {
                return Err(too_late());
            }
        }
        Ok(())
    }

    /// One look: `None` when decoded bytes are at hand or the body has ended, else until when more has to come.
    /// `awaited`: the engine is to report when it is worth looking again.
    fn poll_surplus(&mut self, awaited: bool) -> Result<Option<u64>, BodyError> {
        let engine = self.engine.clone();
        let begun = !matches!(self.parts.response, Response::Unbegun);
        let key = self.parts.course.key;
        // Behind a body of known length come no trailers.
        let counted = matches!(self.parts.head.framing, Framing::Length(_));
        let Body::Streamed(stream) = &mut self.parts.body else {
            return Ok(None);
        };
        if stream.taken < stream.surplus.len() || stream.ended {
            return Ok(None);
        }
        stream.surplus.clear();
        stream.taken = 0;
        let mut inner = engine.lock();
        inner.core.now_ms = clock::now_ms();
        let deadline_ms = inner.core.body_deadline(stream.started_ms, stream.received);
        let step = inner.with(key, |connection, core| {
            let step = connection.read_streamed(core, &mut stream.decoder, &mut stream.surplus);
            let waits = matches!(step, Ok(StreamStep::Wait));
            let late = std::mem::take(&mut connection.late);
            if waits && late {
                return (Fate::Keep, Err(too_late()));
            }
            if waits && awaited {
                connection.await_body(deadline_ms);
            }
            (Fate::Keep, step)
        });
        drop(inner);
        match step.unwrap_or(Err(BodyError::Disconnected))? {
            StreamStep::Data => {
                stream.received += stream.surplus.len() as u64;
                within_limit(stream.received, &engine.config).map_err(BodyError::Reject)?;
                stream.ended = counted && stream.decoder.remaining() == Some(0);
                Ok(None)
            }
            StreamStep::End(trailers) => {
                stream.ended = true;
                self.parts.trailers = trailers;
                Ok(None)
            }
            StreamStep::Wait => {
                if std::mem::take(&mut stream.continue_due) && !begun {
                    engine.send_now(key, CONTINUE);
                }
                Ok(Some(deadline_ms))
            }
        }
    }
}

fn left_of(store: &Store, position: u64, max: usize) -> usize {
    store.len().saturating_sub(position).min(max as u64) as usize
}

fn too_late() -> BodyError {
    BodyError::Reject(crate::connection::timed_out("request body"))
}

/// What an attempt to read a streamed body came to.
pub(crate) enum StreamStep {
    Data,
    End(Vec<(Vec<u8>, Vec<u8>)>),
    Wait,
}
