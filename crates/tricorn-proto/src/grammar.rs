//! Character classes of RFC 9110 and RFC 9112 as one table, and the scans over them.
//!
//! Invariant: every scan looks at each byte once and stops at the first byte outside its class.

/// `tchar` (RFC 9110, 5.6.2).
pub(crate) const TOKEN: u8 = 1;
/// `tchar` that a conventional method may hold: no lower case, no `#`.
pub(crate) const METHOD: u8 = 2;
pub(crate) const UNDERSCORE: u8 = 4;
/// Visible ASCII: what a request target may hold.
pub(crate) const TARGET: u8 = 8;
/// `field-vchar`, SP and HTAB.
pub(crate) const VALUE: u8 = 16;

pub(crate) static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let symbol = matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        if symbol || byte.is_ascii_alphanumeric() {
            table[index] |= TOKEN;
            if !byte.is_ascii_lowercase() && byte != b'#' {
                table[index] |= METHOD;
            }
        }
        if byte == b'_' {
            table[index] |= UNDERSCORE;
        }
        if byte.is_ascii_graphic() {
            table[index] |= TARGET;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            table[index] |= VALUE;
        }
        index += 1;
    }
    table
}

#[inline(always)]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

/// How many leading bytes are of that class.
#[inline]
pub(crate) fn run(bytes: &[u8], class: u8) -> usize {
    bytes
        .iter()
        .position(|&byte| !is(byte, class))
        .unwrap_or(bytes.len())
}

#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && run(bytes, TOKEN) == bytes.len()
}

/// How many leading bytes may stand in a field value. Eight bytes a step: a byte below 0x20 or equal to 0x7f
/// sets its high bit in `stop`, and the lowest set bit is exact (borrows only travel upwards).
#[inline]
pub(crate) fn value_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some(word) = bytes.get(at..at + 8) {
        let Ok(word) = <[u8; 8]>::try_from(word) else {
            break;
        };
        let word = u64::from_le_bytes(word);
        let delete = word ^ (ONES * 0x7f);
        let stop = ((word.wrapping_sub(ONES * 0x20) & !word)
            | (delete.wrapping_sub(ONES) & !delete))
            & HIGHS;
        if stop == 0 {
            at += 8;
            continue;
        }
        at += (stop.trailing_zeros() / 8) as usize;
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    at + bytes.get(at..).map_or(0, |rest| run(rest, VALUE))
}

#[inline(always)]
pub(crate) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Without SP and HTAB at both ends, and nothing else.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}

/// A number of digits only.
///
/// Errors: `None` for no digits, another character, or more than 64 bits hold.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wide_scan_agrees_with_the_table_on_every_byte_at_every_place() {
        for byte in 0..=255u8 {
            for place in 0..20 {
                let mut text = [b'a'; 20];
                text[place] = byte;
                assert_eq!(
                    value_run(&text),
                    run(&text, VALUE),
                    "byte {byte:#x} at {place}"
                );
                text[(place + 3) % 20] = b'\t';
                text[(place + 5) % 20] = 0xff;
                assert_eq!(
                    value_run(&text),
                    run(&text, VALUE),
                    "byte {byte:#x} at {place} with neighbours"
                );
            }
        }
    }

    #[test]
    fn numbers_are_digits_and_fit() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for wrong in [
            &b"18446744073709551616"[..],
            b"",
            b"+1",
            b"-1",
            b"1_0",
            b"0x1",
            b"1 ",
            b"\xb2",
        ] {
            assert_eq!(decimal(wrong), None, "{wrong:?}");
        }
    }
}
