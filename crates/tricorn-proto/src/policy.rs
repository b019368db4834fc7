//! What a request head may contain and who is believed: one policy for every protocol.
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::grammar::NameFilter;

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

const LARGEST_REQUEST_LINE: usize = 8190;
const MOST_REQUEST_FIELDS: usize = 32768;
const DEFAULT_FIELD_SIZE: usize = 8190;
/// Ceiling where a setting says "no limit": spans are 32 bits wide and memory is finite.
const CEILING: usize = 16 * 1024 * 1024;

impl Default for Policy {
    /// Gunicorn's defaults.
    fn default() -> Policy {
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        Policy {
            limit_request_line: 4094,
            limit_request_fields: 100,
            limit_request_field_size: DEFAULT_FIELD_SIZE,
            permit_obsolete_folding: false,
            strip_header_spaces: false,
            permit_unconventional_http_method: false,
            permit_unconventional_http_version: false,
            casefold_http_method: false,
            header_map: HeaderMap::Drop,
            forwarder_headers: vec!["SCRIPT_NAME".to_string(), "PATH_INFO".to_string()],
            secure_scheme_headers: vec![
                pair("X-FORWARDED-PROTOCOL", "ssl"),
                pair("X-FORWARDED-PROTO", "https"),
                pair("X-FORWARDED-SSL", "on"),
            ],
        }
    }
}

impl Policy {
    /// Longest request line in force, without its CRLF: 0 lifts the limit, more than 8190 is 8190.
    pub fn line_limit(&self) -> usize {
        match self.limit_request_line {
            0 => CEILING,
            limit => limit.min(LARGEST_REQUEST_LINE),
        }
    }

    /// Most field lines in force: 0 or more than 32768 is 32768.
    pub fn fields_limit(&self) -> usize {
        match self.limit_request_fields {
            0 => MOST_REQUEST_FIELDS,
            limit => limit.min(MOST_REQUEST_FIELDS),
        }
    }

    /// Largest field line in force, with its CRLF and folds: 0 is 8190.
    pub fn field_size_limit(&self) -> usize {
        match self.limit_request_field_size {
            0 => DEFAULT_FIELD_SIZE,
            limit => limit.min(CEILING),
        }
    }

    /// The filter, with `secure_scheme_headers` in it.
    pub(crate) fn with_scheme_headers(&self, filter: NameFilter) -> NameFilter {
        let names = self.secure_scheme_headers.iter();
        names.fold(filter, |filter, (name, _)| filter.with(name.as_bytes()))
    }

    /// May a trusted peer send this underscore name? `name` in any case.
    pub(crate) fn forwards(&self, name: &[u8]) -> bool {
        self.forwarder_headers
            .iter()
            .any(|allowed| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_excessive_limits_mean_what_the_original_means() {
        let mut policy = Policy {
            limit_request_line: 0,
            limit_request_fields: 0,
            limit_request_field_size: 0,
            ..Policy::default()
        };
        assert_eq!(
            (
                policy.line_limit(),
                policy.fields_limit(),
                policy.field_size_limit()
            ),
            (CEILING, 32768, 8190)
        );
        policy.limit_request_line = 9000;
        policy.limit_request_fields = 40000;
        policy.limit_request_field_size = 9000;
        assert_eq!(
            (
                policy.line_limit(),
                policy.fields_limit(),
                policy.field_size_limit()
            ),
            (8190, 32768, 9000)
        );
    }
}
