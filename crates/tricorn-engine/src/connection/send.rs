//! From responses to the socket.
use std::io::IoSlice;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::Shutdown;
use tricorn_proto::response::BodyEncoder;

use super::{Connection, Fate, Phase};
use crate::batch::{Message, Outcome};
use crate::engine::Core;
use crate::output::Flush;
use crate::table::NEVER;

/// Less output than this waits for company (a pipelined answer, the next block) until the turn or the tick ends.
const FLUSH_AT: u64 = 64 * 1024;

/// What becomes of that part of a block which the socket does not take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It is copied, as far as `response_buffer_memory` goes.
    Kept,
    /// It stays with the caller, who waits for the socket with it.
    Left,
}

/// Where a block stands in its response.
#[derive(Clone, Copy)]
pub struct Place {
    /// The response is complete with it.
    pub last: bool,
    pub rest: Rest,
}

impl Place {
    pub const LAST: Place = Place {
        last: true,
        rest: Rest::Kept,
    };
}

impl Connection {
    /// Sends `first` and `second` after what is waiting.
    ///
    /// `first` is always taken; returns how much of `second` was.
    pub fn send(&mut self, core: &mut Core, first: &[u8], second: &[u8], place: Place) -> usize {
        let pipelined = self.consumed < self.input.len();
        let size = (first.len() + second.len()) as u64;
        let alone =
            place.last && !pipelined && !core.company_for(self.output.pending() + size, size);
        let now = alone || size >= FLUSH_AT;
        if now && self.output.is_empty() {
            return self.send_now(core, first, second, place.rest);
        }
        self.output.push(first, &mut core.pool);
        let taken = self.keep(core, second, place.rest);
        if now || self.output.pending() >= FLUSH_AT {
            self.flush(core);
            if taken < second.len() && self.output.is_empty() && !self.dead {
                return taken + self.send_now(core, &[], &second[taken..], place.rest);
            }
        } else {
            self.wait_for_flush(core);
            if !place.last {
                core.tick.part_waits();
            }
        }
        taken
    }

    /// The output waits for `Inner::flush_dirty`. Each connection is in its list once: a batch sends what it finds there.
    fn wait_for_flush(&mut self, core: &mut Core) {
        self.dirty = true;
        if !self.listed {
            self.listed = true;
            core.mark_dirty(self.key);
        }
    }

    /// Encodes a block behind output that waits for company already: one copy, and nothing else to do. `None`: there
    /// is no such output, or the block may be the last.
    pub fn append(&mut self, encoder: &mut BodyEncoder, block: &[u8]) -> Option<u64> {
        if !self.dirty || self.dead || encoder.would_complete(block.len() as u64) {
            return None;
        }
        let room = block.len() + BodyEncoder::OVERHEAD;
        self.output.append(room, |out| encoder.put(out, block))
    }

    /// As `send`, with nothing waiting: from where the bytes lie.
    fn send_now(&mut self, core: &mut Core, first: &[u8], second: &[u8], rest: Rest) -> usize {
        let sent = self.send_directly(first, second);
        if self.dead {
            return 0;
        }
        let of_second = sent.saturating_sub(first.len());
        let left = &first[sent.min(first.len())..];
        self.output.push(left, &mut core.pool);
        let kept = self.keep(core, &second[of_second..], rest);
        if !self.output.is_empty() {
            self.on_blocked(core, sent > 0);
        }
        of_second + kept
    }

    /// Puts as much of `block` into the output as it may hold; an empty one always takes a piece.
    fn keep(&mut self, core: &mut Core, block: &[u8], rest: Rest) -> usize {
        if rest == Rest::Left {
            return 0;
        }
        let limit = (core.config.response_buffer_memory as u64).max(FLUSH_AT);
        let room = limit.saturating_sub(self.output.pending());
        let count = room.min(block.len() as u64) as usize;
        self.output.push(&block[..count], &mut core.pool);
        count
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

    /// What `flush` would send, if it is no more than one send.
    pub fn single_send(&self) -> Option<Message<'_>> {
        let bytes = self.output.single().filter(|_| self.dirty && !self.dead)?;
        Some((self.socket.as_fd(), bytes))
    }

    /// Sends what the socket takes; closes when the last byte of a closing connection has left.
    pub fn flush(&mut self, core: &mut Core) -> Fate {
        self.flush_on(core, None)
    }

    /// As `flush`, when the `single_send` has been `tried` already.
    pub fn flush_on(&mut self, core: &mut Core, tried: Option<Outcome>) -> Fate {
        self.dirty = false;
        if self.dead {
            return Fate::Keep;
        }
        if !self.output.is_empty() {
            match self
                .output
                .flush(self.socket.as_fd(), &mut core.pool, tried)
            {
                Ok((Flush::Empty, _)) => {
                    let had_stalled = std::mem::take(&mut self.stalled);
                    match self.phase {
                        Phase::Busy => self.deadline_ms = NEVER,
                        Phase::Socket(_) if had_stalled => self.arm_ping(core),
                        _ => {}
                    }
                }
                Ok((Flush::Blocked, sent)) => {
                    self.on_blocked(core, sent > 0);
                    return Fate::Keep;
                }
                Ok((Flush::More, _)) => {
                    self.expect_progress(core);
                    self.wait_for_flush(core);
                    return Fate::Keep;
                }
                Err(_) => return self.on_broken(),
            }
        }
        if self.closing && (!self.in_progress() || self.is_parted()) {
            return self.begin_close(core);
        }
        if self.closing && matches!(self.phase, Phase::Socket(_)) {
            // The driver has still to hear of it; the peer need not wait for that. It may be gone already.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
        Fate::Keep
    }

    pub(super) fn expect_progress(&mut self, core: &Core) {
        self.stalled = true;
        self.unsent = crate::sys::unsent(&self.socket);
        self.deadline_ms = core.now_ms + core.config.send_timeout_ms;
    }

    /// The kernel tells of room only when a good part of its buffer is free, which is megabytes: a peer that
    /// takes little at a time makes progress long before that.
    pub(super) fn peer_takes(&self) -> bool {
        crate::sys::unsent(&self.socket) < self.unsent
    }

    fn on_blocked(&mut self, core: &mut Core, progress: bool) {
        if progress || !self.stalled {
            self.expect_progress(core);
        }
        if !self.watching_writable {
            self.watching_writable = true;
            let poller = &core.poller;
            match poller.watch_writable(&self.socket, self.key, self.watched) {
                Ok(()) => self.watched = true,
                Err(_) => {
                    self.on_broken();
                }
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
        if matches!(self.phase, Phase::Socket(_)) && !self.closing && self.readable {
            return self.on_readable(core);
        }
        if !matches!(self.phase, Phase::Head) || self.closing {
            return Fate::Keep;
        }
        self.deadline_ms = core.idle_deadline(self.head_has_begun());
        if self.readable {
            return self.on_readable(core);
        }
        Fate::Keep
    }
}
