//! A WebSocket client's frames, and what a decoder makes of them as lines of text.
use tricorn_proto::ws::{Decoder, DeflateParams, Event, Limits, Message, MessageKind};

use super::shown;

/// Not symmetric in any way, so that a mistake in the phase shows.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame with the first byte as given.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ ..126 => out.push(0x80 | len as u8),
        len @ ..65536 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    out
}

/// What a server's frames would be, had a client sent them.
pub fn masked(mut sent: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !sent.is_empty() {
        let (len, at) = match sent[1] {
            126 => (usize::from(u16::from_be_bytes([sent[2], sent[3]])), 4),
            127 => (
                u64::from_be_bytes(sent[2..10].try_into().unwrap()) as usize,
                10,
            ),
            short => (usize::from(short), 2),
        };
        out.extend(frame(sent[0], &sent[at..at + len]));
        sent = &sent[at + len..];
    }
    out
}

/// Everything that happens when `raw` arrives cut at `cuts` (ascending offsets within `raw`).
pub fn events(mut decoder: Decoder, raw: &[u8], cuts: &[usize]) -> Vec<String> {
    let mut events = Vec::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&raw.len()]) {
        let mut rest = &raw[from..to];
        from = to;
        while !rest.is_empty() {
            match decoder.decode(rest) {
                Ok(step) => {
                    assert!(
                        step.consumed > 0 && (step.event.is_some() || step.consumed == rest.len())
                    );
                    rest = &rest[step.consumed..];
                    events.extend(step.event.as_ref().map(told));
                }
                Err(fault) => {
                    assert_eq!(decoder.decode(b"more"), Err(fault), "a fault stays");
                    events.push(format!("fault {} {}", fault.code.value(), fault.message));
                    return events;
                }
            }
        }
    }
    events
}

fn told(event: &Event) -> String {
    match event {
        Event::Message(Message { kind, payload }) => {
            let kind = if *kind == MessageKind::Text {
                "text"
            } else {
                "binary"
            };
            format!("{kind} {}", shown(payload))
        }
        Event::Ping(payload) => format!("ping {}", shown(payload)),
        Event::Pong(payload) => format!("pong {}", shown(payload)),
        Event::Close { code, reason } => {
            let code = code.map_or("-".to_string(), |code| code.value().to_string());
            format!("close {code} {}", shown(reason.as_bytes()))
        }
    }
    .trim_end()
    .to_string()
}

/// The only event of `raw`, which is one message, and nothing else.
pub fn message(decoder: &mut Decoder, raw: &[u8]) -> Message {
    let step = decoder.decode(raw).unwrap();
    assert_eq!(step.consumed, raw.len());
    match step.event {
        Some(Event::Message(message)) => message,
        other => panic!("{other:?} is no message"),
    }
}

pub fn limits(max_message_size: u64) -> Limits {
    Limits { max_message_size }
}

/// Compression of everything that is sent, in the largest windows.
pub fn deflate(context_takeover: bool) -> DeflateParams {
    DeflateParams {
        server_context_takeover: context_takeover,
        client_context_takeover: context_takeover,
        server_window_bits: 15,
        level: 6,
        min_size: 0,
    }
}
