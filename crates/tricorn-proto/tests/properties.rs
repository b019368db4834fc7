//! Claims about all inputs: cuts never matter, nothing panics, work grows with the bytes and not with the cuts.
mod support;

use proptest::prelude::*;
use support::events;
use tricorn_proto::h1::HeadParser;
use tricorn_proto::response::{
    BodyEncoder, BodyKind, BodyPlan, HeadEncoder, ResponseContext, Signature, Status,
};
use tricorn_proto::{AddrList, Head, HeaderMap, PeerTrust, Policy};

/// Pieces that requests are made of, right ones and wrong ones.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /a?b#c HTTP/1.0\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"X_Y: z\r\n",
        b"SCRIPT_NAME: /a\r\n",
        b"X-Forwarded-Proto: https\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n",
        b"3;a=\"b\"\r\nabc\r\n",
        b": ",
        b"\"",
        b";",
        b"=",
        b"A: b\r\n c\r\n",
        b"\x00",
        b"\x80",
    ];
    prop_oneof![
        4 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
    ]
}

fn requests() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(piece(), 0..16).prop_map(|pieces| pieces.concat())
}

fn policy() -> impl Strategy<Value = Policy> {
    (
        any::<[bool; 5]>(),
        0..3usize,
        0..200usize,
        0..4usize,
        0..60usize,
    )
        .prop_map(|(on, map, line, fields, size)| Policy {
            permit_obsolete_folding: on[0],
            strip_header_spaces: on[1],
            permit_unconventional_http_method: on[2],
            permit_unconventional_http_version: on[3],
            casefold_http_method: on[4],
            header_map: [HeaderMap::Drop, HeaderMap::Refuse, HeaderMap::Dangerous][map],
            limit_request_line: line,
            limit_request_fields: fields,
            limit_request_field_size: size,
            ..Policy::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_never_change_what_happens(
        raw in requests(), policy in policy(), trusted in any::<bool>(), cuts in proptest::collection::vec(any::<u16>(), 0..8),
    ) {
        let trust = if trusted { PeerTrust::Trusted } else { PeerTrust::Untrusted };
        let mut cuts: Vec<usize> = cuts.iter().map(|&cut| usize::from(cut) % (raw.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = events(&raw, &[], &policy, trust);
        prop_assert_eq!(&events(&raw, &cuts, &policy, trust), &whole);
        let each: Vec<usize> = (1..raw.len()).collect();
        prop_assert_eq!(&events(&raw, &each, &policy, trust), &whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
        events(&raw, &[], &Policy::default(), PeerTrust::Trusted);
    }

    #[test]
    fn what_an_application_says_never_adds_a_line(
        status in proptest::collection::vec(any::<u8>(), 0..12),
        fields in proptest::collection::vec((".{0,6}", proptest::collection::vec(any::<u8>(), 0..8)), 0..4),
    ) {
        let context = ResponseContext { version: (1, 1), is_head: false, is_connect: false, keep_alive: true };
        for status in [&status[..], b"200 OK"] {
            let mut out = Vec::new();
            let Ok(status) = Status::parse(status) else { continue };
            let mut head = HeadEncoder::begin(&mut out, &context, status, &Signature::default());
            let accepted = fields.iter().try_for_each(|(name, value)| head.field(&mut out, name.as_bytes(), value));
            if accepted.is_err() {
                prop_assert!(out.is_empty());
                continue;
            }
            head.end(&mut out, None);
            let lines = out.windows(2).filter(|pair| pair == b"\r\n").count();
            let ends = out.iter().filter(|&&byte| byte == b'\r' || byte == b'\n').count();
            prop_assert_eq!(lines * 2, ends);
            // Status, Server, Date, Connection, perhaps Transfer-Encoding, the empty line.
            prop_assert!(lines <= fields.len() + 6);
            prop_assert!(out.ends_with(b"\r\n\r\n"));
        }
    }

    #[test]
    fn an_encoded_chunked_body_decodes_to_itself(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8)) {
        let mut raw = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let mut encoder = BodyEncoder::new(BodyPlan { kind: BodyKind::Chunked, keep_alive: true });
        for block in &blocks {
            prop_assert_eq!(encoder.put(&mut raw, block), block.len() as u64);
        }
        prop_assert!(encoder.finish(&mut raw, b""));
        let got = events(&raw, &[], &Policy::default(), PeerTrust::Untrusted);
        let body = blocks.concat();
        let expected = (!body.is_empty()).then(|| format!("body {}", support::shown(&body)));
        prop_assert_eq!(got.get(2).cloned(), expected);
    }

    #[test]
    fn an_address_is_in_its_own_networks(bits in any::<u32>(), prefix in 0..=32u32, other in any::<u32>()) {
        let mask = if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) };
        let network = std::net::Ipv4Addr::from(bits & mask);
        let list = AddrList::parse(&[format!("{network}/{prefix}")]).unwrap();
        prop_assert!(list.contains(std::net::Ipv4Addr::from(bits).into()));
        prop_assert_eq!(list.contains(std::net::Ipv4Addr::from(other).into()), other & mask == bits & mask);
    }
}

#[test]
fn a_head_dripped_byte_by_byte_costs_linear_time() {
    let policy = Policy {
        limit_request_field_size: 1 << 20,
        ..Policy::default()
    };
    let time = |length: usize| {
        let raw = [
            b"GET / HTTP/1.1\r\nA: ".as_slice(),
            &vec![b'a'; length],
            b"\r\n\r\n",
        ]
        .concat();
        let (mut parser, mut head) = (HeadParser::default(), Head::default());
        let start = std::time::Instant::now();
        for end in 1..raw.len() {
            assert_eq!(
                parser.parse(&raw[..end], &policy, PeerTrust::Untrusted, &mut head),
                Ok(None)
            );
        }
        assert_eq!(
            parser.parse(&raw, &policy, PeerTrust::Untrusted, &mut head),
            Ok(Some(raw.len()))
        );
        start.elapsed().as_secs_f64()
    };
    let least = |length| (0..5).map(|_| time(length)).fold(f64::MAX, f64::min);
    let (short, long) = (least(10_000), least(640_000));
    // 64 times the bytes: 64 when linear, 4096 when quadratic; the rest is room for a busy machine.
    assert!(
        long < short * 1000.0,
        "{short} s for 10,000 bytes, {long} s for 640,000"
    );
}

#[test]
fn a_parser_goes_on_to_the_next_head_and_a_head_keeps_its_room() {
    let (mut parser, mut head) = (HeadParser::default(), Head::default());
    let policy = Policy::default();
    assert!(!parser.started());
    assert_eq!(
        parser.parse(b"\r\n", &policy, PeerTrust::Untrusted, &mut head),
        Ok(None)
    );
    assert!(!parser.started(), "an empty line is no request");
    assert_eq!(
        parser.parse(b"\r\nG", &policy, PeerTrust::Untrusted, &mut head),
        Ok(None)
    );
    assert!(parser.started());
    let raw = b"\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\nrest";
    assert_eq!(
        parser.parse(raw, &policy, PeerTrust::Untrusted, &mut head),
        Ok(Some(raw.len() - 4))
    );
    assert!(!parser.started());
    assert_eq!(
        (head.target(), head.field(b"HOST")),
        (&b"/a"[..], Some(&b"b"[..]))
    );
    let room = (head.bytes.capacity(), head.fields.capacity());
    let raw = b"GET /c HTTP/1.0\r\n\r\n";
    assert_eq!(
        parser.parse(raw, &policy, PeerTrust::Untrusted, &mut head),
        Ok(Some(raw.len()))
    );
    assert_eq!(
        (head.target(), head.fields.len(), head.version),
        (&b"/c"[..], 0, (1, 0))
    );
    assert_eq!((head.bytes.capacity(), head.fields.capacity()), room);
}
