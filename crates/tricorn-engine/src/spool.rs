//! Bodies that wait: a buffered request body, in memory first, then in an unlinked temporary file; the rest of a
//! response that a slow peer has yet to take.
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

static NAMES: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub enum Store {
    Memory(Vec<u8>),
    File { file: File, len: u64 },
}

impl Default for Store {
    fn default() -> Self {
        Store::Memory(Vec::new())
    }
}

impl Store {
    pub fn len(&self) -> u64 {
        match self {
            Store::Memory(data) => data.len() as u64,
            Store::File { len, .. } => *len,
        }
    }

    /// Appends a block, moving to a file in `dir` once memory would exceed `memory_limit`.
    pub fn append(&mut self, block: &[u8], memory_limit: usize, dir: &Path) -> io::Result<()> {
        if let Store::Memory(data) = self {
            if data.len() + block.len() <= memory_limit {
                data.extend_from_slice(block);
                return Ok(());
            }
            let mut file = anonymous_file(dir)?;
            file.write_all(data)?;
            *self = Store::File {
                file,
                len: data.len() as u64,
            };
        }
        if let Store::File { file, len } = self {
            file.write_all(block)?;
            *len += block.len() as u64;
        }
        Ok(())
    }

    /// Reads at most `max` bytes from `position` into `out`.
    pub fn read_at(&mut self, position: u64, max: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        let rest = self.len().saturating_sub(position);
        let count = rest.min(max as u64) as usize;
        match self {
            Store::Memory(data) => {
                let start = (position as usize).min(data.len());
                out.extend_from_slice(&data[start..start + count]);
            }
            Store::File { file, .. } => {
                file.seek(SeekFrom::Start(position))?;
                let start = out.len();
                Read::take(&*file, count as u64).read_to_end(out)?;
                return Ok(out.len() - start);
            }
        }
        Ok(count)
    }
}

/// A file without a name that holds `data`.
pub fn file_of(data: &[u8], dir: &Path) -> io::Result<File> {
    let mut file = anonymous_file(dir)?;
    file.write_all(data)?;
    Ok(file)
}

/// A file without a name: O_TMPFILE where the file system has it, else created exclusively (0600) and unlinked at once.
fn anonymous_file(dir: &Path) -> io::Result<File> {
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
