//! Whole field lines, at full speed: well-formed and wholly there, or none at all.
//!
//! Not the automaton, which says what is wrong with the others. Source: RFC 9112, 5.
use core::ops::Range;

use crate::grammar::{
    BLOCK, CLASS, TOKEN, UNDERSCORE, outside_usual_name, outside_value, scan, trim, trim_end,
    value_run,
};
use crate::h1::Name;
use crate::head::{Field, Span};

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

impl FieldLine {
    /// The line that begins with `name` at `at`; its value is known to be well-formed up to `sound`, at least.
    #[inline(always)]
    pub(crate) fn familiar(bytes: &[u8], at: usize, name: &Name, sound: usize) -> Option<Self> {
        let raw_end = sound + value_run(bytes.get(sound..)?);
        match bytes.get(raw_end..)?.first_chunk()? {
            b"\r\n" => Self::around(bytes, at + name.name_len, at + name.len..raw_end, false),
            _ => None,
        }
    }

    /// The line whose name ends at `name_end`; `raw`: its value, which may have blanks around it.
    #[inline(always)]
    fn around(
        bytes: &[u8],
        name_end: usize,
        raw: Range<usize>,
        has_underscore: bool,
    ) -> Option<Self> {
        let end = raw.end + 2;
        let value = bytes.get(raw.clone())?;
        let (before, behind) = match (value.first(), value.last()) {
            // Neither blank nor tab: what else may stand in a value is larger than both.
            (Some(b'!'..), Some(b'!'..)) => (0, 0),
            _ => blanks_around(value),
        };
        Some(FieldLine {
            name_end,
            has_underscore,
            value_start: raw.start + before,
            value_end: raw.end - behind,
            end,
        })
    }

    /// `at`: the line's first byte.
    #[inline(always)]
    pub(crate) fn field(&self, at: usize) -> Field {
        let span = |start: usize, end: usize| Span {
            start: start as u32,
            end: end as u32,
        };
        Field {
            name: span(at, self.name_end),
            value: span(self.value_start, self.value_end),
        }
    }
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

    #[inline(always)]
    pub(crate) fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        self.bytes.get(start..end).unwrap_or(&[])
    }

    /// The line that begins at `at`, which is not before one that was asked for earlier.
    #[inline(always)]
    pub(crate) fn at(&mut self, at: usize) -> Option<FieldLine> {
        let (name_len, has_underscore) = name_before_colon(self.bytes.get(at..).unwrap_or(&[]))?;
        let name_end = at + name_len;
        let raw = name_end + 1..self.end_of_value(name_end + 1)?;
        FieldLine::around(self.bytes, name_end, raw, has_underscore)
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

    /// Values of the lines one behind the other, as long as they are lines.
    fn values(bytes: &[u8]) -> Vec<&[u8]> {
        let name = |line: &[u8]| Name::of(line, 1).expect("it is short");
        let names = (&name(b"a: b"), &name(b"a:b"));
        let [any, known] = [None, Some(names)].map(|names| {
            let (mut lines, mut at, mut values) = (Lines::new(bytes), 0, Vec::new());
            while let Some(line) = match names {
                Some((spaced, bare)) => [spaced, bare].into_iter().find_map(|name| {
                    let begins = name.begins(bytes.get(at..)?);
                    let sound = at + name.len;
                    begins.then(|| FieldLine::familiar(bytes, at, name, sound))?
                }),
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
