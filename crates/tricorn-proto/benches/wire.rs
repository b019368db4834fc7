//! What parsing a head and encoding a response cost. `cargo bench -p tricorn-proto`
use divan::{Bencher, black_box};
use tricorn_proto::h1::{BodyDecoder, BodyStep, Familiar, HeadParser};
use tricorn_proto::response::{BodyEncoder, HeadEncoder, ResponseContext, Signature, Status};
use tricorn_proto::{Framing, Head, PeerTrust, Policy};

const ONE_FIELD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
const BROWSER: &[u8] = include_bytes!("../../../bench/load/browser.http");

fn main() {
    divan::main();
}

#[divan::bench]
fn head_of_1_field(bencher: Bencher) {
    parse(bencher, ONE_FIELD, PeerTrust::Untrusted);
}

#[divan::bench]
fn head_of_16_browser_fields(bencher: Bencher) {
    parse(bencher, BROWSER, PeerTrust::Untrusted);
}

#[divan::bench]
fn head_of_16_browser_fields_from_a_trusted_peer(bencher: Bencher) {
    parse(bencher, BROWSER, PeerTrust::Trusted);
}

fn parse(bencher: Bencher, raw: &[u8], trust: PeerTrust) {
    let policy = Policy::default();
    let (mut parser, mut head) = (HeadParser::default(), Head::default());
    let mut familiar = Familiar::default();
    bencher.bench_local(|| {
        let consumed = parser.parse(black_box(raw), &policy, trust, &mut head, &mut familiar);
        assert_eq!(consumed, Ok(Some(raw.len())));
        black_box(&head);
    });
}

#[divan::bench]
fn chunked_body_of_100_chunks(bencher: Bencher) {
    let mut body = b"a\r\n0123456789\r\n".repeat(100);
    body.extend_from_slice(b"0\r\n\r\n");
    let policy = Policy::default();
    bencher.bench_local(|| {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        let mut rest = black_box(&body[..]);
        loop {
            match decoder.decode(rest, &policy) {
                Ok(BodyStep::Data { consumed, .. }) => rest = &rest[consumed..],
                Ok(BodyStep::End { .. }) => break,
                other => panic!("{other:?}"),
            }
        }
    });
}

#[divan::bench]
fn response_of_2_fields_and_12_bytes(bencher: Bencher) {
    let context = ResponseContext {
        version: (1, 1),
        is_head: false,
        is_connect: false,
        keep_alive: true,
    };
    let signature = Signature {
        lines: b"Server: tricorn\r\nDate: Tue, 24 Nov 2026 00:00:00 GMT\r\n",
        has_server: true,
        has_date: true,
    };
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        let status = Status::parse(b"200 OK").expect("a valid status");
        let mut head = HeadEncoder::begin(&mut out, &context, status, &signature);
        for (name, value) in [
            (&b"Content-Type"[..], &b"text/plain; charset=utf-8"[..]),
            (b"Content-Length", b"12"),
        ] {
            head.field(&mut out, name, value).expect("a valid field");
        }
        let mut body = BodyEncoder::new(head.end(&mut out, None));
        body.put(&mut out, b"Hello world!");
        assert!(body.finish(&mut out, b""));
        black_box(&out);
    });
}
