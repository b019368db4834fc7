//! A connection that has become a WebSocket: frames in, messages for the driver, frames out.
//!
//! Answers pings, sends its own, and says good-bye; not the handshake, which the gateway has encoded by then. Invariant:
//! what waits for the driver is bounded (reading stops), and the driver always hears of the end, once.
//! Source: RFC 6455, 5.5 and 7.
use std::collections::VecDeque;

use tricorn_proto::ws::{CloseCode, Decoder, DeflateParams, Encoder, Event, Limits, Message};

use super::{Connection, Fate, Phase, Place};
use crate::engine::Core;
use crate::table::NEVER;

/// Messages that wait for the driver may hold so many bytes (or one message more) before reading stops.
const INBOX_BYTES: usize = 256 * 1024;
/// What a message weighs beside its bytes.
const MESSAGE_COST: usize = 64;
/// How long the peer may take to answer a Close.
const CLOSE_TIMEOUT_MS: u64 = 5_000;
/// Codes that no frame carries: a Close without one, and no Close at all.
pub const NO_CODE: u16 = 1005;
pub const ABNORMAL: u16 = 1006;

/// What the worker class knows of its WebSockets. Units: milliseconds, 0 = off.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketConfig {
    pub max_message_size: u64,
    pub ping_interval_ms: u64,
    pub ping_timeout_ms: u64,
}

/// What comes to the driver.
#[derive(Debug, PartialEq, Eq)]
pub enum Inbound {
    Message(Message),
    /// Nothing comes any more.
    Closed {
        code: u16,
        reason: String,
    },
}

pub struct Socket {
    decoder: Decoder,
    encoder: Encoder,
    config: SocketConfig,
    inbox: VecDeque<Inbound>,
    inbox_bytes: usize,
    /// A Close was sent.
    said_close: bool,
    /// The Close that is to be sent once the driver has taken what came before the end.
    parting: Option<(Option<CloseCode>, &'static str)>,
    /// The driver was told of the end, or is about to be.
    ended: bool,
    /// The driver still refers to it.
    pub attached: bool,
    /// A pong has to come until then.
    pong_deadline_ms: Option<u64>,
}

impl Socket {
    pub fn new(config: SocketConfig, deflate: Option<DeflateParams>) -> Socket {
        let limits = Limits {
            max_message_size: config.max_message_size,
        };
        Socket {
            decoder: Decoder::new(limits, deflate),
            encoder: Encoder::new(deflate),
            config,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            said_close: false,
            parting: None,
            ended: false,
            attached: true,
            pong_deadline_ms: None,
        }
    }

    /// Reading waits for the driver.
    pub fn is_full(&self) -> bool {
        self.inbox_bytes >= INBOX_BYTES
    }

    pub fn has_inbound(&self) -> bool {
        !self.inbox.is_empty()
    }

    fn put(&mut self, inbound: Inbound) {
        if self.ended || !self.attached {
            return;
        }
        self.inbox_bytes += weight(&inbound);
        self.ended = matches!(inbound, Inbound::Closed { .. });
        self.inbox.push_back(inbound);
    }

    fn take(&mut self) -> Option<Inbound> {
        let inbound = self.inbox.pop_front()?;
        self.inbox_bytes -= weight(&inbound);
        if self.inbox.is_empty() {
            // An idle socket keeps no memory.
            self.inbox = VecDeque::new();
        }
        Some(inbound)
    }
}

fn weight(inbound: &Inbound) -> usize {
    match inbound {
        Inbound::Message(message) => message.payload.len() + MESSAGE_COST,
        Inbound::Closed { .. } => 0,
    }
}

impl Connection {
    /// From now on frames. The answer to the handshake is in the output.
    pub fn become_socket(&mut self, core: &mut Core, socket: Socket) -> Fate {
        core.in_progress -= 1;
        if self.dead {
            self.phase = Phase::Socket(Box::new(socket));
            self.tell_of_the_end(ABNORMAL, "");
            return Fate::Keep;
        }
        self.phase = Phase::Socket(Box::new(socket));
        self.begun_at = None;
        self.arm_ping(core);
        if core.draining {
            return self.say_close(core, CloseCode::SERVICE_RESTART, "");
        }
        if self.advance(core) == Fate::Close {
            return Fate::Close;
        }
        if self.readable {
            self.on_readable(core)
        } else {
            Fate::Keep
        }
    }

    fn socket_mut(&mut self) -> Option<&mut Socket> {
        match &mut self.phase {
            Phase::Socket(socket) => Some(socket),
            _ => None,
        }
    }

    /// The next deadline of a socket at rest.
    pub(super) fn arm_ping(&mut self, core: &Core) {
        let stalled = self.stalled;
        let Some(socket) = self.socket_mut() else {
            return;
        };
        let deadline_ms = match (socket.pong_deadline_ms, socket.config.ping_interval_ms) {
            _ if socket.said_close || socket.parting.is_some() => core.now_ms + CLOSE_TIMEOUT_MS,
            (Some(deadline_ms), _) => deadline_ms,
            (None, 0) => NEVER,
            (None, interval_ms) => core.now_ms + interval_ms,
        };
        if !stalled {
            self.deadline_ms = deadline_ms;
        }
    }

    /// Decodes what is there.
    pub(super) fn advance_socket(&mut self, core: &mut Core) -> Fate {
        loop {
            let Phase::Socket(socket) = &mut self.phase else {
                return Fate::Keep;
            };
            if self.closing || socket.parting.is_some() {
                self.consumed = self.input.len();
            }
            if self.consumed == self.input.len() || socket.is_full() {
                return Fate::Keep;
            }
            let step = match socket.decoder.decode(&self.input[self.consumed..]) {
                Ok(step) => step,
                Err(fault) => {
                    self.tell_of_the_end(fault.code.value(), fault.message);
                    return self.part(core, Some(fault.code), fault.message);
                }
            };
            self.consumed += step.consumed;
            if let Some(event) = step.event
                && self.on_frame(core, event) == Fate::Close
            {
                return Fate::Close;
            }
        }
    }

    fn on_frame(&mut self, core: &mut Core, event: Event) -> Fate {
        let Phase::Socket(socket) = &mut self.phase else {
            return Fate::Keep;
        };
        match event {
            Event::Message(message) => {
                socket.put(Inbound::Message(message));
                Fate::Keep
            }
            Event::Ping(payload) => {
                if socket.said_close {
                    return Fate::Keep;
                }
                let mut frame = Vec::with_capacity(payload.len() + 2);
                socket.encoder.pong(&mut frame, &payload);
                self.send(core, &frame, &[], Place::LAST);
                Fate::Keep
            }
            Event::Pong(_) => {
                socket.pong_deadline_ms = None;
                self.arm_ping(core);
                Fate::Keep
            }
            Event::Close { code, reason } => {
                self.tell_of_the_end(code.map_or(NO_CODE, CloseCode::value), &reason);
                self.part(core, code, "")
            }
        }
    }

    /// Nothing more comes from the peer. What came before may still be answered: the Close waits until the driver has
    /// taken it all, or for the deadline.
    fn part(&mut self, core: &mut Core, code: Option<CloseCode>, reason: &'static str) -> Fate {
        self.consumed = self.input.len();
        let Phase::Socket(socket) = &mut self.phase else {
            return Fate::Keep;
        };
        // The end itself waits there already.
        if socket.inbox.len() > 1 && !socket.said_close {
            socket.parting = Some((code, reason));
            self.arm_ping(core);
            return Fate::Keep;
        }
        self.closing = true;
        self.put_close(core, code, reason);
        self.flush(core)
    }

    fn put_close(&mut self, core: &mut Core, code: Option<CloseCode>, reason: &str) {
        let Phase::Socket(socket) = &mut self.phase else {
            return;
        };
        if std::mem::replace(&mut socket.said_close, true) {
            return;
        }
        let mut frame = Vec::new();
        socket.encoder.close(&mut frame, code, reason);
        self.output.push(&frame, &mut core.pool);
        self.arm_ping(core);
    }

    /// Says good-bye; the peer has some time to answer.
    pub fn say_close(&mut self, core: &mut Core, code: CloseCode, reason: &str) -> Fate {
        self.tell_of_the_end(code.value(), reason);
        self.put_close(core, Some(code), reason);
        self.flush(core)
    }

    pub(super) fn tell_of_the_end(&mut self, code: u16, reason: &str) {
        if let Some(socket) = self.socket_mut() {
            let reason = reason.to_owned();
            socket.put(Inbound::Closed { code, reason });
        }
    }

    pub(super) fn on_socket_deadline(&mut self, core: &mut Core) -> Fate {
        let Phase::Socket(socket) = &mut self.phase else {
            return Fate::Keep;
        };
        if socket.said_close || self.closing {
            return self.on_broken();
        }
        if let Some((code, reason)) = socket.parting.take() {
            self.closing = true;
            self.put_close(core, code, reason);
            return self.flush(core);
        }
        if socket.pong_deadline_ms.is_some() && socket.is_full() {
            // The pong may have come: we do not read while the driver has enough.
            socket.pong_deadline_ms = Some(core.now_ms + socket.config.ping_timeout_ms);
            self.arm_ping(core);
            return Fate::Keep;
        }
        if socket.pong_deadline_ms.is_some() {
            self.closing = true;
            return self.say_close(core, CloseCode::INTERNAL_ERROR, "no pong");
        }
        let mut frame = Vec::new();
        socket.encoder.ping(&mut frame, b"");
        if socket.config.ping_timeout_ms > 0 {
            socket.pong_deadline_ms = Some(core.now_ms + socket.config.ping_timeout_ms);
        }
        self.output.push(&frame, &mut core.pool);
        self.arm_ping(core);
        self.flush(core)
    }

    /// A WebSocket that both sides and the driver are done with.
    pub(super) fn is_parted(&self) -> bool {
        matches!(&self.phase, Phase::Socket(socket) if !socket.attached)
    }

    /// For the driver: what has come. Reading goes on when there is room again.
    pub fn take_inbound(&mut self, core: &mut Core) -> (Fate, Option<Inbound>) {
        let Some(socket) = self.socket_mut() else {
            return (Fate::Keep, None);
        };
        let was_full = socket.is_full();
        let inbound = socket.take();
        if matches!(inbound, Some(Inbound::Closed { .. }))
            && let Some((code, reason)) = socket.parting.take()
        {
            self.closing = true;
            self.put_close(core, code, reason);
            return (self.flush(core), inbound);
        }
        let resumes = was_full && !socket.is_full() && !self.dead;
        if !resumes {
            return (Fate::Keep, inbound);
        }
        let mut fate = self.advance(core);
        if fate == Fate::Keep && self.readable {
            fate = self.on_readable(core);
        }
        (fate, inbound)
    }

    /// Sends a message; `None` once a Close was said or the peer is gone.
    pub fn send_message(
        &mut self,
        core: &mut Core,
        kind: tricorn_proto::ws::MessageKind,
        payload: &[u8],
    ) -> Option<()> {
        let Phase::Socket(socket) = &mut self.phase else {
            return None;
        };
        if self.dead || socket.said_close {
            return None;
        }
        if socket.encoder.compresses(payload.len()) {
            let mut frame = core.pool.take_buffer();
            socket.encoder.message(&mut frame, kind, payload);
            self.send(core, &frame, &[], Place::LAST);
            core.pool.put_buffer(frame);
        } else {
            let head = Encoder::header_for(kind, payload.len());
            let taken = self.send(core, &head, payload, Place::LAST);
            // A message is not cut: the driver asks for room before the next one.
            self.output.push(&payload[taken..], &mut core.pool);
        }
        (!self.dead).then_some(())
    }

    /// The driver is done with it. `code`: to be said, unless it was.
    pub fn detach_socket(&mut self, core: &mut Core, code: CloseCode, reason: &str) -> Fate {
        if let Some(socket) = self.socket_mut() {
            socket.attached = false;
            socket.inbox = VecDeque::new();
            socket.inbox_bytes = 0;
        }
        if self.dead {
            return Fate::Close;
        }
        self.put_close(core, Some(code), reason);
        let fate = self.flush(core);
        if fate == Fate::Keep && self.readable {
            return self.on_readable(core);
        }
        fate
    }
}
