//! Reception of the arbiter's signals: a handler that writes their number into a pipe.
//!
//! Not Python's signal module: that keeps one flag per signal, and two TTIN in a row are two workers.
//! Invariant: order and number of signals are kept as long as the pipe has room (64 KiB of them); when it
//! has not, each kind that came meanwhile is still handled once.
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use pyo3::prelude::*;
use rustix::pipe::{PipeFlags, pipe_with};
use tricorn_supervisor::{Order, Signal};

/// Where the handler writes; -1 before it is installed and in forked children.
static WRITER: AtomicI32 = AtomicI32::new(-1);
/// Bit n: signal n came while the pipe was full.
static OVERFLOWED: AtomicU64 = AtomicU64::new(0);

const HANDLED: [(libc::c_int, Option<Signal>); 10] = [
    (libc::SIGCHLD, None),
    (libc::SIGHUP, Some(Signal::Hup)),
    (libc::SIGINT, Some(Signal::Int)),
    (libc::SIGQUIT, Some(Signal::Quit)),
    (libc::SIGTERM, Some(Signal::Term)),
    (libc::SIGTTIN, Some(Signal::Ttin)),
    (libc::SIGTTOU, Some(Signal::Ttou)),
    (libc::SIGUSR1, Some(Signal::Usr1)),
    (libc::SIGUSR2, Some(Signal::Usr2)),
    (libc::SIGWINCH, Some(Signal::Winch)),
];

/// The reading end, and proof that the handlers are installed.
pub(super) struct Signals {
    reader: OwnedFd,
    _writer: OwnedFd,
}

impl Signals {
    /// Takes the arbiter's signals over from whoever handled them.
    pub(super) fn install() -> io::Result<Signals> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        WRITER.store(writer.as_raw_fd(), Ordering::Release);
        for (signal, _) in HANDLED {
            set_handler(signal, note as *const () as libc::sighandler_t)?;
        }
        Ok(Signals {
            reader,
            _writer: writer,
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// The signals since the last call, in order.
    pub(super) fn drain(&self) -> Vec<Signal> {
        let mut numbers = Vec::new();
        let mut buffer = [0; 256];
        while let Ok(read @ 1..) = rustix::io::read(&self.reader, &mut buffer) {
            numbers.extend_from_slice(&buffer[..read]);
        }
        let overflowed = OVERFLOWED.swap(0, Ordering::AcqRel);
        numbers.extend((0..64).filter(|number| overflowed & 1 << number != 0));
        let signal = |number: u8| {
            HANDLED
                .iter()
                .find(|(known, _)| *known == i32::from(number))?
                .1
        };
        numbers.into_iter().filter_map(signal).collect()
    }
}

/// Holds all signals back while it lives, so that a fork has no moment in which the child would answer a
/// signal with its parent's handlers.
pub(super) struct Held {
    before: libc::sigset_t,
}

impl Held {
    pub(super) fn hold() -> Held {
        // SAFETY: sigset_t is plain data; both sets are valid for the calls that fill and read them.
        unsafe {
            let mut all: libc::sigset_t = zeroed();
            let mut before: libc::sigset_t = zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            Held { before }
        }
    }

    /// In a forked child: back to the default actions. The signals held back so far were its parent's.
    pub(super) fn forget_parent() {
        WRITER.store(-1, Ordering::Release);
        for (signal, _) in HANDLED {
            // It cannot fail: these signals took a handler before, or none was ever set.
            let _ = set_handler(signal, libc::SIG_DFL);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: `before` was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, null_mut()) };
    }
}

/// Asks the kernel for a TERM when the parent dies, so that no worker outlives a killed arbiter.
///
/// After the privileges are dropped: changing the user revokes it. Linux only; elsewhere it does nothing.
#[pyfunction]
pub(super) fn follow_parent() -> PyResult<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .map_err(|error| super::os_error(&error.into()))?;
    Ok(())
}

/// The number of a worker's order.
pub(super) fn number(order: Order) -> i32 {
    match order {
        Order::Term => libc::SIGTERM,
        Order::Quit => libc::SIGQUIT,
        Order::Abrt => libc::SIGABRT,
        Order::Kill => libc::SIGKILL,
        Order::Usr1 => libc::SIGUSR1,
    }
}

/// `SIGTERM` and its kin.
pub(super) fn name(number: i32) -> String {
    let known = match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGSYS => "SIGSYS",
        other => return format!("signal {other}"),
    };
    known.to_owned()
}

fn set_handler(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is valid; the handler is `note`, which is async-signal-safe, or SIG_DFL.
    let result = unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
        libc::sigaction(signal, &action, null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The handler: one write, nothing else.
extern "C" fn note(signal: libc::c_int) {
    let byte = signal as u8;
    // SAFETY: errno and write are async-signal-safe; the byte lives on this stack.
    unsafe {
        let errno = errno_location();
        let saved = *errno;
        let written = libc::write(WRITER.load(Ordering::Acquire), (&raw const byte).cast(), 1);
        if written != 1 {
            OVERFLOWED.fetch_or(1 << (byte & 63), Ordering::AcqRel);
        }
        *errno = saved;
    }
}

fn errno_location() -> *mut libc::c_int {
    // SAFETY: takes no argument and always returns this thread's errno.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::__errno_location()
    }
    // SAFETY: as above.
    #[cfg(not(target_os = "linux"))]
    unsafe {
        libc::__error()
    }
}
