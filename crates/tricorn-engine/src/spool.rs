//! Bodies that wait: a buffered request body, in memory first, then in an unlinked temporary file; the rest of a
//! response that a slow peer has yet to take.
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use crate::pool::Pool;

static NAMES: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub enum Store {
    /// The body is what lies behind `start`: the buffer that the peer's bytes were read into may have become its memory.
    Memory { data: Vec<u8>, start: usize },
    /// `tail` is still to be written.
    File {
        file: File,
        written: u64,
        tail: Vec<u8>,
    },
}

impl Default for Store {
    fn default() -> Self {
        Store::in_memory(Vec::new())
    }
}

impl Store {
    pub fn in_memory(data: Vec<u8>) -> Self {
        Store::Memory { data, start: 0 }
    }

    pub fn len(&self) -> u64 {
        match self {
            Store::Memory { .. } => self.held() as u64,
            Store::File { written, tail, .. } => written + tail.len() as u64,
        }
    }

    pub fn is_file(&self) -> bool {
        matches!(self, Store::File { .. })
    }

    /// Bytes that lie in memory.
    pub fn held(&self) -> usize {
        match self {
            Store::Memory { data, start } => data.len() - start,
            Store::File { tail, .. } => tail.len(),
        }
    }

    /// Its memory is of those the pool keeps for large bodies.
    pub fn is_large(&self) -> bool {
        match self {
            Store::Memory { data, .. } | Store::File { tail: data, .. } => {
                data.capacity() > Pool::BUFFER
            }
        }
    }

    /// What lies in memory; what comes goes behind it.
    pub fn memory_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Store::Memory { data, .. } | Store::File { tail: data, .. } => data,
        }
    }

    /// Moves what lies in memory to a file that `open` gives.
    pub fn spill(&mut self, open: impl FnOnce() -> io::Result<File>) -> io::Result<()> {
        if let Store::Memory { data, start } = self {
            let file = open()?;
            data.drain(..*start);
            *self = Store::File {
                file,
                written: 0,
                tail: std::mem::take(data),
            };
        }
        if let Store::File {
            file,
            written,
            tail,
        } = self
        {
            file.write_all_at(tail, *written)?;
            *written += tail.len() as u64;
            tail.clear();
        }
        Ok(())
    }

    /// Forgets the body. What lay in memory leaves its room behind; the file is for whoever wants it.
    pub fn empty(&mut self) -> Option<File> {
        let mut memory = std::mem::take(self.memory_mut());
        memory.clear();
        match std::mem::replace(self, Store::in_memory(memory)) {
            Store::File { file, .. } => Some(file),
            Store::Memory { .. } => None,
        }
    }

    /// The body, when all of it lies in memory.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Store::Memory { data, start } => Some(&data[*start..]),
            Store::File { .. } => None,
        }
    }

    /// Reads the bytes from `position` on into all of `out`; the body has come to its end, and has as many.
    pub fn read_at(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            _ if out.is_empty() => Ok(()),
            Store::Memory { data, start } => {
                let from = start + position as usize;
                out.copy_from_slice(&data[from..from + out.len()]);
                Ok(())
            }
            Store::File { file, .. } => file.read_exact_at(out, position),
        }
    }
}

/// A file without a name that holds `data`.
pub fn file_of(data: &[u8], dir: &Path) -> io::Result<File> {
    let mut file = anonymous_file(dir)?;
    file.write_all(data)?;
    Ok(file)
}

/// A file without a name: O_TMPFILE where the file system has it, else created exclusively (0600) and unlinked at once.
pub fn anonymous_file(dir: &Path) -> io::Result<File> {
    let unnamed = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(OFlags::TMPFILE.bits() as i32)
        .open(dir);
    if unnamed.is_ok() {
        return unnamed;
    }
    for _ in 0..16 {
        let serial = NAMES.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!(
            ".tricorn-{}-{serial}-{}",
            std::process::id(),
            crate::clock::now_ns()
        ));
        match OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
