//! Why a request is refused, and why a response of the application cannot be sent.
use alloc::string::String;

/// A fault of the peer: status to answer and the words for the error page and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub kind: RejectKind,
    /// Gunicorn's text for the page, for example `Invalid Method 'Invalid HTTP method: ...'`.
    pub message: String,
}

/// One variant a rule; the status code belongs to the kind. (The list is this crate's to extend.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectKind {
    BadRequest,
    RequestTimeout,
    ContentTooLarge,
    UriTooLong,
    ExpectationFailed,
    FieldsTooLarge,
    NotImplemented,
    VersionNotSupported,
    Internal,
}

/// A fault of the application: a status, field or body that must not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFault {
    pub message: String,
}
