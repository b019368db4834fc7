//! Where connections come from: listeners while there is a thread to spare, and the passage between the workers.
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use tricorn_proto::PeerTrust;
use tricorn_scoreboard::Slot;

use super::{DRAIN_LINGER_MS, Inner};
use crate::connection::{Connection, Fate};
use crate::notice::Notice;
use crate::peer::{Ends, ListenerInfo, Peer};
use crate::poller::Token;

/// How long a listener rests after accept failed (no descriptors left).
const ACCEPT_REST_MS: u64 = 200;
/// Connections taken in passing.
const IN_PASSING: usize = 16;
/// One newcomer in so many is read early although the last ones had nothing to read.
const EARLY_PROBE: u32 = 16;
/// Looks at newcomers that may be left to siblings one after the other. A third worker may come between the one that leaves
/// a newcomer and the one that should take it; more looks than these share them out no better, and cost an idle server more.
const LEFT_IN_A_ROW: u32 = 3;
/// Connections closed at once when descriptors run out.
const EVICTED: usize = 16;

impl Inner {
    /// A listener is readable.
    pub(super) fn take_newcomers(&mut self, index: u32, batch: usize, slot: Option<&'static Slot>) {
        if self.leaves_it_to_others(slot) {
            return;
        }
        let taken = self.accept(index as usize, batch);
        if taken == 0 {
            return;
        }
        if self.core.config.foreign_loop
            && let (Some(passage), Some(slot)) = (self.siblings.passage(), slot)
        {
            passage.count_newcomers(slot, taken);
        }
        self.give_way(index);
    }

    /// A newcomer wakes every worker whose loop is somebody else's (the kernel does not see that they wait for one), and
    /// any number of requests may be in progress in each. So it is left to the siblings by those that have more to do than
    /// another, or have taken more so far. Who is still there after a few looks is taken in: the freer one may be asleep in
    /// its application.
    fn leaves_it_to_others(&mut self, slot: Option<&'static Slot>) -> bool {
        let (Some(passage), Some(slot)) = (self.siblings.passage(), slot) else {
            return false;
        };
        let leaves_it = self.core.config.foreign_loop
            && self.left_to_others < LEFT_IN_A_ROW
            && passage.others_are_freer(slot);
        if leaves_it {
            self.left_to_others += 1;
            // They have been woken, but may wait for this very processor.
            rustix::thread::sched_yield();
        } else {
            self.left_to_others = 0;
        }
        leaves_it
    }

    /// Takes newcomers in, as many as `batch` at most. Returns how many.
    pub(super) fn accept(&mut self, index: usize, batch: usize) -> u64 {
        let mut taken = 0;
        for _ in 0..batch {
            let Some(listener) = self.listeners.get(index) else {
                break;
            };
            match rustix::net::acceptfrom_with(
                &listener.socket,
                SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            ) {
                Ok((socket, address)) => {
                    let info = listener.info.clone();
                    let peer = match address.map(SocketAddr::try_from) {
                        Some(Ok(address)) => Peer::Inet(address),
                        _ => Peer::Unix,
                    };
                    let key = self.admit(socket, peer, info);
                    self.welcome(key);
                    taken += 1;
                }
                Err(Errno::AGAIN) => break,
                // The peer was gone before we came; the next one may not be.
                Err(
                    Errno::CONNABORTED
                    | Errno::INTR
                    | Errno::PROTO
                    | Errno::NETDOWN
                    | Errno::HOSTUNREACH,
                ) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
                    if self.evict() > 0 => {}
                // It listens no more: the server is stopping, and the order to leave is on its way.
                Err(Errno::INVAL) => {
                    self.rest_listeners();
                    break;
                }
                Err(error) => {
                    self.core.notices.push(Notice::Accept(error.into()));
                    self.rest_listeners();
                    break;
                }
            }
        }
        taken
    }

    /// A busy worker's look at the listeners: while kept connections always have another request, it never waits for
    /// events, and newcomers that no sibling takes would stay outside for ever.
    pub(super) fn listen_in_passing(&mut self) {
        self.listened_ns = self.core.now_ns;
        if self.may_accept() {
            for index in 0..self.listeners.len() {
                self.accept(index, IN_PASSING);
            }
        }
    }

    /// Apart from free threads: those are needed only to be woken for newcomers.
    fn may_accept(&self) -> bool {
        !self.core.draining
            && self.rest_until_ms == 0
            && self.core.in_progress < self.core.config.worker_connections.max(1)
    }

    /// Reads a newcomer at once where their requests mostly are here already (a queue has formed, or the peers are far
    /// away and their first packets come together), and now and then to see whether that has changed.
    fn welcome(&mut self, key: u64) {
        self.newcomers = self.newcomers.wrapping_add(1);
        if self.early == 0 && !self.newcomers.is_multiple_of(EARLY_PROBE) {
            return self.settle(key, Fate::Keep);
        }
        let begun = self.with(key, |connection, core| {
            let fate = connection.on_readable(core);
            (fate, !connection.is_idle())
        });
        self.early = match begun {
            Some(true) => EARLY_PROBE,
            _ => self.early.saturating_sub(1),
        };
    }

    /// Takes a connection in. Returns its key.
    pub(super) fn admit(&mut self, socket: OwnedFd, peer: Peer, info: Arc<ListenerInfo>) -> u64 {
        let trust = match &peer {
            Peer::Unix => PeerTrust::Trusted,
            Peer::Inet(address) if self.core.config.trusted_peers.contains(canonical(address)) => {
                PeerTrust::Trusted
            }
            Peer::Inet(_) => PeerTrust::Untrusted,
        };
        let ends = Arc::new(Ends {
            peer,
            listener: info,
        });
        let key = self.table.next_key();
        let deadline = match self.core.draining {
            true => self.core.now_ms + DRAIN_LINGER_MS,
            false => self.core.now_ms + self.core.config.client_header_timeout_ms,
        };
        let connection = Connection::new(socket, key, ends, trust, deadline);
        self.table.insert(Box::new(connection));
        key
    }

    /// Descriptors have run out: idle connections make room, those nearest to their deadline first.
    pub(super) fn evict(&mut self) -> usize {
        let mut idle: Vec<(u64, u64)> = Vec::new();
        for key in self.table.keys() {
            if let Some(connection) = self.table.get_mut(key)
                && !connection.in_progress()
                && connection.output.is_empty()
            {
                idle.push((connection.deadline_ms, key));
            }
        }
        idle.sort_unstable();
        idle.truncate(EVICTED);
        for (_, key) in &idle {
            self.close(*key);
        }
        idle.len()
    }

    pub(super) fn rest_listeners(&mut self) {
        self.rest_until_ms = self.core.now_ms + ACCEPT_REST_MS;
    }

    /// Goes to the end of the queue of those that a newcomer may wake: the kernel always wakes the first that waits, and
    /// on a server that is not busy that would be the same worker each time.
    fn give_way(&mut self, index: u32) {
        let listener = self.listeners.get(index as usize);
        let Some(listener) = listener.filter(|_| self.siblings.others().is_some()) else {
            return;
        };
        self.core.poller.remove(&listener.socket);
        let token = Token::Listener(index);
        let added = self.core.poller.add_shared(listener.socket.as_fd(), token);
        // When that failed, arming all of them again will tell why.
        self.listening = added.is_ok();
    }

    /// Brings the accept set to what it should be.
    pub(super) fn arm_listeners(&mut self, slot: Option<&'static Slot>) -> io::Result<()> {
        if self.rest_until_ms > 0 && self.core.now_ms >= self.rest_until_ms {
            self.rest_until_ms = 0;
        }
        let wanted = self.slots_free && self.may_accept();
        if wanted == self.listening {
            return Ok(());
        }
        for (index, listener) in self.listeners.iter().enumerate() {
            if wanted {
                let token = Token::Listener(index as u32);
                self.core
                    .poller
                    .add_shared(listener.socket.as_fd(), token)?;
            } else {
                self.core.poller.remove(&listener.socket);
            }
        }
        if let Some(passage) = self.siblings.passage() {
            if wanted {
                let exit = passage.exit();
                self.core.poller.add_shared(exit, Token::Passage)?;
            } else {
                self.core.poller.remove(passage.exit());
            }
        }
        self.listening = wanted;
        if let Some(slot) = slot {
            // Busy or not: what is queued when the server stops is this worker's to take.
            slot.set_accepting(true);
        }
        Ok(())
    }
}

fn canonical(address: &SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}
