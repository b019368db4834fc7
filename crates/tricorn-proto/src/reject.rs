//! Why a request is refused, and why a response of the application cannot be sent.
//!
//! A [`Reject`] blames the peer (or a limit), an [`AppFault`] blames the application.
//! Invariant: the words of the peer appear only in printable, quoted and bounded form.
use alloc::format;
use alloc::string::String;
use core::fmt;

/// The most bytes of the peer's words that a message repeats.
const ECHO_LIMIT: usize = 512;

/// A fault of the peer: status to answer and the words for the error page and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub kind: RejectKind,
    /// What the log shows behind `Invalid request from ip=IP: `; [`Reject::page_text`] is made from it.
    pub message: String,
}

/// One variant a rule; the status code belongs to the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectKind {
    /// Any other malformed request.
    BadRequest,
    RequestLine,
    Method,
    Version,
    Header,
    HeaderName,
    ObsoleteFolding,
    SchemeHeaders,
    ChunkSize,
    ChunkExtension,
    ChunkTerminator,
    /// The peer ended its side within a message.
    Incomplete,
    Forbidden,
    RequestTimeout,
    ContentTooLarge,
    UriTooLong,
    ExpectationFailed,
    FieldsTooLarge,
    /// Unknown transfer coding.
    NotImplemented,
    ServiceUnavailable,
    VersionNotSupported,
    /// SCRIPT_NAME is not a prefix of the path.
    ScriptName,
    /// A fault on our side; the peer gets no details.
    Internal,
}

impl RejectKind {
    /// Status code of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::RequestTimeout => 408,
            Self::ContentTooLarge => 413,
            Self::UriTooLong => 414,
            Self::ExpectationFailed => 417,
            Self::FieldsTooLarge => 431,
            Self::ScriptName | Self::Internal => 500,
            Self::NotImplemented => 501,
            Self::ServiceUnavailable => 503,
            Self::VersionNotSupported => 505,
            _ => 400,
        }
    }

    /// Reason phrase of the status (RFC 9110, 15; RFC 6585).
    pub fn reason(self) -> &'static str {
        crate::response::reason(self.status())
    }

    fn default_message(self) -> &'static str {
        match self {
            Self::Incomplete => "Connection closed before the request was complete",
            Self::Forbidden => "Request forbidden",
            Self::RequestTimeout => "Request timed out",
            Self::ContentTooLarge => "Request body is too large",
            Self::ServiceUnavailable => "Server is shutting down",
            Self::ChunkExtension => "Invalid chunk extension: invalid chunk extension",
            Self::SchemeHeaders => "Contradictory scheme headers",
            Self::Internal => "",
            other => other.reason(),
        }
    }
}

impl Reject {
    #[cold]
    pub fn new(kind: RejectKind, message: impl Into<String>) -> Reject {
        Reject {
            kind,
            message: message.into(),
        }
    }

    /// A refusal in the kind's own words.
    #[cold]
    pub fn of(kind: RejectKind) -> Reject {
        Reject::new(kind, kind.default_message())
    }

    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    pub fn reason(&self) -> &'static str {
        self.kind.reason()
    }

    /// The sentence of the error page (not yet escaped); empty for our own faults.
    pub fn page_text(&self) -> String {
        match self.kind {
            RejectKind::RequestLine => format!("Invalid Request Line '{}'", self.message),
            RejectKind::Method => format!("Invalid Method '{}'", self.message),
            RejectKind::Version => format!("Invalid HTTP Version '{}'", self.message),
            RejectKind::FieldsTooLarge => format!("Error parsing headers: '{}'", self.message),
            RejectKind::Internal => String::new(),
            _ => self.message.clone(),
        }
    }

    #[cold]
    pub(crate) fn request_line(line: &[u8]) -> Reject {
        Reject::new(
            RejectKind::RequestLine,
            format!("Invalid HTTP request line: {}", quoted(line)),
        )
    }

    #[cold]
    pub(crate) fn method(method: &[u8]) -> Reject {
        Reject::new(
            RejectKind::Method,
            format!("Invalid HTTP method: {}", quoted(method)),
        )
    }

    #[cold]
    pub(crate) fn version(text: &[u8]) -> Reject {
        Reject::new(
            RejectKind::Version,
            format!("Invalid HTTP Version: {}", quoted(text)),
        )
    }

    #[cold]
    pub(crate) fn unsupported_version(major: u8, minor: u8) -> Reject {
        Reject::new(
            RejectKind::Version,
            format!("Invalid HTTP Version: ({major}, {minor})"),
        )
    }

    /// A line that is no field at all.
    #[cold]
    pub(crate) fn header_line(line: &[u8]) -> Reject {
        Reject::new(
            RejectKind::Header,
            format!("Invalid HTTP Header: {}", quoted(line)),
        )
    }

    /// A field whose value breaks a rule; named as the original names it, in upper case.
    #[cold]
    pub(crate) fn header(name: &[u8]) -> Reject {
        Reject::new(
            RejectKind::Header,
            format!(
                "Invalid HTTP Header: {}",
                quoted(&name.to_ascii_uppercase())
            ),
        )
    }

    #[cold]
    pub(crate) fn header_name(name: &[u8]) -> Reject {
        Reject::new(
            RejectKind::HeaderName,
            format!("Invalid HTTP header name: {}", quoted(name)),
        )
    }

    #[cold]
    pub(crate) fn folding(name: &[u8]) -> Reject {
        let name = quoted(&name.to_ascii_uppercase());
        Reject::new(
            RejectKind::ObsoleteFolding,
            format!("Obsolete line folding is unacceptable: {name}"),
        )
    }

    #[cold]
    pub(crate) fn line_too_long(seen: usize, limit: usize) -> Reject {
        Reject::new(
            RejectKind::UriTooLong,
            format!("Request Line is too large ({seen} > {limit})"),
        )
    }

    #[cold]
    pub(crate) fn too_many_fields() -> Reject {
        Reject::new(RejectKind::FieldsTooLarge, "limit request headers fields")
    }

    #[cold]
    pub(crate) fn field_too_large() -> Reject {
        Reject::new(
            RejectKind::FieldsTooLarge,
            "limit request headers fields size",
        )
    }

    #[cold]
    pub(crate) fn coding(value: &[u8]) -> Reject {
        Reject::new(
            RejectKind::NotImplemented,
            format!("Unsupported transfer coding: {}", quoted(value)),
        )
    }

    #[cold]
    pub(crate) fn expectation(value: &[u8]) -> Reject {
        Reject::new(
            RejectKind::ExpectationFailed,
            format!("Unable to comply with expectation: {}", quoted(value)),
        )
    }

    #[cold]
    pub(crate) fn script_name(path: &[u8], script: &[u8]) -> Reject {
        let (path, script) = (quoted(path), quoted(script));
        Reject::new(
            RejectKind::ScriptName,
            format!(
                "Configuration problem: Request path {path} does not start with SCRIPT_NAME {script}"
            ),
        )
    }

    #[cold]
    pub(crate) fn chunk_size(line: &[u8]) -> Reject {
        Reject::new(
            RejectKind::ChunkSize,
            format!("Invalid chunk size: b{}", quoted_bytes(line)),
        )
    }

    #[cold]
    pub(crate) fn chunk_terminator(found: &[u8]) -> Reject {
        Reject::new(
            RejectKind::ChunkTerminator,
            format!(
                "Invalid chunk terminator is not '\\r\\n': b{}",
                quoted_bytes(found)
            ),
        )
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for Reject {}

/// A fault of the application: a status, field or body that must not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFault {
    pub message: String,
}

impl AppFault {
    #[cold]
    pub(crate) fn status(status: &[u8]) -> AppFault {
        AppFault {
            message: format!("Invalid status {}", quoted(status)),
        }
    }

    #[cold]
    pub(crate) fn header_name(name: &[u8]) -> AppFault {
        AppFault {
            message: format!(
                "Invalid response header name from the application: {}",
                quoted(name)
            ),
        }
    }

    #[cold]
    pub(crate) fn header(name: &[u8]) -> AppFault {
        AppFault {
            message: format!(
                "Invalid response header from the application: {}",
                quoted(name)
            ),
        }
    }
}

impl fmt::Display for AppFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for AppFault {}

/// Latin-1 bytes as Python's `repr` of the text shows them, at most [`ECHO_LIMIT`] of them.
fn quoted(bytes: &[u8]) -> String {
    quote(bytes, |byte| byte >= 0xa1 && byte != 0xad)
}

/// As [`quoted`], but as Python shows `bytes` (without the `b`).
fn quoted_bytes(bytes: &[u8]) -> String {
    quote(bytes, |_| false)
}

fn quote(bytes: &[u8], high_is_printable: fn(u8) -> bool) -> String {
    let shown = bytes.get(..ECHO_LIMIT).unwrap_or(bytes);
    let mark = if shown.contains(&b'\'') && !shown.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut text = String::with_capacity(shown.len() + 2);
    text.push(mark);
    for &byte in shown {
        match byte {
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\\' => text.push_str("\\\\"),
            b'\'' if mark == '\'' => text.push_str("\\'"),
            0x20..=0x7e => text.push(byte as char),
            0x80.. if high_is_printable(byte) => text.push(byte as char),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    if shown.len() < bytes.len() {
        text.push_str("...");
    }
    text.push(mark);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_peer_are_quoted_as_python_quotes_them() {
        let cases: [(&[u8], &str); 6] = [
            (b"GET", "'GET'"),
            (b"a'b", "\"a'b\""),
            (b"a'\"b", "'a\\'\"b'"),
            (b"\x00\t\r\n\x7f\x1b", "'\\x00\\t\\r\\n\\x7f\\x1b'"),
            (b"\xe9\x85\xad", "'\u{e9}\\x85\\xad'"),
            (b"\\", "'\\\\'"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(quoted(bytes), shown);
        }
        assert_eq!(quoted_bytes(b"\xe9"), "'\\xe9'");
    }

    #[test]
    fn a_flood_of_peer_bytes_is_cut_in_messages() {
        let message = Reject::method(&[b'A'; 100_000]).message;
        assert!(message.len() < ECHO_LIMIT + 64);
        assert!(message.ends_with("...'"));
    }

    #[test]
    fn every_status_has_its_own_reason() {
        assert_eq!(
            (
                Reject::coding(b"foo").status(),
                Reject::coding(b"foo").reason()
            ),
            (501, "Not Implemented")
        );
        assert_eq!(
            Reject::script_name(b"/x", b"/foo").reason(),
            "Internal Server Error"
        );
        assert_eq!(Reject::of(RejectKind::Incomplete).status(), 400);
    }
}
