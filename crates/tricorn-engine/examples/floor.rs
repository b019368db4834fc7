//! The engine giving the benchmark's answers from canned bytes: what a request costs before Python comes in.
//!
//! `cargo run --release -p tricorn-engine --example floor -- 127.0.0.1:8001`
use std::net::TcpListener;

use tricorn_engine::helm::Next;
use tricorn_engine::{Engine, EngineConfig, Events, Exchange, Gone, Helm, ListenerInfo};

static BODY_100K: [u8; 100_000] = [b'x'; 100_000];
static BLOCK: [u8; 512] = [b'y'; 512];

fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:0".into());
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    println!("listening on {address}");
    let listeners = vec![(listener.into(), ListenerInfo::Inet(address))];
    let engine = Engine::new(EngineConfig::default(), listeners, None)?;
    let helm = Helm::start(engine, 1, None, 1_000, Box::new(|_| {}))?;
    let me = helm.take_seat();
    let mut events = Events::new();
    loop {
        match helm.next(me, &mut events) {
            Next::Call(mut exchange, call) => {
                // A peer that has left needs no answer.
                let _ = answer(&mut exchange);
                exchange.finish();
                helm.end_call(me, call);
            }
            Next::Attend => {}
            Next::Stop => return Ok(()),
        }
    }
}

/// As `bench/apps/hello.py`. Bodies of requests have been received, and are left there.
fn answer(exchange: &mut Exchange) -> Result<(), Gone> {
    let (block, times, length): (&[u8], usize, Option<u64>) = match exchange.head().path() {
        b"/body100k" => (&BODY_100K, 1, Some(100_000)),
        b"/generator" => (&BLOCK, 20, None),
        b"/post" => (b"65536", 1, Some(5)),
        _ => (b"Hello, World!", 1, Some(13)),
    };
    let field = exchange.begin_head(b"200 OK");
    let field = field.and_then(|()| exchange.head_field(b"Content-Type", b"text/plain"));
    field.expect("a valid head");
    exchange.end_head(length);
    for _ in 0..times {
        exchange.write(block)?;
    }
    Ok(())
}
