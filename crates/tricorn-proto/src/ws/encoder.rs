//! From what the application says to frames.
//!
//! Invariant: whatever is passed in, what comes out is a row of whole frames, each with its minimal head, unmasked.
//! Source: RFC 6455, 5; RFC 7692, 6.1.
use alloc::vec::Vec;
use core::ops::Deref;

use super::deflate::{DeflateParams, Deflater};
use super::frame::{FIN, MAX_CONTROL, Opcode, RSV1};
use super::{CloseCode, MessageKind};

/// The head of one frame, to be sent in front of its payload.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    bytes: [u8; MAX_HEAD],
    len: u8,
}

impl FrameHead {
    #[inline]
    fn new(first: u8, len: usize) -> FrameHead {
        let mut bytes = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let taken = if let Ok(short @ ..126) = u8::try_from(len) {
            bytes[1] = short;
            2
        } else if let Ok(len) = u16::try_from(len) {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            4
        } else {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(len as u64).to_be_bytes());
            10
        };
        FrameHead { bytes, len: taken }
    }
}

impl Deref for FrameHead {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The longest head of a frame without a mask.
const MAX_HEAD: usize = 10;

/// Writes what one client receives.
pub struct Encoder {
    deflater: Option<Deflater>,
}

impl Encoder {
    /// An encoder that deflates when `deflate` was negotiated.
    pub fn new(deflate: Option<DeflateParams>) -> Encoder {
        Encoder {
            deflater: deflate.map(Deflater::new),
        }
    }

    /// Whether [`message`](Encoder::message) would try to compress that many bytes, rather than copy them.
    pub fn compresses(&self, len: usize) -> bool {
        self.deflater
            .as_ref()
            .is_some_and(|deflater| deflater.wants(len))
    }

    /// Appends a message as one frame, compressed where that was negotiated and makes it shorter.
    pub fn message(&mut self, out: &mut Vec<u8>, kind: MessageKind, payload: &[u8]) {
        if let Some(deflater) = &mut self.deflater
            && deflater.wants(payload.len())
        {
            let start = out.len();
            out.extend_from_slice(&[0; MAX_HEAD]);
            let body = out.len();
            if deflater.deflate(payload, out) {
                let head = FrameHead::new(FIN | RSV1 | opcode(kind).bits(), out.len() - body);
                // The head's length is known only now; moving the little that is left costs less than a second buffer.
                out[start..start + head.len()].copy_from_slice(&head);
                out.copy_within(body.., start + head.len());
                out.truncate(out.len() - (MAX_HEAD - head.len()));
                return;
            }
            out.truncate(start);
        }
        append(out, &Encoder::header_for(kind, payload.len()), payload);
    }

    /// The head of an uncompressed message of `len` bytes, for who sends the payload from where it lies.
    ///
    /// Always allowed: a message that is not compressed leaves the compression's state as it was.
    pub fn header_for(kind: MessageKind, len: usize) -> FrameHead {
        FrameHead::new(FIN | opcode(kind).bits(), len)
    }

    /// Appends a Ping; of the payload, the first 125 bytes.
    pub fn ping(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        control(out, Opcode::Ping, payload);
    }

    /// Appends a Pong; of the payload, the first 125 bytes.
    pub fn pong(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        control(out, Opcode::Pong, payload);
    }

    /// Appends a Close, the last frame a connection may send. The reason is cut to what a frame holds, and left out
    /// when there is no code to stand in front of it.
    pub fn close(&mut self, out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
        let Some(code) = code else {
            return control(out, Opcode::Close, b"");
        };
        let mut end = reason.len().min(MAX_CONTROL - 2);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = &reason[..end];
        append(
            out,
            &FrameHead::new(FIN | Opcode::Close.bits(), 2 + reason.len()),
            &code.value().to_be_bytes(),
        );
        out.extend_from_slice(reason.as_bytes());
    }
}

fn opcode(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}

fn control(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let payload = &payload[..payload.len().min(MAX_CONTROL)];
    append(
        out,
        &FrameHead::new(FIN | opcode.bits(), payload.len()),
        payload,
    );
}

fn append(out: &mut Vec<u8>, head: &[u8], payload: &[u8]) {
    out.reserve(head.len() + payload.len());
    out.extend_from_slice(head);
    out.extend_from_slice(payload);
}
