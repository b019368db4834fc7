//! Claims about compressed traffic: it round-trips with every window, its faults do not depend on cuts, and bombs
//! are cut off at the limit.
mod support;

use proptest::prelude::*;
use support::Rng;
use support::ws::{deflate, events, frame, limits, masked, message};
use tricorn_proto::ws::{CloseCode, Decoder, DeflateParams, Encoder, Limits, Message, MessageKind};

/// Windows, levels and contexts, the same in both directions, so that a decoder reads what an encoder writes.
fn params() -> impl Strategy<Value = DeflateParams> {
    (any::<bool>(), 9..=15u8, 1..=9u8, 0..300usize).prop_map(|(takeover, bits, level, min_size)| {
        DeflateParams {
            server_window_bits: bits,
            level,
            min_size,
            ..deflate(takeover)
        }
    })
}

/// Words that come again near and far, with noise between, so that matches of every distance are there.
fn text() -> impl Strategy<Value = String> {
    (any::<u64>(), 0..3000usize).prop_map(|(seed, words)| {
        let mut rng = Rng(seed);
        let word = |rng: &mut Rng| match rng.below(4) {
            0 => format!("{:x} ", rng.next()),
            _ => format!("word-{} ", rng.below(300)),
        };
        (0..words).map(|_| word(&mut rng)).collect()
    })
}

/// Compressed messages as a client sends them, in fragments, with bytes broken here and there.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let piece = (text(), any::<bool>(), proptest::option::of(any::<u32>()));
    proptest::collection::vec(piece, 1..4).prop_map(|pieces| {
        let mut encoder = Encoder::new(Some(deflate(true)));
        let mut raw = Vec::new();
        for (text, is_text, broken) in pieces {
            let kind = if is_text {
                MessageKind::Text
            } else {
                MessageKind::Binary
            };
            let mut out = Vec::new();
            encoder.message(&mut out, kind, &text.as_bytes()[..text.len().min(2000)]);
            let from = raw.len();
            raw.extend(masked(&out));
            if let Some(at) = broken {
                let len = raw.len() - from;
                raw[from + at as usize % len] ^= 1 << (at >> 29);
            }
        }
        raw
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_round_trip_with_every_window(params in params(), texts in proptest::collection::vec(text(), 1..5), cut in any::<u16>()) {
        let mut encoder = Encoder::new(Some(params));
        let mut decoder = Decoder::new(limits(0), Some(params));
        for text in texts {
            let mut out = Vec::new();
            encoder.message(&mut out, MessageKind::Text, text.as_bytes());
            prop_assert!(out.len() <= text.len() + 10);
            let raw = masked(&out);
            let (first, last) = raw.split_at(usize::from(cut) % raw.len());
            prop_assert_eq!(decoder.decode(first).unwrap().event, None);
            let got = message(&mut decoder, last);
            prop_assert_eq!(got, Message { kind: MessageKind::Text, payload: text.into_bytes() });
        }
    }

    #[test]
    fn cuts_never_change_what_happens(
        raw in traffic(), takeover in any::<bool>(), limit in 0..3000u64, cuts in proptest::collection::vec(any::<u16>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|&cut| usize::from(cut) % (raw.len() + 1)).collect();
        cuts.sort_unstable();
        let decoder = || Decoder::new(limits(limit), Some(deflate(takeover)));
        let whole = events(decoder(), &raw, &[]);
        prop_assert_eq!(&events(decoder(), &raw, &cuts), &whole);
        let each: Vec<usize> = (1..raw.len()).collect();
        prop_assert_eq!(&events(decoder(), &raw, &each), &whole);
    }

    #[test]
    fn arbitrary_compressed_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..300), takeover in any::<bool>()) {
        let raw = [frame(0xc2, &payload), frame(0xc1, &payload)].concat();
        events(Decoder::new(Limits::default(), Some(deflate(takeover))), &raw, &[]);
    }
}

#[test]
fn what_is_sent_refers_to_nothing_beyond_the_window_that_was_negotiated() {
    let sent = |server_window_bits, period| {
        let mut rng = Rng(20261124);
        let noise: String = (0..period)
            .map(|_| format!("{:x}", rng.below(16)))
            .collect();
        let params = DeflateParams {
            server_window_bits,
            ..deflate(false)
        };
        let mut out = Vec::new();
        Encoder::new(Some(params)).message(&mut out, MessageKind::Text, noise.repeat(8).as_bytes());
        out.len()
    };
    // Hexadecimal noise alone goes into half its bytes; what comes again within the window, into next to none.
    for bits in 9..=15 {
        let window = 1 << bits;
        assert!(sent(bits, window) > 8 * window / 2, "{bits} bits");
        assert!(sent(bits, window / 4) < 8 * window / 4 / 4, "{bits} bits");
    }
}

/// A binary message of `len` zeros, as a client would send it.
fn zeros(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(Some(deflate(false))).message(&mut out, MessageKind::Binary, &vec![0; len]);
    masked(&out)
}

#[test]
fn a_bomb_is_cut_off_at_the_limit() {
    let limit = 100_000;
    let bomb = zeros(20_000_000);
    assert!(
        bomb.len() < 50_000,
        "the bomb itself is no larger than the limit"
    );
    let mut decoder = Decoder::new(limits(limit), Some(deflate(false)));
    let fault = bomb.iter().find_map(|byte| {
        let fault = decoder.decode(std::slice::from_ref(byte)).err();
        assert!(decoder.room() as u64 <= limit + 1);
        fault
    });
    assert_eq!(fault.map(|fault| fault.code), Some(CloseCode::TOO_BIG));
    assert_eq!(decoder.room(), 0);
    let mut decoder = Decoder::new(limits(limit), Some(deflate(false)));
    assert_eq!(decoder.decode(&bomb).err(), fault);
}

#[test]
fn a_message_may_inflate_to_the_limit_and_not_to_a_byte_more() {
    for len in [1, 255, 256, 257, 16_384, 16_385, 100_000] {
        let mut decoder = Decoder::new(limits(len as u64), Some(deflate(false)));
        assert_eq!(message(&mut decoder, &zeros(len)).payload, vec![0; len]);
        let fault = decoder.decode(&zeros(len + 1)).unwrap_err();
        // Uncompressed where that is shorter, and then refused by its head.
        assert_eq!(fault.code, CloseCode::TOO_BIG, "{len} + 1 bytes");
    }
}

#[test]
fn a_context_makes_what_comes_again_shorter() {
    let text = b"Tell me, Muse, of the man of many ways, who was driven far journeys";
    for takeover in [false, true] {
        let mut encoder = Encoder::new(Some(deflate(takeover)));
        let mut sent = || {
            let mut out = Vec::new();
            encoder.message(&mut out, MessageKind::Text, text);
            assert_eq!(out[0], 0xc1);
            out
        };
        let (first, second) = (sent(), sent());
        assert_eq!(second.len() < first.len() / 4, takeover);
        assert_eq!(second == first, !takeover);
    }
}

#[test]
fn what_does_not_shrink_is_sent_as_it_is_and_disturbs_no_context() {
    let params = deflate(true);
    let mut encoder = Encoder::new(Some(params));
    let mut decoder = Decoder::new(limits(0), Some(params));
    let mut rng = Rng(20261124);
    let noise: Vec<u8> = (0..5000).map(|_| rng.next() as u8).collect();
    let text = b"again and again and again and again";
    for (payload, first) in [
        (&text[..], 0xc2),
        (&noise, 0x82),
        (text, 0xc2),
        (b"", 0x82),
        (text, 0xc2),
    ] {
        let mut out = b"before".to_vec();
        encoder.message(&mut out, MessageKind::Binary, payload);
        let sent = out.strip_prefix(b"before").unwrap();
        assert_eq!(sent[0], first);
        assert_eq!(message(&mut decoder, &masked(sent)).payload, payload);
    }
}

#[test]
fn short_messages_are_not_compressed() {
    let params = DeflateParams {
        min_size: 100,
        ..deflate(false)
    };
    let mut encoder = Encoder::new(Some(params));
    for (len, first) in [(99, 0x82), (100, 0xc2)] {
        let mut out = Vec::new();
        encoder.message(&mut out, MessageKind::Binary, &vec![0; len]);
        assert_eq!(out[0], first);
        assert_eq!(encoder.compresses(len), first == 0xc2);
    }
    assert!(!Encoder::new(None).compresses(1 << 20));
}
