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

/// Are all bytes of that class? Without a branch for each.
#[inline]
fn are(bytes: &[u8], class: u8) -> bool {
    let common = |common: u8, &byte: &u8| common & CLASS[byte as usize];
    bytes.iter().fold(class, common) == class
}

#[inline]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && are(bytes, TOKEN)
}

/// May all of it stand in a field value?
#[inline]
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    match bytes.len() {
        0..BLOCK => are(bytes, VALUE),
        _ => value_run(bytes) == bytes.len(),
    }
}

/// Is `name`, which is a token, `known` in any case? `known` has lower-case letters and hyphens only, so one bit tells the
/// cases apart, and no other byte of a token differs in that bit alone.
#[inline(always)]
pub(crate) fn is_name(name: &[u8], known: &[u8]) -> bool {
    const WORD: usize = 8;
    let word = |bytes: &[u8; WORD]| u64::from_le_bytes(*bytes) | 0x2020_2020_2020_2020;
    if name.len() != known.len() {
        return false;
    }
    // The last word may overlap the one before it.
    let (Some(last), Some(known_last)) = (name.last_chunk(), known.last_chunk()) else {
        return name
            .iter()
            .zip(known)
            .all(|(byte, letter)| byte | 0x20 == *letter);
    };
    let (words, known_words) = (name.as_chunks().0, known.as_chunks().0);
    let mut same = word(last) == word(known_last);
    for (one, other) in words.iter().zip(known_words) {
        same &= word(one) == word(other);
    }
    same
}

/// Bytes that are judged at once; compilers turn the judgement into vector instructions.
const BLOCK: usize = 16;

/// The place of the first byte in the block for which `stops` holds; it must not branch.
#[inline(always)]
fn first_in_block(block: &[u8; BLOCK], stops: impl Fn(u8) -> bool) -> Option<usize> {
    // A plain loop, because `array::map` stays scalar.
    let mut marks = [0u8; BLOCK];
    for (mark, &byte) in marks.iter_mut().zip(block) {
        *mark = if stops(byte) { 0xff } else { 0 };
    }
    let (low, high) = marks.split_at(BLOCK / 2);
    for (half, offset) in [(low, 0), (high, BLOCK / 2)] {
        let half = <[u8; BLOCK / 2]>::try_from(half).map_or(0, u64::from_le_bytes);
        if half != 0 {
            return Some(offset + (half.trailing_zeros() / 8) as usize);
        }
    }
    None
}

/// How many leading bytes may stand in a field value.
#[inline]
pub(crate) fn value_run(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        let Some(place) = first_in_block(block, |byte| (byte < b' ') | (byte == 0x7f)) else {
            at += BLOCK;
            continue;
        };
        at += place;
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

/// The length of the name at the start of a field line, when a colon ends it, and whether it holds an underscore.
#[inline(always)]
fn name_before_colon(line: &[u8]) -> Option<(usize, bool)> {
    // Most names are letters, digits and hyphens; the table decides about the others.
    let usual = |byte: u8| {
        let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let is_digit = byte.wrapping_sub(b'0') < 10;
        is_letter | is_digit | (byte == b'-')
    };
    let mut at = 0;
    while let Some(block) = line.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        let Some(place) = first_in_block(block, |byte| !usual(byte)) else {
            at += BLOCK;
            continue;
        };
        at += place;
        if line.get(at) == Some(&b':') {
            return (at > 0).then_some((at, false));
        }
        break;
    }
    let mut classes = 0;
    for (at, &byte) in line.iter().enumerate().skip(at) {
        let class = CLASS[byte as usize];
        if class & TOKEN == 0 {
            return (byte == b':' && at > 0).then_some((at, classes & UNDERSCORE != 0));
        }
        classes |= class;
    }
    None
}

/// A well-formed field line that is there to its end.
pub(crate) struct FieldLine<'a> {
    pub name: &'a [u8],
    pub has_underscore: bool,
    pub value_start: usize,
    /// Without the blanks around it.
    pub value: &'a [u8],
    /// Of the whole line with its CRLF.
    pub len: usize,
}

/// The field line at the start of `bytes`; `None` for anything that is not one, or not wholly there.
#[inline(always)]
pub(crate) fn whole_field_line(bytes: &[u8]) -> Option<FieldLine<'_>> {
    let (name_len, has_underscore) = name_before_colon(bytes)?;
    let (name, rest) = bytes.split_at_checked(name_len)?;
    let mut blanks = 1;
    while rest.get(blanks).is_some_and(|&byte| is_blank(byte)) {
        blanks += 1;
    }
    let tail = rest.get(blanks..)?;
    let (value, end) = tail.split_at_checked(value_run(tail))?;
    let value_start = name_len + blanks;
    end.starts_with(b"\r\n").then(|| FieldLine {
        name,
        has_underscore,
        value_start,
        value: trim_end(value),
        len: value_start + value.len() + 2,
    })
}

/// Without SP and HTAB at both ends, and nothing else.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_blank(*first)
    {
        bytes = rest;
    }
    trim_end(bytes)
}

/// Without SP and HTAB at the end.
#[inline]
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
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
    fn checks_without_branches_agree_with_the_scans() {
        for byte in 0..=255u8 {
            for place in 0..20 {
                let mut text = [b'a'; 20];
                text[place] = byte;
                for len in [place + 1, 20] {
                    let text = &text[..len];
                    assert_eq!(is_token(text), run(text, TOKEN) == len, "{text:?}");
                    assert_eq!(is_value(text), run(text, VALUE) == len, "{text:?}");
                }
            }
        }
        assert!(!is_token(b"") && is_value(b""));
    }

    #[test]
    fn names_are_known_in_any_case_and_nothing_else_is() {
        for known in [
            "te",
            "server",
            "keep-alive",
            "content-length",
            "transfer-encoding",
            "proxy-authorization",
        ] {
            assert!(is_name(known.as_bytes(), known.as_bytes()));
            assert!(is_name(
                known.to_ascii_uppercase().as_bytes(),
                known.as_bytes()
            ));
            assert!(!is_name(&known.as_bytes()[1..], known.as_bytes()));
            for place in 0..known.len() {
                for byte in (0..=255u8).filter(|&byte| is(byte, TOKEN)) {
                    let mut name = known.as_bytes().to_vec();
                    name[place] = byte;
                    assert_eq!(
                        is_name(&name, known.as_bytes()),
                        name.eq_ignore_ascii_case(known.as_bytes()),
                        "{name:?}"
                    );
                }
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
