//! A worker leaves: nobody new, and an answer for everything that was begun.
use tricorn_proto::ws::CloseCode;

use super::{DRAIN_LINGER_MS, Engine, Inner};
use crate::clock;
use crate::connection::{Fate, Phase};

impl Engine {
    /// Leaves the accept set. `exhaust`: takes every connection that is queued first, because nobody else will; may be
    /// asked for later too. Requests in progress are finished, further ones are answered with `Connection: close`.
    pub fn start_drain(&self, exhaust: bool) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.core.draining && (!exhaust || inner.listeners.is_empty()) {
            return;
        }
        inner.core.now_ns = clock::now_ns();
        inner.core.now_ms = inner.core.now_ns / 1_000_000;
        if exhaust {
            for index in 0..inner.listeners.len() {
                inner.accept(index, usize::MAX);
            }
            inner.listeners.clear();
        }
        // Whoever passes something on is still there to take it back when it drains itself, so nothing stays behind.
        inner.take_passed(usize::MAX, self.slot);
        if !inner.core.draining {
            inner.core.draining = true;
            // Leaving the set cannot fail.
            let _ = inner.arm_listeners(None);
            inner.shorten_idle_deadlines();
            inner.close_sockets();
        }
        if let Some(slot) = self.slot {
            slot.set_accepting(false);
        }
        drop(guard);
        self.poller.wake();
    }

    /// Nothing is left to do after `start_drain`.
    pub fn is_drained(&self) -> bool {
        let inner = self.lock();
        inner.core.draining && inner.table.len() == 0 && inner.core.ready.is_empty()
    }
}

impl Inner {
    /// Idle connections get a moment for a request that is on its way, and no more.
    fn shorten_idle_deadlines(&mut self) {
        let kept = self.core.idle_deadline(false);
        let fresh = self.core.now_ms + DRAIN_LINGER_MS;
        for key in self.table.keys() {
            if let Some(connection) = self.table.get_mut(key)
                && connection.is_idle()
            {
                let deadline = if connection.requests == 0 {
                    fresh
                } else {
                    kept
                };
                connection.deadline_ms = connection.deadline_ms.min(deadline);
                self.table.note_deadline(key);
            }
        }
    }

    /// WebSockets do not end by themselves: their clients come back to another worker.
    fn close_sockets(&mut self) {
        for key in self.table.keys() {
            self.with(key, |connection, core| match connection.phase {
                Phase::Socket(_) => {
                    let code = CloseCode::SERVICE_RESTART;
                    (connection.say_close(core, code, ""), ())
                }
                _ => (Fate::Keep, ()),
            });
        }
    }
}
