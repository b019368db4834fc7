//! How often the monitor looks: every `SHORT`, or `LONG` while looking has been in vain, or not at all.
//!
//! A look takes the core from the thread that serves: 0.5 % of it, and answers that wait for company leave in smaller
//! parties. Where calls have been quick for a second (a fifth of it after a slow one), and none of them streams, looking a
//! quarter as often is enough.
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// Parts of answers that wait for company leave within it.
pub const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_millis(8);
/// So many looks in vain, one after the other, are a second of quick calls.
const CALM_LOOKS: u32 = 500;

#[derive(Default)]
pub struct Tick {
    monitor: OnceLock<Thread>,
    /// The monitor waits for a call.
    resting: AtomicBool,
    /// The monitor is in a long pause.
    dozing: AtomicBool,
    /// A block waits that another one may follow late.
    streaming: AtomicBool,
}

/// The monitor's own count.
pub struct Calm(u32);

impl Tick {
    /// To be called by the monitor before anything else.
    pub fn attach(&self) {
        let _ = self.monitor.set(thread::current());
    }

    /// A call begins, and has been stored where the monitor looks before it rests.
    pub fn call_begins(&self) {
        // The store was a full barrier: either we see the monitor resting, or it sees the call.
        if self.resting.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Part of an answer waits for company while the application makes the rest: it leaves within a short tick.
    pub fn part_waits(&self) {
        if !self.streaming.load(Ordering::Relaxed) {
            self.streaming.store(true, Ordering::SeqCst);
            // As in `call_begins`: either we see it dozing, or it sees the part.
            if self.dozing.load(Ordering::SeqCst) {
                self.wake();
            }
        }
    }

    pub fn wake(&self) {
        if let Some(monitor) = self.monitor.get() {
            monitor.unpark();
        }
    }

    /// The monitor's pause between two looks. Returns whether parts of answers may wait.
    pub fn pause(&self, calm: &mut Calm) -> bool {
        let streamed = self.streaming.swap(false, Ordering::SeqCst);
        if streamed {
            calm.disturb();
        }
        if calm.0 < CALM_LOOKS {
            calm.0 += 1;
            thread::park_timeout(SHORT);
        } else {
            self.dozing.store(true, Ordering::SeqCst);
            let streaming = self.streaming.load(Ordering::SeqCst);
            thread::park_timeout(if streaming { SHORT } else { LONG });
            self.dozing.store(false, Ordering::SeqCst);
            if self.streaming.load(Ordering::Relaxed) {
                // Woken for it, and the part has a tick to find company.
                thread::park_timeout(SHORT);
            }
        }
        streamed || self.streaming.load(Ordering::Relaxed)
    }

    /// The monitor's rest until a call begins, unless `busy` says that one has.
    pub fn rest(&self, busy: impl FnOnce() -> bool) {
        self.resting.store(true, Ordering::SeqCst);
        if !busy() {
            thread::park();
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}

impl Default for Calm {
    /// Nothing is known of the application yet: as after one slow call.
    fn default() -> Self {
        let mut calm = Calm(CALM_LOOKS);
        calm.note_slow_call();
        calm
    }
}

impl Calm {
    /// An answer came in parts, or a slow call held others up: short ticks for a second.
    pub fn disturb(&mut self) {
        self.0 = 0;
    }

    /// A call was slow: short ticks for a fifth of that, which five slow calls in a second make the rule. One alone tells
    /// nothing; where the machine is shared it may have been quick, and the CPU elsewhere.
    pub fn note_slow_call(&mut self) {
        self.0 = self.0.min(CALM_LOOKS - CALM_LOOKS / 5);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    fn calm() -> Calm {
        Calm(CALM_LOOKS)
    }

    #[test]
    fn looks_in_vain_make_the_pauses_long() {
        let (tick, mut calm) = (Tick::default(), Calm::default());
        for look in 400..CALM_LOOKS {
            assert_eq!(calm.0, look);
            tick.pause(&mut calm);
        }
        let before = Instant::now();
        tick.pause(&mut calm);
        assert!(before.elapsed() >= LONG);
    }

    #[test]
    fn a_slow_call_or_a_part_makes_them_short_again() {
        let tick = Tick::default();
        let mut disturbed = calm();
        disturbed.note_slow_call();
        assert_eq!(disturbed.0, 400);
        disturbed.disturb();
        disturbed.note_slow_call();
        assert_eq!(disturbed.0, 0);
        let mut calm = calm();
        tick.part_waits();
        assert!(tick.pause(&mut calm));
        assert_eq!(calm.0, 1);
        assert!(!tick.pause(&mut calm));
    }

    #[test]
    fn a_part_ends_a_long_pause() {
        let tick = Arc::new(Tick::default());
        let monitor = tick.clone();
        let looks = thread::spawn(move || {
            monitor.attach();
            let mut calm = calm();
            while calm.0 == CALM_LOOKS {
                monitor.pause(&mut calm);
            }
            calm.0
        });
        while !tick.dozing.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        tick.part_waits();
        assert_eq!(looks.join().expect("the monitor"), 1);
    }

    #[test]
    fn a_call_ends_the_rest() {
        let tick = Arc::new(Tick::default());
        tick.rest(|| true);
        let monitor = tick.clone();
        let rest = thread::spawn(move || {
            monitor.attach();
            monitor.rest(|| false);
        });
        while !tick.resting.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        tick.call_begins();
        rest.join().expect("the monitor");
    }
}
