//! One request and its response, held by the thread that runs the application.
//!
//! Not the connection: an exchange may outlive its peer; writes then report [`Gone`].
//! Invariant: an exchange ends exactly once (`finish`, `fail`, or being dropped, which cuts the connection).
mod body;
mod channel;
mod detach;
mod response;

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tricorn_proto::h1::BodyDecoder;
use tricorn_proto::response::{BodyEncoder, HeadEncoder};
use tricorn_proto::{Head, Reject};

pub(crate) use self::body::StreamStep;
pub use self::channel::Channel;
pub use self::detach::Detached;
pub use self::response::Signed;
use crate::connection::{Awaited, Connection, Fate, Parts, Place};
use crate::engine::Engine;
use crate::peer::{Ends, ListenerInfo, Peer};

/// The peer has left, or a deadline of the connection has passed. Nothing more can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// What became of a block of the response body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// There is room for the next one.
    All,
    /// The output is above `response_buffer_memory`: `wait_writable` first.
    Full,
    /// This range of the block did not fit: `write_rest` or `leave_rest` first.
    Part(Range<usize>),
}

/// Why the request body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// Malformed body, or a limit or deadline passed: answer with this.
    Reject(Reject),
    /// The peer closed before the end of the body.
    Disconnected,
    /// The temporary file failed.
    Io(io::Error),
    /// Seeking is not possible on a streamed body.
    NotSeekable,
}

/// What is left of an exchange when it is over: the figures of the access log.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Bytes of response body accepted for sending (after chunk encoding is taken away).
    pub body_bytes: u64,
    /// The response was cut: peer gone, application failed after the head, body shorter than announced.
    pub cut: bool,
}

/// A body that is read from the peer while the application runs (`request_buffering = False`).
pub(crate) struct Stream {
    decoder: BodyDecoder,
    /// Decoded bytes nobody has asked for yet.
    surplus: Vec<u8>,
    taken: usize,
    ended: bool,
    continue_due: bool,
    started_ms: u64,
    received: u64,
}

pub(crate) enum Body {
    Buffered { position: u64 },
    Streamed(Box<Stream>),
}

impl Default for Body {
    fn default() -> Self {
        Body::Buffered { position: 0 }
    }
}

/// How far the response has come.
#[derive(Default)]
pub(crate) enum Response {
    /// Nothing begun; the application may still change its mind.
    #[default]
    Unbegun,
    Begun(HeadEncoder),
    /// The head is encoded (in `parts.out` until something leaves).
    Ended(BodyEncoder),
}

/// The parts, until they go back to the pool at the end of the exchange.
struct Lent(Option<Box<Parts>>);

impl Deref for Lent {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        self.0
            .as_deref()
            .expect("nothing is asked of an exchange after its end")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Parts {
        self.0
            .as_deref_mut()
            .expect("nothing is asked of an exchange after its end")
    }
}

/// Whose request it is, and how far the answer has come.
#[derive(Default)]
pub(crate) struct Course {
    pub key: u64,
    pub fd: RawFd,
    /// Both ends of the connection; set as long as there is a request.
    pub ends: Option<Arc<Ends>>,
    pub number: u32,
    pub received_ns: u64,
    /// The body is still with the peer.
    pub streamed: bool,
    /// Something of the response is on its way (an informational response is not).
    sent_any: bool,
    complete: bool,
    keep_alive: bool,
    gone: bool,
    body_bytes: u64,
}

impl Course {
    /// Of the request that has come by that connection; nothing is answered yet.
    pub fn begin(&mut self, connection: &Connection, received_ns: u64) {
        self.key = connection.key;
        self.fd = connection.socket.as_raw_fd();
        self.ends = Some(connection.ends.clone());
        self.number = connection.requests;
        self.received_ns = received_ns;
        self.streamed = connection.unread;
        self.sent_any = false;
        self.complete = false;
        self.gone = false;
        self.body_bytes = 0;
    }

    pub fn ends(&self) -> &Arc<Ends> {
        self.ends
            .as_ref()
            .expect("a request has come from somewhere")
    }
}

/// Two pointers, because it changes hands several times: in registers then.
pub struct Exchange {
    engine: Arc<Engine>,
    parts: Lent,
}

// ---- request
impl Exchange {
    pub(crate) fn new(engine: Arc<Engine>, mut parts: Box<Parts>) -> Exchange {
        let Parts {
            head, body, course, ..
        } = &mut *parts;
        if course.streamed {
            *body = Body::Streamed(Box::new(Stream {
                decoder: BodyDecoder::new(head.framing),
                surplus: Vec::new(),
                taken: 0,
                ended: false,
                continue_due: head.expect_continue,
                started_ms: course.received_ns / 1_000_000,
                received: 0,
            }));
        }
        course.keep_alive = head.keep_alive && engine.config.keepalive_ms > 0;
        Exchange {
            engine,
            parts: Lent(Some(parts)),
        }
    }

    pub fn head(&self) -> &Head {
        &self.parts.head
    }

    pub fn peer(&self) -> &Peer {
        &self.parts.course.ends().peer
    }

    pub fn listener(&self) -> &Arc<ListenerInfo> {
        &self.parts.course.ends().listener
    }

    /// Number of this request on its connection, from 1.
    pub fn request_number(&self) -> u32 {
        self.parts.course.number
    }

    /// The connection's socket, for `gunicorn.socket`; valid while the exchange lives.
    pub fn socket_fd(&self) -> RawFd {
        self.parts.course.fd
    }

    /// By this the engine reports what is awaited.
    pub fn key(&self) -> u64 {
        self.parts.course.key
    }

    /// Has the peer left, or shut its side? If not, the engine reports the exchange's key once it has.
    pub fn peer_has_left(&mut self) -> bool {
        let mut inner = self.engine.lock();
        let left = inner.with(self.parts.course.key, |connection, _| {
            let left = connection.dead || connection.peer_closed || connection.read_closed;
            if !left {
                connection.await_fact(Awaited::LEAVING);
            }
            (Fate::Keep, left)
        });
        left.unwrap_or(true)
    }

    /// Monotonic nanoseconds when the request was complete (streamed: its head).
    pub fn received_ns(&self) -> u64 {
        self.parts.course.received_ns
    }
}

impl Exchange {
    /// `sends`: what lies in the parts is to be sent first. Returns whether the peer was gone for it.
    fn end(&mut self, mut keep_alive: bool, sends: bool) -> bool {
        let Some(mut parts) = self.parts.0.take() else {
            return false;
        };
        let mut inner = self.engine.lock();
        let gone = inner.with(parts.course.key, |connection, core| {
            if sends && !connection.dead {
                connection.send(core, &parts.out, &[], Place::LAST);
                parts.out.clear();
            }
            if let Body::Streamed(stream) = &mut parts.body {
                connection.unread =
                    !stream.ended && !connection.skip_body(core, &mut stream.decoder);
                keep_alive &= !connection.unread;
                core.pool.put_body(&mut stream.surplus);
            }
            // The next request of the connection may need them.
            core.pool.put_parts(parts);
            let gone = connection.dead;
            (connection.end_exchange(core, keep_alive), gone)
        });
        sends && gone.unwrap_or(true)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end(false, false);
    }
}

/// Waits until the descriptor is ready; false after `timeout_ms`.
#[allow(unsafe_code)]
fn wait_for(fd: RawFd, flags: PollFlags, timeout_ms: u64) -> bool {
    // SAFETY: the table keeps the connection's socket open while its exchange lives.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let timeout = Timespec {
        tv_sec: (timeout_ms / 1000) as i64,
        tv_nsec: (timeout_ms % 1000 * 1_000_000) as i64,
    };
    let mut fds = [PollFd::new(&fd, flags)];
    !matches!(poll(&mut fds, Some(&timeout)), Ok(0))
}
