//! What the engine costs around the application: requests go from a full buffer to the helm, a canned answer comes
//! back and is queued. One packet in hundreds crosses a socket. `cargo bench -p tricorn-engine`
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use tricorn_engine::helm::Next;
use tricorn_engine::{Engine, EngineConfig, Events, Helm, ListenerInfo};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
/// As many as one read takes.
const BATCH: usize = 16 * 1024 / REQUEST.len();

fn main() {
    divan::main();
}

struct Stage {
    helm: Arc<Helm>,
    me: u32,
    events: Events,
    client: UnixStream,
    answers: Vec<u8>,
}

impl Stage {
    fn new() -> Stage {
        let path = std::env::temp_dir().join(format!("tricorn-bench-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket in the temporary directory");
        listener.set_nonblocking(true).expect("a socket");
        let client = UnixStream::connect(&path).expect("a listener");
        client.set_nonblocking(true).expect("a socket");
        let listeners = vec![(listener.into(), ListenerInfo::Unix(path.clone()))];
        let engine = Engine::new(EngineConfig::default(), listeners, None).expect("an engine");
        let helm = Helm::start(engine, 1, None, 1_000, Box::new(|_| {})).expect("a thread");
        std::fs::remove_file(&path).expect("the socket");
        Stage {
            me: helm.take_seat(),
            helm,
            events: Events::new(),
            client,
            answers: vec![0; 1 << 20],
        }
    }

    fn batch(&mut self, requests: &[u8]) {
        self.client.write_all(requests).expect("room for a batch");
        let mut answered = 0;
        while answered < BATCH {
            match self.helm.next(self.me, &mut self.events) {
                Next::Call(mut exchange, call) => {
                    exchange.begin_head(b"200 OK").expect("a valid head");
                    exchange.end_head(Some(13));
                    exchange.write(b"Hello, World!").expect("a peer");
                    exchange.finish();
                    self.helm.end_call(self.me, call);
                    answered += 1;
                }
                Next::Attend => {}
                Next::Stop => unreachable!("nobody has stopped it"),
            }
        }
        // What is left when it would block comes with the next batch.
        while matches!(self.client.read(&mut self.answers), Ok(count) if count > 0) {}
    }
}

#[divan::bench]
fn request(bencher: Bencher) {
    let mut stage = Stage::new();
    let requests = REQUEST.repeat(BATCH);
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| stage.batch(&requests));
    stage.helm.stop();
}
