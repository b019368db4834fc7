//! Shared memory made before the first fork: per worker state, heartbeat, counters, in-flight requests.
//!
//! Not a message channel: every field is one atomic that a single side writes (the worker its slot, the
//! arbiter its own words) and anybody reads, also after the worker has died. Nothing here blocks,
//! allocates after `create`, or reads a clock: times are monotonic milliseconds given by the caller.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod map;
mod record;
mod slot;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

pub use record::{InFlight, METHOD_BYTES, TARGET_BYTES};
pub use slot::{IN_FLIGHT_RECORDS, Slot, State};

/// The words that belong to the arbiter; alone on their cache line.
#[repr(C, align(128))]
#[derive(Debug)]
struct Header {
    stopping: AtomicU32,
    workers: AtomicU32,
    /// Slots up to here have been claimed at some time; none behind.
    reach: AtomicU32,
}

/// One mapping, shared by the arbiter and every process it forks.
#[derive(Debug)]
pub struct Scoreboard {
    header: &'static Header,
    slots: &'static [Slot],
}

impl Scoreboard {
    /// Maps room for `slots` workers; it stays mapped until the process ends.
    ///
    /// Errors: whatever the kernel says to the mapping; `InvalidInput` for no slots at all.
    pub fn create(slots: usize) -> io::Result<&'static Scoreboard> {
        let header = map::shared_header()?;
        let slots = map::shared_slots(slots)?;
        Ok(Box::leak(Box::new(Scoreboard { header, slots })))
    }

    /// How many workers fit.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Never true: an empty mapping is refused.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Panics: when `index` is not below `len()`.
    pub fn slot(&self, index: usize) -> &'static Slot {
        &self.slots[index]
    }

    /// Takes the first free slot for a worker about to be forked; `None` when there is none. Only the arbiter does.
    pub fn claim(&self, now_ms: u64) -> Option<&'static Slot> {
        let index = self
            .slots
            .iter()
            .position(|slot| slot.state() == State::Free)?;
        let slot = &self.slots[index];
        slot.claim(now_ms);
        self.header
            .reach
            .fetch_max(index as u32 + 1, Ordering::Relaxed);
        Some(slot)
    }

    /// All slots that have ever been claimed, in order. There is room for many more, each on pages of its own, which a mere look
    /// would take from the system.
    pub fn slots(&self) -> &'static [Slot] {
        &self.slots[..self.header.reach.load(Ordering::Relaxed) as usize]
    }

    /// Whether the arbiter is shutting down gracefully: no sibling will take what is left in the accept
    /// queue, so a worker empties it before it leaves the accept set.
    pub fn stopping(&self) -> bool {
        self.header.stopping.load(Ordering::Acquire) != 0
    }

    /// How many workers there are. Written by the arbiter, so the dead do not count for long.
    pub fn workers(&self) -> usize {
        self.header.workers.load(Ordering::Relaxed) as usize
    }

    pub fn set_workers(&self, count: usize) {
        self.header.workers.store(count as u32, Ordering::Relaxed);
    }

    /// Says so; there is no way back.
    pub fn set_stopping(&self) {
        self.header.stopping.store(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_starts_with_free_slots_and_nobody_stopping() {
        let board = Scoreboard::create(3).unwrap();
        assert_eq!(board.len(), 3);
        let is_free = |index| {
            let slot = board.slot(index);
            slot.state() == State::Free && !slot.accepting()
        };
        assert!((0..3).all(is_free) && board.slots().is_empty());
        assert!(!board.stopping());
        board.set_stopping();
        assert!(board.stopping());
    }

    #[test]
    fn the_first_free_slot_is_taken_and_nobody_looks_behind_the_last_one() {
        let board = Scoreboard::create(3).unwrap();
        let [first, second] = [0, 1].map(|_| board.claim(1).expect("room"));
        assert!(core::ptr::eq(first, board.slot(0)) && core::ptr::eq(second, board.slot(1)));
        assert_eq!(board.slots().len(), 2);
        first.free();
        assert!(core::ptr::eq(board.claim(2).expect("room"), first));
        assert_eq!(board.slots().len(), 2);
        assert!(board.claim(3).is_some() && board.claim(4).is_none());
        assert_eq!(board.slots().len(), 3);
    }

    #[test]
    fn a_mapping_without_slots_is_refused() {
        assert_eq!(
            Scoreboard::create(0).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn slots_lie_on_their_own_cache_lines() {
        let board = Scoreboard::create(2).unwrap();
        let distance = &raw const *board.slot(1) as usize - &raw const *board.slot(0) as usize;
        assert_eq!(distance % 128, 0);
        assert_eq!(&raw const *board.slot(0) as usize % 128, 0);
    }
}
