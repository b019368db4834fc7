//! A worker's slot of the scoreboard, as Python holds it.
use std::os::fd::{BorrowedFd, RawFd};

use pyo3::prelude::*;
use tricorn_scoreboard::State;

use super::now_ms;

/// One worker's slot; lives as long as the process.
#[pyclass(frozen, module = "tricorn._core")]
pub struct Slot {
    slot: &'static tricorn_scoreboard::Slot,
    /// Writing end of the pipe that wakes the arbiter.
    wake: RawFd,
}

impl Slot {
    pub(super) fn new(slot: &'static tricorn_scoreboard::Slot, wake: RawFd) -> Slot {
        Slot { slot, wake }
    }

    pub fn slot(&self) -> &'static tricorn_scoreboard::Slot {
        self.slot
    }
}

#[pymethods]
impl Slot {
    /// The heart beats; the first beat also says that the worker serves.
    fn beat(&self) {
        self.slot.beat(now_ms());
        if self.slot.state() == State::Booting {
            self.set_ready();
        }
    }

    /// The application is loaded and the worker accepts; wakes the arbiter, which may be waiting for it.
    fn set_ready(&self) {
        self.slot.beat(now_ms());
        self.slot.set_state(State::Ready);
        // SAFETY: the pipe is opened before the first fork and never closed in arbiter or worker.
        let wake = unsafe { BorrowedFd::borrow_raw(self.wake) };
        // A full pipe wakes the arbiter just as well.
        let _ = rustix::io::write(wake, &[1]);
    }

    /// Gives the slot of a worker back that was never forked.
    fn free(&self) {
        self.slot.free();
    }

    /// Units: monotonic seconds.
    #[getter]
    fn last_beat(&self) -> f64 {
        self.slot.last_beat() as f64 / 1_000.0
    }

    #[getter]
    fn requests(&self) -> u64 {
        self.slot.requests()
    }

    /// Requests that went to an idle sibling.
    #[getter]
    fn passed(&self) -> u64 {
        self.slot.passed()
    }

    /// Requests that came from a busy sibling.
    #[getter]
    fn taken(&self) -> u64 {
        self.slot.taken()
    }

    #[getter]
    fn ready(&self) -> bool {
        !matches!(self.slot.state(), State::Free | State::Booting)
    }

    #[getter]
    fn accepting(&self) -> bool {
        self.slot.accepting()
    }

    /// The requests the worker is at: (method, target, seconds since it began).
    fn requests_in_flight(&self) -> Vec<(String, String, f64)> {
        let now = now_ms();
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let requests = self.slot.requests_in_flight().into_iter();
        requests
            .map(|request| {
                let seconds = now.saturating_sub(request.started_ms) as f64 / 1_000.0;
                (text(&request.method), text(&request.target), seconds)
            })
            .collect()
    }
}
