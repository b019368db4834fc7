//! Buffers that wait for their next request.
use std::fs::File;
use std::io;
use std::path::Path;

use crate::connection::Parts;
use crate::poller;
use crate::spool::anonymous_file;

/// More than this many are given back to the allocator.
const KEPT: usize = 256;
/// Bytes of memory for large bodies that are kept: what one wait for events can bring by the default of
/// `request_buffer_memory`. The allocator would give it back to the system, and each page of it costs a fault then.
const KEPT_FOR_BODIES: usize = poller::ROOM * 256 * 1024;
/// So many emptied files are kept, one for each event of one wait: to make one and to unlink it costs the file system
/// more than half a megabyte that is written to it.
const KEPT_FILES: usize = poller::ROOM;

#[derive(Default)]
pub struct Pool {
    buffers: Vec<Vec<u8>>,
    files: Vec<File>,
    bodies: Vec<Vec<u8>>,
    /// Capacity of `bodies`.
    for_bodies: usize,
    #[allow(clippy::vec_box, reason = "the boxes themselves are what is reused")]
    parts: Vec<Box<Parts>>,
}

impl Pool {
    /// Capacity of an input buffer.
    pub const BUFFER: usize = 16 * 1024;

    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.buffers
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(Self::BUFFER))
    }

    pub fn put_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() == Self::BUFFER && self.buffers.len() < KEPT {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// A buffer for a request that is expected to have `length` bytes, more than an input buffer has.
    pub fn take_large(&mut self, length: usize) -> Vec<u8> {
        // Not one of many times the size: what a peer sends ahead would fill it.
        let mut buffer = self
            .take_kept(|capacity| capacity < 4 * length)
            .unwrap_or_default();
        buffer.reserve_exact(length);
        buffer
    }

    /// What bytes of a peer were read into.
    pub fn put_input(&mut self, mut input: Vec<u8>) {
        // Which leaves nothing of a large one.
        self.put_body(&mut input);
        self.put_buffer(input);
    }

    /// The memory of the last large body, if its capacity will do.
    fn take_kept(&mut self, will_do: impl FnOnce(usize) -> bool) -> Option<Vec<u8>> {
        let kept = self.bodies.pop_if(|kept| will_do(kept.capacity()))?;
        self.for_bodies -= kept.capacity();
        Some(kept)
    }

    /// Room for `more` bytes of a body behind those of `data`.
    pub fn make_room(&mut self, data: &mut Vec<u8>, more: usize) {
        let wanted = data.len() + more;
        if wanted > data.capacity() && wanted > Self::BUFFER {
            let there = data.capacity();
            if let Some(mut kept) = self.take_kept(|capacity| capacity > there) {
                kept.extend_from_slice(data);
                *data = kept;
            }
        }
        data.reserve(more);
    }

    /// Takes the memory of a body that is wanted no more, if it is large.
    pub fn put_body(&mut self, data: &mut Vec<u8>) {
        if data.capacity() > Self::BUFFER {
            let mut data = std::mem::take(data);
            if self.for_bodies + data.capacity() <= KEPT_FOR_BODIES {
                data.clear();
                self.for_bodies += data.capacity();
                self.bodies.push(data);
            }
        }
    }

    /// An empty file without a name, in `dir` unless one is kept.
    pub fn take_file(&mut self, dir: &Path) -> io::Result<File> {
        match self.files.pop() {
            Some(file) => Ok(file),
            None => anonymous_file(dir),
        }
    }

    fn put_file(&mut self, file: File) {
        if self.files.len() < KEPT_FILES && file.set_len(0).is_ok() {
            self.files.push(file);
        }
    }

    pub fn take_parts(&mut self) -> Box<Parts> {
        self.parts.pop().unwrap_or_default()
    }

    pub fn put_parts(&mut self, mut parts: Box<Parts>) {
        if let Some(file) = parts.store.empty() {
            self.put_file(file);
        }
        self.put_body(parts.store.memory_mut());
        if self.parts.len() < KEPT {
            parts.clear();
            self.parts.push(parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Store;

    fn parts_with(capacity: usize) -> Box<Parts> {
        Box::new(Parts {
            store: Store::in_memory(Vec::with_capacity(capacity)),
            ..Parts::default()
        })
    }

    #[test]
    fn memory_of_a_large_body_serves_the_next_one() {
        let mut pool = Pool::default();
        pool.put_parts(parts_with(100_000));
        let mut data = b"begun".to_vec();
        pool.make_room(&mut data, 90_000);
        assert_eq!(data, b"begun");
        assert_eq!(data.capacity(), 100_000);
        assert!(pool.bodies.is_empty() && pool.for_bodies == 0);
    }

    #[test]
    fn a_buffer_for_an_upload_is_one_of_those_kept_and_comes_back() {
        let mut pool = Pool::default();
        pool.put_parts(parts_with(60_000));
        let buffer = pool.take_large(70_000);
        assert!(buffer.is_empty() && buffer.capacity() >= 70_000);
        assert!(pool.bodies.is_empty() && pool.for_bodies == 0);
        pool.put_input(buffer);
        assert!(pool.bodies.len() == 1 && pool.for_bodies >= 70_000);
        // Far more than is expected stays where it is.
        pool.put_parts(parts_with(1_000_000));
        assert!(pool.take_large(70_000).capacity() < 280_000);
        assert_eq!(pool.bodies.len(), 2);
    }

    #[test]
    fn small_bodies_leave_it_alone() {
        let mut pool = Pool::default();
        pool.put_parts(parts_with(100_000));
        let mut data = Vec::new();
        pool.make_room(&mut data, 100);
        assert!(data.capacity() < 1000);
        assert_eq!(pool.for_bodies, 100_000);
    }

    #[test]
    fn no_more_is_kept_than_one_wait_can_bring() {
        let mut pool = Pool::default();
        for _ in 0..100 {
            pool.put_parts(parts_with(100_000));
        }
        assert!(pool.for_bodies <= KEPT_FOR_BODIES);
        assert_eq!(pool.for_bodies, pool.bodies.len() * 100_000);
        assert_eq!(pool.parts.len(), 100);
    }
}
