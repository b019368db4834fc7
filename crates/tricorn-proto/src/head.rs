//! A parsed request head: its own copy of the bytes and spans into it.
use alloc::vec::Vec;
use core::num::NonZeroU64;

/// A range of bytes in [`Head::bytes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// One header field, as the peer spelled it (case kept); the value without surrounding SP and HTAB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    pub value: Span,
}

impl Field {
    /// With all places so much further; further than the largest number means less far.
    #[inline(always)]
    pub(crate) fn moved(self, distance: u32) -> Field {
        let moved = |span: Span| Span {
            start: span.start.wrapping_add(distance),
            end: span.end.wrapping_add(distance),
        };
        Field {
            name: moved(self.name),
            value: moved(self.value),
        }
    }
}

/// How the request body is delimited (RFC 9112, 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

/// How a head compares with others of one [`crate::h1::Familiar`]: heads of one mark have the same names, as they are
/// spelled, and the same value wherever both have a bit in `same`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub mark: NonZeroU64,
    /// A bit for each field, the lowest for the first one.
    pub same: u64,
}

/// Does the value of a field of this name prove who sends it? It is kept for nobody else's sake then.
pub fn is_secret(name: &[u8]) -> bool {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.len() {
        6 => is(b"cookie"),
        10 => is(b"set-cookie"),
        13 => is(b"authorization"),
        19 => is(b"proxy-authorization"),
        _ => false,
    }
}

/// A request head that passed every rule of [`crate::Policy`]. Reused from request to request:
/// `clear` keeps the allocations.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Request line and fields, folds already joined and a case-folded method already upper-cased.
    pub bytes: Vec<u8>,
    pub method: Span,
    /// Request target exactly as sent (RAW_URI).
    pub target: Span,
    /// Path of the target, still percent-encoded, without query and fragment ("" for CONNECT's authority form).
    pub path: Span,
    pub query: Span,
    pub fragment: Span,
    /// HTTP/major.minor.
    pub version: (u8, u8),
    /// Fields that the policy lets through to the application, in order.
    pub fields: Vec<Field>,
    /// What is known of `fields` because heads like this one came before.
    pub known: Option<Known>,
    pub framing: Framing,
    /// The peer allows another request on this connection (version and Connection field; false for CONNECT
    /// and whenever a rule forces a close).
    pub keep_alive: bool,
    /// The Connection field names `upgrade`.
    pub upgrade: bool,
    /// `Expect: 100-continue` on HTTP/1.1.
    pub expect_continue: bool,
    /// From `secure_scheme_headers` of a trusted peer.
    pub scheme: Option<Scheme>,
    /// Value of a permitted SCRIPT_NAME field (`forwarder_headers`).
    pub script_name: Option<Span>,
}

impl Head {
    pub fn clear(&mut self) {
        let mut bytes = core::mem::take(&mut self.bytes);
        let mut fields = core::mem::take(&mut self.fields);
        bytes.clear();
        fields.clear();
        *self = Head {
            bytes,
            fields,
            ..Head::default()
        };
    }

    #[inline]
    pub fn slice(&self, span: Span) -> &[u8] {
        self.bytes
            .get(span.start as usize..span.end as usize)
            .unwrap_or(&[])
    }

    #[inline]
    pub fn method(&self) -> &[u8] {
        self.slice(self.method)
    }

    #[inline]
    pub fn target(&self) -> &[u8] {
        self.slice(self.target)
    }

    #[inline]
    pub fn path(&self) -> &[u8] {
        self.slice(self.path)
    }

    #[inline]
    pub fn query(&self) -> &[u8] {
        self.slice(self.query)
    }

    /// First field of that name, compared without case.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| self.slice(field.name).eq_ignore_ascii_case(name))
            .map(|field| self.slice(field.value))
    }

    /// The members of a comma-separated list, from all fields of that name.
    pub fn listed<'a>(&'a self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| self.slice(field.name).eq_ignore_ascii_case(name))
            .flat_map(|field| self.slice(field.value).split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
    }

    pub fn is_http_1_1(&self) -> bool {
        self.version >= (1, 1)
    }
}
