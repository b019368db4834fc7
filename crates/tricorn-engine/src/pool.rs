//! Buffers that wait for their next request.
use crate::connection::Parts;

/// Capacity of an input buffer.
const BUFFER: usize = 16 * 1024;
/// More than this many are given back to the allocator.
const KEPT: usize = 256;

#[derive(Default)]
pub struct Pool {
    buffers: Vec<Vec<u8>>,
    #[allow(clippy::vec_box, reason = "the boxes themselves are what is reused")]
    parts: Vec<Box<Parts>>,
}

impl Pool {
    pub fn buffer_size(&self) -> usize {
        BUFFER
    }

    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.buffers
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }

    pub fn put_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == BUFFER && self.buffers.len() < KEPT {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    pub fn take_parts(&mut self) -> Box<Parts> {
        self.parts.pop().unwrap_or_default()
    }

    pub fn put_parts(&mut self, mut parts: Box<Parts>) {
        if self.parts.len() < KEPT {
            parts.clear();
            self.parts.push(parts);
        }
    }
}
