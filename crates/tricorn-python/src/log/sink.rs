//! Where access lines go: a buffer before a descriptor that must never hold up serving.
//!
//! What it is not: durable. A reader that does not keep up (a full pipe, a full disk) costs lines, counted,
//! never time; a reader that is gone costs all of them until the log is reopened.
//!
//! Invariants: a line is appended whole; only the process that made the sink writes it, so a fork copies no
//! buffered line; to a pipe no more than PIPE_BUF bytes of whole lines leave in one write, so that the lines
//! of several workers do not mix.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec, write};
use rustix::net::{SendFlags, send};
use rustix::termios::isatty;

/// Beyond this a line does not wait for the next flush.
const FLUSH_AT: usize = 64 * 1024;
/// Beyond this lines are dropped.
const BUFFER_LIMIT: usize = 1024 * 1024;
/// What POSIX and Linux write to a pipe in one piece.
const PIPE_BUF: usize = 4096;

/// One worker's way to the access log, shared by its threads.
pub struct Sink {
    owner: u32,
    buffer: Mutex<Vec<u8>>,
    writer: Mutex<Writer>,
    waiting: AtomicBool,
    gone: AtomicBool,
    dropped: AtomicU64,
}

struct Writer {
    fd: OwnedFd,
    kind: Kind,
    /// Taken from the buffer and not yet written.
    pending: Vec<u8>,
    /// How much of `pending` is written.
    written: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Files and devices: a write ends by itself.
    File,
    /// A pipe of our own open file description, which does not block.
    Pipe,
    /// A pipe or terminal whose blocking mode others rely on: asked before each write.
    Shared,
    Socket,
}

enum Outcome {
    Done,
    Blocked,
    Gone,
}

impl Sink {
    /// A sink that appends to what `fd` stands for. Errors: the descriptor cannot be duplicated.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Sink> {
        Ok(Sink {
            owner: std::process::id(),
            buffer: Mutex::default(),
            writer: Mutex::new(Writer::new(fd)?),
            waiting: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        })
    }

    /// Whether this process made the sink.
    pub fn is_ours(&self) -> bool {
        self.owner == std::process::id()
    }

    /// Take one line with its line feed; a system call only when much is waiting.
    pub fn append(&self, line: &[u8]) {
        if self.gone.load(Ordering::Relaxed) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut buffer = lock(&self.buffer);
        if buffer.len() + line.len() > BUFFER_LIMIT {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        buffer.extend_from_slice(line);
        let full = buffer.len() >= FLUSH_AT;
        drop(buffer);
        self.waiting.store(true, Ordering::Release);
        if full {
            self.flush();
        }
    }

    /// Write what is waiting as far as that does not block; cheap when nothing is.
    pub fn flush(&self) {
        if !self.waiting.load(Ordering::Acquire) || !self.is_ours() {
            return;
        }
        match self.writer.try_lock() {
            Ok(mut writer) => self.write_out(&mut writer),
            Err(TryLockError::Poisoned(poisoned)) => self.write_out(&mut poisoned.into_inner()),
            // The thread that holds it is writing; our line leaves with the next flush.
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// Write everything, waiting up to `patience` for a slow reader.
    pub fn drain(&self, patience: Duration) {
        if !self.is_ours() {
            return;
        }
        let until = Instant::now() + patience;
        let mut writer = lock(&self.writer);
        loop {
            self.write_out(&mut writer);
            let left = until.saturating_duration_since(Instant::now());
            if !self.waiting.load(Ordering::Acquire) || left.is_zero() {
                return;
            }
            writer.wait_writable(left);
        }
    }

    /// Go on with the file behind `fd`; what waits is first offered to the old one.
    pub fn reopen(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut writer = lock(&self.writer);
        self.write_out(&mut writer);
        let fresh = Writer::new(fd)?;
        // A line torn off by a full disk cannot be continued in another file.
        let torn = writer.written > 0;
        let mut pending = std::mem::take(&mut writer.pending);
        let skip = if torn {
            end_of_line(&pending, writer.written)
        } else {
            0
        };
        pending.drain(..skip);
        *writer = Writer { pending, ..fresh };
        self.gone.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn write_out(&self, writer: &mut Writer) {
        loop {
            if writer.pending.is_empty() {
                // Cleared before the swap: a line appended after it raises the flag again.
                self.waiting.store(false, Ordering::Release);
                std::mem::swap(&mut *lock(&self.buffer), &mut writer.pending);
                if writer.pending.is_empty() {
                    return;
                }
            }
            match writer.write_pending() {
                Outcome::Done => {}
                Outcome::Blocked => {
                    self.waiting.store(true, Ordering::Release);
                    return;
                }
                Outcome::Gone => {
                    self.gone.store(true, Ordering::Relaxed);
                    let lines = writer.pending[writer.written..]
                        .iter()
                        .filter(|&&byte| byte == b'\n')
                        .count();
                    self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
                    writer.forget();
                }
            }
        }
    }
}

impl Writer {
    fn new(fd: BorrowedFd<'_>) -> io::Result<Writer> {
        let mode = FileType::from_raw_mode(fstat(fd)?.st_mode);
        let (fd, kind) = match mode {
            FileType::Fifo => match own_description(fd) {
                Some(own) => (own, Kind::Pipe),
                None => (fcntl_dupfd_cloexec(fd, 3)?, Kind::Shared),
            },
            FileType::Socket => (fcntl_dupfd_cloexec(fd, 3)?, Kind::Socket),
            _ if isatty(fd) => (fcntl_dupfd_cloexec(fd, 3)?, Kind::Shared),
            _ => (fcntl_dupfd_cloexec(fd, 3)?, Kind::File),
        };
        Ok(Writer {
            fd,
            kind,
            pending: Vec::new(),
            written: 0,
        })
    }

    fn write_pending(&mut self) -> Outcome {
        while self.written < self.pending.len() {
            if self.kind == Kind::Shared && !self.wait_writable(Duration::ZERO) {
                return Outcome::Blocked;
            }
            let end = self.end_of_write();
            let part = &self.pending[self.written..end];
            let result = match self.kind {
                Kind::Socket => send(&self.fd, part, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
                _ => write(&self.fd, part),
            };
            match result {
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN | Errno::BADF) => {
                    return Outcome::Gone;
                }
                // Would block, or a disk that may have room again later.
                Err(_) => return Outcome::Blocked,
            }
        }
        self.forget();
        Outcome::Done
    }

    /// Where the next write ends: everything for a file, whole lines up to PIPE_BUF for the rest.
    fn end_of_write(&self) -> usize {
        let limit = self.written + PIPE_BUF;
        if self.kind == Kind::File || self.pending.len() <= limit {
            return self.pending.len();
        }
        match memchr::memrchr(b'\n', &self.pending[self.written..limit]) {
            Some(at) => self.written + at + 1,
            None => limit,
        }
    }

    fn wait_writable(&self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        let patience = Timespec::try_from(patience).unwrap_or_default();
        // A closed reader counts as writable: the write then says so.
        matches!(poll(&mut fds, Some(&patience)), Ok(count) if count > 0)
    }

    fn forget(&mut self) {
        self.pending.clear();
        self.written = 0;
    }
}

/// The pipe behind `fd` opened once more, so that it can be non-blocking for us alone.
fn own_description(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    use std::os::fd::AsRawFd;
    if !cfg!(target_os = "linux") {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(
        path,
        OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    )
    .ok()
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    if bytes.get(from.wrapping_sub(1)) == Some(&b'\n') {
        return from;
    }
    memchr::memchr(b'\n', &bytes[from..]).map_or(bytes.len(), |at| from + at + 1)
}

/// The data under the locks is consistent between statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
