//! Whole field lines, at full speed: well-formed and wholly there, or none at all.
//!
//! Not the automaton, which says what is wrong with the others. Source: RFC 9112, 5.
use crate::grammar::{
    BLOCK, CLASS, TOKEN, UNDERSCORE, outside_usual_name, outside_value, scan, trim, trim_end,
    value_run,
};
use crate::h1::Name;

/// All places count from the first byte of what [`Lines`] was made of.
pub(crate) struct FieldLine {
    pub name_end: usize,
    pub has_underscore: bool,
    /// Without the blanks around it.
    pub value_start: usize,
    pub value_end: usize,
    /// Behind the CRLF.
    pub end: usize,
}

/// Control characters are sought in so many bytes at once, and a bit tells of each.
const WINDOW: usize = 4 * BLOCK;

/// Takes one line after another.
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    /// The control characters before `seen`, as far as a window reaches, in the order of the bytes.
    marks: u64,
    seen: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Lines<'a> {
        Lines {
            bytes,
            marks: 0,
            seen: 0,
        }
    }

    /// What there is from `at` on.
    #[inline(always)]
    pub(crate) fn rest(&self, at: usize) -> &'a [u8] {
        self.bytes.get(at..).unwrap_or(&[])
    }

    #[inline(always)]
    pub(crate) fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        self.bytes.get(start..end).unwrap_or(&[])
    }

    /// The line that begins at `at`, which is not before one that was asked for earlier.
    #[inline(always)]
    pub(crate) fn at(&mut self, at: usize) -> Option<FieldLine> {
        let (name_len, has_underscore) = name_before_colon(self.rest(at))?;
        let name_end = at + name_len;
        let line = self.behind_name(name_end, name_end + 1)?;
        Some(FieldLine {
            has_underscore,
            ..line
        })
    }

    /// As `at`, when the line begins with `name`.
    #[inline(always)]
    pub(crate) fn familiar(&mut self, at: usize, name: &Name) -> Option<FieldLine> {
        if !name.begins(self.bytes.get(at..)?) {
            return None;
        }
        self.behind_name(at + name.name_len, at + name.len)
    }

    /// The line whose name ends at `name_end`, and whose value may have blanks around it from `raw_start` on.
    #[inline(always)]
    fn behind_name(&mut self, name_end: usize, raw_start: usize) -> Option<FieldLine> {
        let raw_end = self.end_of_value(raw_start)?;
        let raw = self.bytes.get(raw_start..raw_end)?;
        let (before, behind) = match (raw.first(), raw.last()) {
            // Neither blank nor tab: what else may stand in a value is larger than both.
            (Some(b'!'..), Some(b'!'..)) => (0, 0),
            _ => blanks_around(raw),
        };
        Some(FieldLine {
            name_end,
            has_underscore: false,
            value_start: raw_start + before,
            value_end: raw_end - behind,
            end: raw_end + 2,
        })
    }

    /// The place of the CRLF behind a value; `None` when something else ends it.
    #[inline(always)]
    fn end_of_value(&mut self, start: usize) -> Option<usize> {
        let mut at = start;
        loop {
            at = self.next_control(at)?;
            match self.bytes.get(at..)?.first_chunk()? {
                b"\r\n" => return Some(at),
                [b'\t', _] => at += 1,
                _ => return None,
            }
        }
    }

    #[inline(always)]
    fn next_control(&mut self, mut at: usize) -> Option<usize> {
        loop {
            if at < self.seen {
                let marks = self.marks >> (at + WINDOW - self.seen);
                if marks != 0 {
                    return Some(at + marks.trailing_zeros() as usize);
                }
                at = self.seen;
            }
            let Some(last) = self.bytes.len().checked_sub(WINDOW) else {
                let tail = self.bytes.get(at..)?;
                return Some(at + value_run(tail)).filter(|&end| end < self.bytes.len());
            };
            // The last window may begin before `at`.
            let start = at.min(last);
            if at >= self.bytes.len() {
                return None;
            }
            let window: &[u8; WINDOW] = self.bytes.get(start..)?.first_chunk()?;
            self.seen = start + WINDOW;
            self.marks = controls(window);
        }
    }
}

#[inline(never)]
fn blanks_around(raw: &[u8]) -> (usize, usize) {
    let value = trim(raw);
    if value.is_empty() {
        return (raw.len(), 0);
    }
    let behind = raw.len() - trim_end(raw).len();
    (raw.len() - behind - value.len(), behind)
}

/// Where a field value would end, or have a tab.
#[inline(always)]
fn controls(window: &[u8; WINDOW]) -> u64 {
    let (blocks, _) = window.as_chunks();
    let marks = blocks.iter().map(|block| u64::from(outside_value(block)));
    marks.rev().fold(0, |below, marks| below << BLOCK | marks)
}

/// The length of the name at the start of a field line, when a colon ends it, and whether it holds an underscore.
#[inline(always)]
fn name_before_colon(line: &[u8]) -> Option<(usize, bool)> {
    // The table decides about the unusual ones.
    let at = scan(line, outside_usual_name).unwrap_or(0);
    if at > 0 && line.get(at) == Some(&b':') {
        return Some((at, false));
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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::h1::Familiar;

    /// Values of the lines one behind the other, as long as they are lines.
    fn values(bytes: &[u8]) -> Vec<&[u8]> {
        let mut familiar = Familiar::default();
        assert!(familiar.learn(0, b"a: b", 1, false) && familiar.learn(1, b"a:b", 1, false));
        let [spaced, bare] = familiar.names(2) else {
            panic!("two names");
        };
        let [any, known] = [None, Some([spaced, bare])].map(|names| {
            let (mut lines, mut at, mut values) = (Lines::new(bytes), 0, Vec::new());
            while let Some(line) = match names {
                Some([spaced, _]) if spaced.begins(lines.rest(at)) => lines.familiar(at, spaced),
                Some([_, bare]) => lines.familiar(at, bare),
                None => lines.at(at),
            } {
                assert_eq!(lines.slice(at, line.name_end), b"a");
                values.push(lines.slice(line.value_start, line.value_end));
                at = line.end;
            }
            values
        });
        assert_eq!(any, known);
        any
    }

    #[test]
    fn lines_of_all_lengths_are_found_wherever_windows_end() {
        for behind in [0, 1, 15, 16, 63, 64, 65, 200] {
            for length in 0..150 {
                for blanks in ["", " ", "\t", " \t  "] {
                    let value = "v".repeat(length);
                    let line = alloc::format!("a:{blanks}{value}{blanks}\r\n");
                    let rest = "x".repeat(behind);
                    let bytes = alloc::format!("{line}{line}{line}\r{rest}");
                    let found = values(bytes.as_bytes());
                    assert_eq!(found, [value.as_bytes(); 3], "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn every_byte_at_every_place_ends_a_value_or_does_not() {
        for byte in 0..=255u8 {
            for place in 0..80 {
                let mut value = [b'v'; 80];
                value[place] = byte;
                let line = [b"a:".as_slice(), &value, b"\r\n"].concat();
                let bytes = [line.as_slice(), b"a:last\r\n"].concat();
                let stands = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
                let found = values(&bytes);
                assert_eq!(found.len(), if stands { 2 } else { 0 }, "{byte} at {place}");
                if let [first, _] = found[..] {
                    assert_eq!(first, trim(&value));
                }
            }
        }
    }
}
