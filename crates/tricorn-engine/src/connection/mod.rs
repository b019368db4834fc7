//! One connection: bytes from the socket to complete requests, responses back to the socket.
//!
//! Not the request's life in the application (that is `Exchange`). Runs under the engine's lock; never blocks.
//! Invariant: at most one request of a connection is in progress, so responses leave in the order of the requests.
mod awaited;
mod collect;
mod receive;
mod send;
mod socket;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::Shutdown;
use tricorn_proto::h1::HeadParser;
use tricorn_proto::{Head, PeerTrust, Reject, RejectKind};

pub use self::awaited::Awaited;
pub use self::collect::Collecting;
pub use self::send::{Place, Rest};
pub use self::socket::{ABNORMAL, Inbound, Socket, SocketConfig};
use crate::budget::Share;
use crate::config::EngineConfig;
use crate::engine::Core;
use crate::exchange::{Body, Course, Response};
use crate::output::Output;
use crate::peer::Ends;
use crate::spool::Store;
use crate::table::NEVER;

/// How long a closed connection is still read, so that the peer sees the answer and not a reset.
const LINGER_MS: u64 = 2_000;
/// How much is read and thrown away meanwhile.
const LINGER_BYTES: usize = 64 * 1024;
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The memory of one request; reused from request to request.
#[derive(Default)]
pub struct Parts {
    pub(crate) parser: HeadParser,
    pub head: Head,
    pub store: Store,
    /// What `store` has of the worker's memory.
    pub(crate) share: Option<Share>,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the response head is encoded.
    pub out: Vec<u8>,
    /// Trailer fields of the response, encoded.
    pub last_fields: Vec<u8>,
    pub(crate) body: Body,
    pub(crate) response: Response,
    pub(crate) course: Course,
}

impl Parts {
    /// All but `store`, for what is left of which the pool has a use, and `head`, which the parser clears.
    pub fn clear(&mut self) {
        self.parser.abandon();
        self.share = None;
        self.trailers.clear();
        self.last_fields.clear();
        self.body = Body::default();
        self.response = Response::Unbegun;
        self.course.ends = None;
        if self.out.capacity() > 64 * 1024 {
            self.out = Vec::new();
        } else {
            self.out.clear();
        }
    }
}

pub enum Phase {
    /// Between requests, or in the middle of a head.
    Head,
    /// Collecting a buffered body.
    Body(Box<Collecting>),
    /// The request is with the application (or on its way there).
    Busy,
    /// Frames, in both directions.
    Socket(Box<Socket>),
    /// Everything is said; what the peer still sends is thrown away.
    Linger { left: usize },
}

/// What becomes of a connection after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Keep,
    Close,
}

pub struct Connection {
    pub socket: OwnedFd,
    pub key: u64,
    pub ends: Arc<Ends>,
    pub trust: PeerTrust,
    /// While a head or a body comes.
    pub parts: Option<Box<Parts>>,
    pub input: Vec<u8>,
    pub consumed: usize,
    /// Where the request of this moment begins in `input`, as long as all of it is still there.
    begun_at: Option<usize>,
    pub phase: Phase,
    pub output: Output,
    pub requests: u32,
    /// Length of the body of the request before, when it was large and lay in memory: the next one is expected to be
    /// like it. Else 0.
    upload: u32,
    /// The socket may hold bytes that were not read yet (edge-triggered: nobody will say so again).
    pub readable: bool,
    /// The peer has shut its side: what is left to read ends with that news.
    pub peer_closed: bool,
    pub read_closed: bool,
    /// Broken, but an exchange still refers to it.
    pub dead: bool,
    /// Close once the output has left.
    pub closing: bool,
    /// The request of this moment was not read to its end.
    pub unread: bool,
    /// The poller watches it.
    pub watched: bool,
    watching_writable: bool,
    /// Output waits for the peer, and the deadline is that of its progress.
    stalled: bool,
    /// What the kernel had not delivered when the deadline for a stalled peer was set.
    unsent: u64,
    /// Output waits to be flushed together with that of others.
    pub dirty: bool,
    /// It is in the list of those that do, or did.
    pub listed: bool,
    /// What the driver of a foreign loop waits for.
    pub awaited: Awaited,
    /// The deadline of a body that is awaited has passed.
    pub late: bool,
    pub deadline_ms: u64,
}

impl Connection {
    pub fn new(
        socket: OwnedFd,
        key: u64,
        ends: Arc<Ends>,
        trust: PeerTrust,
        deadline_ms: u64,
    ) -> Self {
        Connection {
            socket,
            key,
            ends,
            trust,
            parts: None,
            input: Vec::new(),
            consumed: 0,
            begun_at: None,
            phase: Phase::Head,
            output: Output::default(),
            requests: 0,
            upload: 0,
            readable: false,
            peer_closed: false,
            read_closed: false,
            dead: false,
            closing: false,
            unread: false,
            watched: false,
            watching_writable: false,
            stalled: false,
            unsent: 0,
            dirty: false,
            listed: false,
            awaited: Awaited::default(),
            late: false,
            deadline_ms,
        }
    }

    /// A connection that could be closed without losing anything begun.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && !self.head_has_begun() && self.output.is_empty()
    }

    fn head_has_begun(&self) -> bool {
        let parts = self.parts.as_ref();
        parts.is_some_and(|parts| parts.parser.started())
    }

    /// It waits for its peer, and the poller does not know yet. Not before it waits: a connection that is answered and closed
    /// at once never needs the poller.
    pub fn needs_watch(&self) -> bool {
        let at_work = self.dirty || matches!(self.phase, Phase::Busy);
        !(self.watched || (at_work && self.awaited.is_empty()))
    }

    pub fn in_progress(&self) -> bool {
        matches!(self.phase, Phase::Body(_) | Phase::Busy | Phase::Socket(_))
    }

    /// The application's answer is complete (it may still be in the output).
    pub fn end_exchange(&mut self, core: &mut Core, keep_alive: bool) -> Fate {
        core.in_progress -= 1;
        if self.dead {
            return Fate::Close;
        }
        self.phase = Phase::Head;
        self.awaited = Awaited::default();
        if !keep_alive || (self.read_closed && self.consumed == self.input.len()) {
            self.closing = true;
            self.unread |= self.consumed < self.input.len() || self.readable;
            if self.dirty && core.company_for(self.output.pending(), 0) {
                return Fate::Keep;
            }
            return self.flush(core);
        }
        if !self.stalled {
            self.deadline_ms = core.idle_deadline(false);
        }
        if self.consumed < self.input.len() && self.advance(core) == Fate::Close {
            return Fate::Close;
        }
        // A pipelined request that is ready already will share its write with this answer, other connections' answers
        // the waking of the peer.
        let pipelined = matches!(self.phase, Phase::Busy);
        let waits_for_company =
            self.dirty && (pipelined || core.company_for(self.output.pending(), 0));
        if !self.output.is_empty() && !waits_for_company {
            let fate = self.flush(core);
            if fate == Fate::Close {
                return fate;
            }
        }
        if self.read_closed && matches!(self.phase, Phase::Head | Phase::Body(_)) {
            return self.on_end_of_input(core);
        }
        if self.readable && !matches!(self.phase, Phase::Busy) {
            return self.on_readable(core);
        }
        self.release_idle_memory(core);
        Fate::Keep
    }

    fn begin_close(&mut self, core: &mut Core) -> Fate {
        let rest_unread = self.unread || self.readable || self.consumed < self.input.len();
        if self.read_closed || !rest_unread {
            return Fate::Close;
        }
        // Closing with unread input would reset the connection and take the answer with it.
        if rustix::net::shutdown(&self.socket, Shutdown::Write).is_err() {
            return Fate::Close;
        }
        self.phase = Phase::Linger { left: LINGER_BYTES };
        self.deadline_ms = core.now_ms + LINGER_MS;
        self.release_input(core);
        self.on_readable(core)
    }

    /// The connection failed or the peer reset it.
    pub fn on_broken(&mut self) -> Fate {
        self.dead = true;
        self.output.clear();
        self.deadline_ms = NEVER;
        self.tell_of_the_end(ABNORMAL, "");
        match &self.phase {
            Phase::Busy => Fate::Keep,
            Phase::Socket(socket) if socket.attached => Fate::Keep,
            _ => Fate::Close,
        }
    }

    pub fn on_deadline(&mut self, core: &mut Core) -> Fate {
        if self.stalled {
            if self.peer_takes() {
                self.expect_progress(core);
                return Fate::Keep;
            }
            return self.on_broken();
        }
        match &self.phase {
            Phase::Busy => {
                self.late = self.awaited.contains(Awaited::BODY);
                self.deadline_ms = NEVER;
                Fate::Keep
            }
            Phase::Socket(_) => self.on_socket_deadline(core),
            Phase::Linger { .. } => Fate::Close,
            Phase::Head if !self.head_has_begun() => Fate::Close,
            Phase::Head => self.refuse(core, &timed_out("request head")),
            Phase::Body(_) => self.refuse(core, &timed_out("request body")),
        }
    }

    /// All the bytes of the request that waits for a thread, and what came behind it: with them another worker can
    /// take it from here. None when there is more to this connection than those.
    pub fn movable(&self) -> Option<&[u8]> {
        let bare = matches!(self.phase, Phase::Busy)
            && !self.unread
            && !self.dead
            && !self.closing
            && self.output.is_empty();
        self.begun_at.filter(|_| bare).map(|at| &self.input[at..])
    }

    /// Another worker's connection, with what that one had read.
    pub fn take_over(&mut self, core: &mut Core, requests: u32, bytes: &[u8]) -> Fate {
        self.requests = requests;
        self.input = core.pool.take_buffer();
        self.input.extend_from_slice(bytes);
        self.advance(core)
    }

    /// The request goes to the application: from here on its bytes are not needed any more.
    pub fn release_consumed(&mut self, core: &mut Core) {
        if self.consumed == self.input.len() && !self.unread {
            self.release_input(core);
        }
        self.begun_at = None;
    }

    fn release_input(&mut self, core: &mut Core) {
        self.begun_at = None;
        self.consumed = 0;
        core.pool.put_input(std::mem::take(&mut self.input));
    }

    /// An idle connection keeps no buffer: that is what makes ten thousand of them cheap.
    fn release_idle_memory(&mut self, core: &mut Core) {
        let needed = match self.phase {
            Phase::Body(_) => true,
            Phase::Busy => self.begun_at.is_some(),
            Phase::Head | Phase::Socket(_) | Phase::Linger { .. } => false,
        };
        if self.consumed == self.input.len() && self.input.capacity() > 0 && !needed {
            self.release_input(core);
        }
        if matches!(self.phase, Phase::Head)
            && !self.head_has_begun()
            && let Some(parts) = self.parts.take()
        {
            core.pool.put_parts(parts);
        }
    }
}

pub fn timed_out(what: &str) -> Reject {
    Reject {
        kind: RejectKind::RequestTimeout,
        message: format!("The {what} took too long"),
    }
}

/// Errors: a body of that length exceeds `limit_request_body`.
pub fn within_limit(length: u64, config: &EngineConfig) -> Result<(), Reject> {
    let limit = config.limit_request_body;
    if limit == 0 || length <= limit {
        return Ok(());
    }
    let message = format!("Request body is too large ({length} > {limit})");
    Err(Reject {
        kind: RejectKind::ContentTooLarge,
        message,
    })
}
