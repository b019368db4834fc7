//! Encodes a response body as its head announced it.
//!
//! Invariant: never more bytes than announced, and never a byte where none are allowed.
//! Source: RFC 9112, 6 and 7.1.
use alloc::vec::Vec;

/// How the end of a response body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is no body; what the application gives is dropped.
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// What the end of a head decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyPlan {
    pub kind: BodyKind,
    /// Another request may follow if the body ends as announced.
    pub keep_alive: bool,
}

/// Encoder of one body. Either `put` blocks, or `take`, `put_head`, the bytes themselves, `put_tail` for bytes that
/// travel another way (writev, sendfile).
#[derive(Clone, Debug)]
pub struct BodyEncoder {
    pub plan: BodyPlan,
    /// Bytes still to come of an announced length.
    left: u64,
}

impl BodyEncoder {
    pub fn new(plan: BodyPlan) -> BodyEncoder {
        let left = if let BodyKind::Length(length) = plan.kind {
            length
        } else {
            0
        };
        BodyEncoder { plan, left }
    }

    /// How many bytes of a block of that length are sent; they count as sent.
    pub fn take(&mut self, block_len: u64) -> u64 {
        match self.plan.kind {
            BodyKind::None => 0,
            BodyKind::Chunked | BodyKind::UntilClose => block_len,
            BodyKind::Length(_) => {
                let taken = block_len.min(self.left);
                self.left -= taken;
                taken
            }
        }
    }

    /// Appends a block, encoded and cut; how many of its bytes were taken. An empty block adds nothing.
    pub fn put(&mut self, out: &mut Vec<u8>, block: &[u8]) -> u64 {
        let taken = self.take(block.len() as u64);
        if taken > 0 {
            self.put_head(out, taken);
            // `taken` is at most the block's length.
            out.extend_from_slice(block.get(..taken as usize).unwrap_or(block));
            self.put_tail(out);
        }
        taken
    }

    /// Appends what stands before `len` (more than 0) bytes of data that were taken.
    pub fn put_head(&self, out: &mut Vec<u8>, len: u64) {
        if self.plan.kind != BodyKind::Chunked || len == 0 {
            return;
        }
        let digits = (64 - len.leading_zeros()).div_ceil(4);
        for place in (0..digits).rev() {
            let digit = (len >> (4 * place)) & 0xf;
            out.push(b"0123456789abcdef"[digit as usize]);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Appends what stands behind such data.
    pub fn put_tail(&self, out: &mut Vec<u8>) {
        if self.plan.kind == BodyKind::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Most bytes that `put` adds to a block.
    pub const OVERHEAD: usize = 20;

    /// Would a block of that length be the last, or more than there is room for?
    pub fn would_complete(&self, block_len: u64) -> bool {
        match self.plan.kind {
            BodyKind::None => true,
            BodyKind::Length(_) => self.left <= block_len,
            BodyKind::Chunked | BodyKind::UntilClose => false,
        }
    }

    /// Nothing of the body can follow: the announced length is reached, or there is no body.
    pub fn is_complete(&self) -> bool {
        match self.plan.kind {
            BodyKind::None => true,
            BodyKind::Length(_) => self.left == 0,
            BodyKind::Chunked | BodyKind::UntilClose => false,
        }
    }

    /// Ends the body, with `trailers` (see [`super::trailer_fields`]) when it is chunked; `false` when it is shorter than
    /// announced, so that the connection must be cut.
    pub fn finish(&mut self, out: &mut Vec<u8>, trailers: &[u8]) -> bool {
        if self.plan.kind == BodyKind::Chunked {
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(trailers);
            out.extend_from_slice(b"\r\n");
        }
        self.left == 0
    }
}
