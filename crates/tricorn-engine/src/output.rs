//! Bytes and file ranges on their way to one peer, in order.
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::batch::Outcome;
use crate::pool::Pool;

/// The largest piece handed to one sendfile call, so that one peer on a fast link does not keep the others waiting.
const FILE_PIECE: u64 = 512 * 1024;
/// Segments handed to one writev call.
const VECTORS: usize = 16;
/// Blocks smaller than this are joined to the segment before them.
const JOIN_BELOW: usize = 16 * 1024;

enum Segment {
    Bytes { data: Vec<u8>, sent: usize },
    File { file: File, offset: u64, left: u64 },
}

/// What one attempt to flush came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Everything has left.
    Empty,
    /// The socket took what it could.
    Blocked,
    /// A fair share has left; there is more and the socket may take it.
    More,
}

#[derive(Default)]
pub struct Output {
    segments: VecDeque<Segment>,
    pending: u64,
}

impl Output {
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes that still have to leave, file ranges included.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Appends a block. Small ones lie in a buffer of the pool's until they have left.
    pub fn push(&mut self, block: &[u8], pool: &mut Pool) {
        if block.is_empty() {
            return;
        }
        self.pending += block.len() as u64;
        if let Some(Segment::Bytes { data, .. }) = self.segments.back_mut()
            && data.len() + block.len() <= JOIN_BELOW.max(data.capacity())
        {
            data.extend_from_slice(block);
            return;
        }
        let mut data = match block.len() <= Pool::BUFFER {
            true => pool.take_buffer(),
            false => Vec::with_capacity(block.len()),
        };
        data.extend_from_slice(block);
        self.segments.push_back(Segment::Bytes { data, sent: 0 });
    }

    /// Lets `write` put up to `room` bytes behind what waits, when they fit there; `None` when they do not.
    pub fn append<T>(&mut self, room: usize, write: impl FnOnce(&mut Vec<u8>) -> T) -> Option<T> {
        let Some(Segment::Bytes { data, .. }) = self.segments.back_mut() else {
            return None;
        };
        let before = data.len();
        if data.capacity() - before < room {
            return None;
        }
        let result = write(data);
        self.pending += (data.len() - before) as u64;
        Some(result)
    }

    pub fn push_file(&mut self, file: File, offset: u64, length: u64) {
        if length > 0 {
            self.pending += length;
            self.segments.push_back(Segment::File {
                file,
                offset,
                left: length,
            });
        }
    }

    /// All that has to leave, for somebody else to send; `None` when a file is among it.
    pub fn take_bytes(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for segment in &self.segments {
            match segment {
                Segment::Bytes { data, sent } => bytes.extend_from_slice(&data[*sent..]),
                Segment::File { .. } => return None,
            }
        }
        self.clear();
        Some(bytes)
    }

    pub fn clear(&mut self) {
        self.segments.clear();
        self.pending = 0;
    }

    /// All that has to leave, if one send can take it.
    pub fn single(&self) -> Option<&[u8]> {
        match self.segments.front() {
            Some(Segment::Bytes { data, sent }) if self.segments.len() == 1 => Some(&data[*sent..]),
            _ => None,
        }
    }

    /// Sends what the socket takes. Returns the outcome and the number of bytes that left. `tried`: what has just become
    /// of `single`.
    /// Errors: those of the socket; a file shorter than announced is `UnexpectedEof`.
    pub fn flush(
        &mut self,
        socket: BorrowedFd<'_>,
        pool: &mut Pool,
        mut tried: Option<Outcome>,
    ) -> io::Result<(Flush, u64)> {
        let mut total = 0;
        loop {
            let step = match (self.segments.front_mut(), tried.take()) {
                (None, _) => return Ok((Flush::Empty, total)),
                (_, Some(outcome)) => outcome,
                (Some(Segment::File { file, offset, left }), None) => {
                    let piece = (*left).min(FILE_PIECE);
                    let step =
                        rustix::fs::sendfile(socket, file.as_fd(), Some(offset), piece as usize);
                    if step == Ok(0) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    step
                }
                (Some(Segment::Bytes { .. }), None) => self.write_bytes(socket),
            };
            match step {
                Ok(count) => {
                    self.advance(count as u64, pool);
                    total += count as u64;
                    if total >= 2 * FILE_PIECE && !self.segments.is_empty() {
                        return Ok((Flush::More, total));
                    }
                }
                Err(Errno::AGAIN) => return Ok((Flush::Blocked, total)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write_bytes(&self, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        // What goes out with a file travels in its first packet.
        let flags = match self.segments.get(1) {
            Some(Segment::File { .. }) => SendFlags::NOSIGNAL | SendFlags::MORE,
            _ => SendFlags::NOSIGNAL,
        };
        if let (Some(Segment::Bytes { data, sent }), None | Some(Segment::File { .. })) =
            (self.segments.front(), self.segments.get(1))
        {
            return rustix::net::send(socket, &data[*sent..], flags);
        }
        let mut vectors = std::array::from_fn::<_, VECTORS, _>(|_| IoSlice::new(&[]));
        let mut count = 0;
        for segment in &self.segments {
            let Segment::Bytes { data, sent } = segment else {
                break;
            };
            if count == VECTORS {
                break;
            }
            vectors[count] = IoSlice::new(&data[*sent..]);
            count += 1;
        }
        rustix::io::writev(socket, &vectors[..count])
    }

    fn advance(&mut self, mut count: u64, pool: &mut Pool) {
        self.pending -= count;
        while count > 0 {
            match self.segments.front_mut() {
                Some(Segment::Bytes { data, sent }) => {
                    let rest = (data.len() - *sent) as u64;
                    if count < rest {
                        *sent += count as usize;
                        return;
                    }
                    count -= rest;
                }
                // sendfile has moved the offset itself.
                Some(Segment::File { left, .. }) => {
                    if count < *left {
                        *left -= count;
                        return;
                    }
                    count -= *left;
                }
                None => return,
            }
            if let Some(Segment::Bytes { data, .. }) = self.segments.pop_front() {
                pool.put_buffer(data);
            }
        }
    }
}
