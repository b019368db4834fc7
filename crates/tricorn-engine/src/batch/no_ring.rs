//! In place of `ring` where there is no io_uring for this kind of processor.
use std::io;

use super::{Message, Outcome};

#[derive(Default)]
pub struct Ring;

impl Ring {
    pub fn open() -> io::Result<Ring> {
        let why = "there are no bindings for this kind of processor";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    pub fn send<'a>(
        &mut self,
        _: impl Iterator<Item = Option<Message<'a>>>,
        _: &mut Vec<Option<Outcome>>,
    ) {
    }
}
