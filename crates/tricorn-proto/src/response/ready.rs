//! A field that applications give with one response after another, checked once.
use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{HeadEncoder, Special, check_field, forbids_length, push_field, special};
use crate::grammar::{decimal, trim};

/// A field that passed every rule, as it stands in a head.
#[derive(Clone, Debug)]
pub struct ReadyField {
    line: Box<[u8]>,
    /// Of a Content-Length.
    length: Option<u64>,
}

impl ReadyField {
    /// `None`: the field is refused, or what becomes of it is up to each head; [`HeadEncoder::field`] decides.
    pub fn new(name: &[u8], value: &[u8]) -> Option<ReadyField> {
        let value = trim(value);
        check_field(name, value).ok()?;
        let length = match special(name) {
            Special::None => None,
            Special::ContentLength => Some(decimal(value)?),
            _ => return None,
        };
        let mut line = Vec::new();
        push_field(&mut line, name, value);
        Some(ReadyField {
            line: line.into(),
            length,
        })
    }
}

impl HeadEncoder {
    /// As [`HeadEncoder::field`]. `false`: this head is for `field` to decide about, nothing has changed.
    #[inline]
    pub fn ready_field(&mut self, out: &mut Vec<u8>, field: &ReadyField) -> bool {
        if field.length.is_some() {
            if self.content_length.is_some() || forbids_length(self.status) {
                return false;
            }
            self.content_length = field.length;
        }
        out.extend_from_slice(&field.line);
        true
    }
}
