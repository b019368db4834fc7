//! Runs `tests/ws/*.txt`: each case whole, byte by byte and cut at seeded random places.
//!
//! A case is `== claim`, `@ setting=value` lines, what a client sends, and `<` lines with all that must happen. Sent
//! are `> 81 text` (a frame with that first byte, masked by the runner; `>*N 81 text` repeats the text), `= 81 85`
//! (bytes in hexadecimal) and `>>N text` (text repeated, without a frame around it); `<` knows `*N text` as well.
mod support;

use std::fs;
use std::path::Path;

use support::ws::{deflate, events, frame, limits};
use support::{Rng, shown, unescaped};
use tricorn_proto::ws::{Decoder, DeflateParams, Limits};

struct Case {
    claim: String,
    limits: Limits,
    deflate: Option<DeflateParams>,
    raw: Vec<u8>,
    expected: Vec<String>,
}

#[test]
fn every_case_of_the_corpus_happens_as_written_however_it_is_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ws");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        for case in cases(&fs::read_to_string(entry.unwrap().path()).unwrap()) {
            count += 1;
            let mut rng = Rng(20261124 + count);
            let mut ways = vec![Vec::new(), (1..case.raw.len()).collect()];
            ways.extend((0..10).map(|_| rng.cuts(case.raw.len())));
            for cuts in ways {
                let got = events(Decoder::new(case.limits, case.deflate), &case.raw, &cuts);
                assert!(
                    got == case.expected,
                    "{}\n cut at {cuts:?}: {got:?}",
                    case.claim
                );
            }
        }
    }
    assert!(count > 50, "only {count} cases were found");
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(claim) = line.strip_prefix("== ") {
            cases.push(Case {
                claim: claim.to_string(),
                limits: Limits::default(),
                deflate: None,
                raw: Vec::new(),
                expected: Vec::new(),
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            continue;
        };
        if let Some(repeated) = line.strip_prefix(">>") {
            case.raw.extend(times(repeated));
        } else if let Some(sent) = line.strip_prefix(">*") {
            let (count, sent) = sent.split_once(' ').unwrap();
            let (first, text) = sent.split_once(' ').unwrap();
            let payload = times(&format!("{count} {text}"));
            case.raw.extend(frame(hex(first), &payload));
        } else if let Some(sent) = line.strip_prefix("> ") {
            let (first, text) = sent.split_once(' ').unwrap_or((sent, ""));
            case.raw.extend(frame(hex(first), &unescaped(text)));
        } else if let Some(bytes) = line.strip_prefix("= ") {
            case.raw.extend(bytes.split(' ').map(hex));
        } else if let Some(event) = line.strip_prefix("< ") {
            case.expected.push(expected(event));
        } else if let Some(setting) = line.strip_prefix("@ ") {
            set(case, setting);
        } else {
            assert!(
                line.is_empty() || line.starts_with('#'),
                "no such line: {line}"
            );
        }
    }
    cases
}

fn set(case: &mut Case, setting: &str) {
    match setting.split_once('=') {
        Some(("max_message_size", size)) => case.limits = limits(size.parse().unwrap()),
        Some(("deflate", "no context")) => case.deflate = Some(deflate(false)),
        Some(("deflate", "context")) => case.deflate = Some(deflate(true)),
        _ => panic!("no such setting: {setting}"),
    }
}

fn expected(event: &str) -> String {
    match event.split_once(" *") {
        Some((kind, repeated)) => format!("{kind} {}", shown(&times(repeated))),
        None => event.to_string(),
    }
}

/// `N text`: the text, `N` times.
fn times(repeated: &str) -> Vec<u8> {
    let (count, text) = repeated.split_once(' ').unwrap();
    unescaped(text).repeat(count.parse().unwrap())
}

fn hex(byte: &str) -> u8 {
    u8::from_str_radix(byte, 16).unwrap()
}
