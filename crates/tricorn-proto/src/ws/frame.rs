//! The head of a frame as a peer sends it.
//!
//! Not the payload. Invariant: what a head may be is decided from its first bytes on, so the verdict is the same
//! however it is cut.
//! Source: RFC 6455, 5.2 to 5.5; RFC 7692, 6.
use super::Fault;

/// FIN, in the first byte.
pub(super) const FIN: u8 = 0x80;
/// RSV1: a compressed message begins (RFC 7692, 6).
pub(super) const RSV1: u8 = 0x40;
/// MASK, in the second byte.
const MASK: u8 = 0x80;
/// The most a control frame carries (RFC 6455, 5.5).
pub(super) const MAX_CONTROL: usize = 125;
/// The longest head: two bytes, a length of eight, the mask.
pub(super) const MAX_HEAD: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    pub(super) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }

    /// Its bits in the first byte.
    pub(super) fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    fn of(first: u8) -> Option<Opcode> {
        Some(match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }
}

/// What came before, as far as it decides what may come now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// A message has begun and not ended.
    pub in_message: bool,
    /// permessage-deflate was negotiated.
    pub may_compress: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub opcode: Opcode,
    pub is_final: bool,
    /// Of the message that begins here.
    pub is_compressed: bool,
    pub len: u64,
    pub mask: [u8; 4],
}

impl Head {
    /// Reads a head from the first of `bytes`; with it comes its length. `None` needs more bytes.
    ///
    /// Errors: 1002 for whatever RFC 6455 says MUST NOT be.
    #[inline]
    pub(super) fn parse(bytes: &[u8], expected: Expected) -> Result<Option<(Head, usize)>, Fault> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let opcode = check_first(first, expected)?;
        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        if second & MASK == 0 {
            return Err(Fault::protocol("frame is not masked"));
        }
        let short = second & !MASK;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(Fault::protocol("control frame is longer than 125 bytes"));
        }
        let Some((len, len_bytes)) = read_len(short, rest)? else {
            return Ok(None);
        };
        let Some(&mask) = rest.get(len_bytes..).and_then(<[u8]>::first_chunk) else {
            return Ok(None);
        };
        let head = Head {
            opcode,
            is_final: first & FIN != 0,
            is_compressed: first & RSV1 != 0,
            len,
            mask,
        };
        Ok(Some((head, 2 + len_bytes + mask.len())))
    }
}

#[inline]
fn check_first(first: u8, expected: Expected) -> Result<Opcode, Fault> {
    let opcode = Opcode::of(first).ok_or(Fault::protocol("opcode is reserved"))?;
    let may_compress = expected.may_compress && matches!(opcode, Opcode::Text | Opcode::Binary);
    let allowed = if may_compress { RSV1 } else { 0 };
    if first & 0x70 & !allowed != 0 {
        return Err(Fault::protocol("reserved bit is set"));
    }
    match opcode {
        Opcode::Continuation if !expected.in_message => {
            Err(Fault::protocol("continuation of no message"))
        }
        Opcode::Text | Opcode::Binary if expected.in_message => {
            Err(Fault::protocol("message begins within another"))
        }
        _ if opcode.is_control() && first & FIN == 0 => {
            Err(Fault::protocol("control frame is fragmented"))
        }
        _ => Ok(opcode),
    }
}

/// The length whose first seven bits are `short`, and how many of `rest` it took.
///
/// Longer forms than needed are refused: RFC 6455, 5.2, says the minimal number of bytes MUST be used, and one length
/// with several spellings is what intermediaries come to disagree about.
#[inline]
fn read_len(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Fault> {
    let (len, len_bytes, least) = match short {
        126 => match rest.first_chunk() {
            Some(&bytes) => (u64::from(u16::from_be_bytes(bytes)), 2, 126),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(&bytes) => (u64::from_be_bytes(bytes), 8, 1 << 16),
            None => return Ok(None),
        },
        _ => return Ok(Some((u64::from(short), 0))),
    };
    if len < least {
        return Err(Fault::protocol("length is not minimally encoded"));
    }
    if len > i64::MAX as u64 {
        return Err(Fault::protocol("length exceeds 63 bits"));
    }
    Ok(Some((len, len_bytes)))
}
