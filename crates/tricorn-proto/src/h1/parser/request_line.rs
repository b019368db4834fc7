//! The request line's part of the automaton: method, target, version.
//!
//! Source: RFC 9112, 2.2 and 3; settings limit_request_line, permit_unconventional_*, casefold_http_method.
use memchr::memchr;

use super::{HeadParser, Progress, State, until_line_end};
use crate::grammar::{self, is};
use crate::h1::target;
use crate::policy::Policy;
use crate::reject::Reject;

const SHORTEST_METHOD: usize = 3;
const LONGEST_METHOD: usize = 20;
const VERSION_LEN: usize = 8;

impl HeadParser {
    /// Takes a whole request line of the usual form at full speed; `false` leaves anything else to the automaton, from its
    /// first byte on.
    #[inline]
    pub(super) fn usual_request_line(&mut self, buf: &[u8], policy: &Policy) -> bool {
        let method_end = match buf {
            _ if self.at > 0 || self.state != State::Start => return false,
            [b'G', b'E', b'T', b' ', b'/', ..] | [b'P', b'U', b'T', b' ', b'/', ..] => 3,
            [b'P', b'O', b'S', b'T', b' ', b'/', ..] | [b'H', b'E', b'A', b'D', b' ', b'/', ..] => {
                4
            }
            _ => return false,
        };
        let start = method_end + 1;
        let Some((target_end, target)) = buf.get(start..).and_then(target::of_path) else {
            return false;
        };
        let target_end = start + target_end;
        let minor = match buf.get(target_end..).and_then(|rest| rest.first_chunk()) {
            Some(b" HTTP/1.1\r\n") => 1,
            Some(b" HTTP/1.0\r\n") => 0,
            _ => return false,
        };
        let line_end = target_end + 1 + VERSION_LEN;
        if line_end > policy.line_limit() {
            return false;
        }
        (self.method_end, self.target_end) = (method_end, target_end);
        (self.version, self.target) = ((1, minor), target);
        self.at = line_end + 2;
        self.state = State::LineStart;
        true
    }

    /// From the first byte to the LF of the request line.
    pub(super) fn request_line(&mut self, buf: &[u8], policy: &Policy) -> Progress {
        let mut limit = self
            .base
            .saturating_add(policy.line_limit())
            .saturating_add(1);
        loop {
            let seen = &buf[..buf.len().min(limit)];
            let progress = match self.state {
                State::Start => self.start(seen),
                State::StartLf => {
                    let progress = self.start_lf(seen);
                    limit = self
                        .base
                        .saturating_add(policy.line_limit())
                        .saturating_add(1);
                    progress
                }
                State::Method => self.method(seen, policy),
                State::Target => self.target(seen, policy),
                State::Version => self.version(seen, policy),
                State::LineLf => match buf.get(self.at) {
                    Some(b'\n') => {
                        self.step(State::LineStart);
                        return Ok(true);
                    }
                    Some(_) => Err(self.request_line_reject(buf)),
                    None => return Ok(false),
                },
                _ => return Ok(true),
            };
            if !progress? {
                if self.at < limit || self.state < State::Method {
                    return Ok(false);
                }
                let rest = buf.get(self.base..).unwrap_or(&[]);
                let length = memchr(b'\r', rest).unwrap_or(rest.len());
                return Err(Reject::line_too_long(length, policy.line_limit()));
            }
        }
    }

    fn start(&mut self, seen: &[u8]) -> Progress {
        match seen.get(self.at) {
            None => return Ok(false),
            Some(b'\r') if self.base == 0 => self.step(State::StartLf),
            Some(b'\r' | b'\n') => return Err(self.request_line_reject(seen)),
            Some(_) => self.state = State::Method,
        }
        Ok(true)
    }

    fn start_lf(&mut self, seen: &[u8]) -> Progress {
        match seen.get(self.at) {
            None => return Ok(false),
            Some(b'\n') => {
                self.step(State::Start);
                self.base = self.at;
            }
            Some(_) => return Err(Reject::request_line(seen)),
        }
        Ok(true)
    }

    fn method(&mut self, seen: &[u8], policy: &Policy) -> Progress {
        let unconventional = policy.permit_unconventional_http_method;
        let class = if unconventional {
            grammar::TOKEN
        } else {
            grammar::METHOD
        };
        let longest = if unconventional {
            usize::MAX
        } else {
            LONGEST_METHOD
        };
        while let Some(&byte) = seen.get(self.at) {
            let length = self.at - self.base;
            if is(byte, class) && length < longest {
                self.at += 1;
                continue;
            }
            return match byte {
                b'\r' | b'\n' => Err(self.request_line_reject(seen)),
                b' ' if length >= SHORTEST_METHOD || (unconventional && length > 0) => {
                    self.method_end = self.at;
                    self.step(State::Target);
                    Ok(true)
                }
                _ => Err(Reject::method(word(seen, self.base))),
            };
        }
        Ok(false)
    }

    fn target(&mut self, seen: &[u8], policy: &Policy) -> Progress {
        let start = self.method_end + 1;
        self.at += grammar::run(seen.get(self.at..).unwrap_or(&[]), grammar::TARGET);
        match seen.get(self.at) {
            None => return Ok(false),
            Some(b' ') if self.at > start => {}
            Some(_) => return Err(self.request_line_reject(seen)),
        }
        let written = &seen[self.base..self.method_end];
        let upper;
        let method = if policy.casefold_http_method {
            upper = written.to_ascii_uppercase();
            &upper
        } else {
            written
        };
        self.target_end = self.at;
        match target::split(method, &seen[start..self.at]) {
            Some(target) => self.target = target,
            None => return Err(self.request_line_reject(seen)),
        }
        self.step(State::Version);
        Ok(true)
    }

    fn version(&mut self, seen: &[u8], policy: &Policy) -> Progress {
        let start = self.target_end + 1;
        let text = seen.get(start..).unwrap_or(&[]);
        let version = match text.get(..VERSION_LEN) {
            Some(&[b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                (major - b'0', minor - b'0')
            }
            _ => {
                let fits = |(&byte, &form): (&u8, &u8)| {
                    if form == b'd' {
                        byte.is_ascii_digit()
                    } else {
                        byte == form
                    }
                };
                let matched = text
                    .iter()
                    .zip(b"HTTP/d.d")
                    .take_while(|&pair| fits(pair))
                    .count();
                self.at = start + matched;
                return match text.get(matched) {
                    None => Ok(false),
                    Some(b'\n') => Err(self.request_line_reject(seen)),
                    Some(_) => Err(Reject::version(until_line_end(text))),
                };
            }
        };
        if version.0 != 1 && !policy.permit_unconventional_http_version {
            return Err(
                if until_line_end(text).len() > VERSION_LEN && text.get(VERSION_LEN) != Some(&b'\n')
                {
                    Reject::version(until_line_end(text))
                } else {
                    Reject::unsupported_version(version.0, version.1)
                },
            );
        }
        self.version = version;
        self.at = start + VERSION_LEN;
        match seen.get(self.at) {
            None => Ok(false),
            Some(b'\r') => {
                self.step(State::LineLf);
                Ok(true)
            }
            Some(b'\n') => Err(self.request_line_reject(seen)),
            Some(_) => Err(Reject::version(until_line_end(text))),
        }
    }

    /// The request line breaks the grammar; a line that ends in a bare LF is told so.
    #[cold]
    fn request_line_reject(&self, buf: &[u8]) -> Reject {
        let rest = buf.get(self.base..).unwrap_or(&[]);
        let line = until_line_end(rest);
        match (rest.get(line.len()), rest.get(line.len() + 1)) {
            (Some(b'\n'), _) => Reject::request_line(b"bare LF as line terminator"),
            _ => Reject::request_line(line),
        }
    }
}

/// From `start` to the next space or line end.
fn word(bytes: &[u8], start: usize) -> &[u8] {
    let rest = bytes.get(start..).unwrap_or(&[]);
    let end = memchr::memchr3(b' ', b'\r', b'\n', rest).unwrap_or(rest.len());
    &rest[..end]
}
