//! The kinds of heads that keep coming: most peers of a server send the same names in the same order, and most of them with
//! the same values.
//!
//! Peers of several kinds take turns: browsers, what they load, proxies, health checks. Each kind has a memory of its lines,
//! and a head that is unlike the one before is compared with those that go on as it does. Invariants: what a head comes to is
//! the same whatever came before; the number of memories is bounded, so that peers can only push one another's out.
mod memory;

use alloc::vec::Vec;
use core::num::NonZeroU64;

use self::memory::Memory;
pub(crate) use self::memory::Name;
pub(super) use self::memory::Taken;
use crate::head::{Field, Known};

/// Each takes some 4 KiB; a head that is like none costs a look at each. There is a bit for each in a `u16`.
const MEMORIES: usize = 16;
/// So many heads have to be strange before the next one is learned: what comes once would be learned all the time otherwise,
/// which costs more than it saves.
const PATIENCE: u8 = 8;

/// One for all connections of an engine, and for one policy.
#[derive(Clone, Debug, Default)]
pub struct Familiar {
    memories: Vec<Memory>,
    /// The place of the memory that the last head was like: the next one is likely of the same client or its like.
    current: usize,
    /// Heads that were like none since the last one was learned.
    strange: u8,
    /// Counts the heads that were like one.
    clock: u64,
    /// Counts the changes of all memories.
    changes: u64,
}

impl Familiar {
    /// Puts the lines that begin with familiar names, one behind the other from `at` on, into `fields`, which has none;
    /// `limits`: the most lines, and the longest one. Returns with them a bit for each line of which it is
    /// time to keep the value that it has now.
    #[inline(never)]
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        at: usize,
        limits: (usize, usize),
        fields: &mut Vec<Field>,
    ) -> (Taken, u64) {
        let mut tried = 0u16;
        while let Some(memory) = self.memories.get_mut(self.current) {
            let taken = memory.take(bytes, at, limits, fields);
            let rest = bytes.get(taken.end..).unwrap_or(&[]);
            let is_like = memory.len() == fields.len() && rest.first() == Some(&b'\r');
            tried |= 1 << self.current;
            let other = match is_like {
                true => None,
                false => self.other(tried, fields.len(), rest),
            };
            let Some(other) = other else {
                let due = self.memories[self.current].note_missed(taken.missed);
                return (taken, due);
            };
            self.current = other;
            fields.clear();
        }
        let taken = Taken {
            end: at,
            ..Taken::default()
        };
        (taken, 0)
    }

    /// The place of a memory, none of those that were `tried`, which goes on behind `count` lines as the head does.
    #[inline(never)]
    fn other(&self, tried: u16, count: usize, rest: &[u8]) -> Option<usize> {
        let mut places = 0..self.memories.len();
        places.find(|&place| tried >> place & 1 == 0 && self.memories[place].goes_on(count, rest))
    }

    /// Is the head at hand, whose first `count` lines are familiar, to be learned? It has a memory of its own then.
    pub(super) fn begins_to_learn(&mut self, count: usize) -> bool {
        if self.strange < PATIENCE {
            return false;
        }
        self.strange = 0;
        let mut learned = self.memories.get(self.current).cloned().unwrap_or_default();
        learned.cut(count);
        // What turns out not to be learnable is the first to go.
        learned.used = 0;
        let places = self.memories.iter().enumerate();
        let oldest = places.min_by_key(|(_, memory)| memory.used);
        self.current = match oldest {
            Some((place, memory)) if memory.used == 0 || self.memories.len() == MEMORIES => place,
            _ => {
                self.memories.push(Memory::default());
                self.memories.len() - 1
            }
        };
        self.memories[self.current] = learned;
        self.change(|_| true)
    }

    /// See [`Memory::learn`].
    pub(super) fn learn(&mut self, index: usize, bytes: &[u8], field: Field, tells: bool) -> bool {
        self.change(|memory| memory.learn(index, bytes, field, tells))
    }

    /// See [`Memory::keep`].
    pub(super) fn keep(&mut self, index: usize, bytes: &[u8], field: Field) {
        self.change(|memory| memory.keep(index, bytes, field));
    }

    /// `change` says whether there was one.
    fn change(&mut self, change: impl FnOnce(&mut Memory) -> bool) -> bool {
        let memory = self.memories.get_mut(self.current);
        memory.is_some_and(|memory| {
            let changed = change(memory);
            if changed {
                self.changes += 1;
                memory.mark = self.changes;
            }
            changed
        })
    }

    /// A head of `count` fields has ended, each of which was at its place or was learned. `same`: a bit for each that had
    /// the value that is kept.
    #[inline]
    pub(super) fn recognize(&mut self, count: usize, same: u64) -> Option<Known> {
        let lines = self.memories.get(self.current).map(Memory::len);
        if lines != Some(count) && !self.begins_to_learn(count) {
            self.wonder();
            return None;
        }
        self.clock += 1;
        let memory = self.memories.get_mut(self.current)?;
        memory.used = self.clock;
        NonZeroU64::new(memory.mark).map(|mark| Known { mark, same })
    }

    /// A head was like none.
    #[inline]
    pub(super) fn wonder(&mut self) {
        self.strange = self.strange.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
