//! A request body that is complete before the application is called.
use std::ops::Range;

use rustix::io::Errno;
use tricorn_proto::h1::{BodyDecoder, BodyStep};
use tricorn_proto::{Framing, Reject, RejectKind};

use super::receive::receive_data;
use super::{Connection, Parts, Phase, within_limit};
use crate::config::EngineConfig;
use crate::engine::Core;
use crate::notice::Notice;
use crate::pool::Pool;
use crate::spool::Store;

/// A body that goes to a file is written in such pieces: the kernel then takes few large pages for it.
const PIECE: usize = 64 * 1024;
/// A body that does not say how long it will be moves to a file at this length at the latest, in one go: that takes about
/// a millisecond, for which the other connections wait.
const UNTOLD: u64 = 4 * 1024 * 1024;

pub struct Collecting {
    decoder: BodyDecoder,
    tells_length: bool,
    started_ms: u64,
    received: u64,
}

impl Collecting {
    pub fn new(framing: Framing, started_ms: u64) -> Self {
        Collecting {
            tells_length: matches!(framing, Framing::Length(_)),
            decoder: BodyDecoder::new(framing),
            started_ms,
            received: 0,
        }
    }

    /// `count` bytes of a body of known length went past the decoder.
    fn skip(&mut self, count: u64) {
        self.decoder.skip(count);
        self.received += count;
    }

    /// A body too large for what each may have gets a share of the worker's memory, as long as there is some.
    fn claim(&self, parts: &mut Parts, core: &Core) {
        let announced = self.decoder.announced();
        if announced <= core.config.request_buffer_memory as u64 || parts.store.is_file() {
            return;
        }
        if !self.tells_length && announced > UNTOLD {
            return;
        }
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        let Some(share) = &mut parts.share else {
            parts.share = core.budget.share(announced);
            return;
        };
        let missing = announced.saturating_sub(share.bytes());
        if missing > 0 {
            // Of small chunks there are many: not a step for each.
            let ahead = share
                .bytes()
                .min((UNTOLD as usize).saturating_sub(share.bytes()));
            if !share.grow(missing.max(ahead)) {
                share.grow(missing);
            }
        }
    }

    /// Its length, when it is of those that are larger than an input buffer and need none of the worker's memory. Else 0.
    pub(super) fn large_in_memory(&self, config: &EngineConfig) -> u32 {
        let announced = self.decoder.announced();
        let large = Pool::BUFFER as u64 + 1..=config.request_buffer_memory as u64;
        match self.tells_length && large.contains(&announced) {
            true => u32::try_from(announced).unwrap_or(0),
            false => 0,
        }
    }

    /// May the buffer that its first bytes were read into become its memory?
    fn can_lie_in(&self, input: &Vec<u8>, parts: &Parts, config: &EngineConfig) -> bool {
        let room = input.capacity() > Pool::BUFFER && parts.store.len() == 0;
        room && self.large_in_memory(config) > 0
    }

    /// How much of the body may lie in memory at a time: all of it, or a piece when it is known to go to a file.
    fn memory(&self, parts: &Parts, config: &EngineConfig) -> usize {
        let own = config.request_buffer_memory;
        match &parts.share {
            Some(share) => share.bytes(),
            None if self.decoder.announced() <= own as u64 => own,
            None => PIECE.min(own.max(Pool::BUFFER)),
        }
    }
}

impl Connection {
    /// May the rest of the body go straight from the socket to where it is collected?
    pub(super) fn body_has_place(&self, core: &Core) -> bool {
        let (Phase::Body(body), Some(parts)) = (&self.phase, self.parts.as_deref()) else {
            return false;
        };
        body.decoder.remaining().is_some_and(|left| {
            let large = left as usize > Pool::BUFFER || parts.store.is_large();
            large && left > 0 && parts.store.held() < body.memory(parts, &core.config)
        })
    }

    pub(super) fn receive_body(&mut self, core: &mut Core) -> Result<usize, Errno> {
        let (Phase::Body(body), Some(parts)) = (&mut self.phase, self.parts.as_deref_mut()) else {
            return Ok(0);
        };
        let left = body.decoder.remaining().unwrap_or(0);
        let memory = body.memory(parts, &core.config);
        if body.can_lie_in(&self.input, parts, &core.config) {
            // The head came alone, into the buffer for all of it.
            let end = self.input.len();
            parts.store = take_over(&mut self.input, end, end..end, &mut core.pool);
        }
        make_room(&mut core.pool, &mut parts.store, 0, left, memory);
        let data = parts.store.memory_mut();
        let start = data.len();
        self.consumed = 0;
        let (count, is_full) = receive_data(&self.socket, data, left, &mut self.input)?;
        self.readable = is_full || self.peer_closed;
        body.skip((data.len() - start) as u64);
        Ok(count)
    }

    pub(super) fn collect_body(&mut self, core: &mut Core) -> Result<bool, Reject> {
        let Phase::Body(body) = &mut self.phase else {
            return Ok(false);
        };
        let parts = self.parts.as_mut().expect("a body has a head");
        loop {
            let step = body
                .decoder
                .decode(&self.input[self.consumed..], &core.config.policy)?;
            body.claim(parts, core);
            match step {
                BodyStep::NeedMore { consumed } => {
                    self.consumed += consumed;
                    self.deadline_ms = core.body_deadline(body.started_ms, body.received);
                    within_limit(body.decoder.announced(), &core.config)?;
                    return Ok(false);
                }
                BodyStep::Data { data, consumed } => {
                    let block = self.consumed + data.start..self.consumed + data.end;
                    self.consumed += consumed;
                    body.received += block.len() as u64;
                    within_limit(body.received, &core.config)?;
                    if body.can_lie_in(&self.input, parts, &core.config) {
                        parts.store =
                            take_over(&mut self.input, self.consumed, block, &mut core.pool);
                        self.consumed = 0;
                        self.begun_at = None;
                        continue;
                    }
                    let block = &self.input[block];
                    if parts.store.held() + block.len() > body.memory(parts, &core.config) {
                        spill(parts, core)?;
                    }
                    let memory = body.memory(parts, &core.config);
                    let left = body.decoder.remaining().unwrap_or(0);
                    make_room(&mut core.pool, &mut parts.store, block.len(), left, memory);
                    parts.store.memory_mut().extend_from_slice(block);
                }
                BodyStep::End { consumed } => {
                    self.consumed += consumed;
                    let own = core.config.request_buffer_memory as u64;
                    if parts.share.is_none() && parts.store.len() > own {
                        spill(parts, core)?;
                        core.pool.put_body(parts.store.memory_mut());
                    }
                    parts.trailers = body.decoder.take_trailers();
                    self.unread = false;
                    self.make_ready(core);
                    return Ok(true);
                }
            }
        }
    }
}

fn spill(parts: &mut Parts, core: &mut Core) -> Result<(), Reject> {
    let Core { pool, config, .. } = core;
    parts.share = None;
    let spilt = parts.store.spill(|| pool.take_file(&config.spool_dir));
    spilt.map_err(|error| {
        core.notices.push(Notice::Spool(error));
        Reject::of(RejectKind::Internal)
    })
}

/// Room for a block of a body and for the `left` bytes behind it, as far as they may lie in `memory`.
fn make_room(pool: &mut Pool, store: &mut Store, block: usize, left: u64, memory: usize) {
    let free = memory.saturating_sub(store.held() + block) as u64;
    // A read that leaves the last byte free has taken all that was there, and needs no second one.
    pool.make_room(store.memory_mut(), block + left.min(free) as usize + 1);
}

/// Makes the buffer that holds the begin of a large body the memory of that body, without a copy. What lies behind `consumed` is of
/// the next request, and goes to a buffer of its own.
fn take_over(input: &mut Vec<u8>, consumed: usize, block: Range<usize>, pool: &mut Pool) -> Store {
    let mut next = Vec::new();
    if consumed < input.len() {
        next = pool.take_buffer();
        next.extend_from_slice(&input[consumed..]);
    }
    let mut data = std::mem::replace(input, next);
    data.truncate(block.end);
    Store::Memory {
        data,
        start: block.start,
    }
}
