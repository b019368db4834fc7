//! Connections that leave the engine for another protocol.
mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;

use harness::{Client, Server};
use tricorn_engine::{Detached, EngineConfig, Exchange};

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A server that gives every connection away, with a head.
fn giving() -> (Server, mpsc::Receiver<Detached>) {
    let (sender, receiver) = mpsc::channel();
    let server = Server::start(EngineConfig::default(), 1, move |mut exchange: Exchange| {
        exchange
            .begin_head(b"101 Switching Protocols")
            .expect("a head");
        let detached = exchange.detach().expect("a peer that is there");
        sender.send(detached).expect("somebody who waits for it");
    });
    (server, receiver)
}

fn taken_over(detached: Detached) -> TcpStream {
    let stream = TcpStream::from(detached.socket);
    stream.set_nonblocking(false).expect("a socket that waits");
    stream
}

fn head_of(client: &mut Client) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

#[test]
fn a_detached_connection_goes_on_with_what_was_read_of_it() {
    let (server, detached) = giving();
    let mut client = server.connect();
    client.send([UPGRADE, "first words"].concat());
    let detached = detached.recv().expect("the connection");
    assert_eq!(detached.unread, b"first words");
    assert!(detached.unsent.is_empty());
    let head = head_of(&mut client);
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    let mut stream = taken_over(detached);
    stream.write_all(b"answer").expect("sent");
    client.send("more");
    let mut more = [0; 4];
    stream.read_exact(&mut more).expect("more words");
    assert_eq!(&more, b"more");
    drop(stream);
    let mut rest = String::new();
    client.stream.read_to_string(&mut rest).expect("the end");
    assert_eq!(rest, "answer");
}

#[test]
fn the_engine_forgets_a_detached_connection_and_drains_without_it() {
    let (server, detached) = giving();
    let mut clients = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut client = server.connect();
        client.send(UPGRADE);
        streams.push(taken_over(detached.recv().expect("the connection")));
        clients.push(client);
    }
    assert_eq!(server.engine.connections(), 0);
    server.drain();
    for (client, stream) in clients.iter_mut().zip(&mut streams) {
        head_of(client);
        stream.write_all(b"!").expect("sent");
        let mut byte = [0];
        client.stream.read_exact(&mut byte).expect("a word");
    }
}
