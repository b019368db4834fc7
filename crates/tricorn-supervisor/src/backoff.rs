//! How fast dead workers are replaced.
//!
//! Invariants: a first crash costs no pause; workers that keep dying young are replaced ever more slowly,
//! and never, whatever they die of, are more than [`REPLACEMENTS_PER_SECOND`] forked in a second. The
//! forks that fill a pool for the first time, or for a new generation, are not counted.

/// Deaths replaced in any second.
pub(crate) const REPLACEMENTS_PER_SECOND: usize = 8;
/// A worker that lived longer died of something else than its start.
const YOUNG_MS: u64 = 10_000;
const FIRST_PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 2_000;
/// After so long without a young death all is forgiven.
const FORGIVEN_MS: u64 = 20_000;

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// Deaths not replaced yet.
    owed: usize,
    young_deaths: u32,
    last_young_death_ms: u64,
    not_before_ms: u64,
    /// When the latest replacements were made; at most REPLACEMENTS_PER_SECOND of them.
    recent: Vec<u64>,
}

impl Backoff {
    /// A worker died without being told to. `peacefully`: with code 0, after it had served something.
    pub(crate) fn death(&mut self, lived_ms: u64, peacefully: bool, tolerated: usize, now_ms: u64) {
        self.owed += 1;
        if lived_ms >= YOUNG_MS || peacefully {
            return;
        }
        if now_ms.saturating_sub(self.last_young_death_ms) > FORGIVEN_MS {
            self.young_deaths = 0;
        }
        self.last_young_death_ms = now_ms;
        self.young_deaths += 1;
        let beyond = self.young_deaths.saturating_sub(tolerated as u32);
        if beyond > 0 {
            let pause = (FIRST_PAUSE_MS << (beyond - 1).min(10)).min(LONGEST_PAUSE_MS);
            self.not_before_ms = self.not_before_ms.max(now_ms + pause);
        }
    }

    /// A fork failed: that is paid like the death of a newborn, with a pause at once.
    pub(crate) fn fork_failed(&mut self, now_ms: u64) {
        self.owed += 1;
        self.not_before_ms = self.not_before_ms.max(now_ms + 1_000);
    }

    /// How many of `missing` workers may be forked now.
    pub(crate) fn grant(&mut self, missing: usize, now_ms: u64) -> usize {
        self.owed = self.owed.min(missing);
        let free = missing - self.owed;
        let replaced = self.room(now_ms).min(self.owed);
        self.owed -= replaced;
        self.recent.extend(std::iter::repeat_n(now_ms, replaced));
        free + replaced
    }

    /// When a replacement that is owed may be made. `None`: nothing is owed.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let oldest = self
            .recent
            .first()
            .filter(|_| self.recent.len() >= REPLACEMENTS_PER_SECOND);
        let slot_free = oldest.map_or(0, |at| at + 1_000);
        (self.owed > 0).then(|| self.not_before_ms.max(slot_free))
    }

    fn room(&mut self, now_ms: u64) -> usize {
        self.recent.retain(|at| at + 1_000 > now_ms);
        if now_ms < self.not_before_ms {
            0
        } else {
            REPLACEMENTS_PER_SECOND - self.recent.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_a_pool_is_not_slowed_down() {
        assert_eq!(Backoff::default().grant(64, 5), 64);
    }

    #[test]
    fn first_crashes_are_replaced_at_once_and_later_ones_after_a_growing_pause() {
        let mut backoff = Backoff::default();
        let mut now = 1_000;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            backoff.death(50, false, 2, now);
            let due = backoff.due_ms().unwrap().max(now);
            assert!(due == now || backoff.grant(1, due - 1) == 0);
            assert_eq!(backoff.grant(1, due), 1);
            pauses.push(due - now);
            now = due + 50;
        }
        assert_eq!(pauses, [0, 0, 100, 200, 400, 800, 1600, 2000]);
    }

    #[test]
    fn peaceful_exits_only_meet_the_ceiling_of_forks_per_second() {
        let mut backoff = Backoff::default();
        let mut granted = 0;
        for now in 0..1_000 {
            backoff.death(10, true, 1, now);
            granted += backoff.grant(1, now);
        }
        assert_eq!(granted, REPLACEMENTS_PER_SECOND);
        assert_eq!(backoff.grant(1, 1_500), 1);
    }

    #[test]
    fn a_quiet_while_forgives() {
        let mut backoff = Backoff::default();
        for now in 0..5 {
            backoff.death(10, false, 1, now);
            backoff.grant(1, now);
        }
        backoff.death(10, false, 1, 60_000);
        assert_eq!(backoff.grant(1, 60_000), 1);
    }
}
