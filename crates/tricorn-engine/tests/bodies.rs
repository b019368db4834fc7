//! Request bodies: in memory, in a file, from the peer while the application runs. Real sockets, real threads.
mod harness;

use std::sync::mpsc;
use std::time::Duration;

use harness::{Client, GET, Server, answer, hello, read_all};
use tricorn_engine::{BodyError, EngineConfig, Exchange};

/// A body in which every part is told from its neighbours.
fn numbered(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8).collect()
}

/// The head of an upload of so many bytes.
fn head(length: usize) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

fn echo(mut exchange: Exchange) {
    let body = read_all(&mut exchange).expect("a body");
    answer(exchange, &body);
}

fn streaming() -> EngineConfig {
    EngineConfig {
        request_buffering: false,
        ..EngineConfig::default()
    }
}

fn send_chunked(client: &mut Client, body: &[u8], size: usize) {
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.chunks(size) {
        client.send(format!("{:x}\r\n", piece.len()));
        client.send(piece);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
}

#[test]
fn a_body_in_memory_and_one_in_a_file_arrive_whole_and_can_be_read_again() {
    for worker_buffer_memory in [0, 20_000, 200_000, 1_000_000] {
        bodies_arrive_whole(EngineConfig {
            request_buffer_memory: 10_000,
            worker_buffer_memory,
            ..EngineConfig::default()
        });
    }
}

fn bodies_arrive_whole(config: EngineConfig) {
    let shared = config.worker_buffer_memory;
    let server = Server::start(config, 1, |mut exchange| {
        let first = read_all(&mut exchange).expect("a body");
        exchange.seek_body(0).expect("seekable");
        let second = read_all(&mut exchange).expect("the body again");
        assert_eq!(first, second);
        answer(exchange, &first);
    });
    let mut client = server.connect();
    for size in [0usize, 1, 9_999, 10_000, 10_001, 300_000] {
        let body = numbered(size);
        client.send(head(size));
        client.send(&body);
        assert_eq!(client.response().body, body, "{size} of {shared}");
        send_chunked(&mut client, &body, 7_001);
        assert_eq!(client.response().body, body, "chunked {size} of {shared}");
    }
}

#[test]
fn what_a_worker_has_for_large_bodies_is_shared_and_comes_back() {
    let config = EngineConfig {
        request_buffer_memory: 10_000,
        worker_buffer_memory: 150_000,
        ..EngineConfig::default()
    };
    let server = Server::start(config, 1, |mut exchange| {
        let in_memory = exchange.take_body(1).is_some();
        answer(exchange, if in_memory { b"memory" } else { b"file" });
    });
    let whole = || [head(100_000), vec![b'x'; 100_000]].concat();
    let mut first = server.connect();
    first.send([head(100_000), vec![b'x'; 50_000]].concat());
    let mut second = server.connect();
    // Which of the two is looked at first is chance; an answer shows that the half body has been read.
    second.send(GET);
    assert_eq!(second.response().status, 200);
    second.send(whole());
    assert_eq!(second.response().body, b"file");
    first.send(vec![b'x'; 50_000]);
    assert_eq!(first.response().body, b"memory");
    second.send(whole());
    assert_eq!(second.response().body, b"memory");
    // One that leaves in the middle gives its share back.
    first.send([head(100_000), vec![b'x'; 50_000]].concat());
    second.send(GET);
    assert_eq!(second.response().status, 200);
    drop(first);
    let mut seen = Vec::new();
    for _ in 0..200 {
        second.send(whole());
        seen = second.response().body;
        if seen == b"memory" {
            break;
        }
    }
    assert_eq!(seen, b"memory");
}

#[test]
fn a_body_of_untold_length_that_outgrows_memory_moves_to_a_file() {
    let server = Server::start(EngineConfig::default(), 1, |mut exchange| {
        let kind = match exchange.take_body(0).is_some() {
            true => "memory",
            false => "file",
        };
        let body = read_all(&mut exchange).expect("a body");
        let right = body == numbered(body.len());
        answer(
            exchange,
            format!("{kind} {} {right}", body.len()).as_bytes(),
        );
    });
    let mut client = server.connect();
    for (size, kind) in [(3_000_000, "memory"), (9_000_000, "file")] {
        let body = numbered(size);
        send_chunked(&mut client, &body, 70_001);
        let expected = format!("{kind} {size} true");
        assert_eq!(client.response().body, expected.as_bytes());
    }
}

#[test]
fn a_body_larger_than_memory_behind_another_request_is_not_mixed_with_it() {
    let server = Server::start(EngineConfig::default(), 1, echo);
    let mut client = server.connect();
    let big = vec![b'b'; 100_000];
    let mut bytes = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".to_vec();
    bytes.extend_from_slice(&big);
    bytes.extend_from_slice(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nend");
    client.send(bytes);
    assert_eq!(client.response().body, big);
    assert_eq!(client.response().body, b"end");
}

#[test]
fn expect_100_is_answered_by_the_engine() {
    let server = Server::start(EngineConfig::default(), 1, echo);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 100);
    client.send("body");
    assert_eq!(client.response().body, b"body");
}

#[test]
fn a_body_over_the_limit_is_413_whether_announced_or_not() {
    let config = EngineConfig {
        limit_request_body: 1000,
        ..EngineConfig::default()
    };
    let server = Server::start(config, 1, hello);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(client.response().status, 413);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(format!("3e9\r\n{}\r\n", "x".repeat(1001)));
    assert_eq!(client.response().status, 413);
    assert!(client.rest().is_empty());
}

#[test]
fn a_streamed_body_reaches_the_application_before_it_is_complete() {
    let (seen, first) = mpsc::channel();
    let server = Server::start(streaming(), 1, move |mut exchange| {
        let mut body = Vec::new();
        exchange.read_body(&mut body, 3).expect("the first bytes");
        let _ = seen.send(body.clone());
        body.extend(read_all(&mut exchange).expect("the rest"));
        answer(exchange, &body);
    });
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
    assert_eq!(
        first
            .recv_timeout(Duration::from_secs(20))
            .expect("a first read"),
        b"abc"
    );
    client.send("def");
    assert_eq!(client.response().body, b"abcdef");
    client.send(GET);
    assert_eq!(client.response().status, 200);
}

#[test]
fn an_unread_streamed_body_is_never_taken_for_a_request() {
    let server = Server::start(streaming(), 1, hello);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n0123456789GET /smuggled HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status, 200);
    assert!(client.rest().is_empty(), "something was answered twice");
}

#[test]
fn a_peer_that_leaves_in_the_middle_of_a_streamed_body_is_reported() {
    let (told, outcome) = mpsc::channel();
    let server = Server::start(streaming(), 1, move |mut exchange| {
        let _ = told.send(matches!(
            read_all(&mut exchange),
            Err(BodyError::Disconnected)
        ));
    });
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    drop(client);
    assert!(
        outcome
            .recv_timeout(Duration::from_secs(20))
            .expect("an outcome")
    );
}

/// How an upload may reach the engine: each way ends with the body where it belongs.
#[test]
fn uploads_behind_uploads_arrive_whole_however_they_come() {
    let server = Server::start(EngineConfig::default(), 1, |mut exchange| {
        let in_memory = exchange.take_body(0).is_some();
        let body = read_all(&mut exchange).expect("a body");
        exchange.seek_body(1).expect("seekable");
        let again = read_all(&mut exchange).expect("the body again");
        assert!(in_memory && again == body[body.len().min(1)..]);
        answer(exchange, &body);
    });
    let mut client = server.connect();
    // After the first of them a buffer for a whole upload waits for the next request of the connection.
    for size in [
        70_000usize,
        70_000,
        69_000,
        90_000,
        20_000,
        262_144,
        3,
        0,
        70_000,
        17_000,
    ] {
        let body = numbered(size);
        client.send([head(size), body.clone()].concat());
        assert_eq!(client.response().body, body, "{size} in one go");
    }
    for size in [70_000usize, 70_000, 5] {
        let body = numbered(size);
        let long = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\nContent-Length: {size}\r\n\r\n",
            "l".repeat(6000)
        );
        client.send([long.into_bytes(), body.clone()].concat());
        assert_eq!(client.response().body, body, "{size} behind a long head");
    }
    // The engine has read the head, or the begin of the body, when it answers somebody else.
    let mut other = server.connect();
    for (size, early) in [
        (70_000usize, 0),
        (70_000, 1),
        (60_000, 40_000),
        (70_000, 69_999),
        (200_000, 100_000),
        (70_000, 0),
    ] {
        let body = numbered(size);
        client.send([head(size), body[..early].to_vec()].concat());
        other.send(GET);
        assert_eq!(other.response().status, 200);
        client.send(&body[early..]);
        assert_eq!(
            client.response().body,
            body,
            "{size}, {early} of them early"
        );
    }
    // Requests behind it, in the same packets.
    let mut bytes = Vec::new();
    let sizes = [70_000usize, 3, 70_000, 70_000, 0, 20_000];
    for size in sizes {
        bytes.extend([head(size), numbered(size)].concat());
    }
    client.send(&bytes);
    for size in sizes {
        assert_eq!(client.response().body, numbered(size), "{size} in a row");
    }
    send_chunked(&mut client, &numbered(100_000), 30_000);
    assert_eq!(client.response().body, numbered(100_000));
}
