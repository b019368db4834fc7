//! What the fields of a head say about the message itself: framing, connection, expectation, trust.
//!
//! Each rule refuses as soon as the field that breaks it is complete.
//! Source: RFC 9112, 6 and 9.3; RFC 9110, 10.1.1; settings header_map, forwarder_headers, secure_scheme_headers.
use crate::grammar::{self, NameFilter, decimal, is_name, trim};
use crate::head::{Framing, Head, Scheme, Span};
use crate::policy::{HeaderMap, PeerTrust, Policy};
use crate::reject::{Reject, RejectKind};

/// Gathered field by field; see [`Facts::conclude`].
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    has_host: bool,
    has_content_type: bool,
    content_length: Option<u64>,
    has_transfer_encoding: bool,
    is_chunked: bool,
    /// A coding besides chunked: the body stays encoded and the connection must not be reused.
    has_other_coding: bool,
    says_close: bool,
    says_keep_alive: bool,
    says_upgrade: bool,
    expects_continue: bool,
    scheme: Option<Scheme>,
    script_name: Option<Span>,
}

/// Does the field reach the application?
pub(super) enum Verdict {
    Keep,
    Drop,
}

impl Facts {
    /// Names, without underscore and no scheme headers, that can say anything to [`Facts::note`].
    pub(super) const TELLING: NameFilter = NameFilter::new()
        .with(b"host")
        .with(b"expect")
        .with(b"connection")
        .with(b"content-type")
        .with(b"content-length")
        .with(b"transfer-encoding");

    /// Takes note of one field. `value` is trimmed; `has_underscore` speaks of the name.
    pub(super) fn note(
        &mut self,
        (name, value): (&[u8], &[u8]),
        (value_span, has_underscore): (Span, bool),
        version: (u8, u8),
        policy: &Policy,
        trust: PeerTrust,
    ) -> Result<Verdict, Reject> {
        if has_underscore {
            return self.note_underscore(name, value_span, policy, trust);
        }
        match name.len() {
            4 if is_name(name, b"host") => once(&mut self.has_host, name)?,
            6 if is_name(name, b"expect") => self.note_expect(value, version)?,
            10 if is_name(name, b"connection") => self.note_connection(value),
            12 if is_name(name, b"content-type") => once(&mut self.has_content_type, name)?,
            14 if is_name(name, b"content-length") => self.note_content_length(name, value)?,
            17 if is_name(name, b"transfer-encoding") => self.note_codings(name, value, version)?,
            _ => {}
        }
        if trust == PeerTrust::Trusted {
            self.note_scheme(name, value, policy)?;
        }
        Ok(Verdict::Keep)
    }

    fn note_underscore(
        &mut self,
        name: &[u8],
        value: Span,
        policy: &Policy,
        trust: PeerTrust,
    ) -> Result<Verdict, Reject> {
        if trust == PeerTrust::Trusted && policy.forwards(name) {
            if name.eq_ignore_ascii_case(b"script_name") {
                self.script_name = Some(value);
            }
            return Ok(Verdict::Keep);
        }
        match policy.header_map {
            HeaderMap::Dangerous => Ok(Verdict::Keep),
            HeaderMap::Drop => Ok(Verdict::Drop),
            HeaderMap::Refuse => Err(Reject::header_name(&name.to_ascii_uppercase())),
        }
    }

    fn note_expect(&mut self, value: &[u8], version: (u8, u8)) -> Result<(), Reject> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Reject::expectation(value));
        }
        self.expects_continue = version >= (1, 1);
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) {
        // As nearly all browsers say it.
        if value == b"keep-alive" {
            self.says_keep_alive = true;
            return;
        }
        for option in value.split(|&byte| byte == b',').map(trim) {
            self.says_close |= option.eq_ignore_ascii_case(b"close");
            self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.says_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn note_content_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), Reject> {
        if self.content_length.is_some() || self.has_transfer_encoding {
            return Err(Reject::header(b"content-length"));
        }
        self.content_length = Some(decimal(value).ok_or_else(|| Reject::header(name))?);
        Ok(())
    }

    fn note_codings(&mut self, name: &[u8], value: &[u8], version: (u8, u8)) -> Result<(), Reject> {
        if version < (1, 1) {
            return Err(Reject::header(name));
        }
        if self.content_length.is_some() {
            return Err(Reject::header(b"content-length"));
        }
        self.has_transfer_encoding = true;
        for coding in value.split(|&byte| byte == b',').map(trim) {
            let is = |known: &[u8]| coding.eq_ignore_ascii_case(known);
            let is_other = is(b"gzip") || is(b"deflate") || is(b"compress");
            if !(is_other || is(b"chunked") || is(b"identity")) {
                return Err(Reject::coding(value));
            }
            if self.is_chunked {
                return Err(Reject::header(name));
            }
            self.is_chunked = is(b"chunked");
            self.has_other_coding |= is_other;
        }
        Ok(())
    }

    fn note_scheme(&mut self, name: &[u8], value: &[u8], policy: &Policy) -> Result<(), Reject> {
        for (known, secure) in &policy.secure_scheme_headers {
            if known.len() != name.len() || !known.as_bytes().eq_ignore_ascii_case(name) {
                continue;
            }
            let scheme = if value == secure.as_bytes() {
                Scheme::Https
            } else {
                Scheme::Http
            };
            if self.scheme.is_some_and(|earlier| earlier != scheme) {
                return Err(Reject::of(RejectKind::SchemeHeaders));
            }
            self.scheme = Some(scheme);
        }
        Ok(())
    }

    /// Writes the conclusions into a head whose request line and fields are in place.
    pub(super) fn conclude(&self, head: &mut Head) -> Result<(), Reject> {
        head.framing = match (self.has_transfer_encoding, self.content_length) {
            (true, _) if !self.is_chunked => return Err(Reject::header(b"transfer-encoding")),
            (true, _) => Framing::Chunked,
            (false, Some(0) | None) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        };
        let persistent = if head.version >= (1, 1) {
            !self.says_close
        } else {
            self.says_keep_alive && !self.says_close
        };
        head.upgrade = self.says_upgrade;
        head.keep_alive = persistent && !self.has_other_coding && head.method() != b"CONNECT";
        head.expect_continue = self.expects_continue;
        head.scheme = self.scheme;
        if let Some(script) = self.script_name.map(|span| head.slice(span)) {
            if !head.path().starts_with(script) {
                return Err(Reject::script_name(head.path(), script));
            }
            head.script_name = self.script_name;
        }
        Ok(())
    }
}

fn once(seen: &mut bool, name: &[u8]) -> Result<(), Reject> {
    if core::mem::replace(seen, true) {
        Err(Reject::header(name))
    } else {
        Ok(())
    }
}

/// A folded value on one line: each fold becomes one space (RFC 9112, 5.2).
pub(super) fn unfold(value: &[u8], out: &mut alloc::vec::Vec<u8>) {
    let mut between = false;
    for part in value
        .split(|&byte| byte == b'\r' || byte == b'\n')
        .map(grammar::trim)
        .filter(|part| !part.is_empty())
    {
        if core::mem::replace(&mut between, true) {
            out.push(b' ');
        }
        out.extend_from_slice(part);
    }
}
