//! A WebSocket as its driver holds it.
//!
//! Not the frames: those are the connection's. Invariant: it ends once, by `close` or by being dropped.
use std::sync::Arc;

use tricorn_proto::ws::{CloseCode, DeflateParams, MessageKind};

use super::{Exchange, Gone};
use crate::clock;
use crate::connection::{Awaited, Fate, Inbound, Socket, SocketConfig};
use crate::engine::Engine;

pub struct Channel {
    engine: Arc<Engine>,
    key: u64,
    closed: bool,
}

impl Exchange {
    /// Sends the head (101, encoded by `begin_head` to `end_head`) and turns the connection into a WebSocket.
    pub fn upgrade(mut self, config: SocketConfig, deflate: Option<DeflateParams>) -> Channel {
        let key = self.parts.course.key;
        let channel = Channel {
            engine: self.engine.clone(),
            key,
            closed: false,
        };
        let Some(mut parts) = self.parts.0.take() else {
            return channel;
        };
        let mut inner = self.engine.lock();
        inner.core.now_ms = clock::now_ms();
        inner.with(key, |connection, core| {
            connection.output.push(&parts.out, &mut core.pool);
            parts.out.clear();
            core.pool.put_parts(parts);
            connection.unread = false;
            connection.flush(core);
            (
                connection.become_socket(core, Socket::new(config, deflate)),
                (),
            )
        });
        drop(inner);
        channel
    }
}

impl Channel {
    /// What has come; `None` leaves it to the engine to report the key once something has.
    pub fn try_receive(&mut self) -> Option<Inbound> {
        let mut inner = self.engine.lock();
        inner.core.now_ms = clock::now_ms();
        let taken = inner.with(self.key, |connection, core| {
            let (fate, inbound) = connection.take_inbound(core);
            if inbound.is_none() {
                connection.await_fact(Awaited::BODY);
            }
            (fate, inbound)
        });
        taken.unwrap_or_else(|| {
            Some(Inbound::Closed {
                code: crate::connection::ABNORMAL,
                reason: String::new(),
            })
        })
    }

    /// Errors: the peer is gone, or a Close was said.
    pub fn send(&mut self, kind: MessageKind, payload: &[u8]) -> Result<(), Gone> {
        let mut inner = self.engine.lock();
        inner.core.now_ms = clock::now_ms();
        let sent = inner.with(self.key, |connection, core| {
            (Fate::Keep, connection.send_message(core, kind, payload))
        });
        sent.flatten().ok_or(Gone)
    }

    /// May another message be sent? If not, the engine reports the key once it may.
    pub fn has_room(&mut self) -> Result<bool, Gone> {
        let mut inner = self.engine.lock();
        inner.core.now_ms = clock::now_ms();
        let room = inner.with(self.key, |connection, core| {
            (Fate::Keep, connection.poll_room(core))
        });
        room.flatten().ok_or(Gone)
    }

    /// Ends it with a Close of that code.
    pub fn close(mut self, code: CloseCode, reason: &str) {
        self.end(code, reason);
    }

    fn end(&mut self, code: CloseCode, reason: &str) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut inner = self.engine.lock();
        inner.core.now_ms = clock::now_ms();
        inner.with(self.key, |connection, core| {
            (connection.detach_socket(core, code, reason), ())
        });
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.end(CloseCode::INTERNAL_ERROR, "");
    }
}
