//! What reading and writing WebSocket messages costs. `cargo bench -p tricorn-proto --bench ws`
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use tricorn_proto::ws::handshake::{DeflatePolicy, accept_key, negotiate};
use tricorn_proto::ws::{Decoder, DeflateParams, Encoder, Limits, MessageKind};

const LENGTHS: [usize; 3] = [20, 1024, 64 << 10];

fn main() {
    divan::main();
}

/// Something like JSON, which is what is mostly sent.
fn payload(len: usize) -> Vec<u8> {
    let record = |id: usize| {
        let (name, price) = (id * 7919 % 977, id * 104729 % 50000);
        format!("{{\"id\":{id},\"name\":\"user{name}\",\"price\":{price}}},")
    };
    let mut text: String = (0..len / 16 + 1).map(record).collect();
    text.truncate(len);
    text.into_bytes()
}

fn default_deflate() -> DeflateParams {
    let policy = DeflatePolicy {
        min_size: 0,
        ..DeflatePolicy::default()
    };
    let taken = negotiate(b"permessage-deflate; client_max_window_bits", &policy);
    taken.expect("an offer to take").params
}

/// A message as a client sends it: masked.
fn received(kind: MessageKind, len: usize, deflate: Option<DeflateParams>) -> Vec<u8> {
    let mut raw = Vec::new();
    Encoder::new(deflate).message(&mut raw, kind, &payload(len));
    let head = match raw[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    raw[1] |= 0x80;
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    for (byte, key) in raw[head..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    raw.splice(head..head, mask);
    raw
}

fn decode(bencher: Bencher, kind: MessageKind, len: usize, deflate: Option<DeflateParams>) {
    let raw = received(kind, len, deflate);
    let mut decoder = Decoder::new(Limits::default(), deflate);
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        let step = decoder.decode(black_box(&raw)).expect("a message");
        assert_eq!(step.consumed, raw.len());
        black_box(step.event)
    });
}

fn encode(bencher: Bencher, len: usize, deflate: Option<DeflateParams>) {
    let payload = payload(len);
    let (mut encoder, mut out) = (Encoder::new(deflate), Vec::new());
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        out.clear();
        encoder.message(&mut out, MessageKind::Text, black_box(&payload));
        black_box(&out);
    });
}

#[divan::bench(args = LENGTHS)]
fn decoding_binary(bencher: Bencher, len: usize) {
    decode(bencher, MessageKind::Binary, len, None);
}

#[divan::bench(args = LENGTHS)]
fn decoding_text(bencher: Bencher, len: usize) {
    decode(bencher, MessageKind::Text, len, None);
}

#[divan::bench(args = LENGTHS)]
fn decoding_deflated_text(bencher: Bencher, len: usize) {
    decode(bencher, MessageKind::Text, len, Some(default_deflate()));
}

#[divan::bench(args = LENGTHS)]
fn encoding(bencher: Bencher, len: usize) {
    encode(bencher, len, None);
}

#[divan::bench(args = LENGTHS)]
fn encoding_deflated(bencher: Bencher, len: usize) {
    encode(bencher, len, Some(default_deflate()));
}

#[divan::bench]
fn answering_a_handshake() -> [u8; 28] {
    let offer = black_box(&b"permessage-deflate; client_max_window_bits"[..]);
    black_box(negotiate(offer, &DeflatePolicy::default()));
    accept_key(black_box(b"dGhlIHNhbXBsZSBub25jZQ=="))
}
