//! Requests that would wait here while a sibling is idle.
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;
use tricorn_scoreboard::Slot;

use super::{Engine, Inner};
use crate::connection::Parts;
use crate::notice::Notice;
use crate::passage::{Passage, Passed};

/// The way to and from the siblings, once there is one. To look at it needs no lock: the monitor does at each look, and
/// whoever held a lock would have to wake it.
#[derive(Default)]
pub(super) struct Siblings(OnceLock<Arc<Passage>>);

impl Siblings {
    pub(super) fn passage(&self) -> Option<&Passage> {
        self.0.get().map(|passage| &**passage)
    }

    /// The way to somebody who could take something.
    pub(super) fn others(&self) -> Option<&Passage> {
        self.passage().filter(|passage| passage.has_siblings())
    }
}

impl Engine {
    /// From now on this engine's requests may go to siblings, and theirs come here.
    pub fn join(&self, passage: Arc<Passage>) -> std::io::Result<()> {
        let inner = self.lock();
        debug_assert!(
            inner.siblings.passage().is_none(),
            "an engine has one set of siblings"
        );
        // Newly armed with the listeners, or with them later.
        if inner.listening {
            let token = crate::poller::Token::Passage;
            inner.core.poller.add_shared(passage.exit(), token)?;
        }
        if let Some(slot) = self.slot {
            passage.count_newcomers(slot, 0);
        }
        let _ = self.siblings.0.set(passage);
        Ok(())
    }

    /// Could somebody else take what waits here?
    pub fn has_siblings(&self) -> bool {
        self.siblings.others().is_some()
    }

    /// Every thread of this worker is in the application: what waits goes to whichever worker is idle first, which may
    /// in the end be this one. A worker that drains keeps what it has.
    pub fn pass_on(&self) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.core.draining || inner.core.ready.is_empty() {
            return;
        }
        let Some(passage) = self.siblings.others() else {
            return;
        };
        let mut waiting = std::mem::take(&mut inner.core.ready);
        waiting.retain_mut(|ready| {
            let passed = inner.pass(passage, ready);
            if passed && let Some(slot) = self.slot {
                slot.add_passed();
            }
            !passed
        });
        inner.core.ready = waiting;
    }
}

impl Inner {
    /// False: the request stays.
    fn pass(&mut self, passage: &Passage, ready: &mut Box<Parts>) -> bool {
        let Some(connection) = self.table.get_mut(ready.course.key) else {
            return false;
        };
        let Some(bytes) = connection.movable() else {
            return false;
        };
        let passed = Passed {
            peer: ready.course.ends().peer.clone(),
            listener: (*ready.course.ends().listener).clone(),
            requests: ready.course.number - 1,
            received_ns: ready.course.received_ns,
            bytes: bytes.to_vec(),
        };
        if passage.put(connection.socket.as_fd(), &passed).is_err() {
            return false;
        }
        // The sibling's descriptor keeps the socket open, so that closing ours would leave it in our set.
        self.core.poller.remove(&connection.socket);
        self.core.in_progress -= 1;
        let key = ready.course.key;
        self.core.pool.put_parts(std::mem::take(ready));
        self.close(key);
        true
    }

    /// Takes at most `most` connections that siblings have passed on.
    pub(super) fn take_passed(&mut self, most: usize, slot: Option<&'static Slot>) {
        let siblings = self.siblings.clone();
        let Some(passage) = siblings.passage() else {
            return;
        };
        for _ in 0..most {
            let (socket, passed) = match passage.take() {
                Ok(Some(taken)) => taken,
                Ok(None) => return,
                Err(error) => {
                    if error != Errno::MFILE || self.evict() == 0 {
                        self.rest_listeners();
                    }
                    self.core.notices.push(Notice::Accept(error.into()));
                    return;
                }
            };
            let known = self.listeners.iter().map(|listener| &listener.info);
            let listener = match known.into_iter().find(|info| ***info == passed.listener) {
                Some(info) => info.clone(),
                None => Arc::new(passed.listener),
            };
            let key = self.admit(socket, passed.peer, listener);
            if let Some(slot) = slot {
                slot.add_taken();
            }
            self.with(key, |connection, core| {
                let fate = connection.take_over(core, passed.requests, &passed.bytes);
                if let Some(ready) = core
                    .ready
                    .back_mut()
                    .filter(|ready| ready.course.key == key)
                {
                    ready.course.received_ns = passed.received_ns;
                }
                (fate, ())
            });
        }
    }
}
