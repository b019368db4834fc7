//! What the process makes of a CPU.

/// In less time than this the one who looks would fill it alone.
const SHORTEST_NS: u64 = 1_000_000;
const LATELY_NS: u64 = 50_000_000;

#[derive(Default)]
pub struct Load {
    looked_ns: u64,
    used_ns: u64,
    /// The last look that found it full.
    was_full_ns: u64,
}

impl Load {
    /// Had the process a CPU nearly all the time between the last two looks? `used_ns`: CPU time of all its threads.
    pub fn is_full(&mut self, now_ns: u64, used_ns: impl FnOnce() -> u64) -> bool {
        let passed = now_ns.saturating_sub(self.looked_ns);
        if passed >= SHORTEST_NS {
            let used_ns = used_ns();
            if used_ns.saturating_sub(self.used_ns) >= passed / 8 * 7 {
                self.was_full_ns = now_ns;
            }
            (self.looked_ns, self.used_ns) = (now_ns, used_ns);
        }
        self.was_full_ns == self.looked_ns
    }

    /// Was it full at one of the last looks? A moment without a CPU is no reason to change one's ways.
    pub fn is_mostly_full(&self) -> bool {
        self.looked_ns.saturating_sub(self.was_full_ns) < LATELY_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_all_the_time_is_full() {
        const MS: u64 = 1_000_000;
        let mut load = Load::default();
        assert!(!load.is_full(100 * MS, || 50 * MS));
        assert!(load.is_full(110 * MS, || 60 * MS));
        assert!(load.is_full(120 * MS, || 69 * MS));
        assert!(!load.is_full(130 * MS, || 77 * MS));
        // Several threads on several processors.
        assert!(load.is_full(140 * MS, || 97 * MS));
        // Too short to tell.
        assert!(load.is_full(140 * MS + 1000, || unreachable!()));
        assert!(!load.is_full(180 * MS, || 98 * MS));
        assert!(load.is_mostly_full());
        assert!(!load.is_full(190 * MS, || 99 * MS));
        assert!(!load.is_mostly_full());
    }
}
