//! The engine answering a canned reply: what a request costs before Python comes in.
//!
//! `cargo run --release -p tricorn-engine --example floor -- 127.0.0.1:8001`
use std::net::TcpListener;

use tricorn_engine::helm::Next;
use tricorn_engine::{Engine, EngineConfig, Events, Helm, ListenerInfo};

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
                let field = exchange.begin_head(b"200 OK");
                let field =
                    field.and_then(|()| exchange.head_field(b"Content-Type", b"text/plain"));
                field.expect("a valid head");
                exchange.end_head(Some(13));
                // A peer that has left needs no answer.
                let _ = exchange.write(b"Hello, World!");
                exchange.finish();
                helm.end_call(me, call);
            }
            Next::Attend => {}
            Next::Stop => return Ok(()),
        }
    }
}
