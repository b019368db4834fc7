//! What is to be expected of a call, by its path.
use std::sync::atomic::{AtomicU8, Ordering};

use tricorn_proto::hash;

use crate::clock;

/// Remembers of which paths something is to be expected (that a call is slow, for example), in bounded memory: a cell of this
/// table may be shared by several paths.
pub struct Predictor {
    cells: Box<[AtomicU8]>,
    /// Of all recent calls: 0 (none) to 255 (each). Speaks for paths never seen.
    score: AtomicU8,
}

const CELLS: usize = 1024;
const UNSEEN: u8 = 0;
const UNLIKELY: u8 = 1;
const LIKELY: u8 = 3;
/// Six calls to the contrary outweigh it.
const STRONG: u8 = 8;
/// Two calls to the contrary do.
const WEAK: u8 = 3;

/// The cell of a path.
pub fn place(path: &[u8]) -> usize {
    hash(path) % CELLS
}

impl Predictor {
    pub fn new() -> Self {
        Self::presuming(0)
    }

    /// `score`: as long as nothing is known.
    fn presuming(score: u8) -> Self {
        Predictor {
            cells: (0..CELLS).map(|_| AtomicU8::new(UNSEEN)).collect(),
            score: AtomicU8::new(score),
        }
    }

    pub fn expects(&self, place: usize) -> bool {
        match self.cells[place].load(Ordering::Relaxed) {
            UNSEEN => self.score.load(Ordering::Relaxed) > 128,
            cell => cell >= LIKELY,
        }
    }

    pub fn note(&self, place: usize, happened: bool) {
        self.weigh(place, if happened { STRONG } else { 0 });
    }

    /// `weight`: 0 speaks against it.
    fn weigh(&self, place: usize, weight: u8) {
        let cell = self.cells[place].load(Ordering::Relaxed);
        let score = self.score.load(Ordering::Relaxed);
        let (next, next_score) = match weight {
            0 => (cell.saturating_sub(1).max(UNLIKELY), score - score / 8),
            _ => ((cell + weight).min(STRONG), score + (255 - score) / 8),
        };
        if next != cell {
            self.cells[place].store(next, Ordering::Relaxed);
        }
        if next_score != score {
            self.score.store(next_score, Ordering::Relaxed);
        }
    }
}

/// A call that used more than this share of its time, in percent, waited for nothing.
const BUSY_PERCENT: u64 = 80;

/// Which paths wait: their calls last, but use little CPU, so that others can be called meanwhile.
///
/// While a CPU is used up, a call that uses little of it tells nothing, because it may have waited for the others: what was
/// known before stands then, but for a call that used its time. So a path whose calls only compete for the GIL stays busy.
pub struct Waits {
    lasting: Predictor,
    busy: Predictor,
    least_ns: u64,
}

impl Waits {
    /// `least_ns`: shorter calls do not count as waiting.
    pub fn new(least_ns: u64) -> Self {
        Waits {
            lasting: Predictor::new(),
            // Whoever was let in at once would compete from the first call on, and nobody would see what it is like alone.
            busy: Predictor::presuming(255),
            least_ns,
        }
    }

    pub fn expects(&self, place: usize) -> bool {
        self.lasting.expects(place) && !self.busy.expects(place)
    }

    /// CPU time of the calling thread, where the call of that path may wait; `note` is for the same thread. To read it is a
    /// system call, which quick paths are spared.
    pub fn begin(&self, place: usize) -> Option<u64> {
        self.lasting.expects(place).then(clock::thread_ns)
    }

    /// `cpu_ns`: what `begin` said. `full`: a CPU was used up meanwhile.
    pub fn note(&self, place: usize, took_ns: u64, cpu_ns: Option<u64>, full: bool) {
        let lasting = took_ns > self.least_ns;
        self.lasting.note(place, lasting);
        if !lasting {
            // It may have found in a cache what others wait for.
            if !full {
                self.busy.weigh(place, WEAK);
            }
        } else if let Some(cpu_ns) = cpu_ns {
            let used_ns = clock::thread_ns().saturating_sub(cpu_ns);
            self.judge(place, took_ns, used_ns, full);
        }
    }

    fn judge(&self, place: usize, took_ns: u64, used_ns: u64, full: bool) {
        let busy = used_ns >= took_ns / 100 * BUSY_PERCENT;
        if busy || !full {
            self.busy.note(place, busy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST_NS: u64 = 200_000;
    const MS: u64 = 1_000_000;

    /// Calls of 2 ms that use so much of it.
    fn call(waits: &Waits, place: usize, used_ns: u64, full: bool) {
        waits.lasting.note(place, true);
        waits.judge(place, 2 * MS, used_ns, full);
    }

    #[test]
    fn one_that_happened_is_remembered_for_six_that_did_not() {
        let slow = Predictor::new();
        assert!(!slow.expects(7));
        slow.note(7, true);
        for _ in 0..6 {
            assert!(slow.expects(7));
            slow.note(7, false);
        }
        assert!(!slow.expects(7));
    }

    #[test]
    fn the_others_speak_for_a_path_never_seen() {
        let slow = Predictor::new();
        for place in 0..8 {
            slow.note(place, true);
        }
        assert!(slow.expects(1000));
        slow.note(1000, false);
        assert!(!slow.expects(1000));
    }

    #[test]
    fn a_path_waits_that_lasts_and_uses_little_cpu() {
        let waits = Waits::new(LEAST_NS);
        assert!(!waits.expects(1));
        call(&waits, 1, MS, false);
        assert!(waits.expects(1));
        call(&waits, 1, 2 * MS, false);
        assert!(!waits.expects(1));
        for _ in 0..7 {
            call(&waits, 1, MS, false);
        }
        assert!(waits.expects(1));
        // A quick one among many says little.
        waits.note(1, LEAST_NS, None, false);
        assert!(!waits.expects(1));
        call(&waits, 1, MS, false);
        call(&waits, 1, MS, false);
        assert!(waits.expects(1));
    }

    #[test]
    fn a_path_never_seen_is_busy_until_others_have_waited() {
        let waits = Waits::new(LEAST_NS);
        waits.lasting.note(1000, true);
        assert!(!waits.expects(1000));
        for place in 0..8 {
            call(&waits, place, MS, false);
        }
        assert!(waits.expects(1000));
    }

    #[test]
    fn while_a_cpu_is_used_up_only_calls_that_use_it_tell_something() {
        let waits = Waits::new(LEAST_NS);
        call(&waits, 1, 2 * MS, true);
        for _ in 0..100 {
            call(&waits, 1, MS, true);
        }
        assert!(!waits.expects(1));
        call(&waits, 2, MS, false);
        assert!(waits.expects(2));
        waits.note(2, LEAST_NS, None, true);
        assert!(waits.expects(2));
        call(&waits, 2, 2 * MS, true);
        assert!(!waits.expects(2));
    }
}
