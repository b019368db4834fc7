//! The field lines of heads of one kind: the same names in the same order, and most of them with the same values.
//!
//! Not a cache of heads: each line is compared, byte for byte, with the one that had its place before, or else its name is,
//! and what does not match is taken apart as ever. Invariants: what a head comes to is the same with any memory; secrets are
//! never kept; the number of lines and their size are bounded.
use alloc::vec::Vec;

use wide::u8x16;

use crate::bytes::places;
use crate::grammar::BLOCK;
use crate::head::{Field, is_secret};
use crate::lines::FieldLine;
use crate::patience::Patience;

/// The longest name that is kept, with the colon and the blank behind it: that of nearly all names there are.
const LONGEST: usize = 32;
const HALF: usize = LONGEST / 2;
/// More lines than this are not kept, and there is a bit for each; browsers behind proxies send some 30.
const MOST: usize = u64::BITS as usize;
/// A longer line is kept without its value.
const LONGEST_LINE: usize = 256;
const CRLF: &[u8] = b"\r\n";

/// By default of heads without lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    names: Vec<Name>,
    /// One for each name.
    lines: Vec<Line>,
    /// The lines that are kept with their values, one behind the other.
    text: Vec<u8>,
    /// A bit for each line that may say something about the message itself.
    telling: u64,
    /// Another with each change of all this, and in each memory; 0 for one that has only begun.
    pub mark: u64,
    /// When a head of this kind came last.
    pub used: u64,
}

/// Places count from the first byte of `text`.
#[derive(Clone, Debug)]
struct Line {
    start: u32,
    /// Equal to `start` where the value is not kept.
    end: u32,
    field: Field,
    /// With the value that is kept.
    patience: Patience,
}

/// What came of familiar lines; a bit for each of them, the lowest for the first one.
#[derive(Default)]
pub(in crate::h1) struct Taken {
    /// Where they end.
    pub end: usize,
    /// They had the value that is kept.
    pub same: u64,
    /// They may say something about the message itself.
    pub telling: u64,
    /// They had another value than the one that is kept.
    pub missed: u64,
}

/// As it stood in the head, in either case.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    /// With the colon and the blank that were behind it.
    text: [[u8; HALF]; 2],
    /// A bit for each byte of `text`.
    mask: u32,
    pub(crate) name_len: usize,
    /// Colon and blank included.
    pub(crate) len: usize,
}

impl Memory {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Does the head that goes on with `rest` behind its first `count` lines go on with a line of this kind, or end like it?
    pub(super) fn goes_on(&self, count: usize, rest: &[u8]) -> bool {
        match self.names.get(count) {
            Some(name) => name.begins(rest),
            None => self.names.len() == count && rest.first() == Some(&b'\r'),
        }
    }

    /// Puts the lines that begin with familiar names, one behind the other from `at` on, into `fields`, which has none;
    /// no more than `most` lines, and none that is longer than `longest`.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        at: usize,
        (most, longest): (usize, usize),
        fields: &mut Vec<Field>,
    ) -> Taken {
        let most = self.lines.len().min(most);
        let mut taken = Taken {
            end: at,
            ..Taken::default()
        };
        loop {
            let index = fields.len();
            let lines = &mut self.lines[index..most];
            let unlike = again(lines, &self.text, bytes, &mut taken.end, fields);
            let (at, count) = (taken.end, fields.len());
            taken.same |= below(count) & !below(index);
            if count == most {
                break;
            }
            let (known, name) = (&self.lines[count], &self.names[count]);
            let value = at + name.len;
            let sound = if unlike >= value && known.start < known.end {
                // No further than the value that is kept.
                unlike.min(at + (known.end - known.start) as usize - CRLF.len())
            } else if name.begins(bytes.get(at..).unwrap_or(&[])) {
                value
            } else {
                break;
            };
            match FieldLine::familiar(bytes, at, name, sound) {
                Some(line) if line.end - at <= longest => {
                    fields.push(line.field(at));
                    taken.end = line.end;
                }
                _ => break,
            }
            taken.missed |= 1 << count;
        }
        taken.telling = self.telling & below(fields.len());
        taken
    }

    /// Lines of these places had another value than the one that is kept. Returns those of which it is time to keep another.
    #[inline]
    pub(super) fn note_missed(&mut self, missed: u64) -> u64 {
        let mut due = 0;
        for index in places(missed) {
            due |= u64::from(self.lines[index].patience.miss()) << index;
        }
        due
    }

    /// The line of `field`, a part of `bytes`, comes at the place `index` from now on, behind those that were before it.
    /// `false`: its name is none that can be kept.
    pub(super) fn learn(&mut self, index: usize, bytes: &[u8], field: Field, tells: bool) -> bool {
        let name_len = (field.name.end - field.name.start) as usize;
        let line = bytes.get(field.name.start as usize..).unwrap_or(&[]);
        let (Some(name), true) = (Name::of(line, name_len), index < MOST) else {
            return false;
        };
        self.cut(index);
        let end = self.text.len() as u32;
        self.names.push(name);
        self.lines.push(Line {
            start: end,
            end,
            field,
            patience: Patience::default(),
        });
        self.telling |= u64::from(tells) << index;
        self.hold(index, bytes, field);
        true
    }

    /// The line at the place `index`, whose name `field` has, comes with another value from now on. `false`: that is none
    /// that can be kept.
    pub(super) fn keep(&mut self, index: usize, bytes: &[u8], field: Field) -> bool {
        let Some(known) = self.lines.get_mut(index) else {
            return false;
        };
        known.patience.renew();
        self.hold(index, bytes, field)
    }

    /// Puts the line of `field` into `text`.
    fn hold(&mut self, index: usize, bytes: &[u8], field: Field) -> bool {
        let Some([known, behind @ ..]) = self.lines.get_mut(index..) else {
            return false;
        };
        let Some(line) = whole_line(bytes, field).filter(|line| line.len() <= LONGEST_LINE) else {
            return false;
        };
        if is_secret(&line[..self.names[index].name_len]) {
            return false;
        }
        let before = known.start as usize..known.end as usize;
        // Places that become smaller wrap around.
        let growth = (line.len() as u32).wrapping_sub(known.end - known.start);
        self.text.splice(before, line.iter().copied());
        known.end = known.end.wrapping_add(growth);
        known.field = field.moved(known.start.wrapping_sub(field.name.start));
        for line in behind {
            line.start = line.start.wrapping_add(growth);
            line.end = line.end.wrapping_add(growth);
            line.field = line.field.moved(growth);
        }
        true
    }

    /// Forgets all lines but the first `count`.
    pub(super) fn cut(&mut self, count: usize) {
        if let Some(first) = self.lines.get(count) {
            self.text.truncate(first.start as usize);
        }
        self.lines.truncate(count);
        self.names.truncate(count);
        self.telling &= below(count);
    }
}

/// Puts the first of `lines` that are wholly the same in `bytes`, one behind the other from `at` on, into `fields`, and
/// moves `at` behind them. Returns where `bytes` becomes unlike `text`. Not inlined: it needs all registers for itself.
#[inline(never)]
fn again(
    lines: &mut [Line],
    text: &[u8],
    bytes: &[u8],
    at: &mut usize,
    fields: &mut Vec<Field>,
) -> usize {
    let from = lines.first().map_or(0, |line| line.start);
    let kept = text.get(from as usize..).unwrap_or(&[]);
    let common = common(kept, bytes.get(*at..).unwrap_or(&[]));
    let unlike = *at + common;
    let reach = from + common as u32;
    let is_same = |line: &&Line| line.end <= reach && line.start < line.end;
    let count = lines.iter().take_while(is_same).count();
    let distance = (*at as u32).wrapping_sub(from);
    let lines = &mut lines[..count];
    fields.extend(lines.iter_mut().map(|line| {
        line.patience.hit();
        line.field.moved(distance)
    }));
    if let Some(last) = lines.last() {
        *at = last.end.wrapping_add(distance) as usize;
    }
    unlike
}

/// How many bytes both begin with.
#[inline(always)]
fn common(one: &[u8], other: &[u8]) -> usize {
    const PAIR: usize = 2 * BLOCK;
    // A bit for each byte that differs.
    let unlike = |one: &[u8; BLOCK], other: &[u8; BLOCK]| {
        let same = u8x16::new(*one).simd_eq(u8x16::new(*other));
        same.to_bitmask() ^ u32::from(u16::MAX)
    };
    let unlike_pair =
        |(one, other): (&[u8; PAIR], &[u8; PAIR])| match (one.as_chunks().0, other.as_chunks().0) {
            ([a, b], [c, d]) => unlike(a, c) | unlike(b, d) << BLOCK,
            _ => 0,
        };
    let length = one.len().min(other.len());
    let (one, other) = (&one[..length], &other[..length]);
    for (index, pair) in (one.as_chunks().0.iter().zip(other.as_chunks().0)).enumerate() {
        let bits = unlike_pair(pair);
        if bits != 0 {
            return index * PAIR + bits.trailing_zeros() as usize;
        }
    }
    // The rest, from both ends: where they overlap, or what was compared before, is the same.
    let ends = one.first_chunk().zip(other.first_chunk());
    let ends = ends.zip(one.last_chunk().zip(other.last_chunk()));
    match (length, ends) {
        (PAIR.., _) => {
            let last = one.last_chunk().zip(other.last_chunk());
            length - PAIR + last.map_or(0, unlike_pair).trailing_zeros() as usize
        }
        (_, Some(((a, c), (b, d)))) => {
            let bits = unlike(a, c) | unlike(b, d) << (length - BLOCK);
            bits.trailing_zeros().min(length as u32) as usize
        }
        _ => one.iter().zip(other).take_while(|(a, b)| a == b).count(),
    }
}

/// A bit for each of the first `count` lines.
#[inline(always)]
fn below(count: usize) -> u64 {
    1u64.checked_shl(count as u32)
        .map_or(u64::MAX, |bit| bit - 1)
}

/// With its CRLF; `None` where there are blanks behind the value.
fn whole_line(bytes: &[u8], field: Field) -> Option<&[u8]> {
    let line = bytes.get(field.name.start as usize..field.value.end as usize + CRLF.len())?;
    line.ends_with(CRLF).then_some(line)
}

impl Name {
    /// `None`: it is too long.
    pub(crate) fn of(line: &[u8], name_len: usize) -> Option<Name> {
        let has_blank = line.get(name_len + 1) == Some(&b' ');
        let len = name_len + 1 + usize::from(has_blank);
        let mut text = [[0; HALF]; 2];
        text.as_flattened_mut()
            .get_mut(..len)?
            .copy_from_slice(line.get(..len)?);
        Some(Name {
            text,
            mask: u32::MAX >> (LONGEST - len),
            name_len,
            len,
        })
    }

    #[inline(always)]
    pub(crate) fn begins(&self, line: &[u8]) -> bool {
        let same = |text: &[u8; HALF], read: &[u8; HALF]| {
            u8x16::new(*text).simd_eq(u8x16::new(*read)).to_bitmask()
        };
        let [text, more] = &self.text;
        let rest = line.get(HALF..).and_then(|tail| tail.first_chunk());
        let (Some(read), Some(rest)) = (line.first_chunk(), rest) else {
            return self.begins_short(line);
        };
        let bits = same(text, read) | same(more, rest) << HALF;
        bits & self.mask == self.mask
    }

    /// The last line of a head may be too short to be compared in blocks.
    #[inline(never)]
    fn begins_short(&self, line: &[u8]) -> bool {
        let text = self.text.as_flattened().get(..self.len);
        line.get(..self.len) == text
    }
}

#[cfg(test)]
mod tests;
