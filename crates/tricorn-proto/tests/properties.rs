//! Claims about all inputs: cuts never matter, nothing panics, work grows with the bytes and not with the cuts.
mod support;

use std::collections::HashMap;
use std::num::NonZeroU64;

use proptest::prelude::*;
use support::events;
use tricorn_proto::h1::{Familiar, HeadParser};
use tricorn_proto::response::{
    BodyEncoder, BodyKind, BodyPlan, HeadEncoder, ResponseContext, Signature, Status,
};
use tricorn_proto::{AddrList, Head, HeaderMap, Known, PeerTrust, Policy};

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

/// A head of lines that are mostly right.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static str> = vec![
        "Host: a",
        "Host: bcdefghijklmnopqrstuvwxyz0123456789",
        "host:a",
        "Accept:  text/html,application/xhtml+xml,application/xml;q=0.9",
        "Accept: */*",
        "Accept-Language: de\t,en ",
        "Upgrade-Insecure-Requests: 1",
        "X-A-Name-Of-More-Than-Thirty-Bytes: 1",
        "X-Forwarded-Proto: https",
        "Connection: keep-alive",
        "Connection: close",
        "Content-Length: 0",
        "Expect: 100-continue",
        "X_Y: z",
        "SCRIPT_NAME: /a",
        "A: ",
        "A: b\x01",
        "A : b",
        " fold",
        "no colon",
    ];
    let line = proptest::sample::select(known);
    proptest::collection::vec(line, 0..12).prop_map(|lines| {
        format!("GET /a?b HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes()
    })
}

fn head_of(
    raw: &[u8],
    policy: &Policy,
    trust: PeerTrust,
    familiar: &mut Familiar,
) -> (Result<Option<usize>, tricorn_proto::Reject>, Head) {
    let mut head = Head::default();
    let result = HeadParser::default().parse(raw, policy, trust, &mut head, familiar);
    (result, head)
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
    fn what_heads_before_were_like_never_changes_what_happens(
        heads in proptest::collection::vec(lines(), 1..5), order in proptest::collection::vec((0..8usize, 0..40usize), 1..8),
        policy in policy(), trusted in any::<bool>(),
    ) {
        let trust = if trusted { PeerTrust::Trusted } else { PeerTrust::Untrusted };
        let mut familiar = Familiar::default();
        let mut marked: HashMap<NonZeroU64, Vec<Vec<u8>>> = HashMap::new();
        let mut same: HashMap<(NonZeroU64, usize), Vec<u8>> = HashMap::new();
        for (which, times) in order {
            let raw = &heads[which % heads.len()];
            let (expected, fresh) = head_of(raw, &policy, trust, &mut Familiar::default());
            for _ in 0..times {
                let (result, mut head) = head_of(raw, &policy, trust, &mut familiar);
                prop_assert_eq!(&result, &expected);
                if let (Some(known), Ok(Some(_))) = (head.known, &result) {
                    let names: Vec<_> = head.fields.iter().map(|field| head.slice(field.name).to_vec()).collect();
                    prop_assert_eq!(marked.entry(known.mark).or_insert_with(|| names.clone()), &names);
                    for (index, field) in head.fields.iter().enumerate() {
                        if known.same >> index & 1 == 1 {
                            let value = head.slice(field.value);
                            let first = same.entry((known.mark, index)).or_insert_with(|| value.to_vec());
                            prop_assert_eq!(&first[..], value);
                        }
                    }
                    prop_assert_eq!(known.same >> head.fields.len(), 0);
                }
                head.known = fresh.known;
                prop_assert_eq!(format!("{head:?}"), format!("{fresh:?}"));
            }
        }
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

/// What is known of a head after it came several times in a row.
fn known_after(familiar: &mut Familiar, raw: &str, times: usize) -> Vec<Option<Known>> {
    let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{raw}\r\n\r\n");
    let policy = Policy::default();
    let once = |_| head_of(raw.as_bytes(), &policy, PeerTrust::Untrusted, familiar);
    (0..times)
        .map(once)
        .map(|(result, head)| {
            assert_eq!(result, Ok(Some(raw.len())));
            head.known
        })
        .collect()
}

#[test]
fn names_that_come_again_are_marked_the_same() {
    let mut familiar = Familiar::default();
    let mut marks = |raw: &str, times| -> Vec<Option<NonZeroU64>> {
        let known = known_after(&mut familiar, raw, times);
        known
            .iter()
            .map(|known| known.map(|known| known.mark))
            .collect()
    };
    let first = marks("Accept: something, and more of it", 20);
    assert!(first[0].is_none() && first[19].is_some());
    assert!(
        first[10..].iter().all(|mark| *mark == first[19]),
        "{first:?}"
    );
    assert_eq!(marks("Accept: other, and more of that", 1)[0], first[19]);
    // A few strangers change nothing.
    assert_eq!(marks("User-Agent: something, and more of it", 3), [None; 3]);
    assert_eq!(marks("Accept: something, and more of it", 1)[0], first[19]);
    // Many do; a head with more of the same names, or less, is another.
    let longer = marks("Accept: something\r\nReferer: something", 20)[19];
    assert!(longer.is_some() && longer != first[19]);
    let shorter = marks("Accept: something, and more of it", 20)[19];
    assert!(shorter.is_some() && shorter != longer);
}

#[test]
fn values_that_come_again_are_told() {
    let mut familiar = Familiar::default();
    let mut last = |raw: &str, times| known_after(&mut familiar, raw, times).pop().flatten();
    let head = "Accept: something\r\nCookie: secret";
    let known = last(head, 20).expect("it came often enough");
    assert_eq!(known.same, 0b011, "secrets are not kept");
    let other = "Accept: other\r\nCookie: secret";
    let same = |same| Some(Known { same, ..known });
    assert_eq!(last(other, 3), same(0b001));
    assert_eq!(last(head, 1), same(0b011));
    // What always is another is kept at some time, and that is another mark.
    let later = last(other, 20).expect("the names are the same");
    assert!(later.same == 0b011 && later.mark != known.mark);
    assert_eq!(
        last(head, 1),
        Some(Known {
            same: 0b001,
            ..later
        })
    );
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
        let mut familiar = Familiar::default();
        let start = std::time::Instant::now();
        for end in 1..raw.len() {
            assert_eq!(
                parser.parse(
                    &raw[..end],
                    &policy,
                    PeerTrust::Untrusted,
                    &mut head,
                    &mut familiar
                ),
                Ok(None)
            );
        }
        assert_eq!(
            parser.parse(
                &raw,
                &policy,
                PeerTrust::Untrusted,
                &mut head,
                &mut familiar
            ),
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
    let mut familiar = Familiar::default();
    let policy = Policy::default();
    assert!(!parser.started());
    assert_eq!(
        parser.parse(
            b"\r\n",
            &policy,
            PeerTrust::Untrusted,
            &mut head,
            &mut familiar
        ),
        Ok(None)
    );
    assert!(!parser.started(), "an empty line is no request");
    assert_eq!(
        parser.parse(
            b"\r\nG",
            &policy,
            PeerTrust::Untrusted,
            &mut head,
            &mut familiar
        ),
        Ok(None)
    );
    assert!(parser.started());
    let raw = b"\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\nrest";
    assert_eq!(
        parser.parse(raw, &policy, PeerTrust::Untrusted, &mut head, &mut familiar),
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
        parser.parse(raw, &policy, PeerTrust::Untrusted, &mut head, &mut familiar),
        Ok(Some(raw.len()))
    );
    assert_eq!(
        (head.target(), head.fields.len(), head.version),
        (&b"/c"[..], 0, (1, 0))
    );
    assert_eq!((head.bytes.capacity(), head.fields.capacity()), room);
}
