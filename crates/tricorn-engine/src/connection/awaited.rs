//! What the driver of a foreign loop waits for: noted on the connection, reported by a turn once it has come.
//!
//! Threads of our own wait in the kernel instead, and never need it. Invariant: whatever is awaited also comes when the
//! connection breaks, so nobody waits for ever.
use super::{Connection, Phase};
use crate::engine::Core;

/// A set of facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Awaited(u8);

impl Awaited {
    /// More of a streamed body, or its end; of a WebSocket, a message.
    pub const BODY: Awaited = Awaited(1);
    /// The output has gone down to half of what it may hold.
    pub const ROOM: Awaited = Awaited(2);
    /// The peer has left.
    pub const LEAVING: Awaited = Awaited(4);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, other: Awaited) -> bool {
        self.0 & other.0 != 0
    }
}

impl Connection {
    pub fn await_fact(&mut self, fact: Awaited) {
        self.awaited = Awaited(self.awaited.0 | fact.0);
    }

    /// A body that is awaited has to come until then.
    pub fn await_body(&mut self, deadline_ms: u64) {
        self.await_fact(Awaited::BODY);
        // Output that stalls has a deadline of its own, which is looked at first.
        if !self.stalled {
            self.deadline_ms = deadline_ms;
        }
    }

    /// Has something of what is awaited come?
    pub fn is_due(&self, core: &Core) -> bool {
        let gone = self.dead || self.peer_closed || self.read_closed;
        let body = match &self.phase {
            Phase::Socket(socket) => socket.has_inbound() || self.dead,
            _ => self.readable || self.late || gone,
        };
        let body = self.awaited.contains(Awaited::BODY) && body;
        let room = self.awaited.contains(Awaited::ROOM) && (self.has_room(core) || self.dead);
        let leaving = self.awaited.contains(Awaited::LEAVING) && gone;
        body || room || leaving
    }

    /// Is there room, or is it worth waiting for? Then it is awaited. `None`: the connection is broken.
    pub fn poll_room(&mut self, core: &Core) -> Option<bool> {
        if self.dead {
            return None;
        }
        let room = self.has_room(core);
        if !room {
            self.await_fact(Awaited::ROOM);
        }
        Some(room)
    }

    /// Half of what the output may hold is free.
    pub fn has_room(&self, core: &Core) -> bool {
        self.output.pending() <= core.config.response_buffer_memory as u64 / 2
    }
}
