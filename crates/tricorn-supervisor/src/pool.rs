//! The workers the arbiter knows.
//!
//! Invariant: ordered by age; a worker is told to leave at most once (`leaving_since_ms`), aborted at most
//! once, and killed at most once.
use crate::action::{Action, Level, Order};
use crate::input::{Observation, Pid};

/// From ABRT to KILL.
const ABORT_GRACE_MS: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) pid: Pid,
    pub(crate) generation: u64,
    pub(crate) born_ms: u64,
    pub(crate) ready: bool,
    pub(crate) accepting: bool,
    pub(crate) leaving_since_ms: Option<u64>,
    aborted_ms: Option<u64>,
    pub(crate) killed: bool,
}

impl Worker {
    pub(crate) fn stays(&self) -> bool {
        self.leaving_since_ms.is_none()
    }

    /// Tells it to leave, unless it was told before.
    pub(crate) fn dismiss(&mut self, order: Order, now_ms: u64, out: &mut Vec<Action>) {
        if self.stays() {
            self.leaving_since_ms = Some(now_ms);
            out.push(Action::Signal {
                pid: self.pid,
                order,
            });
        }
    }

    pub(crate) fn kill(&mut self, out: &mut Vec<Action>) {
        if !self.killed {
            self.killed = true;
            out.push(Action::Signal {
                pid: self.pid,
                order: Order::Kill,
            });
        }
    }

    /// Its heart has stopped: ABRT, and KILL when that did not help.
    fn murder(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        match self.aborted_ms {
            None => {
                self.aborted_ms = Some(now_ms);
                out.push(Action::log(
                    Level::Critical,
                    format!("WORKER TIMEOUT (pid:{})", self.pid),
                ));
                out.push(Action::Signal {
                    pid: self.pid,
                    order: Order::Abrt,
                });
            }
            Some(at) if now_ms >= at + ABORT_GRACE_MS => self.kill(out),
            Some(_) => {}
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) workers: Vec<Worker>,
}

impl Pool {
    pub(crate) fn add(&mut self, pid: Pid, generation: u64, now_ms: u64) {
        self.workers.push(Worker {
            pid,
            generation,
            born_ms: now_ms,
            ready: false,
            accepting: false,
            leaving_since_ms: None,
            aborted_ms: None,
            killed: false,
        });
    }

    pub(crate) fn remove(&mut self, pid: Pid) -> Option<Worker> {
        let index = self.workers.iter().position(|worker| worker.pid == pid)?;
        Some(self.workers.remove(index))
    }

    /// Takes over what the scoreboard says, and murders whoever has been silent for too long.
    pub(crate) fn observe(
        &mut self,
        seen: &[Observation],
        timeout_ms: u64,
        now_ms: u64,
        out: &mut Vec<Action>,
    ) {
        for observation in seen {
            let Some(worker) = self
                .workers
                .iter_mut()
                .find(|worker| worker.pid == observation.pid)
            else {
                continue;
            };
            worker.ready |= observation.ready;
            worker.accepting = observation.accepting;
            let silent_ms = now_ms.saturating_sub(observation.beat_ms);
            // A worker that still boots owes no heartbeat: large applications may take their time.
            if timeout_ms > 0 && worker.ready && silent_ms > timeout_ms {
                worker.murder(now_ms, out);
            } else {
                // It came back to life after ABRT; the next silence is a new one.
                worker.aborted_ms = None;
            }
        }
    }

    /// Kills those that were told to leave and have not done so in time.
    pub(crate) fn kill_laggards(
        &mut self,
        graceful_timeout_ms: u64,
        now_ms: u64,
        out: &mut Vec<Action>,
    ) {
        for worker in &mut self.workers {
            if worker
                .leaving_since_ms
                .is_some_and(|since| now_ms >= since + graceful_timeout_ms)
            {
                worker.kill(out);
            }
        }
    }

    /// The next moment at which `observe` or `kill_laggards` has something to do by the clock alone.
    pub(crate) fn due_ms(&self, graceful_timeout_ms: u64) -> Option<u64> {
        let leaving = |worker: &Worker| {
            worker
                .leaving_since_ms
                .map(|since| since + graceful_timeout_ms)
        };
        let aborted = |worker: &Worker| worker.aborted_ms.map(|at| at + ABORT_GRACE_MS);
        let alive = self.workers.iter().filter(|worker| !worker.killed);
        alive
            .flat_map(|worker| [leaving(worker), aborted(worker)])
            .flatten()
            .min()
    }

    pub(crate) fn staying(&self, generation: u64) -> usize {
        self.workers
            .iter()
            .filter(|worker| worker.stays() && worker.generation == generation)
            .count()
    }

    pub(crate) fn serving(&self) -> usize {
        self.workers
            .iter()
            .filter(|worker| worker.stays() && worker.ready)
            .count()
    }
}
