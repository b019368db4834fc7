//! One request and its response, held by the thread that runs the application.
//!
//! Not the connection: an exchange may outlive its peer; writes then report [`Gone`].
use std::fs::File;
use std::os::fd::RawFd;
use std::sync::Arc;

use tricorn_proto::{AppFault, Head, Reject};

use crate::peer::{ListenerInfo, Peer};

/// The peer has left, or a deadline of the connection has passed. Nothing more can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Why the request body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// Malformed body, or a limit or deadline passed: answer with this.
    Reject(Reject),
    /// The peer closed before the end of the body.
    Disconnected,
    /// The temporary file failed.
    Io(std::io::Error),
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

pub struct Exchange {}

#[allow(unused_variables)]
impl Exchange {
    // ---- request
    pub fn head(&self) -> &Head { unimplemented!() }
    pub fn peer(&self) -> &Peer { unimplemented!() }
    pub fn listener(&self) -> &Arc<ListenerInfo> { unimplemented!() }
    /// Number of this request on its connection, from 1.
    pub fn request_number(&self) -> u32 { unimplemented!() }
    /// The connection's socket, for `gunicorn.socket`; valid while the exchange lives.
    pub fn socket_fd(&self) -> RawFd { unimplemented!() }
    /// Monotonic nanoseconds when the head (buffered: the whole request) was complete.
    pub fn received_ns(&self) -> u64 { unimplemented!() }

    // ---- request body
    /// Length when known: Content-Length, or the decoded length of a buffered chunked body.
    pub fn body_len(&self) -> Option<u64> { unimplemented!() }
    /// Buffered bodies (setting `request_buffering`) can seek and never block.
    pub fn body_is_buffered(&self) -> bool { unimplemented!() }
    /// Appends at most `max` bytes to `dst`; 0 = end of body. Waits for the peer when streamed: release the GIL around it
    /// unless `body_is_buffered`. The first read sends `100 Continue` when the peer expects it and nothing was sent.
    pub fn read_body(&mut self, dst: &mut Vec<u8>, max: usize) -> Result<usize, BodyError> { unimplemented!() }
    /// Appends up to and including the next LF, at most `max` bytes.
    pub fn read_body_line(&mut self, dst: &mut Vec<u8>, max: usize) -> Result<usize, BodyError> { unimplemented!() }
    pub fn body_position(&self) -> u64 { unimplemented!() }
    pub fn seek_body(&mut self, position: u64) -> Result<u64, BodyError> { unimplemented!() }
    /// Trailer fields, known once the body has ended.
    pub fn trailers(&self) -> &[(Vec<u8>, Vec<u8>)] { unimplemented!() }

    // ---- response head. Nothing leaves before the first write/finish after `end_head`.
    /// Informational response (103): sent at once. No-op on HTTP/1.0 or after `end_head`.
    pub fn early_hints(&mut self, fields: &[(&[u8], &[u8])]) -> Result<(), AppFault> { unimplemented!() }
    /// Starts the head, throwing away one that was begun but not ended. `status` is `200 OK`.
    pub fn begin_head(&mut self, status: &[u8]) -> Result<(), AppFault> { unimplemented!() }
    /// Adds a field, in the order of the calls. Hop-by-hop fields, Server and Date are dropped by the encoder.
    pub fn head_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), AppFault> { unimplemented!() }
    /// Ends the head. `known_length`: the whole length of the body when the caller knows it; becomes Content-Length unless the
    /// application gave one.
    pub fn end_head(&mut self, known_length: Option<u64>) { unimplemented!() }
    pub fn head_ended(&self) -> bool { unimplemented!() }

    // ---- response body
    /// Puts a block of body into the output buffer (or straight onto the socket). Cuts at Content-Length, drops for
    /// HEAD/204/304. Never blocks; `Ok(false)` = the buffer is above `response_buffer_memory`: release the GIL and call
    /// `wait_writable` before the next block.
    pub fn write(&mut self, block: &[u8]) -> Result<bool, Gone> { unimplemented!() }
    /// Waits until the output buffer has room, the peer is gone, or `send_timeout` without progress. Without the GIL.
    pub fn wait_writable(&mut self) -> Result<(), Gone> { unimplemented!() }
    /// The engine sends `length` bytes of `file` from `offset`, behind everything written so far, without holding a thread
    /// (sendfile). `file` is a duplicate of the application's descriptor.
    pub fn send_file(&mut self, file: File, offset: u64, length: u64) -> Result<(), Gone> { unimplemented!() }
    pub fn can_send_file(&self) -> bool { unimplemented!() }
    /// Makes this the last response of the connection (before `end_head`: it says `Connection: close`).
    pub fn force_close(&mut self) { unimplemented!() }

    // ---- end
    /// The application is done. A body shorter than Content-Length closes the connection.
    pub fn finish(self) -> Record { unimplemented!() }
    /// The request cannot be answered properly: the error page when no head has left, else the connection is cut.
    pub fn fail(self, reject: &Reject) -> Record { unimplemented!() }
}
