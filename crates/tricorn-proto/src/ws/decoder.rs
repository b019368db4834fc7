//! From a client's bytes to messages and control frames.
//!
//! Not the answers: a Ping wants a Pong and a Close a Close, which the engine sends.
//! Invariant: the events do not depend on how the bytes are cut, and a fault is found with the first byte that proves
//! it. Memory follows the bytes that have come, never those that are announced.
//! Source: RFC 6455, 5 and 8.1; RFC 7692, 6.2.
use alloc::string::String;
use alloc::vec::Vec;

use super::deflate::{DeflateParams, Inflater};
use super::frame::{Expected, Head, MAX_HEAD, Opcode};
use super::mask::unmask;
use super::{CloseCode, Fault, Limits, MessageKind};

/// A buffer may grow this far ahead of what has come, or as far as what has come, whichever is more.
const ROOM_AHEAD: usize = 4096;
/// How much is unmasked at a time for the inflater.
const SCRATCH: usize = 2048;

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: MessageKind,
    /// Unmasked and inflated; of a text, checked UTF-8.
    pub payload: Vec<u8>,
}

/// What a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Message(Message),
    /// To be answered by a Pong with the same payload, 125 bytes at most.
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// The last event: what follows is thrown away.
    Close {
        /// Absent when the frame is empty.
        code: Option<CloseCode>,
        reason: String,
    },
}

/// What became of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes not to be shown again. All of them when there is no event.
    pub consumed: usize,
    /// `None` needs more bytes.
    pub event: Option<Event>,
}

/// Reads what one client sends.
pub struct Decoder {
    limits: Limits,
    inflater: Option<Inflater>,
    stage: Stage,
    message: Option<Assembly>,
    control: Vec<u8>,
    /// A head that did not come whole.
    head: [u8; MAX_HEAD],
    head_len: u8,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Head,
    /// In a frame, with that many bytes of it to come.
    Payload(Head, u64),
    Closed,
    Failed(Fault),
}

impl Decoder {
    /// A decoder that inflates when `deflate` was negotiated.
    pub fn new(limits: Limits, deflate: Option<DeflateParams>) -> Decoder {
        Decoder {
            limits,
            inflater: deflate.map(|params| Inflater::new(&params)),
            stage: Stage::Head,
            message: None,
            control: Vec::new(),
            head: [0; MAX_HEAD],
            head_len: 0,
        }
    }

    /// Goes on with what the client sent, up to the next event.
    ///
    /// Errors: the client's fault, the same again however often it is asked.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, Fault> {
        self.advance(input).inspect_err(|&fault| {
            self.end(Stage::Failed(fault));
        })
    }

    /// Bytes allocated for what has not become an event yet.
    pub fn room(&self) -> usize {
        self.control.capacity()
            + self
                .message
                .as_ref()
                .map_or(0, |message| message.payload.capacity())
    }

    /// Nothing more will be read, so nothing is kept for it.
    fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.message = None;
        self.control = Vec::new();
        self.inflater = None;
    }

    fn advance(&mut self, input: &[u8]) -> Result<Step, Fault> {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            match self.stage {
                Stage::Failed(fault) => return Err(fault),
                Stage::Closed => consumed = input.len(),
                Stage::Head => {
                    let (head, len) = self.read_head(rest)?;
                    consumed += len;
                    if let Some(head) = head {
                        self.begin_frame(&head)?;
                        self.stage = Stage::Payload(head, head.len);
                        continue;
                    }
                }
                Stage::Payload(head, left) => {
                    let piece =
                        &rest[..rest.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
                    self.read_payload(&head, head.len - left, piece)?;
                    consumed += piece.len();
                    let left = left - piece.len() as u64;
                    self.stage = Stage::Payload(head, left);
                    if left == 0 {
                        self.stage = Stage::Head;
                        let event = self.end_frame(&head)?;
                        if event.is_some() {
                            return Ok(Step { consumed, event });
                        }
                        continue;
                    }
                }
            }
            return Ok(Step {
                consumed,
                event: None,
            });
        }
    }

    /// A head when it is whole, and how many of `bytes` were taken for it.
    #[inline]
    fn read_head(&mut self, bytes: &[u8]) -> Result<(Option<Head>, usize), Fault> {
        let expected = Expected {
            in_message: self.message.is_some(),
            may_compress: self.inflater.is_some(),
        };
        let held = usize::from(self.head_len);
        if held == 0
            && let Some((head, len)) = Head::parse(bytes, expected)?
        {
            return Ok((Some(head), len));
        }
        let taken = bytes.len().min(MAX_HEAD - held);
        self.head[held..held + taken].copy_from_slice(&bytes[..taken]);
        Ok(match Head::parse(&self.head[..held + taken], expected)? {
            Some((head, len)) => {
                self.head_len = 0;
                (Some(head), len - held)
            }
            None => {
                self.head_len = (held + taken) as u8;
                (None, taken)
            }
        })
    }

    fn begin_frame(&mut self, head: &Head) -> Result<(), Fault> {
        let kind = match head.opcode {
            Opcode::Text => MessageKind::Text,
            Opcode::Binary => MessageKind::Binary,
            Opcode::Continuation => return self.announce(head.len),
            Opcode::Close | Opcode::Ping | Opcode::Pong => return Ok(()),
        };
        self.message = Some(Assembly {
            kind,
            is_compressed: head.is_compressed,
            payload: Vec::new(),
            checked: 0,
            announced: 0,
        });
        self.announce(head.len)
    }

    /// Refuses a frame that would exceed the limit, before any of it is read.
    fn announce(&mut self, len: u64) -> Result<(), Fault> {
        let Some(message) = &mut self.message else {
            return Ok(());
        };
        message.announced = message.announced.saturating_add(len);
        let limit = match self.limits.max_message_size {
            0 => u64::MAX,
            // What is inflated is measured when it is; empty blocks inflate to nothing, though, and are to end too.
            limit if message.is_compressed => limit.saturating_mul(2).saturating_add(1024),
            limit => limit,
        };
        if message.announced > limit {
            return Err(Fault::TOO_BIG);
        }
        Ok(())
    }

    fn read_payload(&mut self, head: &Head, offset: u64, piece: &[u8]) -> Result<(), Fault> {
        let limit = self.limits.inflated();
        match (&mut self.message, &mut self.inflater) {
            _ if head.opcode.is_control() => {
                let from = self.control.len();
                self.control.extend_from_slice(piece);
                unmask(&mut self.control[from..], head.mask, offset);
                Ok(())
            }
            (Some(message), Some(inflater)) if message.is_compressed => {
                message.inflate(head, offset, piece, inflater, limit)
            }
            (Some(message), _) => message.push(head, offset, piece),
            (None, _) => Ok(()),
        }
    }

    fn end_frame(&mut self, head: &Head) -> Result<Option<Event>, Fault> {
        let payload = |decoder: &mut Decoder| core::mem::take(&mut decoder.control);
        Ok(Some(match head.opcode {
            Opcode::Ping => Event::Ping(payload(self)),
            Opcode::Pong => Event::Pong(payload(self)),
            Opcode::Close => {
                let event = close_event(&payload(self))?;
                self.end(Stage::Closed);
                event
            }
            _ if !head.is_final => return Ok(None),
            _ => return self.end_message(),
        }))
    }

    fn end_message(&mut self) -> Result<Option<Event>, Fault> {
        let Some(mut message) = self.message.take() else {
            return Ok(None);
        };
        if message.is_compressed
            && let Some(inflater) = &mut self.inflater
        {
            let inflated = inflater.finish(&mut message.payload, self.limits.inflated());
            message.check().and(inflated)?;
        }
        message.finish().map(Event::Message).map(Some)
    }
}

/// A message whose frames are still coming.
struct Assembly {
    kind: MessageKind,
    is_compressed: bool,
    payload: Vec<u8>,
    /// Of a text: bytes at the front known to be whole characters.
    checked: usize,
    /// Bytes of all frames so far, as their heads say.
    announced: u64,
}

impl Assembly {
    fn push(&mut self, head: &Head, offset: u64, piece: &[u8]) -> Result<(), Fault> {
        let from = self.payload.len();
        self.make_room(head.len - offset, piece.len());
        self.payload.extend_from_slice(piece);
        unmask(&mut self.payload[from..], head.mask, offset);
        self.check()
    }

    /// A fault in the text counts before one in what would have come behind it, so that both are found in the order
    /// of the bytes however these are cut.
    fn inflate(
        &mut self,
        head: &Head,
        mut offset: u64,
        piece: &[u8],
        inflater: &mut Inflater,
        limit: usize,
    ) -> Result<(), Fault> {
        let mut scratch = [0; SCRATCH];
        for piece in piece.chunks(SCRATCH) {
            let plain = &mut scratch[..piece.len()];
            plain.copy_from_slice(piece);
            unmask(plain, head.mask, offset);
            offset += piece.len() as u64;
            let inflated = inflater.push(plain, &mut self.payload, limit);
            self.check().and(inflated)?;
        }
        Ok(())
    }

    /// Room for `now` bytes, and for more of the `announced` ones as long as that is little against what has come:
    /// a message of one frame ends in a buffer of its own size, and pieces cost linear time.
    fn make_room(&mut self, announced: u64, now: usize) {
        if self.payload.capacity() - self.payload.len() >= now {
            return;
        }
        let ahead = now.max(self.payload.len()).max(ROOM_AHEAD) as u64;
        self.payload.reserve_exact(announced.min(ahead) as usize);
    }

    /// Checks what came since the last time, which fails with the first byte that no character can have there.
    fn check(&mut self) -> Result<(), Fault> {
        if self.kind == MessageKind::Text {
            match core::str::from_utf8(&self.payload[self.checked..]) {
                Ok(_) => self.checked = self.payload.len(),
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(Fault::invalid("text is not UTF-8")),
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Message, Fault> {
        if self.kind == MessageKind::Text && self.checked < self.payload.len() {
            return Err(Fault::invalid("text ends within a character"));
        }
        Ok(Message {
            kind: self.kind,
            payload: self.payload,
        })
    }
}

fn close_event(payload: &[u8]) -> Result<Event, Fault> {
    if payload.is_empty() {
        return Ok(Event::Close {
            code: None,
            reason: String::new(),
        });
    }
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return Err(Fault::protocol("close frame holds half a code"));
    };
    let code = CloseCode::new(u16::from_be_bytes(code))
        .ok_or(Fault::protocol("close code is not to be sent"))?;
    let reason =
        core::str::from_utf8(reason).map_err(|_| Fault::invalid("close reason is not UTF-8"))?;
    Ok(Event::Close {
        code: Some(code),
        reason: String::from(reason),
    })
}
