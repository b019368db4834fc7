//! What a request head may contain and who is believed: one policy for every protocol.
use alloc::string::String;
use alloc::vec::Vec;

/// Setting `header_map`: what becomes of field names with an underscore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderMap {
    #[default]
    Drop,
    Refuse,
    Dangerous,
}

/// Is the direct peer in `forwarded_allow_ips` (or a unix socket peer)? Decided by the engine per connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerTrust {
    #[default]
    Untrusted,
    Trusted,
}

/// Settings that decide which heads are accepted. 0 in a limit means what Gunicorn means by it.
#[derive(Clone, Debug)]
pub struct Policy {
    pub limit_request_line: usize,
    pub limit_request_fields: usize,
    pub limit_request_field_size: usize,
    pub permit_obsolete_folding: bool,
    pub strip_header_spaces: bool,
    pub permit_unconventional_http_method: bool,
    pub permit_unconventional_http_version: bool,
    pub casefold_http_method: bool,
    pub header_map: HeaderMap,
    /// Upper-case names with underscores, as in the setting; "*" allows all.
    pub forwarder_headers: Vec<String>,
    /// (upper-case field name with hyphens, value that means https).
    pub secure_scheme_headers: Vec<(String, String)>,
}
