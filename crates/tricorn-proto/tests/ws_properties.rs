//! Claims about all WebSocket traffic: nothing panics, cuts never matter, what is encoded decodes to itself, and
//! memory follows what came.
mod support;

use proptest::prelude::*;
use support::ws::{events, frame, limits, masked, message};
use tricorn_proto::ws::{CloseCode, Decoder, Encoder, Event, Limits, Message, MessageKind};

fn kind() -> impl Strategy<Value = MessageKind> {
    prop_oneof![Just(MessageKind::Text), Just(MessageKind::Binary)]
}

/// Bytes that are text as often as not.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        "\\PC{0,100}".prop_map(String::into_bytes),
    ]
}

/// Frames, right ones and wrong ones, and now and then something that is none.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let firsts = vec![
        0x00, 0x01, 0x02, 0x80, 0x80, 0x81, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xc1, 0x41, 0xc2, 0x09,
        0x83,
    ];
    let framed = (proptest::sample::select(firsts), payload())
        .prop_map(|(first, payload)| frame(first, &payload));
    let piece = prop_oneof![
        8 => framed,
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_never_change_what_happens(
        raw in traffic(), limit in 0..400u64, cuts in proptest::collection::vec(any::<u16>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|&cut| usize::from(cut) % (raw.len() + 1)).collect();
        cuts.sort_unstable();
        let decoder = || Decoder::new(limits(limit), None);
        let whole = events(decoder(), &raw, &[]);
        prop_assert_eq!(&events(decoder(), &raw, &cuts), &whole);
        let each: Vec<usize> = (1..raw.len()).collect();
        prop_assert_eq!(&events(decoder(), &raw, &each), &whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
        events(Decoder::new(Limits::default(), None), &raw, &[]);
    }

    #[test]
    fn what_is_encoded_decodes_to_itself(kind in kind(), text in "\\PC{0,300}", times in 1..300usize) {
        let payload = text.repeat(times).into_bytes();
        let mut out = Vec::new();
        Encoder::new(None).message(&mut out, kind, &payload);
        let head = Encoder::header_for(kind, payload.len());
        prop_assert_eq!(&out[..head.len()], &head[..]);
        let got = message(&mut Decoder::new(limits(0), None), &masked(&out));
        prop_assert_eq!(got, Message { kind, payload });
    }

    #[test]
    fn limits_hold_for_every_cut_into_fragments(
        fragments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..8), limit in 1..150u64,
    ) {
        let last = fragments.len() - 1;
        let first = |index| if index == 0 { 2 } else { 0 } + if index == last { 0x80 } else { 0 };
        let raw: Vec<u8> = fragments.iter().enumerate().flat_map(|(index, part)| frame(first(index), part)).collect();
        let size = fragments.concat().len() as u64;
        let mut decoder = Decoder::new(limits(limit), None);
        match decoder.decode(&raw) {
            Ok(step) => {
                prop_assert!(size <= limit);
                prop_assert_eq!(step.event, Some(Event::Message(Message { kind: MessageKind::Binary, payload: fragments.concat() })));
            }
            Err(fault) => prop_assert!(size > limit && fault.code == CloseCode::TOO_BIG),
        }
    }

    #[test]
    fn control_frames_fit_whatever_is_put_into_them(payload in payload(), reason in "\\PC{0,200}", code in any::<u16>()) {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(None);
        encoder.ping(&mut out, &payload);
        encoder.pong(&mut out, &payload);
        encoder.close(&mut out, CloseCode::new(code), &reason);
        let mut decoder = Decoder::new(Limits::default(), None);
        let raw = masked(&out);
        let mut rest = &raw[..];
        let mut next = || {
            let step = decoder.decode(rest).unwrap();
            rest = &rest[step.consumed..];
            step.event.unwrap()
        };
        let kept = &payload[..payload.len().min(125)];
        prop_assert_eq!(next(), Event::Ping(kept.to_vec()));
        prop_assert_eq!(next(), Event::Pong(kept.to_vec()));
        let Event::Close { code: got, reason: kept } = next() else { panic!("no close") };
        prop_assert_eq!(got, CloseCode::new(code));
        prop_assert!(reason.starts_with(&kept));
        prop_assert!(got.is_none() || kept.len() == reason.len() || kept.len() > 119);
    }
}

#[test]
fn nothing_is_allocated_for_what_was_only_announced() {
    let mut decoder = Decoder::new(limits(0), None);
    let mut raw = vec![0x82, 0xff];
    raw.extend_from_slice(&(1u64 << 40).to_be_bytes());
    raw.extend_from_slice(&[0; 4]);
    raw.extend_from_slice(&[b'a'; 10]);
    assert_eq!(decoder.decode(&raw).unwrap().event, None);
    assert!(decoder.room() <= 4096 + 10);
    for _ in 0..100 {
        decoder.decode(&[b'a'; 1000]).unwrap();
    }
    assert!(decoder.room() <= 2 * 100_010 + 4096);
}

#[test]
fn a_message_of_one_frame_is_as_large_as_its_buffer() {
    for len in [1, 20, 4096, 100_000] {
        let raw = frame(0x82, &vec![7; len]);
        let mut decoder = Decoder::new(limits(0), None);
        let (first, last) = raw.split_at(raw.len() / 2);
        assert_eq!(decoder.decode(first).unwrap().event, None);
        let Some(Event::Message(message)) = decoder.decode(last).unwrap().event else {
            panic!("no message of {len} bytes");
        };
        assert_eq!(
            (message.payload.len(), message.payload.capacity()),
            (len, len)
        );
    }
}

#[test]
fn an_idle_codec_is_small_and_may_change_threads() {
    fn size_of_sendable<T: Send>() -> usize {
        size_of::<T>()
    }
    let size = size_of_sendable::<Decoder>() + size_of_sendable::<Encoder>();
    assert!(size <= 192, "{size} bytes");
    assert_eq!(Decoder::new(Limits::default(), None).room(), 0);
}
