//! What a peer sees of the engine: order, framing, deadlines, limits, draining. Real sockets, real threads.
mod harness;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use harness::{GET, Server, answer, hello};
use tricorn_engine::{EngineConfig, Exchange, Written};

fn path_of(exchange: &Exchange) -> String {
    String::from_utf8_lossy(exchange.head().path()).into_owned()
}

#[test]
fn a_connection_is_kept_for_further_requests() {
    let server = Server::start(EngineConfig::default(), 1, hello);
    let mut client = server.connect();
    for _ in 0..3 {
        client.send(GET);
        let response = client.response();
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, b"hello".as_slice())
        );
        assert!(
            response.head.contains("Connection: keep-alive"),
            "{}",
            response.head
        );
    }
}

#[test]
fn pipelined_answers_leave_in_the_order_of_the_requests() {
    let server = Server::start(EngineConfig::default(), 4, |exchange| {
        let path = path_of(&exchange);
        let wait = path.len() as u64 * 7 % 5;
        std::thread::sleep(Duration::from_millis(wait));
        answer(exchange, path.as_bytes());
    });
    let mut client = server.connect();
    let requests: String = (0..50)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .collect();
    client.send(requests);
    for n in 0..50 {
        assert_eq!(client.response().body, format!("/{n}").into_bytes());
    }
}

#[test]
fn a_dripped_request_is_answered_and_holds_nobody_up() {
    let server = Server::start(EngineConfig::default(), 1, hello);
    let mut slow = server.connect();
    for byte in GET.bytes().take(GET.len() - 1) {
        slow.send([byte]);
        let mut quick = server.connect();
        quick.send(GET);
        assert_eq!(quick.response().status, 200);
    }
    slow.send("\n");
    assert_eq!(slow.response().status, 200);
}

/// The monitor takes the helm for the only thread just then, or gives it back: after 5 ms, without siblings.
#[test]
fn calls_that_end_as_the_monitor_steps_in_never_leave_newcomers_waiting() {
    let server = Server::start(EngineConfig::default(), 1, |exchange| {
        let us = 4_500 + exchange.received_ns() / 1_000 % 3_000;
        std::thread::sleep(Duration::from_micros(us));
        answer(exchange, b"ok");
    });
    for _ in 0..250 {
        let mut client = server.connect();
        client.send(GET);
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn slow_heads_and_bodies_are_408_and_idle_connections_close() {
    let config = EngineConfig {
        client_header_timeout_ms: 400,
        client_body_timeout_ms: 400,
        keepalive_ms: 400,
        ..EngineConfig::default()
    };
    let server = Server::start(config, 1, hello);
    let mut silent = server.connect();
    let mut head = server.connect();
    head.send("GET / HT");
    let mut body = server.connect();
    body.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    let mut kept = server.connect();
    kept.send(GET);
    assert_eq!(kept.response().status, 200);
    assert_eq!(head.response().status, 408);
    assert_eq!(body.response().status, 408);
    assert!(silent.rest().is_empty());
    assert!(kept.rest().is_empty());
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_and_the_application_told() {
    let (told, outcome) = mpsc::channel();
    let config = EngineConfig {
        send_timeout_ms: 400,
        ..EngineConfig::default()
    };
    let server = Server::start(config, 1, move |mut exchange| {
        exchange.begin_head(b"200 OK").expect("a good status");
        exchange.end_head(None);
        let block = vec![0u8; 256 * 1024];
        let mut blocks = 0;
        let gone = loop {
            match exchange.write(&block) {
                Ok(Written::Full) if exchange.wait_writable().is_err() => break true,
                Ok(Written::Part(rest)) if exchange.write_rest(&block[rest.clone()]).is_err() => {
                    break true;
                }
                Ok(_) => blocks += 1,
                Err(_) => break true,
            }
            if blocks > 400 {
                break false;
            }
        };
        exchange.finish();
        let _ = told.send(gone);
    });
    let mut client = server.connect();
    client.send(GET);
    assert!(
        outcome
            .recv_timeout(Duration::from_secs(20))
            .expect("an end"),
        "100 MB vanished into a stalled peer"
    );
}

#[test]
fn a_finished_large_answer_does_not_hold_the_thread() {
    let server = Server::start(EngineConfig::default(), 1, |exchange| {
        let body = if path_of(&exchange) == "/big" {
            vec![b'x'; 8 << 20]
        } else {
            b"small".to_vec()
        };
        answer(exchange, &body);
    });
    let mut stalled = server.connect();
    stalled.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    // The stalled peer reads its head, so the answer is on its way; the rest stays in the server.
    assert!(!stalled.piece().is_empty());
    let mut quick = server.connect();
    quick.send(GET);
    assert_eq!(quick.response().body, b"small");
}

#[test]
fn blocks_leave_while_the_application_lingers() {
    let server = Server::start(EngineConfig::default(), 1, |mut exchange| {
        exchange.begin_head(b"200 OK").expect("a good status");
        exchange.end_head(None);
        let _ = exchange.write(b"first");
        std::thread::sleep(Duration::from_millis(600));
        let _ = exchange.write(b"second");
        exchange.finish();
    });
    let mut client = server.connect();
    client.send(GET);
    let begun = Instant::now();
    let mut seen = client.piece();
    while !seen.windows(5).any(|window| window == b"first") {
        seen.extend(client.piece());
    }
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "the first block waited for the second"
    );
}

/// The next call ends when the client of the quick one has its answer.
#[test]
fn an_answer_that_waits_for_company_leaves_while_the_next_call_lasts() {
    let (go, gone) = mpsc::channel::<()>();
    let (gone, calls) = (Mutex::new(gone), Arc::new(AtomicUsize::new(0)));
    let begun_calls = calls.clone();
    let server = Server::start(EngineConfig::default(), 1, move |exchange| {
        begun_calls.fetch_add(1, Ordering::SeqCst);
        let path = path_of(&exchange);
        if path.starts_with("/long") {
            let gone = gone.lock().expect("no other call");
            let _ = gone.recv_timeout(Duration::from_secs(10));
        }
        answer(exchange, path.as_bytes());
    });
    // While the only thread is busy nobody is let in: all of them come before.
    let mut clients = [(); 3].map(|()| {
        let mut client = server.connect();
        client.send(GET);
        assert_eq!(client.response().status, 200);
        client
    });
    // The first call lasts until both others are ready: the quick answer has company.
    for (ready, path) in ["/long", "/quick", "/longer"].iter().enumerate() {
        clients[ready].send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let begun = Instant::now();
        while calls.load(Ordering::SeqCst) < 4 || server.engine.ready_len() < ready {
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{path} was not read"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let [long, quick, longer] = &mut clients;
    go.send(()).expect("a server");
    let begun = Instant::now();
    assert_eq!(quick.response().body, b"/quick");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "the answer waited for the next one"
    );
    go.send(()).expect("a server");
    assert_eq!(long.response().body, b"/long");
    assert_eq!(longer.response().body, b"/longer");
}

#[test]
fn the_engine_lives_on_while_the_only_thread_is_in_a_call() {
    let server = Server::start(EngineConfig::default(), 1, |exchange| {
        let body = path_of(&exchange);
        if body == "/slow" {
            std::thread::sleep(Duration::from_millis(700));
        }
        answer(exchange, body.as_bytes());
    });
    let mut upload = server.connect();
    upload
        .send("POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(upload.response().status, 100);
    let mut other = server.connect();
    other.send(GET);
    assert_eq!(other.response().status, 200);
    let mut slow = server.connect();
    slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    let begun = Instant::now();
    other.send("BROKEN\r\n\r\n");
    assert_eq!(other.response().status, 400);
    assert!(
        begun.elapsed() < Duration::from_millis(600),
        "the stand-in did not turn the engine"
    );
    assert_eq!(slow.response().body, b"/slow");
    upload.send("body");
    assert_eq!(upload.response().body, b"/up");
}

#[test]
fn quick_calls_are_served_while_other_threads_are_in_slow_ones() {
    let server = Server::start(EngineConfig::default(), 3, |exchange| {
        let path = path_of(&exchange);
        if path.starts_with("/slow") {
            std::thread::sleep(Duration::from_millis(800));
        }
        answer(exchange, path.as_bytes());
    });
    for round in 0..2 {
        let mut slow = [server.connect(), server.connect()];
        for client in &mut slow {
            client.send(format!("GET /slow{round} HTTP/1.1\r\nHost: x\r\n\r\n"));
        }
        let begun = Instant::now();
        let mut quick = server.connect();
        for _ in 0..20 {
            quick.send(GET);
            assert_eq!(quick.response().body, b"/");
        }
        assert!(
            begun.elapsed() < Duration::from_millis(700),
            "round {round}: quick calls waited for slow ones"
        );
        for client in &mut slow {
            assert_eq!(client.response().status, 200);
        }
    }
}

#[test]
fn draining_answers_what_was_begun_and_what_is_queued() {
    let (entered, inside) = mpsc::channel();
    let server = Server::start(EngineConfig::default(), 1, move |exchange| {
        if path_of(&exchange) == "/slow" {
            let _ = entered.send(());
            std::thread::sleep(Duration::from_millis(300));
        }
        hello(exchange);
    });
    let mut busy = server.connect();
    busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    inside
        .recv_timeout(Duration::from_secs(20))
        .expect("a call");
    let mut queued: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut queued {
        client.send(GET);
    }
    let mut kept = server.connect();
    let drained = std::thread::spawn(move || server.drain());
    assert_eq!(busy.response().status, 200);
    for client in &mut queued {
        let response = client.response();
        assert_eq!(response.status, 200);
    }
    kept.send(GET);
    let response = kept.response();
    assert!(
        response.head.contains("Connection: close"),
        "{}",
        response.head
    );
    drained.join().expect("an end");
}

#[test]
fn a_dropped_exchange_cuts_the_connection_and_nothing_else() {
    let server = Server::start(EngineConfig::default(), 1, |exchange| {
        if path_of(&exchange) == "/drop" {
            drop(exchange);
        } else {
            hello(exchange);
        }
    });
    let mut client = server.connect();
    client.send("GET /drop HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.rest().is_empty());
    let mut other = server.connect();
    other.send(GET);
    assert_eq!(other.response().status, 200);
}

#[test]
fn thousands_of_connections_that_come_and_go_leave_nothing_behind() {
    let server = Server::start(EngineConfig::default(), 1, hello);
    for _ in 0..2000 {
        drop(server.connect());
    }
    let mut client = server.connect();
    client.send(GET);
    assert_eq!(client.response().status, 200);
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.engine.connections() > 1 {
        assert!(
            Instant::now() < deadline,
            "{} connections left",
            server.engine.connections()
        );
        std::thread::yield_now();
    }
}
