//! Prints what parsing a head and encoding a response cost, in nanoseconds.
//!
//! Run with `cargo run --release -p tricorn-proto --example parse_ns`.
use std::hint::black_box;
use std::time::Instant;

use tricorn_proto::h1::{BodyDecoder, BodyStep, HeadParser};
use tricorn_proto::response::{BodyEncoder, HeadEncoder, ResponseContext};
use tricorn_proto::{Framing, Head, PeerTrust, Policy};

const ROUNDS: u32 = 200_000;
const SAMPLES: usize = 15;

const ONE_FIELD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
const BROWSER: &[u8] = b"GET /shop/items?category=hats&page=3 HTTP/1.1\r\n\
Host: www.example.com\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
sec-ch-ua: \"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Sec-Fetch-Site: same-origin\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-User: ?1\r\n\
Sec-Fetch-Dest: document\r\n\
Referer: https://www.example.com/shop/items?category=hats&page=2\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Cookie: sessionid=9f86d081884c7d659a2feaa0c55ad015; csrftoken=a3bf4f1b2b0b822cd15d6c15b0f00a08; theme=dark\r\n\r\n";

fn main() {
    let policy = Policy::default();
    for (name, raw, trust) in [
        ("head, 1 field", ONE_FIELD, PeerTrust::Untrusted),
        ("head, 16 browser fields", BROWSER, PeerTrust::Untrusted),
        (
            "head, 16 browser fields, trusted peer",
            BROWSER,
            PeerTrust::Trusted,
        ),
    ] {
        let (mut parser, mut head) = (HeadParser::default(), Head::default());
        report(name, || {
            let consumed = parser.parse(black_box(raw), &policy, trust, &mut head);
            assert_eq!(consumed, Ok(Some(raw.len())));
            black_box(&head);
        });
    }
    let mut body = Vec::new();
    for _ in 0..100 {
        body.extend_from_slice(b"a\r\n0123456789\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    report("chunked body, 100 chunks of 10 bytes", || {
        chunks(black_box(&body), &policy)
    });
    let context = ResponseContext {
        version: (1, 1),
        is_head: false,
        is_connect: false,
        keep_alive: true,
    };
    let mut out = Vec::new();
    report("response, 2 fields and 12 bytes", || {
        out.clear();
        let head = HeadEncoder::begin(
            &mut out,
            &context,
            b"200 OK",
            b"tricorn",
            b"Tue, 24 Nov 2026 00:00:00 GMT",
        );
        let Ok(mut head) = head else { return };
        assert!(
            head.field(&mut out, b"Content-Type", b"text/plain; charset=utf-8")
                .is_ok()
        );
        assert!(head.field(&mut out, b"Content-Length", b"12").is_ok());
        let mut body = BodyEncoder::new(head.end(&mut out, None));
        body.put(&mut out, b"Hello world!");
        assert!(body.finish(&mut out));
        black_box(&out);
    });
}

fn chunks(body: &[u8], policy: &Policy) {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let mut rest = body;
    loop {
        match decoder.decode(rest, policy) {
            Ok(BodyStep::Data { consumed, .. }) => rest = &rest[consumed..],
            Ok(BodyStep::End { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
}

/// The least and the median of some samples.
fn report(name: &str, mut work: impl FnMut()) {
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                work();
            }
            start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    println!(
        "{name:<40} {:>7.1} ns least, {:>7.1} ns median",
        samples[0],
        samples[SAMPLES / 2]
    );
}
