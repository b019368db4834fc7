//! A connection that leaves the engine: its application goes on with another protocol of its own.
//!
//! Invariant: nothing is lost on the way. What the peer has sent already and what it has still to be sent go along.
use std::os::fd::OwnedFd;

use super::{Exchange, Gone};
use crate::clock;
use crate::connection::Fate;

/// What the new owner gets.
#[derive(Debug)]
pub struct Detached {
    /// Non-blocking.
    pub socket: OwnedFd,
    /// Read from the peer, behind the request.
    pub unread: Vec<u8>,
    /// To be sent before anything else: what the socket has not taken yet of the head.
    pub unsent: Vec<u8>,
}

impl Exchange {
    /// Gives the connection away, with the head that was encoded (if one was) on its way. The engine forgets it.
    ///
    /// Errors: the peer is gone, or a file is still on its way to it, which only the engine can send.
    pub fn detach(mut self) -> Result<Detached, Gone> {
        self.end_head(None);
        let key = self.parts.course.key;
        let mut parts = self.parts.0.take().ok_or(Gone)?;
        let mut inner = self.engine.lock();
        inner.core.now_ms = clock::now_ms();
        let unsent = inner.with(key, |connection, core| {
            connection.output.push(&parts.out, &mut core.pool);
            parts.out.clear();
            core.pool.put_parts(parts);
            connection.flush(core);
            let unsent = match connection.dead {
                true => None,
                false => connection.output.take_bytes(),
            };
            if unsent.is_none() {
                return (connection.end_exchange(core, false), None);
            }
            core.in_progress -= 1;
            (Fate::Keep, unsent)
        });
        let unsent = unsent.flatten().ok_or(Gone)?;
        let (socket, unread) = inner.give_away(key).ok_or(Gone)?;
        Ok(Detached {
            socket,
            unread,
            unsent,
        })
    }
}
