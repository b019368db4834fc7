//! WebSocket, the server's side: bytes in, events out; what is said in, bytes out.
//!
//! Not the handshake's request and response (they are HTTP; only the values are made here), not deadlines, not the
//! closing dance: who answers a Ping or a Close decides the engine.
//! Invariant: nothing is allocated for a length that was only announced, and no message exceeds its limit by more
//! than one byte while it is inflated.
//! Source: RFC 6455; RFC 7692 (permessage-deflate).
mod decoder;
mod deflate;
mod encoder;
mod frame;
pub mod handshake;
mod mask;

pub use decoder::{Decoder, Event, Message, Step};
pub use deflate::DeflateParams;
pub use encoder::{Encoder, FrameHead};

/// What a message is said to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8, and checked to be.
    Text,
    Binary,
}

/// What a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message, inflated and with all its fragments; 0 is no limit.
    pub max_message_size: u64,
}

impl Limits {
    /// The limit as a length in memory.
    fn inflated(&self) -> usize {
        match self.max_message_size {
            0 => usize::MAX,
            size => usize::try_from(size).unwrap_or(usize::MAX),
        }
    }
}

impl Default for Limits {
    /// 16 MiB, the default of uvicorn.
    fn default() -> Limits {
        Limits {
            max_message_size: 16 << 20,
        }
    }
}

/// A status code that may stand in a Close frame.
///
/// Source: RFC 6455, 7.4; the IANA registry (1012 to 1014 came later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(u16);

impl CloseCode {
    pub const NORMAL: CloseCode = CloseCode(1000);
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    pub const INVALID_DATA: CloseCode = CloseCode(1007);
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);

    /// The code, unless it must never be sent (1005, 1006, 1015) or nobody has given it a meaning.
    pub const fn new(code: u16) -> Option<CloseCode> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(CloseCode(code)),
            _ => None,
        }
    }

    pub const fn value(self) -> u16 {
        self.0
    }
}

/// The peer broke the protocol or a limit: the connection is to be closed with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: CloseCode,
    /// For the log, and short enough to be a Close frame's reason.
    pub message: &'static str,
}

impl Fault {
    const fn protocol(message: &'static str) -> Fault {
        Fault {
            code: CloseCode::PROTOCOL_ERROR,
            message,
        }
    }

    const fn invalid(message: &'static str) -> Fault {
        Fault {
            code: CloseCode::INVALID_DATA,
            message,
        }
    }

    const TOO_BIG: Fault = Fault {
        code: CloseCode::TOO_BIG,
        message: "message exceeds the size limit",
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_are_reserved_or_unknown_do_not_exist() {
        let sendable = [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ];
        for code in sendable {
            assert_eq!(CloseCode::new(code).map(CloseCode::value), Some(code));
        }
        let refused = [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
        ];
        for code in refused {
            assert_eq!(CloseCode::new(code), None, "{code}");
        }
    }
}
