//! Claims about response heads and bodies.
use super::*;
use crate::reject::{Reject, RejectKind};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const GET: ResponseContext = ResponseContext {
    version: (1, 1),
    is_head: false,
    is_connect: false,
    keep_alive: true,
};
const HEAD: ResponseContext = ResponseContext {
    is_head: true,
    ..GET
};
const OLD: ResponseContext = ResponseContext {
    version: (1, 0),
    keep_alive: false,
    ..GET
};
const OLD_KEEP: ResponseContext = ResponseContext {
    version: (1, 0),
    ..GET
};
const CONNECT: ResponseContext = ResponseContext {
    is_connect: true,
    keep_alive: false,
    ..GET
};
const SIGNATURE: Signature<'_> = Signature {
    lines: b"Server: tricorn\r\nDate: DATE\r\n",
    has_server: true,
    has_date: true,
};

fn head(
    context: &ResponseContext,
    status: &str,
    fields: &[(&str, &str)],
    known: Option<u64>,
) -> Result<(String, BodyPlan), AppFault> {
    let mut out = Vec::new();
    let mut encoder = HeadEncoder::begin(
        &mut out,
        context,
        Status::parse(status.as_bytes())?,
        &SIGNATURE,
    );
    for (name, value) in fields {
        let result = encoder.field(&mut out, name.as_bytes(), value.as_bytes());
        if result.is_err() {
            assert!(out.is_empty(), "a refused head leaves nothing behind");
        }
        result?;
    }
    let plan = encoder.end(&mut out, known);
    Ok((String::from_utf8(out).unwrap(), plan))
}

fn plan(kind: BodyKind, keep_alive: bool) -> BodyPlan {
    BodyPlan { kind, keep_alive }
}

#[test]
fn a_plain_response_has_the_server_fields_and_the_applications_in_order() {
    let (text, got) = head(
        &GET,
        "200 OK",
        &[("X-b", " 1 "), ("Content-Length", "3"), ("x-A", "")],
        Some(3),
    )
    .unwrap();
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nServer: tricorn\r\nDate: DATE\r\nX-b: 1\r\nContent-Length: 3\r\nx-A: \r\nConnection: keep-alive\r\n\r\n"
    );
    assert_eq!(got, plan(BodyKind::Length(3), true));
}

const CL: &[(&str, &str)] = &[("Content-Length", "5")];

/// Request, status, fields, known length; kind of body, connection kept.
type Row = (
    &'static ResponseContext,
    &'static str,
    &'static [(&'static str, &'static str)],
    Option<u64>,
    BodyKind,
    bool,
);

const FRAMINGS: [Row; 18] = [
    (&GET, "200 OK", &[], None, BodyKind::Chunked, true),
    (&GET, "200 OK", &[], Some(0), BodyKind::Length(0), true),
    (&GET, "200 OK", &[], Some(7), BodyKind::Length(7), true),
    (&GET, "200 OK", CL, Some(7), BodyKind::Length(5), true),
    (&OLD, "200 OK", &[], None, BodyKind::UntilClose, false),
    (&OLD_KEEP, "200 OK", &[], None, BodyKind::UntilClose, false),
    (&OLD_KEEP, "200 OK", &[], Some(7), BodyKind::Length(7), true),
    (&OLD, "200 OK", CL, None, BodyKind::Length(5), false),
    (&HEAD, "200 OK", &[], None, BodyKind::None, true),
    (&HEAD, "200 OK", CL, None, BodyKind::None, true),
    (&GET, "204 No Content", CL, Some(5), BodyKind::None, true),
    (&GET, "304 Not Modified", CL, None, BodyKind::None, true),
    (&GET, "304 Not Modified", &[], Some(0), BodyKind::None, true),
    (
        &GET,
        "101 Switching Protocols",
        &[],
        None,
        BodyKind::None,
        false,
    ),
    (&CONNECT, "200 OK", &[], None, BodyKind::UntilClose, false),
    (&CONNECT, "200 OK", CL, None, BodyKind::Length(5), false),
    (
        &GET,
        "200 OK",
        &[("Connection", "close")],
        Some(1),
        BodyKind::Length(1),
        false,
    ),
    (
        &GET,
        "200 OK",
        &[("Connection", "Foo, CLOSE")],
        None,
        BodyKind::Chunked,
        false,
    ),
];

#[test]
fn framing_follows_version_method_status_and_known_length() {
    use BodyKind::{Chunked, Length};
    for (context, status, fields, known, kind, keep_alive) in FRAMINGS {
        let (text, got) = head(context, status, fields, known).unwrap();
        assert_eq!(
            got,
            plan(kind, keep_alive),
            "{context:?} {status} {fields:?} {known:?}"
        );
        assert_eq!(
            text.contains("Transfer-Encoding: chunked\r\n"),
            kind == Chunked,
            "{text}"
        );
        assert!(text.matches("Content-Length").count() <= 1, "{text}");
        if let Length(length) = kind {
            assert!(
                text.contains(&alloc::format!("Content-Length: {length}\r\n")),
                "{text}"
            );
        }
        assert_eq!(
            text.contains("Connection: keep-alive\r\n"),
            keep_alive,
            "{text}"
        );
    }
}

#[test]
fn content_length_stays_on_head_and_304_and_goes_from_204_and_1xx() {
    for (context, status, kept) in [
        (&HEAD, "200 OK", true),
        (&GET, "304 N", true),
        (&GET, "204 N", false),
        (&HEAD, "204 N", false),
        (&GET, "101 S", false),
    ] {
        let (text, _) = head(context, status, &[("Content-Length", "5")], None).unwrap();
        assert_eq!(text.contains("Content-Length: 5\r\n"), kept, "{text}");
    }
    assert!(
        head(&HEAD, "200 OK", &[], Some(7))
            .unwrap()
            .0
            .contains("Content-Length: 7\r\n")
    );
    assert!(
        !head(&HEAD, "200 OK", &[], Some(0))
            .unwrap()
            .0
            .contains("Content-Length")
    );
}

#[test]
fn fields_that_are_the_servers_to_say_are_dropped() {
    let names = [
        "connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "proxy-authorization",
        "TE",
        "Trailers",
        "Transfer-Encoding",
        "Upgrade",
        "SERVER",
        "date",
    ];
    for name in names {
        let (text, _) = head(&GET, "200 OK", &[(name, "x-mark")], Some(0)).unwrap();
        assert!(!text.contains("x-mark"), "{name}");
    }
    assert!(
        head(&GET, "200 OK", &[("Trailer", "x-mark")], Some(0))
            .unwrap()
            .0
            .contains("Trailer: x-mark")
    );
}

#[test]
fn a_websocket_upgrade_passes() {
    let fields = [("Connection", "Upgrade"), ("Upgrade", "WebSocket")];
    let (text, _) = head(&GET, "101 Switching Protocols", &fields, None).unwrap();
    assert!(
        text.ends_with("Upgrade: WebSocket\r\nConnection: upgrade\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn an_application_cannot_split_the_response() {
    for status in [
        "20",
        "2000",
        "200OK",
        "abc x",
        "200 a\r\nX: y",
        "200 \0",
        "",
        "099 x",
        " 200",
    ] {
        assert_eq!(
            head(&GET, status, &[], None)
                .unwrap_err()
                .message
                .split(' ')
                .next(),
            Some("Invalid"),
            "{status:?}"
        );
    }
    for (name, value) in [
        ("a b", "c"),
        ("", "c"),
        ("a\r\nb", "c"),
        ("a:", "c"),
        ("a", "b\r\nc"),
        ("a", "b\0"),
        ("a", "b\x7f"),
        ("a", "b\nc"),
    ] {
        assert!(
            head(&GET, "200 OK", &[("fine", "1"), (name, value)], None).is_err(),
            "{name:?} {value:?}"
        );
    }
}

#[test]
fn a_content_length_is_one_number_and_faults_say_what_is_wrong() {
    for fields in [
        &[("Content-Length", "x")][..],
        &[("Content-Length", "+3")],
        &[("Content-Length", "3"), ("Content-Length", "4")],
    ] {
        assert!(head(&GET, "200 OK", fields, None).is_err(), "{fields:?}");
    }
    let (text, _) = head(
        &GET,
        "200 OK",
        &[("Content-Length", "3"), ("Content-Length", "3")],
        None,
    )
    .unwrap();
    assert_eq!(text.matches("Content-Length").count(), 1);
    assert_eq!(
        head(&GET, "20", &[], None).unwrap_err().to_string(),
        "Invalid status '20'"
    );
    let fault = head(&GET, "200 OK", &[("a b", "c")], None).unwrap_err();
    assert_eq!(
        fault.message,
        "Invalid response header name from the application: 'a b'"
    );
    let fault = head(&GET, "200 OK", &[("a", "b\nc")], None).unwrap_err();
    assert_eq!(
        fault.message,
        "Invalid response header from the application: 'a'"
    );
}

#[test]
fn a_bare_status_and_high_bytes_are_sent() {
    assert!(
        head(&GET, "200", &[], None)
            .unwrap()
            .0
            .starts_with("HTTP/1.1 200 \r\n")
    );
    let mut out = Vec::new();
    let mut encoder = HeadEncoder::begin(
        &mut out,
        &GET,
        Status::parse(b"200 \xe9").unwrap(),
        &Signature::default(),
    );
    encoder.field(&mut out, b"a", b"b\tc\x80").unwrap();
    encoder.end(&mut out, None);
    assert!(out.starts_with(b"HTTP/1.1 200 \xe9\r\na: b\tc\x80\r\n"));
}

fn body(kind: BodyKind, blocks: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut encoder = BodyEncoder::new(plan(kind, true));
    let mut out = Vec::new();
    for block in blocks {
        encoder.put(&mut out, block);
    }
    let complete = encoder.finish(&mut out, b"");
    (out, complete)
}

#[test]
fn bodies_are_sent_as_announced() {
    use BodyKind::{Chunked, Length, None as Nothing, UntilClose};
    let long = [b'x'; 0x1234];
    let chunked = [b"1234\r\n".as_slice(), &long, b"\r\n0\r\n\r\n"].concat();
    type Row<'a> = (BodyKind, &'a [&'a [u8]], &'a [u8], bool);
    let table: [Row<'_>; 9] = [
        (Nothing, &[b"abc"], b"", true),
        (Length(5), &[b"abc", b"", b"de"], b"abcde", true),
        (Length(4), &[b"abc", b"de", b"f"], b"abcd", true),
        (Length(6), &[b"abc", b"de"], b"abcde", false),
        (Length(0), &[], b"", true),
        (UntilClose, &[b"abc", b"de"], b"abcde", true),
        (
            Chunked,
            &[b"abc", b"", b"0123456789abcdef"],
            b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
            true,
        ),
        (Chunked, &[], b"0\r\n\r\n", true),
        (Chunked, &[&long], &chunked, true),
    ];
    for (kind, blocks, expected, complete) in table {
        assert_eq!(
            body(kind, blocks),
            (expected.to_vec(), complete),
            "{kind:?} {blocks:?}"
        );
    }
}

#[test]
fn framing_around_bytes_sent_another_way_equals_put() {
    for kind in [
        BodyKind::Length(3),
        BodyKind::Chunked,
        BodyKind::UntilClose,
        BodyKind::None,
    ] {
        let mut encoder = BodyEncoder::new(plan(kind, true));
        let mut out = Vec::new();
        let taken = encoder.take(5);
        if taken > 0 {
            encoder.put_head(&mut out, taken);
            out.extend_from_slice(&b"abcde"[..taken as usize]);
            encoder.put_tail(&mut out);
        }
        encoder.finish(&mut out, b"");
        assert_eq!(out, body(kind, &[b"abcde"]).0, "{kind:?}");
    }
}

#[test]
fn early_hints_are_checked_like_other_heads() {
    let mut out = b"x".to_vec();
    informational(
        &mut out,
        b"103 Early Hints",
        [(&b"Link"[..], &b"</a>"[..]), (b"Connection", b"close")],
    )
    .unwrap();
    assert_eq!(out, b"xHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    assert!(
        informational(
            &mut out,
            b"103 Early Hints",
            [(&b"a"[..], &b"b\r\n\r\n"[..]), (b"c", b"d\ne")]
        )
        .is_err()
    );
    for status in [&b"101 Switching"[..], b"200 OK", b"103 \r\n"] {
        assert!(informational(&mut out, status, []).is_err());
    }
    assert_eq!(
        out, b"xHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "a refused one leaves the output alone"
    );
}

#[test]
fn the_error_page_is_the_originals_with_the_right_reason() {
    let page = |reject: &Reject| {
        let mut out = Vec::new();
        error_page(&mut out, reject);
        String::from_utf8(out).unwrap()
    };
    let expected = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: 207\r\n\r\n<html>\n  <head>\n    <title>Bad Request</title>\n  </head>\n  <body>\n    <h1><p>Bad Request</p></h1>\n    Invalid Request Line &#x27;Invalid HTTP request line: &#x27;GET x HTTP/1.1&#x27;&#x27;\n  </body>\n</html>\n";
    assert_eq!(page(&Reject::request_line(b"GET x HTTP/1.1")), expected);
    assert!(page(&Reject::coding(b"<foo>")).starts_with("HTTP/1.1 501 Not Implemented\r\n"));
    assert!(page(&Reject::coding(b"<foo>")).contains("&#x27;&lt;foo&gt;&#x27;"));
    assert!(
        page(&Reject::new(RejectKind::Internal, "secret"))
            .contains("<h1><p>Internal Server Error</p></h1>\n    \n")
    );
    let mut latin = Vec::new();
    error_page(&mut latin, &Reject::method(b"\xe9"));
    assert!(latin.windows(5).any(|bytes| bytes == b";\xe9&#x"));
}

/// A head of these fields, those that are ready put as such; and how many were.
fn head_of_ready(status: &str, fields: &[(&str, &str)]) -> (Result<String, AppFault>, usize) {
    let mut out = Vec::new();
    let parsed = Status::parse(status.as_bytes()).expect("a status");
    let mut encoder = HeadEncoder::begin(&mut out, &GET, parsed, &SIGNATURE);
    let mut ready = 0;
    for (name, value) in fields {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        let before = out.len();
        if ReadyField::new(name, value).is_some_and(|field| encoder.ready_field(&mut out, &field)) {
            ready += 1;
            continue;
        }
        assert_eq!(out.len(), before);
        if let Err(fault) = encoder.field(&mut out, name, value) {
            return (Err(fault), ready);
        }
    }
    encoder.end(&mut out, Some(5));
    (Ok(String::from_utf8(out).unwrap()), ready)
}

#[test]
fn a_ready_field_makes_the_head_that_the_field_makes() {
    let fields = [
        ("X-One", "1"),
        ("x-blanks", " \t kept\t"),
        ("X-Empty", ""),
        ("Content-Length", "5"),
        ("content-length", " 05 "),
        ("Content-Length", "6"),
        ("Content-Length", "five"),
        ("Connection", "close"),
        ("Keep-Alive", "1"),
        ("Server", "mine"),
        ("Date", "now"),
        ("Upgrade", "websocket"),
        ("Transfer-Encoding", "chunked"),
        ("X:Y", "1"),
        ("", "1"),
        ("X-Split", "a\r\nb"),
    ];
    for status in ["200 OK", "204 No Content", "101 Switching Protocols"] {
        for one in fields {
            for other in fields {
                let both = [one, other];
                let expected = head(&GET, status, &both, Some(5)).map(|(head, _)| head);
                assert_eq!(
                    head_of_ready(status, &both).0,
                    expected,
                    "{status} {both:?}"
                );
            }
        }
    }
}

#[test]
fn ordinary_fields_and_a_first_length_are_ready() {
    let fields = [("Content-Type", "a/b"), ("Content-Length", "5")];
    assert_eq!(head_of_ready("200 OK", &fields).1, 2);
    assert_eq!(head_of_ready("204 No Content", &fields).1, 1);
}
