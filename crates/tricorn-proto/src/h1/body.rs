//! The body behind a request head, piece by piece: counted or chunked.
//!
//! Not a buffer: data is handed out as ranges of the caller's bytes; only a trailer line cut in two is kept.
//! Invariants: each byte is looked at once; what a peer may send besides data is bounded.
//! Source: RFC 9112, 6 and 7.
use alloc::vec::Vec;
use core::mem::take;
use core::ops::Range;

use memchr::memchr2;

use super::chunk::{Line, SizeLine};
use crate::grammar::{self, is_blank, trim};
use crate::head::Framing;
use crate::policy::{HeaderMap, Policy};
use crate::reject::{Reject, RejectKind};

/// Bytes of chunk extensions that a body may carry besides as many as it carries data.
const FREE_EXTENSION_BYTES: u64 = 16 * 1024;
/// Fields that must not come behind the body: framing, routing, credentials (RFC 9110, 6.5.1).
const FORBIDDEN_TRAILERS: [&[u8]; 6] = [
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"trailer",
    b"authorization",
    b"te",
];

/// What to do with the caller's bytes. `consumed` counts from their start; `data` lies within the consumed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyStep {
    NeedMore { consumed: usize },
    Data { data: Range<usize>, consumed: usize },
    End { consumed: usize },
}

#[derive(Clone, Debug)]
enum State {
    /// Bytes left of a counted body.
    Length(u64),
    Size(SizeLine),
    /// Bytes left of a chunk.
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Decoder of one body.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    data_bytes: u64,
    extension_bytes: u64,
    trailers: Trailers,
}

#[derive(Clone, Debug, Default)]
struct Trailers {
    /// Start of a line whose end has not come.
    line: Vec<u8>,
    lines: usize,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl BodyDecoder {
    pub fn new(framing: Framing) -> BodyDecoder {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size(SizeLine::default()),
        };
        BodyDecoder {
            state,
            data_bytes: 0,
            extension_bytes: 0,
            trailers: Trailers::default(),
        }
    }

    /// Has the whole body, with its trailers, gone by?
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes still to come of a counted body; `None` for a chunked one that is not done.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Bytes of data in all, as far as they are announced: those gone by and the rest of the chunk begun.
    pub fn announced(&self) -> u64 {
        match self.state {
            State::Data(left) | State::Length(left) => self.data_bytes.saturating_add(left),
            _ => self.data_bytes,
        }
    }

    /// `count` bytes of a counted body went another way, straight to where they are wanted.
    ///
    /// Shape: at most `remaining()`.
    pub fn skip(&mut self, count: u64) {
        if let State::Length(left) = &mut self.state {
            *left = left.saturating_sub(count);
            self.data_bytes = self.data_bytes.saturating_add(count);
            if *left == 0 {
                self.state = State::Done;
            }
        }
    }

    /// The trailer fields, complete once the body is done; underscore names follow `header_map`.
    pub fn take_trailers(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        take(&mut self.trailers.fields)
    }

    /// Decodes from the start of `buf`, up to and including the next piece of data.
    ///
    /// Shape: drop `consumed` bytes after each step and call again until `NeedMore` or `End`.
    /// Errors: the rule broken; the connection is then of no use.
    pub fn decode(&mut self, buf: &[u8], policy: &Policy) -> Result<BodyStep, Reject> {
        let mut at = 0;
        while let Some(rest) = buf.get(at..) {
            match &mut self.state {
                State::Done => return Ok(BodyStep::End { consumed: at }),
                State::Length(left) => {
                    let (step, size) = data_step(at, rest.len(), *left);
                    *left -= size;
                    self.data_bytes = self.data_bytes.saturating_add(size);
                    if *left == 0 {
                        self.state = State::Done;
                    }
                    return Ok(step);
                }
                State::Data(left) => {
                    let (step, size) = data_step(at, rest.len(), *left);
                    *left -= size;
                    self.data_bytes = self.data_bytes.saturating_add(size);
                    if *left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(step);
                }
                State::Size(line) => {
                    let (read, size) = read_size(line, rest, policy)?;
                    at += read;
                    let Some(size) = size else {
                        return Ok(BodyStep::NeedMore { consumed: at });
                    };
                    self.extension_bytes += line.extension_bytes;
                    if self.extension_bytes > FREE_EXTENSION_BYTES.saturating_add(self.data_bytes) {
                        return Err(Reject::of(RejectKind::ChunkExtension));
                    }
                    self.state = if size == 0 {
                        State::Trailers
                    } else {
                        State::Data(size)
                    };
                }
                State::DataCr | State::DataLf => {
                    if rest.is_empty() {
                        return Ok(BodyStep::NeedMore { consumed: at });
                    }
                    self.state = self.terminator(buf, at)?;
                    at += 1;
                }
                State::Trailers => {
                    let (read, ended) = self.trailers.read(rest, policy)?;
                    at += read;
                    if !ended {
                        return Ok(BodyStep::NeedMore { consumed: at });
                    }
                    self.state = State::Done;
                }
            }
        }
        Ok(BodyStep::NeedMore {
            consumed: buf.len(),
        })
    }

    /// Judges the byte at `at`, one of the two behind a chunk's data: the state behind it.
    fn terminator(&self, buf: &[u8], at: usize) -> Result<State, Reject> {
        let is_cr = matches!(self.state, State::DataCr);
        match buf.get(at) {
            Some(b'\r') if is_cr => Ok(State::DataLf),
            Some(b'\n') if !is_cr => Ok(State::Size(SizeLine::default())),
            _ => {
                let from = if is_cr { at } else { at.saturating_sub(1) };
                let found = buf.get(from..).unwrap_or(&[]);
                Err(Reject::chunk_terminator(found.get(..2).unwrap_or(found)))
            }
        }
    }
}

/// As much of the `left` bytes of data as is there, and how much that is.
fn data_step(at: usize, available: usize, left: u64) -> (BodyStep, u64) {
    let size = usize::try_from(left).unwrap_or(usize::MAX).min(available);
    if size == 0 {
        return (BodyStep::NeedMore { consumed: at }, 0);
    }
    (
        BodyStep::Data {
            data: at..at + size,
            consumed: at + size,
        },
        size as u64,
    )
}

/// Goes on with a size line: bytes used, and the size when the line is complete.
fn read_size(
    line: &mut SizeLine,
    rest: &[u8],
    policy: &Policy,
) -> Result<(usize, Option<u64>), Reject> {
    let room = policy.field_size_limit().saturating_sub(line.line_bytes);
    let seen = rest.get(..room).unwrap_or(rest);
    match line.read(seen) {
        Ok(Line::Done(end, size)) => Ok((end, Some(size))),
        Ok(Line::More) if seen.len() < room => Ok((seen.len(), None)),
        Ok(Line::More) if line.extension_bytes > 0 => Err(Reject::of(RejectKind::ChunkExtension)),
        Ok(Line::More) | Err(RejectKind::ChunkSize) => Err(Reject::chunk_size(size_text(rest))),
        Err(kind) => Err(Reject::of(kind)),
    }
}

/// The size as the peer wrote it: up to the extensions or the end of the line.
fn size_text(rest: &[u8]) -> &[u8] {
    let end = memchr2(b';', b'\r', rest).unwrap_or(rest.len());
    rest.get(..end).unwrap_or(rest)
}

impl Trailers {
    /// Reads lines up to and including the empty one: bytes used, and whether the section has ended.
    fn read(&mut self, bytes: &[u8], policy: &Policy) -> Result<(usize, bool), Reject> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let size_limit = policy.field_size_limit();
            let (used, ended) = self.extend(rest.get(..=size_limit).unwrap_or(rest))?;
            at += used;
            if self.line.len() > size_limit {
                return Err(Reject::field_too_large());
            }
            if !ended {
                continue;
            }
            let line = take(&mut self.line);
            let Some(field) = line.strip_suffix(b"\r\n").filter(|field| !field.is_empty()) else {
                return Ok((at, true));
            };
            self.lines += 1;
            if self.lines > policy.fields_limit() {
                return Err(Reject::too_many_fields());
            }
            self.field(field, policy)?;
            self.line = line;
            self.line.clear();
        }
        Ok((at, false))
    }

    /// Moves bytes into the line, up to its LF: how many, and whether the line is complete.
    ///
    /// Errors: a CR or LF that stands alone, at once.
    fn extend(&mut self, rest: &[u8]) -> Result<(usize, bool), Reject> {
        if self.line.last() == Some(&b'\r') {
            if rest.first() != Some(&b'\n') {
                return Err(Reject::header_line(&self.line));
            }
            self.line.push(b'\n');
            return Ok((1, true));
        }
        let Some(end) = memchr2(b'\r', b'\n', rest) else {
            self.line.extend_from_slice(rest);
            return Ok((rest.len(), false));
        };
        let (line, tail) = rest.split_at(end);
        self.line.extend_from_slice(line);
        if tail.first() == Some(&b'\n') {
            return Err(Reject::header_line(&self.line));
        }
        self.line.push(b'\r');
        Ok((end + 1, false))
    }

    fn field(&mut self, line: &[u8], policy: &Policy) -> Result<(), Reject> {
        if line.first().is_some_and(|&byte| is_blank(byte)) && self.lines > 1 {
            return Err(Reject::folding(
                self.fields.last().map_or(&[][..], |(name, _)| name),
            ));
        }
        let Some(colon) = memchr::memchr(b':', line).filter(|&colon| colon > 0) else {
            return Err(Reject::header_line(line));
        };
        let (written, value) = (
            line.get(..colon).unwrap_or(line),
            line.get(colon + 1..).unwrap_or(&[]),
        );
        let name = if policy.strip_header_spaces {
            written.trim_ascii_end()
        } else {
            written
        };
        if !grammar::is_token(name) {
            return Err(Reject::header_name(written));
        }
        if FORBIDDEN_TRAILERS
            .iter()
            .any(|forbidden| name.eq_ignore_ascii_case(forbidden))
        {
            return Err(Reject::header_name(&name.to_ascii_uppercase()));
        }
        if grammar::value_run(value) < value.len() {
            return Err(Reject::header(name));
        }
        match policy.header_map {
            HeaderMap::Refuse if name.contains(&b'_') => {
                Err(Reject::header_name(&name.to_ascii_uppercase()))
            }
            HeaderMap::Drop if name.contains(&b'_') => Ok(()),
            _ => {
                self.fields.push((name.to_vec(), trim(value).to_vec()));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_length_stays_the_same_while_the_body_comes() {
        let mut decoder = BodyDecoder::new(Framing::Length(10));
        let policy = Policy::default();
        assert_eq!(decoder.announced(), 10);
        assert!(matches!(
            decoder.decode(b"abc", &policy),
            Ok(BodyStep::Data { consumed: 3, .. })
        ));
        assert_eq!((decoder.announced(), decoder.remaining()), (10, Some(7)));
        decoder.skip(4);
        assert_eq!((decoder.announced(), decoder.remaining()), (10, Some(3)));
        decoder.skip(3);
        assert_eq!((decoder.announced(), decoder.remaining()), (10, Some(0)));
    }
}
