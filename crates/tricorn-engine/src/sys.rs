//! System calls that no safe wrapper of ours covers.
#![allow(unsafe_code)]
use std::os::fd::{AsFd, AsRawFd};

/// Blocks every signal for the calling thread.
pub fn block_all_signals() {
    // SAFETY: both calls only touch the local set and this thread's mask.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

/// Bytes written to the socket that the peer's machine has not taken yet. Units: bytes; 0 where it cannot be told.
pub fn unsent(socket: impl AsFd) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open, and TIOCOUTQ writes one int.
    #[cfg(target_os = "linux")]
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &mut count) };
    #[cfg(not(target_os = "linux"))]
    let result = -1;
    if result == 0 { count as u64 } else { 0 }
}
