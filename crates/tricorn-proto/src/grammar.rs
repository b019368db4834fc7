//! Character classes of RFC 9110 and RFC 9112 as one table, and the scans over them.
//!
//! Invariant: every scan stops at the first byte outside its class, in time that is linear in the bytes before it.
use wide::u8x16;

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

/// Tells most names apart from those it was made of in a few instructions, by length and first letter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameFilter {
    /// A bit for each length, the highest for all from there on.
    lengths: u64,
    initials: u32,
}

impl NameFilter {
    pub(crate) const fn new() -> Self {
        NameFilter {
            lengths: 0,
            initials: 0,
        }
    }

    pub(crate) const fn with(self, name: &[u8]) -> Self {
        NameFilter {
            lengths: self.lengths | Self::length_bit(name),
            initials: self.initials | Self::initial_bit(name),
        }
    }

    /// `false`: `name` is none of them, in any case.
    #[inline(always)]
    pub(crate) const fn may_hold(self, name: &[u8]) -> bool {
        self.lengths & Self::length_bit(name) != 0 && self.initials & Self::initial_bit(name) != 0
    }

    #[inline(always)]
    const fn length_bit(name: &[u8]) -> u64 {
        1 << if name.len() < 63 { name.len() } else { 63 }
    }

    /// Both cases of a letter have the same low bits.
    #[inline(always)]
    const fn initial_bit(name: &[u8]) -> u32 {
        match name {
            [initial, ..] => 1 << (*initial & 31),
            [] => 0,
        }
    }
}

/// Bytes that are judged at once.
pub(crate) const BLOCK: usize = 16;

/// Which bytes of a block may not stand in a field value (a tab may, all the same): one bit each, the lowest for the first.
#[inline(always)]
pub(crate) fn outside_value(block: &[u8; BLOCK]) -> u32 {
    let bytes = u8x16::new(*block);
    let is_control = bytes.min(u8x16::splat(b' ' - 1)).simd_eq(bytes);
    (is_control | bytes.simd_eq(u8x16::splat(0x7f))).to_bitmask()
}

/// Which bytes of a block are no letters, digits or hyphens, as those of most names are.
#[inline(always)]
pub(crate) fn outside_usual_name(block: &[u8; BLOCK]) -> u32 {
    let bytes = u8x16::new(*block);
    let among = |offset: u8x16, count: u8| offset.min(u8x16::splat(count - 1)).simd_eq(offset);
    let is_letter = among((bytes | u8x16::splat(0x20)) - u8x16::splat(b'a'), 26);
    let is_digit = among(bytes - u8x16::splat(b'0'), 10);
    let usual = is_letter | is_digit | bytes.simd_eq(u8x16::splat(b'-'));
    usual.to_bitmask() ^ 0xffff
}

/// The first byte that `outside` marks, or the end. `None`: there is less than a block.
#[inline(always)]
pub(crate) fn scan(bytes: &[u8], outside: impl Fn(&[u8; BLOCK]) -> u32) -> Option<usize> {
    let (blocks, _) = bytes.as_chunks();
    for (index, block) in blocks.iter().enumerate() {
        let marks = outside(block);
        if marks != 0 {
            return Some(index * BLOCK + marks.trailing_zeros() as usize);
        }
    }
    // The last block, some of it for the second time: its first bytes are not marked.
    let last = outside(bytes.last_chunk()?);
    let place = (last.trailing_zeros() as usize).min(BLOCK);
    Some(bytes.len() - BLOCK + place)
}

/// How many leading bytes may stand in a request target. `None`: there is less than a block.
#[inline(always)]
pub(crate) fn target_run(bytes: &[u8]) -> Option<usize> {
    scan(bytes, |block| {
        outside_target(u8x16::new(*block)).to_bitmask()
    })
}

/// As `target_run`, up to the `?` or `#` that ends a path.
#[inline(always)]
pub(crate) fn path_run(bytes: &[u8]) -> Option<usize> {
    scan(bytes, |block| {
        let bytes = u8x16::new(*block);
        let is = |byte: u8| bytes.simd_eq(u8x16::splat(byte));
        (outside_target(bytes) | is(b'?') | is(b'#')).to_bitmask()
    })
}

/// Which of them are not visible ASCII.
#[inline(always)]
fn outside_target(bytes: u8x16) -> u8x16 {
    let offset = bytes - u8x16::splat(b'!');
    !offset.min(u8x16::splat(b'~' - b'!')).simd_eq(offset)
}

/// How many leading bytes may stand in a field value.
#[inline]
pub(crate) fn value_run(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..) {
        at += match scan(rest, outside_value) {
            Some(place) => place,
            None => return at + run(rest, VALUE),
        };
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    at
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
    fn a_filter_holds_its_names_in_any_case() {
        let long = "x-".repeat(40);
        let names = ["host", "content-length", long.as_str()];
        let filter = names.iter().fold(NameFilter::new(), |filter, name| {
            filter.with(name.as_bytes())
        });
        for name in names {
            assert!(filter.may_hold(name.as_bytes()));
            assert!(filter.may_hold(name.to_ascii_uppercase().as_bytes()));
        }
        for other in ["", "hos", "accept", "user-agent", "sec-fetch-mode"] {
            assert!(!filter.may_hold(other.as_bytes()), "{other}");
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
