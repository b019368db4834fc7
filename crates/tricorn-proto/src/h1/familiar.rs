//! The field names that heads keep coming with: most peers of a server send the same ones in the same order.
//!
//! Not a cache of heads: each name is compared, byte for byte, with the one that had its place before, and what does not
//! match is taken apart as ever. Invariant: what a head comes to is the same with any memory.
use alloc::vec::Vec;
use core::num::NonZeroU64;

use wide::u8x16;

/// The longest name that is kept, with the colon and the blank behind it: that of nearly all names there are.
const LONGEST: usize = 32;
const HALF: usize = LONGEST / 2;
/// More names than this are not kept; browsers behind proxies send some 30.
const MOST: usize = 64;
/// So many heads in a row have to be strange before the next one is learned: peers that take turns would be learned
/// anew with each head otherwise, which costs more than it saves.
const PATIENCE: u8 = 8;

/// One for all connections of an engine, and for one policy.
#[derive(Clone, Debug, Default)]
pub struct Familiar {
    names: Vec<Name>,
    /// Counts the changes of `names`.
    changes: u64,
    /// Heads in a row that had other names.
    strange: u8,
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
    /// It may say something about the message itself.
    pub(crate) tells: bool,
}

impl Familiar {
    /// The first names, at most `most`.
    #[inline(always)]
    pub(crate) fn names(&self, most: usize) -> &[Name] {
        &self.names[..self.names.len().min(most)]
    }

    /// Is the head at hand to be learned, as far as it is strange?
    #[inline]
    pub(super) fn is_learning(&self) -> bool {
        self.strange >= PATIENCE
    }

    /// The name at the start of `line` comes at the place `index` from now on, behind those that were before it.
    /// `false`: it is none that can be kept.
    pub(crate) fn learn(
        &mut self,
        index: usize,
        line: &[u8],
        name_len: usize,
        tells: bool,
    ) -> bool {
        let has_blank = line.get(name_len + 1) == Some(&b' ');
        let len = name_len + 1 + usize::from(has_blank);
        let (Some(read), true) = (line.get(..len), index < MOST) else {
            return false;
        };
        let mut text = [[0; HALF]; 2];
        let Some(room) = text.as_flattened_mut().get_mut(..len) else {
            return false;
        };
        room.copy_from_slice(read);
        self.cut(index);
        self.names.push(Name {
            text,
            mask: u32::MAX >> (LONGEST - len),
            name_len,
            len,
            tells,
        });
        true
    }

    fn cut(&mut self, count: usize) {
        self.names.truncate(count);
        self.changes += 1;
    }

    /// A head of `count` fields has ended, each of which was at its place or was learned. Returns the mark of its names.
    #[inline]
    pub(super) fn recognize(&mut self, count: usize) -> Option<NonZeroU64> {
        if self.names.len() != count {
            if !self.is_learning() {
                self.wonder();
                return None;
            }
            self.cut(count);
        }
        self.strange = 0;
        NonZeroU64::new(self.changes)
    }

    /// A head had other names.
    #[inline]
    pub(super) fn wonder(&mut self) {
        self.strange = match self.is_learning() {
            // What could not be learned gives others their turn.
            true => 0,
            false => self.strange + 1,
        };
    }
}

impl Name {
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
mod tests {
    use super::*;

    fn learned(lines: &[&[u8]]) -> Familiar {
        let mut familiar = Familiar::default();
        for (index, line) in lines.iter().enumerate() {
            let name_len = line.iter().position(|&byte| byte == b':').expect("a colon");
            assert!(familiar.learn(index, line, name_len, false));
        }
        familiar
    }

    #[test]
    fn a_name_is_known_to_the_last_byte() {
        for len in 1..LONGEST - 1 {
            let mut line = alloc::vec![b'a'; len];
            line.extend_from_slice(
                b": value and enough of it to fill all the blocks that are read\r\n",
            );
            let familiar = learned(&[&line]);
            let known = familiar.names[0].clone();
            assert!(known.begins(&line));
            assert_eq!((known.name_len, known.len), (len, len + 2));
            for place in 0..len + 2 {
                let mut other = line.clone();
                other[place] ^= 0x20;
                assert!(!known.begins(&other), "{place} of {len}");
            }
            let mut other = line.clone();
            other[len + 2] = b'x';
            assert!(known.begins(&other), "the value is not looked at");
        }
    }

    #[test]
    fn a_line_may_end_where_its_name_does_and_not_before() {
        let long = b"Upgrade-Insecure-Requests: 1\r\n\r\n";
        let [host, long_name] = &learned(&[b"Host: a\r\n", long]).names[..] else {
            panic!("two names");
        };
        assert!(host.begins(b"Host: abcdefgh\r\n"));
        assert!(host.begins(b"Host: a\r\n"));
        assert!(!host.begins(b"Hosts: a\r\n") && !host.begins(b"Host:"));
        assert!(long_name.begins(long));
        assert!(long_name.begins(&long[..27]) && !long_name.begins(&long[..26]));
        assert!(!long_name.begins(b""));
    }

    #[test]
    fn a_colon_without_a_blank_belongs_to_the_name_as_well() {
        let host = &learned(&[b"Host:a and what follows\r\n"]).names[0];
        assert_eq!(host.len, 5);
        assert!(host.begins(b"Host:b and what follows\r\n"));
        assert!(host.begins(b"Host: b and what follows"));
    }

    #[test]
    fn names_too_long_or_too_many_are_not_kept() {
        let mut familiar = Familiar::default();
        let mut line = alloc::vec![b'a'; 31];
        line.extend_from_slice(b": b");
        assert!(!familiar.learn(0, &line, 31, false));
        assert!(familiar.learn(0, &line[1..], 30, false));
        assert!(!familiar.learn(MOST, &line[1..], 30, false));
        assert!(!familiar.learn(0, b"a", 1, false));
    }
}
