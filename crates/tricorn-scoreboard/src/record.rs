//! One in-flight request, as words that may be read while they are written.
//!
//! Bytes are kept in whole atomic words, so that a reader in another process sees old or new text and
//! never undefined behaviour; `sequence` tells it which readings to throw away (odd, or changed meanwhile).
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes kept of a request's method.
pub const METHOD_BYTES: usize = 16;
/// Bytes kept of a request's target.
pub const TARGET_BYTES: usize = 120;

const METHOD_WORDS: usize = METHOD_BYTES / 8;
const TARGET_WORDS: usize = TARGET_BYTES / 8;

/// A request some worker is working at, read from its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// Monotonic milliseconds when it began.
    pub started_ms: u64,
    /// Cut to [`METHOD_BYTES`].
    pub method: Vec<u8>,
    /// Cut to [`TARGET_BYTES`].
    pub target: Vec<u8>,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Record {
    sequence: AtomicU64,
    started_ms: AtomicU64,
    /// Length of the method in the low half, of the target in the high half.
    lengths: AtomicU64,
    method: [AtomicU64; METHOD_WORDS],
    target: [AtomicU64; TARGET_WORDS],
}

impl Record {
    /// Writes the record. Only the thread that claimed it may do so.
    pub(crate) fn fill(&self, method: &[u8], target: &[u8], now_ms: u64) {
        let method = &method[..method.len().min(METHOD_BYTES)];
        let target = &target[..target.len().min(TARGET_BYTES)];
        let sequence = self.sequence.load(Ordering::Relaxed) | 1;
        self.sequence.store(sequence, Ordering::Relaxed);
        fence(Ordering::Release);
        self.started_ms.store(now_ms, Ordering::Relaxed);
        self.lengths.store(
            method.len() as u64 | (target.len() as u64) << 32,
            Ordering::Relaxed,
        );
        store_bytes(&self.method, method);
        store_bytes(&self.target, target);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Release);
    }

    /// Reads the record; `None` when it was being written.
    pub(crate) fn read(&self) -> Option<InFlight> {
        let before = self.sequence.load(Ordering::Acquire);
        let lengths = self.lengths.load(Ordering::Relaxed);
        let read = InFlight {
            started_ms: self.started_ms.load(Ordering::Relaxed),
            method: load_bytes(&self.method, (lengths & 0xffff_ffff) as usize),
            target: load_bytes(&self.target, (lengths >> 32) as usize),
        };
        fence(Ordering::Acquire);
        let after = self.sequence.load(Ordering::Relaxed);
        (before == after && before & 1 == 0).then_some(read)
    }
}

fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks();
    // In a register: a word read from where its bytes were written one by one would have to wait for them.
    let last = rest.iter().rev();
    let last = last.fold(0, |word, &byte| word << 8 | u64::from(byte));
    let whole = whole.iter().map(|&chunk| u64::from_le_bytes(chunk));
    for (word, value) in words.iter().zip(whole.chain([last])) {
        word.store(value, Ordering::Relaxed);
    }
}

fn load_bytes(words: &[AtomicU64], length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}
