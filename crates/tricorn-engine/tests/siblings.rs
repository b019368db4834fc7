//! Workers that share a passage: a request that finds its worker busy is answered by an idle one.
mod harness;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::{Client, Server, answer};
use tricorn_engine::{EngineConfig, Exchange, Passage};
use tricorn_scoreboard::Scoreboard;

/// Two workers of one thread. Each answers with its name; `/hold` waits for a word on the channel first, `/tick` about as
/// long as the monitor does before it steps in.
struct Pair {
    servers: Vec<Server>,
    held: Vec<mpsc::Receiver<()>>,
    release: Vec<mpsc::Sender<()>>,
}

impl Pair {
    fn start(config: &EngineConfig) -> Pair {
        let board = Scoreboard::create(2).unwrap();
        board.set_workers(2);
        let passage = Arc::new(Passage::new(board).unwrap());
        let (mut servers, mut helds, mut release) = (Vec::new(), Vec::new(), Vec::new());
        for name in ["first", "second"] {
            // A listener each: the test decides who gets which connection.
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (sender, receiver) = mpsc::channel::<()>();
            let (holds, held) = mpsc::channel::<()>();
            let receiver = std::sync::Mutex::new(receiver);
            let app = move |exchange: Exchange| {
                if exchange.head().path() == b"/hold" {
                    holds.send(()).unwrap();
                    receiver.lock().unwrap().recv().unwrap();
                }
                if exchange.head().path() == b"/tick" {
                    let us = 900 + exchange.received_ns() / 1_000 % 2_200;
                    std::thread::sleep(Duration::from_micros(us));
                }
                let said = format!("{name} {}", exchange.request_number());
                answer(exchange, said.as_bytes());
            };
            servers.push(Server::start_on(
                listener,
                Some(passage.clone()),
                config.clone(),
                1,
                app,
            ));
            release.push(sender);
            helds.push(held);
        }
        Pair {
            servers,
            held: helds,
            release,
        }
    }

    /// A connection that has got an answer, and is kept.
    fn visit(&self, index: usize) -> Client {
        let mut client = self.servers[index].connect();
        client.send(get("/"));
        assert_eq!(client.response().status, 200);
        client
    }

    /// Keeps a worker's only thread in the application until it is released.
    fn hold(&self, index: usize) -> Client {
        let mut client = self.servers[index].connect();
        client.send(get("/hold"));
        self.held[index]
            .recv_timeout(Duration::from_secs(10))
            .unwrap();
        client
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn said(client: &mut Client) -> String {
    String::from_utf8(client.response().body).unwrap()
}

#[test]
fn a_request_on_a_kept_connection_goes_to_an_idle_sibling() {
    let pair = Pair::start(&EngineConfig::default());
    let mut waiting = pair.visit(0);
    let mut holding = pair.hold(0);
    waiting.send(get("/"));
    // Its count goes on, and the connection now lives with the sibling.
    assert_eq!(said(&mut waiting), "second 2");
    pair.release[0].send(()).unwrap();
    assert_eq!(said(&mut holding), "first 1");
    waiting.send(get("/"));
    assert_eq!(said(&mut waiting), "second 3");
    assert_eq!(pair.servers[0].engine.connections(), 1);
    assert_eq!(pair.servers[1].engine.connections(), 1);
}

/// As in `serving.rs`, but where siblings may be idle the monitor is less patient.
#[test]
fn calls_of_about_a_tick_never_leave_newcomers_waiting() {
    let pair = Pair::start(&EngineConfig::default());
    for _ in 0..400 {
        let mut client = pair.servers[0].connect();
        client.send(get("/tick"));
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn the_bytes_that_were_read_go_along_body_and_pipelined_requests_too() {
    let pair = Pair::start(&EngineConfig::default());
    let mut waiting = pair.visit(0);
    let mut holding = pair.hold(0);
    waiting.send(format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello{}GET /part",
        get("/")
    ));
    assert_eq!(said(&mut waiting), "second 2");
    assert_eq!(said(&mut waiting), "second 3");
    waiting.send("ial HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(said(&mut waiting), "second 4");
    pair.release[0].send(()).unwrap();
    assert_eq!(said(&mut holding), "first 1");
}

#[test]
fn when_all_are_busy_whoever_is_idle_first_answers() {
    let pair = Pair::start(&EngineConfig::default());
    let mut waiting: Vec<Client> = (0..4).map(|_| pair.visit(0)).collect();
    let mut holding: Vec<Client> = (0..2).map(|index| pair.hold(index)).collect();
    for client in &mut waiting {
        client.send(get("/"));
    }
    pair.release[0].send(()).unwrap();
    assert_eq!(said(&mut holding[0]), "first 1");
    for client in &mut waiting {
        assert_eq!(said(client), "first 2");
    }
    pair.release[1].send(()).unwrap();
    assert_eq!(said(&mut holding[1]), "second 1");
}

#[test]
fn a_body_that_is_longer_than_the_passage_takes_stays() {
    let pair = Pair::start(&EngineConfig::default());
    let mut waiting = pair.visit(0);
    let mut quick = pair.visit(0);
    let mut holding = pair.hold(0);
    let body = "x".repeat(100_000);
    waiting.send(format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{body}"
    ));
    quick.send(get("/"));
    // Sent later, and read later: when it is back, the long one has been looked at.
    assert_eq!(said(&mut quick), "second 2");
    pair.release[0].send(()).unwrap();
    assert_eq!(said(&mut holding), "first 1");
    assert_eq!(said(&mut waiting), "first 2");
}

#[test]
fn a_draining_worker_takes_what_waits_in_the_passage() {
    let board = Scoreboard::create(2).unwrap();
    board.set_workers(2);
    let passage = Arc::new(Passage::new(board).unwrap());
    let (sender, receiver) = mpsc::channel::<()>();
    let (holds, held) = mpsc::channel::<()>();
    let receiver = std::sync::Mutex::new(receiver);
    let server = Server::start_on(
        TcpListener::bind("127.0.0.1:0").unwrap(),
        Some(passage),
        EngineConfig::default(),
        1,
        move |exchange| {
            if exchange.head().path() == b"/hold" {
                holds.send(()).unwrap();
                receiver.lock().unwrap().recv().unwrap();
            }
            answer(exchange, b"done");
        },
    );
    let mut waiting = server.connect();
    waiting.send(get("/"));
    assert_eq!(said(&mut waiting), "done");
    let mut holding = server.connect();
    holding.send(get("/hold"));
    held.recv_timeout(Duration::from_secs(10)).unwrap();
    waiting.send(get("/"));
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.engine.connections() > 1 {
        assert!(Instant::now() < deadline, "the request was not passed on");
        std::thread::yield_now();
    }
    sender.send(()).unwrap();
    server.drain();
    assert_eq!(said(&mut holding), "done");
    assert_eq!(said(&mut waiting), "done");
}
