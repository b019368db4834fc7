//! Inflating and deflating the messages of one connection.
//!
//! Not the negotiation, and not the frames. Invariant: output never exceeds its limit by more than one byte, and a
//! context exists only from the first message that needs it; without context takeover, to that message's end.
//! Source: RFC 7692, 7.2; RFC 1951. The work is zlib-rs's: pure Rust, no_std, and with all of zlib's window sizes.
use alloc::boxed::Box;
use alloc::vec::Vec;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use super::Fault;

/// What a flush ends in, and what is left off each message (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The least and the most room that is made for output at a time.
const LEAST_ROOM: usize = 256;
const MOST_ROOM: usize = 16 << 10;
/// The window messages are inflated in, whatever smaller one the client keeps to: zlib-rs takes 32 KiB for any.
const MAX_WINDOW_BITS: u8 = 15;
/// How much is buffered before a block is written, as a power of two: 5 takes 14 KiB where zlib's 8 takes 112, and
/// is the faster one for messages of a few KiB.
const MEM_LEVEL: i32 = 5;

/// How messages are compressed: what was negotiated and, for what we send, how it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateParams {
    pub server_context_takeover: bool,
    pub client_context_takeover: bool,
    /// 9 to 15.
    pub server_window_bits: u8,
    /// 1 to 9, as in zlib.
    pub level: u8,
    /// Messages below are sent as they are.
    pub min_size: usize,
}

/// Inflates what the client compressed.
pub(super) struct Inflater {
    context: Option<Box<Inflate>>,
    keeps_context: bool,
}

impl Inflater {
    pub(super) fn new(params: &DeflateParams) -> Inflater {
        Inflater {
            context: None,
            keeps_context: params.client_context_takeover,
        }
    }

    /// Inflates all of `input` to the end of `out`, which must not become longer than `limit`.
    ///
    /// Errors: 1007 for what is no deflate, 1009 beyond the limit.
    pub(super) fn push(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Fault> {
        let context = self
            .context
            .get_or_insert_with(|| Box::new(Inflate::new(false, MAX_WINDOW_BITS)));
        loop {
            let from = out.len();
            // One byte beyond the limit, to see whether there is one.
            let most = limit.saturating_sub(from).saturating_add(1);
            let room = (4 * input.len()).clamp(LEAST_ROOM, MOST_ROOM).min(most);
            if out.capacity() - from < room {
                out.reserve_exact(room.max(from.min(most)));
            }
            out.resize(from + room, 0);
            let (before, written) = (context.total_in(), context.total_out());
            let status = context.decompress(input, &mut out[from..], InflateFlush::SyncFlush);
            let written = (context.total_out() - written) as usize;
            input = &input[(context.total_in() - before) as usize..];
            out.truncate(from + written);
            if out.len() > limit {
                return Err(Fault::TOO_BIG);
            }
            match status {
                // A block said to be the last: another stream follows (RFC 7692, 7.2.3.4).
                Ok(Status::StreamEnd) if !input.is_empty() => context.reset(false),
                Ok(Status::StreamEnd) => {
                    context.reset(false);
                    return Ok(());
                }
                // There may be more to come as long as the room is used up.
                Ok(_) if written == room => {}
                Ok(_) if input.is_empty() => return Ok(()),
                Ok(_) | Err(_) => return Err(Fault::invalid("compressed data is broken")),
            }
        }
    }

    /// Inflates what the client left off the end of a message.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), Fault> {
        self.push(&TAIL, out, limit)?;
        if !self.keeps_context {
            self.context = None;
        }
        Ok(())
    }
}

/// Deflates what the client is to inflate.
pub(super) struct Deflater {
    context: Option<Box<Deflate>>,
    params: DeflateParams,
}

impl Deflater {
    pub(super) fn new(params: DeflateParams) -> Deflater {
        Deflater {
            context: None,
            params,
        }
    }

    /// Whether a message of `len` bytes is worth the attempt.
    pub(super) fn wants(&self, len: usize) -> bool {
        len > 0 && len >= self.params.min_size
    }

    /// Appends `payload` deflated, without the tail, unless that takes as many bytes as it has.
    ///
    /// False is failure, with something of no use appended. The context is dropped then: the client has not seen
    /// what was just compressed, so nothing may refer to it. A fresh context refers to nothing, which is always right.
    pub(super) fn deflate(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let mut context = match self.context.take() {
            Some(context) => context,
            None => Box::new(Deflate::new_with_config(self.config())),
        };
        let start = out.len();
        let is_good = flush(&mut context, payload, out) && out.ends_with(&TAIL);
        if !is_good || out.len() - start - TAIL.len() >= payload.len() {
            return false;
        }
        out.truncate(out.len() - TAIL.len());
        if self.params.server_context_takeover {
            self.context = Some(context);
        }
        true
    }

    fn config(&self) -> DeflateConfig {
        DeflateConfig {
            // Negative is raw: no zlib header.
            window_bits: -i32::from(self.params.server_window_bits.clamp(9, MAX_WINDOW_BITS)),
            level: i32::from(self.params.level.clamp(1, 9)),
            mem_level: MEM_LEVEL,
            ..DeflateConfig::default()
        }
    }
}

/// Appends all of `input` compressed and flushed.
fn flush(context: &mut Deflate, mut input: &[u8], out: &mut Vec<u8>) -> bool {
    // A flush that fills the room to its last byte is said a second time, which is five bytes and no harm.
    loop {
        let from = out.len();
        let room = (input.len() / 2).clamp(LEAST_ROOM, MOST_ROOM);
        out.resize(from + room, 0);
        let (before, written) = (context.total_in(), context.total_out());
        let status = context.compress(input, &mut out[from..], DeflateFlush::SyncFlush);
        let written = (context.total_out() - written) as usize;
        input = &input[(context.total_in() - before) as usize..];
        out.truncate(from + written);
        match status {
            Ok(_) if written == room => {}
            Ok(_) => return input.is_empty(),
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_lives_from_the_first_message_and_without_takeover_to_its_end() {
        for takeover in [false, true] {
            let params = DeflateParams {
                server_context_takeover: takeover,
                client_context_takeover: takeover,
                server_window_bits: 9,
                level: 1,
                min_size: 0,
            };
            let (mut deflater, mut inflater) = (Deflater::new(params), Inflater::new(&params));
            assert!(deflater.context.is_none() && inflater.context.is_none());
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            assert!(deflater.deflate(&[7; 1000], &mut sent));
            assert_eq!(deflater.context.is_some(), takeover);
            assert_eq!(inflater.push(&sent, &mut got, 1000), Ok(()));
            assert!(inflater.context.is_some());
            assert_eq!(inflater.finish(&mut got, 1000), Ok(()));
            assert_eq!(inflater.context.is_some(), takeover);
            assert_eq!(got, [7; 1000]);
        }
    }
}
