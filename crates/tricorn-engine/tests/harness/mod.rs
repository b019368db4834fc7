//! A server of threads around the engine, with Rust closures as applications, and a plain client.
#![allow(dead_code, reason = "each test binary uses a part of it")]
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tricorn_engine::helm::Next;
use tricorn_engine::{Engine, EngineConfig, Events, Exchange, Helm, ListenerInfo, Passage};

pub struct Server {
    pub address: SocketAddr,
    pub engine: Arc<Engine>,
    helm: Arc<Helm>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub fn start(
        config: EngineConfig,
        threads: usize,
        app: impl Fn(Exchange) + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Server::start_on(listener, None, config, threads, app)
    }

    /// One of several that may share a listener and a passage, as the workers of one arbiter do.
    pub fn start_on(
        listener: TcpListener,
        passage: Option<Arc<Passage>>,
        config: EngineConfig,
        threads: usize,
        app: impl Fn(Exchange) + Send + Sync + 'static,
    ) -> Server {
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let listeners = vec![(listener.into(), ListenerInfo::Inet(address))];
        let engine = Engine::new(config, listeners, None).expect("an engine");
        if let Some(passage) = passage {
            engine.join(passage).expect("a passage to watch");
        }
        let helm =
            Helm::start(engine.clone(), threads, None, 1_000, Box::new(|_| {})).expect("a helm");
        let app = Arc::new(app);
        let threads = (0..threads)
            .map(|_| {
                let (helm, app) = (helm.clone(), app.clone());
                std::thread::spawn(move || {
                    let me = helm.take_seat();
                    let mut events = Events::new();
                    loop {
                        match helm.next(me, &mut events) {
                            Next::Call(exchange, call) => {
                                app(exchange);
                                helm.end_call(me, call);
                            }
                            Next::Attend => {}
                            Next::Stop => return,
                        }
                    }
                })
            })
            .collect();
        Server {
            address,
            engine,
            helm,
            threads,
        }
    }

    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).expect("a connection"))
    }

    /// Drains and waits for the threads.
    pub fn drain(mut self) {
        self.engine.start_drain(true);
        for thread in self.threads.drain(..) {
            thread.join().expect("a thread that ends well");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.helm.stop();
    }
}

pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Client {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Client {
            stream,
            buffer: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sent");
    }

    fn more(&mut self) -> bool {
        let mut piece = [0u8; 65536];
        let count = self
            .stream
            .read(&mut piece)
            .expect("an answer within the deadline");
        self.buffer.extend_from_slice(&piece[..count]);
        count > 0
    }

    /// Next response; its body is framed by Content-Length or chunks.
    pub fn response(&mut self) -> Response {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.more(),
                "closed in the head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let status = head[9..12].parse().expect("a status");
        let lower = head.to_ascii_lowercase();
        let mut body = Vec::new();
        if let Some(at) = lower.find("content-length: ") {
            let length: usize = lower[at + 16..]
                .lines()
                .next()
                .and_then(|l| l.parse().ok())
                .expect("a length");
            self.fill(length);
            body.extend(self.buffer.drain(..length));
        } else if lower.contains("transfer-encoding: chunked") {
            loop {
                let size = self.line();
                let size = usize::from_str_radix(&size, 16).expect("a chunk size");
                self.fill(size + 2);
                body.extend(self.buffer.drain(..size));
                self.buffer.drain(..2);
                if size == 0 {
                    break;
                }
            }
        }
        Response { status, head, body }
    }

    fn fill(&mut self, count: usize) {
        while self.buffer.len() < count {
            assert!(self.more(), "closed in the body");
        }
    }

    fn line(&mut self) -> String {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                break at;
            }
            assert!(self.more(), "closed in a chunk size");
        };
        let line = String::from_utf8(self.buffer[..end].to_vec()).expect("ASCII");
        self.buffer.drain(..end + 2);
        line
    }

    /// Reads one piece; empty at the end.
    pub fn piece(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.more();
        }
        std::mem::take(&mut self.buffer)
    }

    /// Everything until the peer closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

pub const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

pub fn hello(exchange: Exchange) {
    answer(exchange, b"hello");
}

/// Answers 200 with the given body.
pub fn answer(mut exchange: Exchange, body: &[u8]) {
    exchange.begin_head(b"200 OK").expect("a good status");
    exchange.end_head(Some(body.len() as u64));
    let _ = exchange.write(body);
    exchange.finish();
}

pub fn read_all(exchange: &mut Exchange) -> Result<Vec<u8>, tricorn_engine::BodyError> {
    let mut body = Vec::new();
    while exchange.read_body(&mut body, 65536)? > 0 {}
    Ok(body)
}
