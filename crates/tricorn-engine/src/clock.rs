//! Monotonic time and the Date field. The only place of the engine that reads a clock.
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now_ns() -> u64 {
    read_ns(ClockId::Monotonic)
}

/// Nanoseconds of CPU that all threads of this process have used.
pub fn process_ns() -> u64 {
    read_ns(ClockId::ProcessCPUTime)
}

fn read_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Milliseconds of CLOCK_MONOTONIC.
pub fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

/// The value of the Date field, formatted once a second (RFC 9110, 5.6.7).
#[derive(Debug)]
pub struct HttpDate {
    second: u64,
    text: String,
}

impl HttpDate {
    pub fn new() -> Self {
        HttpDate {
            second: u64::MAX,
            text: String::new(),
        }
    }

    pub fn text(&mut self) -> &[u8] {
        // The coarse clock is good to a few milliseconds, which a field of whole seconds never shows.
        let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec as u64;
        if second != self.second {
            self.second = second;
            let now = UNIX_EPOCH + std::time::Duration::from_secs(second);
            self.text = httpdate::fmt_http_date(now.max(SystemTime::UNIX_EPOCH));
        }
        self.text.as_bytes()
    }
}

impl Default for HttpDate {
    fn default() -> Self {
        Self::new()
    }
}
