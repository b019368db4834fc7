//! What one worker tells about itself.
//!
//! Invariant: between `claim` (by the arbiter, before the fork) and the worker's death only the worker
//! writes its slot; the arbiter reads, and frees the slot once the worker has been reaped.
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::record::{InFlight, Record};

/// Requests a worker can have on record at once; more are served all the same, unrecorded.
pub const IN_FLIGHT_RECORDS: usize = 64;

/// Where a worker is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Nobody's slot.
    Free = 0,
    /// Forked, its application not loaded yet.
    Booting = 1,
    /// Its application is loaded and it accepts.
    Ready = 2,
    /// Ready, and the application is being called.
    Busy = 3,
    /// Told to leave: it finishes what it has.
    Draining = 4,
}

/// One worker's words, on cache lines of their own.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Slot {
    state: AtomicU32,
    accepting: AtomicU32,
    last_beat_ms: AtomicU64,
    requests: AtomicU64,
    passed: AtomicU64,
    taken: AtomicU64,
    /// Bit n: record n is in use.
    claimed: AtomicU64,
    newcomers: AtomicU64,
    records: [Record; IN_FLIGHT_RECORDS],
}

impl Slot {
    /// Takes the slot for a worker about to be forked: booting, its heart beating from now on.
    pub(crate) fn claim(&self, now_ms: u64) {
        self.accepting.store(0, Ordering::Relaxed);
        for counter in [&self.requests, &self.passed, &self.taken, &self.newcomers] {
            counter.store(0, Ordering::Relaxed);
        }
        self.claimed.store(0, Ordering::Relaxed);
        self.last_beat_ms.store(now_ms, Ordering::Relaxed);
        self.set_state(State::Booting);
    }

    /// Gives the slot back once its worker has been reaped.
    pub fn free(&self) {
        self.set_accepting(false);
        self.claimed.store(0, Ordering::Relaxed);
        self.set_state(State::Free);
    }

    /// The worker's heart beats. Units: monotonic milliseconds.
    pub fn beat(&self, now_ms: u64) {
        self.last_beat_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When it last did. Units: monotonic milliseconds.
    pub fn last_beat(&self) -> u64 {
        self.last_beat_ms.load(Ordering::Relaxed)
    }

    pub fn set_state(&self, state: State) {
        self.state.store(state as u32, Ordering::Release);
    }

    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            1 => State::Booting,
            2 => State::Ready,
            3 => State::Busy,
            4 => State::Draining,
            _ => State::Free,
        }
    }

    /// Whether the worker takes connections from the listeners.
    pub fn set_accepting(&self, accepting: bool) {
        self.accepting
            .store(u32::from(accepting), Ordering::Release);
    }

    pub fn accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire) != 0
    }

    /// How many connections the worker has taken from the listeners, compared with the others.
    pub fn newcomers(&self) -> u64 {
        self.newcomers.load(Ordering::Relaxed)
    }

    pub fn set_newcomers(&self, newcomers: u64) {
        self.newcomers.store(newcomers, Ordering::Relaxed);
    }

    /// Counts a request that begins; returns how many that makes.
    pub fn add_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Requests begun since the worker was forked.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts a request that went to an idle sibling.
    pub fn add_passed(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests passed to siblings since the worker was forked.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Counts a request that came from a busy sibling.
    pub fn add_taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests taken over from siblings since the worker was forked.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Puts a request on record; `None` when every record is in use.
    ///
    /// Units: `now_ms` in monotonic milliseconds. Lock-free; safe from several threads at once.
    pub fn begin_request(&self, method: &[u8], target: &[u8], now_ms: u64) -> Option<usize> {
        let mut claimed = self.claimed.load(Ordering::Relaxed);
        loop {
            let index = claimed.trailing_ones() as usize;
            if index == IN_FLIGHT_RECORDS {
                return None;
            }
            let wanted = claimed | 1 << index;
            match self.claimed.compare_exchange_weak(
                claimed,
                wanted,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    self.records[index].fill(method, target, now_ms);
                    return Some(index);
                }
                Err(seen) => claimed = seen,
            }
        }
    }

    /// Takes a request off the record. Panics: never; an index out of range is ignored.
    pub fn end_request(&self, index: usize) {
        if index < IN_FLIGHT_RECORDS {
            self.claimed.fetch_and(!(1 << index), Ordering::Release);
        }
    }

    /// How many requests are on record.
    pub fn in_flight(&self) -> usize {
        self.claimed.load(Ordering::Acquire).count_ones() as usize
    }

    /// The requests on record, those being written at this moment left out.
    pub fn requests_in_flight(&self) -> Vec<InFlight> {
        let claimed = self.claimed.load(Ordering::Acquire);
        (0..IN_FLIGHT_RECORDS)
            .filter(|index| claimed & 1 << index != 0)
            .filter_map(|index| self.records[index].read())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scoreboard;

    fn slot() -> &'static Slot {
        Scoreboard::create(1).unwrap().slot(0)
    }

    #[test]
    fn claiming_a_slot_forgets_its_former_worker() {
        let slot = slot();
        slot.claim(5);
        slot.add_request();
        slot.add_passed();
        slot.add_taken();
        slot.begin_request(b"GET", b"/", 6);
        slot.set_accepting(true);
        slot.set_state(State::Busy);
        slot.claim(70);
        assert_eq!(
            (slot.state(), slot.last_beat(), slot.requests()),
            (State::Booting, 70, 0)
        );
        assert_eq!((slot.passed(), slot.taken()), (0, 0));
        assert_eq!((slot.accepting(), slot.in_flight()), (false, 0));
    }

    #[test]
    fn requests_are_on_record_until_they_end() {
        let slot = slot();
        let first = slot.begin_request(b"GET", b"/a", 10).unwrap();
        let second = slot.begin_request(b"POST", b"/b", 11).unwrap();
        assert_ne!(first, second);
        slot.end_request(first);
        let left = slot.requests_in_flight();
        assert_eq!(
            left,
            [InFlight {
                started_ms: 11,
                method: b"POST".to_vec(),
                target: b"/b".to_vec()
            }]
        );
        slot.end_request(second);
        assert_eq!(slot.in_flight(), 0);
    }

    #[test]
    fn long_targets_are_cut_and_a_shorter_one_leaves_nothing_of_a_longer() {
        let slot = slot();
        let index = slot.begin_request(&[b'M'; 40], &[b'x'; 500], 1).unwrap();
        assert_eq!(
            slot.requests_in_flight()[0].target,
            [b'x'; crate::TARGET_BYTES]
        );
        assert_eq!(slot.requests_in_flight()[0].method, [b'M'; 16]);
        slot.end_request(index);
        slot.begin_request(b"GET", b"/short", 2);
        assert_eq!(slot.requests_in_flight()[0].target, b"/short");
    }

    #[test]
    fn the_sixty_fifth_request_goes_unrecorded() {
        let slot = slot();
        for _ in 0..IN_FLIGHT_RECORDS {
            assert!(slot.begin_request(b"GET", b"/", 0).is_some());
        }
        assert_eq!(slot.begin_request(b"GET", b"/", 0), None);
        slot.end_request(17);
        assert_eq!(slot.begin_request(b"GET", b"/", 0), Some(17));
        slot.end_request(64);
        assert_eq!(slot.in_flight(), IN_FLIGHT_RECORDS);
    }

    #[test]
    fn threads_never_share_a_record() {
        let slot = slot();
        std::thread::scope(|scope| {
            for name in [b"a", b"b", b"c", b"d"] {
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let index = slot
                            .begin_request(b"GET", name, 0)
                            .expect("64 records for four threads");
                        let mine = slot.records[index].read().expect("nobody else writes it");
                        assert_eq!(mine.target, name);
                        slot.end_request(index);
                    }
                });
            }
        });
        assert_eq!(slot.in_flight(), 0);
    }
}
