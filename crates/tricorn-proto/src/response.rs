//! Encodes a response head of HTTP/1.x, and the error page.
//!
//! Not the body: that is [`BodyEncoder`]'s. Invariant: nothing an application says can end a field, a line or a
//! head early; what is refused leaves the output as it was.
//! Source: RFC 9112, 4, 6 and 9; RFC 9110, 6.4.1 and 15; Gunicorn's list of dropped fields.
mod body;
mod page;
mod ready;
mod reason;

use alloc::vec::Vec;

pub use body::{BodyEncoder, BodyKind, BodyPlan};
pub use page::error_page;
pub use ready::ReadyField;
pub use reason::{reason, status_line};

use crate::bytes::same;
use crate::grammar::{decimal, is_name, is_token, is_value, trim};
use crate::reject::AppFault;

/// What the request decides about its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseContext {
    /// Version of the request.
    pub version: (u8, u8),
    pub is_head: bool,
    pub is_connect: bool,
    /// The request side allows another request on this connection.
    pub keep_alive: bool,
}

/// A status as the application gives it, like `200 OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    text: &'a [u8],
    code: u16,
}

impl<'a> Status<'a> {
    /// Errors: not three digits with an optional reason phrase free of control characters.
    #[inline]
    pub fn parse(text: &'a [u8]) -> Result<Status<'a>, AppFault> {
        match status_code(text) {
            Some(code) => Ok(Status { text, code }),
            None => Err(AppFault::status(text)),
        }
    }
}

/// What the server says of itself in each head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signature<'a> {
    /// `Server: tricorn\r\nDate: <IMF-fixdate>\r\n`, or one of them, or nothing.
    pub lines: &'a [u8],
    pub has_server: bool,
    pub has_date: bool,
}

/// How a head began: its status line and the signature. The next one is likely to begin like it.
#[derive(Debug)]
pub struct Opening {
    status: Vec<u8>,
    code: u16,
    bytes: Vec<u8>,
}

impl Opening {
    /// Of a head of HTTP/1.1, with everything in it that the server says of itself.
    pub fn new(status: Status<'_>, signature: &Signature<'_>) -> Opening {
        let mut bytes = Vec::new();
        push_opening(&mut bytes, (1, 1), status.text, signature);
        Opening {
            status: status.text.to_vec(),
            code: status.code,
            bytes,
        }
    }

    /// Is that its status?
    #[inline]
    pub fn is_of(&self, status: &[u8]) -> bool {
        same(&self.status, status)
    }
}

fn push_opening(out: &mut Vec<u8>, version: (u8, u8), status: &[u8], signature: &Signature<'_>) {
    out.reserve(status.len() + signature.lines.len() + ROOM_FOR_FIELDS);
    out.extend_from_slice(if version >= (1, 1) {
        b"HTTP/1.1 "
    } else {
        b"HTTP/1.0 "
    });
    out.extend_from_slice(status);
    if status.len() == 3 {
        out.push(b' ');
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(signature.lines);
}

/// A response head being written. Calls come in the order `begin`, `field` any number of times, `end`, all with
/// the same `out`.
#[derive(Clone, Debug)]
pub struct HeadEncoder {
    context: ResponseContext,
    /// Length of `out` before the head.
    start: usize,
    status: u16,
    content_length: Option<u64>,
    says_close: bool,
    says_upgrade: bool,
    /// Server and Date are said already.
    has_server: bool,
    has_date: bool,
}

/// What most heads need besides: one allocation instead of several.
const ROOM_FOR_FIELDS: usize = 256;

enum Special {
    Dropped,
    Server,
    Date,
    Connection,
    Upgrade,
    ContentLength,
    None,
}

impl HeadEncoder {
    /// Appends the status line, then the signature.
    #[inline]
    pub fn begin(
        out: &mut Vec<u8>,
        context: &ResponseContext,
        status: Status<'_>,
        signature: &Signature<'_>,
    ) -> HeadEncoder {
        let start = out.len();
        push_opening(out, context.version, status.text, signature);
        let has = (signature.has_server, signature.has_date);
        HeadEncoder::new(context, start, status.code, has)
    }

    /// As `begin`, for a request of HTTP/1.1 and a head that begins as one did before.
    #[inline]
    pub fn begin_again(
        out: &mut Vec<u8>,
        context: &ResponseContext,
        opening: &Opening,
    ) -> HeadEncoder {
        let start = out.len();
        out.reserve(opening.bytes.len() + ROOM_FOR_FIELDS);
        out.extend_from_slice(&opening.bytes);
        HeadEncoder::new(context, start, opening.code, (true, true))
    }

    #[inline(always)]
    fn new(
        context: &ResponseContext,
        start: usize,
        status: u16,
        (has_server, has_date): (bool, bool),
    ) -> HeadEncoder {
        HeadEncoder {
            context: *context,
            start,
            status,
            content_length: None,
            says_close: false,
            says_upgrade: false,
            has_server,
            has_date,
        }
    }

    /// Status code of this head.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Appends one field of the application, unless it is the server's to say (hop-by-hop) or said by it (Server, Date).
    ///
    /// Errors: a name that is no token, a value with control characters, a Content-Length that is no number or differs
    /// from an earlier one. The head is then taken back from `out`.
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), AppFault> {
        let result = self.checked_field(out, name, trim(value));
        if result.is_err() {
            out.truncate(self.start);
        }
        result
    }

    fn checked_field(
        &mut self,
        out: &mut Vec<u8>,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), AppFault> {
        check_field(name, value)?;
        match special(name) {
            Special::Dropped => return Ok(()),
            Special::Server if self.has_server => return Ok(()),
            Special::Date if self.has_date => return Ok(()),
            Special::Connection => {
                for option in value.split(|&byte| byte == b',').map(trim) {
                    self.says_close |= option.eq_ignore_ascii_case(b"close");
                    self.says_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
                return Ok(());
            }
            Special::Upgrade if !value.eq_ignore_ascii_case(b"websocket") => return Ok(()),
            Special::ContentLength => {
                let length = decimal(value).ok_or_else(|| AppFault::header(name))?;
                return match self.content_length.replace(length) {
                    Some(earlier) if earlier != length => Err(AppFault::header(name)),
                    Some(_) => Ok(()),
                    None if forbids_length(self.status) => Ok(()),
                    None => {
                        push_field(out, name, value);
                        Ok(())
                    }
                };
            }
            Special::Upgrade | Special::Server | Special::Date | Special::None => {}
        }
        push_field(out, name, value);
        Ok(())
    }

    /// Ends the head: Connection, the framing, the empty line. `known_length` is the length of the whole body when the
    /// caller knows it; it becomes Content-Length unless the application gave one.
    pub fn end(&self, out: &mut Vec<u8>, known_length: Option<u64>) -> BodyPlan {
        let plan = self.plan(known_length);
        let announces = match plan.kind {
            BodyKind::Length(length) => Some(length),
            // A HEAD answer announces what GET would send, if the application let us see it.
            BodyKind::None if self.context.is_head && !self.forbids_body() => {
                known_length.filter(|&length| length > 0)
            }
            _ => None,
        };
        if let (Some(length), None) = (announces, self.content_length) {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(match (self.says_upgrade, plan.keep_alive) {
            (true, _) => b"Connection: upgrade\r\n",
            (false, true) => b"Connection: keep-alive\r\n",
            (false, false) => b"Connection: close\r\n",
        });
        if plan.kind == BodyKind::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        out.extend_from_slice(b"\r\n");
        plan
    }

    fn plan(&self, known_length: Option<u64>) -> BodyPlan {
        let kind = if self.context.is_head || self.forbids_body() {
            BodyKind::None
        } else if let Some(length) = self.content_length.or(known_length) {
            BodyKind::Length(length)
        } else if self.context.version >= (1, 1) && !self.context.is_connect {
            BodyKind::Chunked
        } else {
            BodyKind::UntilClose
        };
        let keep_alive = self.context.keep_alive
            && !self.context.is_connect
            && !self.says_close
            && kind != BodyKind::UntilClose
            // The peer waits for a final response behind an informational one; it will not come.
            && self.status >= 200;
        BodyPlan { kind, keep_alive }
    }

    fn forbids_body(&self) -> bool {
        self.status < 200 || self.status == 204 || self.status == 304
    }
}

/// No Content-Length in 1xx and 204 (RFC 9110, 8.6).
fn forbids_length(status: u16) -> bool {
    status < 200 || status == 204
}

/// Appends an informational response: `status` like `103 Early Hints`, and its fields.
///
/// Errors: a status outside 1xx or equal to 101, a field as for [`HeadEncoder::field`]; `out` is then unchanged.
pub fn informational<'a>(
    out: &mut Vec<u8>,
    status: &[u8],
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), AppFault> {
    let informational = |code: &u16| (100..200).contains(code) && *code != 101;
    if !informational(&Status::parse(status)?.code) {
        return Err(AppFault::status(status));
    }
    let start = out.len();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status);
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        let value = trim(value);
        if let Err(fault) = check_field(name, value) {
            out.truncate(start);
            return Err(fault);
        }
        if let Special::None = special(name) {
            push_field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends fields for the end of a chunked body.
///
/// Errors: a field as for [`HeadEncoder::field`]; `out` is then unchanged. Fields about framing, routing or
/// authentication have no place there (RFC 9110, 6.5.1) and are left out.
pub fn trailer_fields<'a>(
    out: &mut Vec<u8>,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<(), AppFault> {
    let start = out.len();
    for (name, value) in fields {
        let value = trim(value);
        if let Err(fault) = check_field(name, value) {
            out.truncate(start);
            return Err(fault);
        }
        let forbidden = [
            &b"content-encoding"[..],
            b"content-type",
            b"trailer",
            b"host",
        ];
        let forbidden = forbidden
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known));
        if let (Special::None, false) = (special(name), forbidden) {
            push_field(out, name, value);
        }
    }
    Ok(())
}

#[inline]
fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), AppFault> {
    if !is_token(name) {
        return Err(AppFault::header_name(name));
    }
    if !is_value(value) {
        return Err(AppFault::header(name));
    }
    Ok(())
}

/// Three digits, then nothing or a space and a phrase.
fn status_code(status: &[u8]) -> Option<u16> {
    let [
        hundreds @ b'1'..=b'9',
        tens @ b'0'..=b'9',
        ones @ b'0'..=b'9',
        phrase @ ..,
    ] = status
    else {
        return None;
    };
    let digit = |byte: &u8| u16::from(byte - b'0');
    let phrase_fits = phrase.is_empty() || (phrase.starts_with(b" ") && is_value(phrase));
    phrase_fits.then(|| digit(hundreds) * 100 + digit(tens) * 10 + digit(ones))
}

#[inline]
fn special(name: &[u8]) -> Special {
    // A token; names are told apart by length first.
    let is = |known: &[u8]| is_name(name, known);
    match name.len() {
        2 if is(b"te") => Special::Dropped,
        4 if is(b"date") => Special::Date,
        6 if is(b"server") => Special::Server,
        7 if is(b"upgrade") => Special::Upgrade,
        8 if is(b"trailers") => Special::Dropped,
        10 if is(b"connection") => Special::Connection,
        10 if is(b"keep-alive") => Special::Dropped,
        14 if is(b"content-length") => Special::ContentLength,
        17 if is(b"transfer-encoding") => Special::Dropped,
        18 if is(b"proxy-authenticate") => Special::Dropped,
        19 if is(b"proxy-authorization") => Special::Dropped,
        _ => Special::None,
    }
}

#[cfg(test)]
mod tests;
