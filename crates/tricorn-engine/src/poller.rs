//! The one pollable descriptor: a thin skin over epoll, small enough to be written for kqueue.
//!
//! Connections are edge-triggered, listeners level-triggered and exclusive (one idle worker wakes a connection).
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// What a descriptor was registered as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Wake,
    /// A descriptor of the driver's (its signal pipe); the engine only reports it.
    Driver,
    Listener(u32),
    /// Connections that siblings pass on.
    Passage,
    Connection(u64),
}

const KIND_SHIFT: u32 = 62;
/// A listener's number that no listener has.
const PASSAGE: u32 = u32::MAX;

impl Token {
    fn pack(self) -> u64 {
        match self {
            Token::Connection(key) => key,
            Token::Listener(index) => 1 << KIND_SHIFT | u64::from(index),
            Token::Passage => Token::Listener(PASSAGE).pack(),
            Token::Wake => 2 << KIND_SHIFT,
            Token::Driver => 3 << KIND_SHIFT,
        }
    }

    fn unpack(value: u64) -> Token {
        match value >> KIND_SHIFT {
            0 => Token::Connection(value),
            1 if value as u32 == PASSAGE => Token::Passage,
            1 => Token::Listener(value as u32),
            2 => Token::Wake,
            _ => Token::Driver,
        }
    }
}

/// Readiness of one descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    pub token: Token,
    pub readable: bool,
    pub writable: bool,
    /// The peer has shut its side, or reset the connection: no further edge will say so.
    pub closed: bool,
    /// The peer reset the connection or both directions are shut.
    pub broken: bool,
}

pub struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

/// Events taken by one wait. What they bring, a few pages each, is still in the nearest cache when it is answered.
pub const ROOM: usize = 16;

/// Room for the answers of one wait; one per thread that turns the engine.
pub struct Events(Vec<Event>);

// SAFETY: events are plain numbers here; the pointer that the kernel's union could hold is never used.
#[allow(unsafe_code)]
unsafe impl Send for Events {}

impl Events {
    pub fn new() -> Self {
        Events(Vec::with_capacity(ROOM))
    }

    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There are likely more than these.
    pub fn is_full(&self) -> bool {
        self.0.len() >= ROOM
    }

    pub fn iter(&self) -> impl Iterator<Item = Readiness> + '_ {
        self.0.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Readiness {
                token: Token::unpack(data.u64()),
                readable: flags.intersects(
                    EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR,
                ),
                writable: flags.contains(EventFlags::OUT),
                closed: flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
                broken: flags.intersects(EventFlags::HUP | EventFlags::ERR),
            }
        })
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(
            &epoll,
            &wake,
            EventData::new_u64(Token::Wake.pack()),
            EventFlags::IN,
        )?;
        Ok(Poller { epoll, wake })
    }

    /// The descriptor that is readable while the engine has something to do.
    pub fn as_raw_fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    pub fn add_connection(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(Token::Connection(key).pack()),
            flags,
        )?)
    }

    /// Output waits for the peer: from now on the connection, `watched` until now or not, also reports that it is
    /// writable.
    pub fn watch_writable(&self, fd: impl AsFd, key: u64, watched: bool) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = EventData::new_u64(Token::Connection(key).pack());
        let outcome = match watched {
            true => epoll::modify(&self.epoll, fd, data, flags),
            false => epoll::add(&self.epoll, fd, data, flags),
        };
        Ok(outcome?)
    }

    /// Watches what the workers share: what comes wakes one of those that wait.
    pub fn add_shared(&self, fd: BorrowedFd<'_>, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
        let data = EventData::new_u64(token.pack());
        match epoll::add(&self.epoll, fd, data, flags) {
            // Watched already is what was wanted.
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub fn add_driver(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            EventData::new_u64(Token::Driver.pack()),
            EventFlags::IN,
        )?)
    }

    pub fn remove(&self, fd: impl AsFd) {
        // A descriptor that is gone from the set already is what was wanted.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits at most `timeout_ms`; an interrupting signal ends the wait with no events.
    pub fn wait(&self, events: &mut Events, timeout_ms: u64) -> io::Result<()> {
        events.0.clear();
        let timeout = Timespec {
            tv_sec: (timeout_ms / 1000) as i64,
            tv_nsec: (timeout_ms % 1000 * 1_000_000) as i64,
        };
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events.0),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a wait of another thread.
    pub fn wake(&self) {
        // Only a full counter fails, and then the wake-up is already pending.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    pub fn clear_wake(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
    }
}
