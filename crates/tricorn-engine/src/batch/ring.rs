//! Sends by io_uring, given up for good when the kernel refuses.
//!
//! A ring is opened at the start of a worker, and not by the first answers that leave together: where a policy ends
//! processes that ask for one, they end at once and not under load. It is never closed before the process ends: that would
//! interrupt whatever the thread that opened it waits for at the time (EINTR, where the wait has a timeout).
#![allow(unsafe_code)]
use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::{Message, Outcome, ROOM};

/// By default none, which tries nothing.
#[derive(Default)]
pub struct Ring(Option<ManuallyDrop<Box<IoUring>>>);

impl Ring {
    /// Errors: the kernel is too old, or a policy forbids it.
    pub fn open() -> io::Result<Ring> {
        // Without the flag, which is of Linux 5.19, the kernel would interrupt us for what we wait for anyway.
        let mut builder = IoUring::builder();
        builder.setup_coop_taskrun().dontfork();
        let ring = builder.build(ROOM as u32)?;
        Ok(Ring(Some(ManuallyDrop::new(Box::new(ring)))))
    }

    /// `ROOM` messages at most. Appends what became of each; `None`: it was not tried.
    pub fn send<'a>(
        &mut self,
        messages: impl Iterator<Item = Option<Message<'a>>>,
        outcomes: &mut Vec<Option<Outcome>>,
    ) {
        let Some(ring) = &mut self.0 else {
            return;
        };
        let mut under_way = 0;
        let mut queue = ring.submission();
        for (place, message) in messages.enumerate() {
            outcomes.push(None);
            if let Some(message) = message {
                let entry = entry_of(message).user_data(place as u64);
                // SAFETY: the socket and the bytes are borrowed for longer than this function, which does not return before
                // all that the kernel has taken is done. There is room: so is what was taken before.
                under_way += usize::from(unsafe { queue.push(&entry) }.is_ok());
            }
        }
        drop(queue);
        while under_way > 0 {
            let result = ring.submit_and_wait(under_way);
            for completion in ring.completion() {
                let place = completion.user_data() as usize;
                outcomes[place] = Some(outcome_of(completion.result()));
                under_way -= 1;
            }
            if result.is_err_and(|error| error.kind() != ErrorKind::Interrupted) {
                break;
            }
        }
        if under_way > 0 {
            // The kernel is out of memory for more. What it has not taken stays in the ring, which nobody uses again.
            self.0 = None;
        }
    }
}

fn entry_of((socket, bytes): Message<'_>) -> squeue::Entry {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    // With DONTWAIT the kernel tells that a socket is full, and does not wait for it in our name.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), length)
        .flags(flags.bits() as i32)
        .build()
}

fn outcome_of(result: i32) -> Outcome {
    usize::try_from(result).map_err(|_| Errno::from_raw_os_error(-result))
}
