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

    /// Every slot, in order.
    pub fn slots(&self) -> &'static [Slot] {
        self.slots
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
        assert!(
            board
                .slots()
                .iter()
                .all(|slot| slot.state() == State::Free && !slot.accepting())
        );
        assert!(!board.stopping());
        board.set_stopping();
        assert!(board.stopping());
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
