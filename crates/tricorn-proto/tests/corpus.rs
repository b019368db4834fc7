//! Runs `tests/corpus/*.txt`: each case whole, byte by byte and cut at seeded random places.
//!
//! A case is `== claim`, `@ setting=value` lines, `>` lines with the bytes (no line end of their own; escapes
//! `\r \n \t \\ \xHH`; `>*N text` repeats) and `<` lines with all that must happen, in order.
mod support;

use std::fs;
use std::path::Path;

use support::{Rng, events, unescaped};
use tricorn_proto::{HeaderMap, PeerTrust, Policy};

struct Case {
    claim: String,
    policy: Policy,
    trust: PeerTrust,
    raw: Vec<u8>,
    expected: Vec<String>,
}

#[test]
fn every_case_of_the_corpus_happens_as_written_however_it_is_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for case in cases(&fs::read_to_string(&path).unwrap()) {
            count += 1;
            let mut rng = Rng(20261124 + count);
            let mut ways = vec![Vec::new(), (1..case.raw.len()).collect()];
            ways.extend((0..10).map(|_| rng.cuts(case.raw.len())));
            for cuts in ways {
                let got = events(&case.raw, &cuts, &case.policy, case.trust);
                if got != case.expected {
                    wrong.push(format!(
                        "{}\n  cuts {cuts:?}\n  want {:#?}\n  got {got:#?}",
                        case.claim, case.expected
                    ));
                    break;
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} cases fail:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count > 100, "only {count} cases were found");
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(claim) = line.strip_prefix("== ") {
            let (policy, trust) = (Policy::default(), PeerTrust::Untrusted);
            cases.push(Case {
                claim: claim.to_string(),
                policy,
                trust,
                raw: Vec::new(),
                expected: Vec::new(),
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            continue;
        };
        match line.split_at_checked(1) {
            Some(("@", setting)) => set(case, setting.trim()),
            Some((">", bytes)) => case.raw.extend(repeated(bytes)),
            Some(("<", event)) => case.expected.push(event.trim().to_string()),
            Some(("#", _)) | None => {}
            Some(_) => panic!("no such line: {line}"),
        }
    }
    cases
}

fn set(case: &mut Case, setting: &str) {
    let (name, value) = setting.split_once('=').unwrap_or((setting, "true"));
    let (policy, on) = (&mut case.policy, value == "true");
    match name {
        "trusted" => case.trust = PeerTrust::Trusted,
        "limit_request_line" => policy.limit_request_line = value.parse().unwrap(),
        "limit_request_fields" => policy.limit_request_fields = value.parse().unwrap(),
        "limit_request_field_size" => policy.limit_request_field_size = value.parse().unwrap(),
        "permit_obsolete_folding" => policy.permit_obsolete_folding = on,
        "strip_header_spaces" => policy.strip_header_spaces = on,
        "permit_unconventional_http_method" => policy.permit_unconventional_http_method = on,
        "permit_unconventional_http_version" => policy.permit_unconventional_http_version = on,
        "casefold_http_method" => policy.casefold_http_method = on,
        "header_map" if value == "refuse" => policy.header_map = HeaderMap::Refuse,
        "header_map" if value == "dangerous" => policy.header_map = HeaderMap::Dangerous,
        "forwarder_headers" => {
            policy.forwarder_headers = value.split(',').map(str::to_string).collect()
        }
        _ => panic!("no such setting: {setting}"),
    }
}

fn repeated(line: &str) -> Vec<u8> {
    match line.strip_prefix('*').and_then(|rest| rest.split_once(' ')) {
        Some((times, text)) => unescaped(text).repeat(times.parse().unwrap()),
        None => unescaped(line.strip_prefix(' ').unwrap_or(line)),
    }
}
