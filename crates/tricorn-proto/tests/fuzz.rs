//! Mutates good inputs for a bounded time: request heads, chunked bodies, lists and fields of forwarders.
//!
//! TRICORN_FUZZ_SECONDS sets the time of each target (2), TRICORN_FUZZ_SEED the seed; both are in the message of a failure.
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use support::{Rng, events, shown};
use tricorn_proto::{AddrList, HeaderMap, PeerTrust, Policy};

const HEADS: [&[u8]; 5] = [
    b"GET /a/b?c=d#e HTTP/1.1\r\nHost: example.com\r\nUser-Agent: x/1.0 (y; z)\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    b"POST http://u@[::1]:80/p HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\nhello world",
    b"OPTIONS * HTTP/1.0\r\nConnection: keep-alive, x\r\nContent-Type: a/b\r\nX_Y: z\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nA: b\r\n\tc\r\n d\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nConnection: close\r\n\r\n",
];
const BODIES: [&[u8]; 3] = [
    b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n",
    b"A;x=\"a\\\"b\";y ; z = 1\r\n0123456789\r\n000\r\nTrail: er\r\nA_B: c\r\n\r\n",
    b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\nffff\r\nshort",
];
const FORWARDED: [&[u8]; 2] = [
    b"GET /foo/bar HTTP/1.1\r\nScript_Name: /foo\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\n\r\n",
    b"GET /foo HTTP/1.1\r\nX-Forwarded-Protocol: ssl\r\nPATH_INFO: /x\r\nX-Forwarded-For: 192.0.2.1, ::1\r\n\r\n",
];
const LISTS: [&[u8]; 3] = [
    b"127.0.0.1,::1,10.0.0.0/8",
    b"*,2001:db8::/32",
    b"::ffff:10.0.0.0/104,0.0.0.0/0",
];
/// Bytes that grammars turn on.
const SALT: &[u8] = b"\r\n\t :;,=\"\\/?#_-0f\0\x7f\x80%[]@*";

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Calls `target` with mutants of the seeds until the time is over; a mutant that panics is shown.
fn fuzz(seeds: &[&[u8]], target: impl Fn(&[u8], &mut Rng)) {
    let seed = variable("TRICORN_FUZZ_SEED", 20_261_124);
    let end = Instant::now() + Duration::from_secs(variable("TRICORN_FUZZ_SECONDS", 2));
    let mut rng = Rng(seed);
    let mut rounds = 0u64;
    while rounds == 0 || Instant::now() < end {
        rounds += 1;
        let mutant = mutate(seeds, &mut rng);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&mutant, &mut rng))) {
            eprintln!("seed {seed}, round {rounds}: {}", shown(&mutant));
            std::panic::resume_unwind(panic);
        }
    }
    println!("{rounds} rounds");
}

fn mutate(seeds: &[&[u8]], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.below(seeds.len())].to_vec();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        let end = (at + rng.below(9)).min(bytes.len());
        match rng.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.insert(at, SALT[rng.below(SALT.len())]),
            2 if at < bytes.len() => bytes[at] = rng.next() as u8,
            3 if at < bytes.len() => bytes[at] = SALT[rng.below(SALT.len())],
            4 => {
                let copy = bytes[at..end].repeat(1 + rng.below(40));
                bytes.splice(at..at, copy);
            }
            _ => {
                let other = seeds[rng.below(seeds.len())];
                let from = rng.below(other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
    }
    bytes
}

fn policy(rng: &mut Rng) -> Policy {
    let flags = rng.next();
    let maps = [HeaderMap::Drop, HeaderMap::Refuse, HeaderMap::Dangerous];
    Policy {
        permit_obsolete_folding: flags & 1 != 0,
        strip_header_spaces: flags & 2 != 0,
        permit_unconventional_http_method: flags & 4 != 0,
        permit_unconventional_http_version: flags & 8 != 0,
        casefold_http_method: flags & 16 != 0,
        header_map: maps[rng.below(3)],
        limit_request_line: if flags & 32 != 0 { 4094 } else { rng.below(64) },
        limit_request_fields: if flags & 64 != 0 { 100 } else { rng.below(8) },
        limit_request_field_size: if flags & 128 != 0 {
            8190
        } else {
            rng.below(64)
        },
        ..Policy::default()
    }
}

/// Whole and cut, a connection sees the same.
fn connection(raw: &[u8], rng: &mut Rng) {
    let policy = policy(rng);
    let trust = if rng.below(2) == 0 {
        PeerTrust::Trusted
    } else {
        PeerTrust::Untrusted
    };
    let whole = events(raw, &[], &policy, trust);
    let cuts = rng.cuts(raw.len());
    assert_eq!(
        events(raw, &cuts, &policy, trust),
        whole,
        "{policy:?} {trust:?} {cuts:?}"
    );
}

#[test]
fn request_heads() {
    fuzz(&HEADS, connection);
}

#[test]
fn chunked_bodies() {
    fuzz(&BODIES, |body, rng| {
        connection(
            &[
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                body,
            ]
            .concat(),
            rng,
        );
    });
}

#[test]
fn forwarded_fields() {
    fuzz(&FORWARDED, connection);
}

#[test]
fn address_lists() {
    fuzz(&LISTS, |text, rng| {
        let text = String::from_utf8_lossy(text);
        let entries: Vec<&str> = text.split(',').collect();
        let Ok(list) = AddrList::parse(&entries) else {
            return;
        };
        let v4 = std::net::Ipv4Addr::from(rng.next() as u32);
        assert_eq!(
            list.contains(v4.into()),
            list.contains(v4.to_ipv6_mapped().into()),
            "{entries:?} {v4}"
        );
    });
}
