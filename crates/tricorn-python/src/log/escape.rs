//! Makes bytes of a peer fit for a log line.
//!
//! Invariant: what is written is UTF-8 without control characters, and a `"` in it always follows an
//! odd number of backslashes. Source: Gunicorn's SafeAtoms, hardened against log injection.

/// Write latin-1 `bytes` as UTF-8: quotes get a backslash, control characters become `\xNN`.
///
/// Shape: `at_end` says that the value ends here; backslashes at the end or before a quote are doubled
/// because they would undo the escape of the quote that follows.
pub fn latin1(out: &mut Vec<u8>, bytes: &[u8], at_end: bool) {
    // Nearly every value is clean; without an early exit the compiler looks at many bytes at once.
    if !bytes
        .iter()
        .fold(false, |found, &byte| found | is_special(byte))
    {
        out.extend_from_slice(bytes);
        return;
    }
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| is_special(byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => {
                let run = rest[at..].iter().take_while(|&&byte| byte == b'\\').count();
                let next = rest.get(at + run).copied();
                let doubled = next == Some(b'"') || (next.is_none() && at_end);
                out.resize(out.len() + if doubled { 2 * run } else { run }, b'\\');
                rest = &rest[at + run..];
                continue;
            }
            byte @ 0xa0.. => out.extend_from_slice(&[0xc0 | (byte >> 6), 0x80 | (byte & 0x3f)]),
            byte => hex(out, byte),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// As [`latin1`], for a whole value that is text already.
pub fn text(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let width = character.len_utf8();
        match character {
            // One byte of latin-1 at a time would split the run of backslashes.
            '\\' => {
                let run = rest.bytes().take_while(|&byte| byte == b'\\').count();
                let next = rest[run..].chars().next();
                let doubled = matches!(next, None | Some('"'));
                out.resize(out.len() + if doubled { 2 * run } else { run }, b'\\');
                rest = &rest[run..];
                continue;
            }
            '\u{2028}' => out.extend_from_slice(b"\\u2028"),
            '\u{2029}' => out.extend_from_slice(b"\\u2029"),
            '"' => out.extend_from_slice(b"\\\""),
            _ if character.is_control() => hex(out, character as u8),
            _ => out.extend_from_slice(&rest.as_bytes()[..width]),
        }
        rest = &rest[width..];
    }
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\' || byte >= 0x7f
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS[usize::from(nibble)];
    out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 0xf)]);
}
