//! The request head as an automaton that stops at any byte and goes on there.
//!
//! Not a buffer: the caller keeps the bytes until the head is complete. Invariants: each byte is looked at
//! once however the head is cut into pieces, and the cut never changes the outcome.
//! Source: RFC 9112, 2.2, 3 and 5.
mod request_line;
mod whole_lines;

use alloc::vec::Vec;

use memchr::memchr;

use self::whole_lines::LARGEST_HEAD;
use super::facts::{Facts, Verdict, unfold};
use super::familiar::Familiar;
use super::target::Target;
use crate::grammar::{self, is_blank, value_run};
use crate::head::{Field, Head, Span};
use crate::policy::{PeerTrust, Policy};
use crate::reject::Reject;

/// What the next byte belongs to. The order is the order in a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    #[default]
    Start,
    /// LF of the empty line that may precede a request.
    StartLf,
    Method,
    Target,
    Version,
    LineLf,
    /// First byte behind a line: a field, the final empty line, or a fold.
    LineStart,
    Name,
    /// Blanks between name and colon (`strip_header_spaces`).
    NameBlank,
    Value,
    ValueLf,
    /// LF of the final empty line.
    EndLf,
}

/// Incremental parser of one request head after another.
///
/// Units: all offsets count from the first byte of `buf`.
#[derive(Clone, Debug, Default)]
pub struct HeadParser {
    state: State,
    /// Next byte to look at.
    at: usize,
    /// First byte of the request line.
    base: usize,
    method_end: usize,
    target_end: usize,
    version: (u8, u8),
    target: Target,
    /// The field at hand: its first byte, the end of its name, the byte behind its colon.
    line: usize,
    name_end: usize,
    value: usize,
    value_end: usize,
    has_underscore: bool,
    is_folded: bool,
    /// A complete field waits for the byte that tells whether it goes on (`permit_obsolete_folding`).
    is_pending: bool,
    has_folds: bool,
    lines: usize,
    facts: Facts,
}

/// `Ok(true)` = go on with the next state, `Ok(false)` = more bytes are needed.
type Progress = Result<bool, Reject>;

impl HeadParser {
    /// Goes on with the head at the start of `buf`, which holds all bytes of the connection from the start of this
    /// request on and grows from call to call; `head` is the same from the first call of a head to its completion.
    ///
    /// Shape: `Some(n)` = the head is complete, `n` bytes of `buf` belong to it and `head` is filled; the parser is
    /// then ready for the next head. `None` = more bytes are needed.
    /// Errors: the first rule broken, found at the earliest byte that proves it.
    pub fn parse(
        &mut self,
        buf: &[u8],
        policy: &Policy,
        trust: PeerTrust,
        head: &mut Head,
        familiar: &mut Familiar,
    ) -> Result<Option<usize>, Reject> {
        if self.state < State::LineStart {
            if self.at == 0 {
                head.clear();
            }
            if !self.usual_request_line(buf, policy) && !self.request_line(buf, policy)? {
                return Ok(None);
            }
        }
        if !self.field_lines(buf, policy, trust, head, familiar)? {
            return Ok(None);
        }
        let consumed = self.at;
        self.complete(buf, policy, head)?;
        self.reset();
        Ok(Some(consumed))
    }

    /// The next call starts a new head.
    fn reset(&mut self) {
        *self = HeadParser::default();
    }

    /// Forgets a head that is not complete, if there is one.
    pub fn abandon(&mut self) {
        if self.at > 0 || self.state > State::Start {
            self.reset();
        }
    }

    /// Has any byte of the request line been seen? (An empty line before it does not count.)
    pub fn started(&self) -> bool {
        self.state >= State::Method
    }

    #[inline]
    fn step(&mut self, next: State) {
        self.at += 1;
        self.state = next;
    }

    fn field_lines(
        &mut self,
        buf: &[u8],
        policy: &Policy,
        trust: PeerTrust,
        head: &mut Head,
        familiar: &mut Familiar,
    ) -> Progress {
        let size_limit = policy.field_size_limit();
        let lines_limit = policy.fields_limit();
        loop {
            if self.state == State::LineStart && !policy.permit_obsolete_folding {
                self.whole_lines(buf, policy, trust, head, familiar)?;
            }
            if self.state == State::LineStart
                && !self.line_start(buf, policy, trust, head, lines_limit)?
            {
                return Ok(false);
            }
            if self.state == State::EndLf {
                return self.end_lf(buf);
            }
            let limit = self.line + size_limit;
            let seen = &buf[..buf.len().min(limit)];
            if !self.field_line(seen, policy)? {
                return if self.at < limit {
                    Ok(false)
                } else {
                    Err(Reject::field_too_large())
                };
            }
            if policy.permit_obsolete_folding {
                self.is_pending = true;
            } else {
                self.commit(buf, policy, trust, head)?;
            }
        }
    }

    fn line_start(
        &mut self,
        buf: &[u8],
        policy: &Policy,
        trust: PeerTrust,
        head: &mut Head,
        lines_limit: usize,
    ) -> Progress {
        let Some(&byte) = buf.get(self.at) else {
            return Ok(false);
        };
        if is_blank(byte) && self.lines > 0 {
            if !policy.permit_obsolete_folding {
                return Err(Reject::folding(&buf[self.line..self.name_end]));
            }
            self.is_pending = false;
            self.is_folded = true;
            self.state = State::Value;
            return Ok(true);
        }
        if self.is_pending {
            self.commit(buf, policy, trust, head)?;
        }
        if byte == b'\r' {
            self.step(State::EndLf);
            return Ok(true);
        }
        if self.lines >= lines_limit {
            return Err(Reject::too_many_fields());
        }
        if self.at - self.base > LARGEST_HEAD {
            return Err(Reject::field_too_large());
        }
        self.lines += 1;
        self.line = self.at;
        self.has_underscore = false;
        self.is_folded = false;
        self.state = State::Name;
        Ok(true)
    }

    fn end_lf(&mut self, buf: &[u8]) -> Progress {
        match buf.get(self.at) {
            None => Ok(false),
            Some(b'\n') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Err(Reject::header_line(b"")),
        }
    }

    /// From wherever the field stands to the LF of its line; `seen` ends where the line has to end at the latest.
    fn field_line(&mut self, seen: &[u8], policy: &Policy) -> Progress {
        if self.state == State::Name && !self.name(seen, policy)? {
            return Ok(false);
        }
        if self.state == State::NameBlank {
            while seen.get(self.at).is_some_and(|&byte| is_blank(byte)) {
                self.at += 1;
            }
            match seen.get(self.at) {
                None => return Ok(false),
                Some(b':') => {
                    self.value = self.at + 1;
                    self.step(State::Value);
                }
                Some(_) => return Err(self.name_reject(seen)),
            }
        }
        if self.state == State::Value {
            self.at += value_run(seen.get(self.at..).unwrap_or(&[]));
            match seen.get(self.at) {
                None => return Ok(false),
                Some(b'\r') => {
                    self.value_end = self.at;
                    self.step(State::ValueLf);
                }
                Some(_) => return Err(Reject::header(&seen[self.line..self.name_end])),
            }
        }
        match seen.get(self.at) {
            None => Ok(false),
            Some(b'\n') => {
                self.step(State::LineStart);
                Ok(true)
            }
            Some(_) => Err(Reject::header(&seen[self.line..self.name_end])),
        }
    }

    /// The name and the byte behind it.
    fn name(&mut self, seen: &[u8], policy: &Policy) -> Progress {
        let mut at = self.at;
        let mut classes = 0;
        loop {
            let Some(&byte) = seen.get(at) else {
                self.at = at;
                self.has_underscore |= classes & grammar::UNDERSCORE != 0;
                return Ok(false);
            };
            let class = grammar::CLASS[byte as usize];
            if class & grammar::TOKEN == 0 {
                break;
            }
            classes |= class;
            at += 1;
        }
        self.at = at;
        self.has_underscore |= classes & grammar::UNDERSCORE != 0;
        self.name_end = at;
        let byte = seen[at];
        if byte == b':' && at > self.line {
            self.value = at + 1;
            self.step(State::Value);
        } else if is_blank(byte) && policy.strip_header_spaces && at > self.line {
            self.state = State::NameBlank;
        } else {
            return Err(self.name_reject(seen));
        }
        Ok(true)
    }

    /// What stands before the colon is no name; or the line ends without a colon.
    #[cold]
    fn name_reject(&self, seen: &[u8]) -> Reject {
        let line = until_line_end(seen.get(self.line..).unwrap_or(&[]));
        match seen.get(self.at) {
            Some(b':' | b'\r' | b'\n') => Reject::header_line(line),
            _ => Reject::header_name(&line[..memchr(b':', line).unwrap_or(line.len())]),
        }
    }

    /// The field between `line` and `value_end` is complete.
    #[inline]
    fn commit(
        &mut self,
        buf: &[u8],
        policy: &Policy,
        trust: PeerTrust,
        head: &mut Head,
    ) -> Result<(), Reject> {
        self.is_pending = false;
        let raw = &buf[self.value..self.value_end];
        let trimmed = grammar::trim(raw);
        let start = self.value + (trimmed.as_ptr() as usize - raw.as_ptr() as usize);
        let span = |start: usize, end: usize| Span {
            start: (start - self.base) as u32,
            end: (end - self.base) as u32,
        };
        let name = &buf[self.line..self.name_end];
        let value_span = span(start, start + trimmed.len());
        let flags = (value_span, self.has_underscore);
        let verdict = if self.is_folded {
            self.has_folds = true;
            let mut value = Vec::new();
            unfold(raw, &mut value);
            self.facts
                .note((name, &value), flags, self.version, policy, trust)?
        } else {
            self.facts
                .note((name, trimmed), flags, self.version, policy, trust)?
        };
        if let Verdict::Keep = verdict {
            head.fields.push(Field {
                name: span(self.line, self.name_end),
                value: value_span,
            });
        }
        Ok(())
    }

    /// Copies the bytes and fills in what is known only now.
    fn complete(&mut self, buf: &[u8], policy: &Policy, head: &mut Head) -> Result<(), Reject> {
        head.bytes.extend_from_slice(&buf[self.base..self.at]);
        let span = |start: usize, end: usize| Span {
            start: (start - self.base) as u32,
            end: (end - self.base) as u32,
        };
        head.method = span(self.base, self.method_end);
        head.target = span(self.method_end + 1, self.target_end);
        let within = |part: Span| Span {
            start: head.target.start + part.start,
            end: head.target.start + part.end,
        };
        (head.path, head.query, head.fragment) = (
            within(self.target.path),
            within(self.target.query),
            within(self.target.fragment),
        );
        head.version = self.version;
        if policy.casefold_http_method {
            head.bytes[..self.method_end - self.base].make_ascii_uppercase();
        }
        if self.has_folds {
            join_folds(head);
        }
        self.facts.conclude(head)
    }
}

/// Replaces the value of each folded field by its one-line form, kept behind the raw head.
fn join_folds(head: &mut Head) {
    let Head { bytes, fields, .. } = head;
    for field in fields {
        let value = bytes[field.value.start as usize..field.value.end as usize].to_vec();
        if memchr(b'\r', &value).is_some() {
            let start = bytes.len();
            unfold(&value, bytes);
            field.value = Span {
                start: start as u32,
                end: bytes.len() as u32,
            };
        }
    }
}

fn until_line_end(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    &bytes[..end]
}
