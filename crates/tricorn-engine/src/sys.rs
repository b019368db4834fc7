//! System calls that no safe wrapper of ours covers.
#![allow(unsafe_code)]

/// Blocks every signal for the calling thread.
pub fn block_all_signals() {
    // SAFETY: both calls only touch the local set and this thread's mask.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&mut set);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}
