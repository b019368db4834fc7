//! The way out.
//!
//! A graceful stop first keeps newcomers away while the workers empty the accept queue, and closes the
//! listeners as soon as nobody accepts any more. Invariant: once begun it ends, with the same three actions.
use crate::action::{Action, Level, Order};
use crate::pool::Pool;

/// How long the workers have to empty the accept queue.
const DRAIN_MS: u64 = 1_000;
/// How often to look whether they have.
const DRAIN_LOOK_MS: u64 = 10;
/// What is left of the wait after an impatient INT or QUIT.
const IMPATIENT_MS: u64 = 2_000;

#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) code: i32,
    reason: Option<String>,
    graceful: bool,
    deadline_ms: u64,
    /// Until when the listeners may stay open; `None` once they are closed.
    drain_until_ms: Option<u64>,
}

impl Stop {
    pub(crate) fn begin(
        code: i32,
        reason: Option<String>,
        graceful: bool,
        graceful_timeout_ms: u64,
        pool: &mut Pool,
        now_ms: u64,
        out: &mut Vec<Action>,
    ) -> Stop {
        let order = if graceful { Order::Term } else { Order::Quit };
        out.push(if graceful {
            Action::StopAccepting
        } else {
            Action::CloseListeners
        });
        for worker in &mut pool.workers {
            match worker.leaving_since_ms {
                None => worker.dismiss(order, now_ms, out),
                // Told TERM before, for another reason; now it shall hurry like the others.
                Some(_) if !graceful => out.push(Action::Signal {
                    pid: worker.pid,
                    order,
                }),
                Some(_) => {}
            }
        }
        let deadline_ms = now_ms + graceful_timeout_ms;
        let drain_until_ms = graceful.then(|| deadline_ms.min(now_ms + DRAIN_MS));
        Stop {
            code,
            reason,
            graceful,
            deadline_ms,
            drain_until_ms,
        }
    }

    /// A further INT or QUIT.
    pub(crate) fn hurry(&mut self, pool: &Pool, now_ms: u64, out: &mut Vec<Action>) {
        if !self.graceful {
            return;
        }
        self.graceful = false;
        out.push(Action::log(Level::Info, "Quick shutdown requested"));
        self.close_listeners(out);
        self.deadline_ms = self.deadline_ms.min(now_ms + IMPATIENT_MS);
        out.extend(pool.workers.iter().map(|worker| Action::Signal {
            pid: worker.pid,
            order: Order::Quit,
        }));
    }

    /// Moves on as far as it goes; true when the arbiter's life is over.
    pub(crate) fn advance(&mut self, pool: &mut Pool, now_ms: u64, out: &mut Vec<Action>) -> bool {
        let emptied = pool.workers.iter().all(|worker| !worker.accepting);
        if self
            .drain_until_ms
            .is_some_and(|until| emptied || now_ms >= until)
        {
            self.close_listeners(out);
        }
        if now_ms >= self.deadline_ms {
            pool.workers.iter_mut().for_each(|worker| worker.kill(out));
        }
        if !pool.workers.is_empty() {
            return false;
        }
        self.farewell(out);
        true
    }

    /// When to look next. After the deadline everybody is killed, and there is nothing left to do by the clock.
    pub(crate) fn due_ms(&self, now_ms: u64) -> u64 {
        let look = self.drain_until_ms.map(|_| now_ms + DRAIN_LOOK_MS);
        let due = look.unwrap_or(u64::MAX).min(self.deadline_ms);
        if due > now_ms { due } else { u64::MAX }
    }

    fn close_listeners(&mut self, out: &mut Vec<Action>) {
        if self.drain_until_ms.take().is_some() {
            out.push(Action::CloseListeners);
        }
    }

    fn farewell(&self, out: &mut Vec<Action>) {
        let level = if self.code == 0 {
            Level::Info
        } else {
            Level::Error
        };
        out.push(Action::log(level, "Shutting down: Master"));
        if let Some(reason) = &self.reason {
            out.push(Action::log(level, format!("Reason: {reason}")));
        }
        out.extend([
            Action::RemovePidfile,
            Action::OnExit,
            Action::Exit(self.code),
        ]);
    }
}
