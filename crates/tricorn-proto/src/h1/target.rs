//! The request target: its permitted forms, and where path, query and fragment lie in it.
//!
//! Never decodes and never normalises. Source: RFC 9112, 3.2.
use crate::grammar;
use crate::head::Span;
use memchr::{memchr, memchr2, memmem};

/// Offsets into the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub path: Span,
    pub query: Span,
    pub fragment: Span,
}

/// Takes a non-empty target of visible ASCII apart; `None` when its form does not suit the method.
#[inline]
pub(super) fn split(method: &[u8], target: &[u8]) -> Option<Target> {
    if target.first() == Some(&b'/') {
        return Some(path_query_fragment(target, 0));
    }
    if target == b"*" && method == b"OPTIONS" {
        return Some(path_query_fragment(target, 0));
    }
    if let Some(authority) = after_scheme(target) {
        let rest = target.get(authority..)?;
        let path = authority
            + rest
                .iter()
                .position(|&b| matches!(b, b'/' | b'?' | b'#'))
                .unwrap_or(rest.len());
        return is_authority(target.get(authority..path)?)
            .then(|| path_query_fragment(target, path));
    }
    (method == b"CONNECT").then(Target::default)
}

/// The target that `bytes` begin with, when it is a path, and the place of what ends it. `None`: no more is there, or too
/// little to be seen at once.
#[inline(always)]
pub(super) fn of_path(bytes: &[u8]) -> Option<(usize, Target)> {
    let mark = grammar::path_run(bytes)?;
    if !matches!(bytes.get(mark), Some(b'?' | b'#')) {
        let path = Span {
            start: 0,
            end: mark as u32,
        };
        let target = Target {
            path,
            ..Target::default()
        };
        return Some((mark, target));
    }
    let end = mark + grammar::target_run(bytes.get(mark..)?)?;
    Some((end, path_query_fragment(bytes.get(..end)?, 0)))
}

fn path_query_fragment(target: &[u8], path: usize) -> Target {
    let span = |start: usize, end: usize| Span {
        start: start as u32,
        end: end as u32,
    };
    let end = target.len();
    let rest = target.get(path..).unwrap_or(&[]);
    let Some(mark) = memchr2(b'?', b'#', rest).map(|at| path + at) else {
        return Target {
            path: span(path, end),
            ..Target::default()
        };
    };
    if target.get(mark) == Some(&b'#') {
        return Target {
            path: span(path, mark),
            fragment: span(mark + 1, end),
            ..Target::default()
        };
    }
    let hash = target
        .get(mark..)
        .and_then(|tail| memchr(b'#', tail))
        .map_or(end, |at| mark + at);
    Target {
        path: span(path, mark),
        query: span(mark + 1, hash),
        fragment: span((hash + 1).min(end), end),
    }
}

/// Offset behind `scheme://` of an absolute-form target.
fn after_scheme(target: &[u8]) -> Option<usize> {
    let colon = memmem::find(target, b"://")?;
    let (first, rest) = target.get(..colon)?.split_first()?;
    let valid = first.is_ascii_alphabetic()
        && rest
            .iter()
            .all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    valid.then_some(colon + 3)
}

/// Brackets come as one pair around an IPv6 address, or not at all.
fn is_authority(authority: &[u8]) -> bool {
    let host = memchr::memrchr(b'@', authority)
        .map_or(authority, |at| authority.get(at + 1..).unwrap_or(&[]));
    let Some(inner) = host.strip_prefix(b"[") else {
        return memchr2(b'[', b']', authority).is_none();
    };
    let Some(close) = memchr(b']', inner) else {
        return false;
    };
    let (address, port) = (
        inner.get(..close).unwrap_or(&[]),
        inner.get(close + 1..).unwrap_or(&[]),
    );
    let is_port = port.is_empty()
        || (port.first() == Some(&b':') && port.iter().skip(1).all(u8::is_ascii_digit));
    is_port
        && core::str::from_utf8(address)
            .is_ok_and(|text| text.parse::<core::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(method: &str, target: &'a str) -> Option<[&'a str; 3]> {
        let found = split(method.as_bytes(), target.as_bytes())?;
        let text = |span: Span| &target[span.start as usize..span.end as usize];
        Some([text(found.path), text(found.query), text(found.fragment)])
    }

    #[test]
    fn each_form_is_taken_apart_without_decoding() {
        let table = [
            ("GET", "/", ["/", "", ""]),
            (
                "GET",
                "//x//../%2f?a=b?c#d?e#f",
                ["//x//../%2f", "a=b?c", "d?e#f"],
            ),
            ("GET", "/a;b#f?g", ["/a;b", "", "f?g"]),
            ("GET", "/x?", ["/x", "", ""]),
            ("GET", "/x://[", ["/x://[", "", ""]),
            ("OPTIONS", "*", ["*", "", ""]),
            ("GET", "http://a", ["", "", ""]),
            ("GET", "http://a?b=c#d", ["", "b=c", "d"]),
            ("GET", "http://u:p@a:80/b?c", ["/b", "c", ""]),
            ("GET", "http://[::1]:80/b", ["/b", "", ""]),
            ("CONNECT", "a:443", ["", "", ""]),
            ("CONNECT", "/x?y", ["/x", "y", ""]),
        ];
        for (method, target, expected) in table {
            assert_eq!(parts(method, target), Some(expected), "{method} {target}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let table = [
            "x",
            "*",
            "a:443",
            "://x",
            "x?u=http://f",
            "1a://x",
            "http://[::1/",
            "http://a]/",
            "http://[zz]/",
            "http://a[b]/",
        ];
        for target in table {
            assert_eq!(parts("GET", target), None, "{target}");
        }
    }
}
