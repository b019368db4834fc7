//! The mapping itself: the only unsafe code of this crate.
//!
//! Invariant: what is handed out lies in a zeroed, shared, never unmapped mapping, and holds nothing but
//! integers in atomics, for which all-zero bytes are a valid value.
use std::io;
use std::ptr::null_mut;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::{Header, Slot};

pub(crate) fn shared_header() -> io::Result<&'static Header> {
    let address = zeroed_pages(size_of::<Header>())?;
    // SAFETY: the pages are zeroed, writable, at least one Header long, page-aligned (so aligned for
    // Header), never unmapped, and Header is only atomics.
    Ok(unsafe { &*address.cast::<Header>() })
}

pub(crate) fn shared_slots(count: usize) -> io::Result<&'static [Slot]> {
    let bytes = count
        .checked_mul(size_of::<Slot>())
        .filter(|bytes| *bytes > 0 && *bytes < isize::MAX as usize);
    let Some(bytes) = bytes else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let address = zeroed_pages(bytes)?;
    // SAFETY: as above; the mapping is `count` Slots long and below isize::MAX bytes.
    Ok(unsafe { std::slice::from_raw_parts(address.cast::<Slot>(), count) })
}

fn zeroed_pages(bytes: usize) -> io::Result<*mut u8> {
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no existing memory.
    let address = unsafe {
        mmap_anonymous(
            null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
        )
    }?;
    Ok(address.cast())
}
