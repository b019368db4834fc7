//! Claims about the kinds of heads: which are known at the same time, and which give way.
use alloc::string::String;

use super::*;
use crate::h1::HeadParser;
use crate::head::Head;
use crate::policy::{PeerTrust, Policy};

/// What is known of a head with these lines, after it came.
fn known(familiar: &mut Familiar, lines: &str) -> Option<Known> {
    let raw = alloc::format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let mut head = Head::default();
    let (policy, trust) = (Policy::default(), PeerTrust::Untrusted);
    let parsed = HeadParser::default().parse(raw.as_bytes(), &policy, trust, &mut head, familiar);
    assert_eq!(parsed, Ok(Some(raw.len())));
    let names = lines.lines().map(|line| line.split(':').next());
    let found = head.fields[1..].iter().map(|field| head.slice(field.name));
    assert!(names.eq(found.map(|name| core::str::from_utf8(name).ok())));
    head.known
}

/// Begin alike, end alike, are a part of one another, or have nothing in common.
const KINDS: [&str; 6] = [
    "Accept: text\r\nUser-Agent: one\r\nCookie: a=b\r\n",
    "Accept: text\r\nUser-Agent: one\r\n",
    "Accept: text\r\nCookie: a=b\r\n",
    "User-Agent: two\r\nAccept: text\r\nCookie: a=b\r\n",
    "",
    "DNT: 1\r\nAccept: text\r\nUser-Agent: one\r\nCookie: a=b\r\n",
];

/// A head like no other.
fn stranger(number: usize) -> String {
    alloc::format!("X-{number}: a\r\nX-Other: b\r\n")
}

/// The kinds have come, in turn, as often as it takes for all of them.
fn learned() -> Familiar {
    let mut familiar = Familiar::default();
    for _ in 0..KINDS.len() * (usize::from(PATIENCE) + 1) {
        for kind in KINDS {
            known(&mut familiar, kind);
        }
    }
    familiar
}

#[test]
fn kinds_that_take_turns_are_all_known() {
    let mut familiar = learned();
    let mut marks = || KINDS.map(|kind| known(&mut familiar, kind).expect(kind).mark);
    let first = marks();
    assert_eq!(marks(), first);
    for (place, mark) in first.iter().enumerate() {
        assert!(!first[..place].contains(mark), "{first:?}");
    }
}

#[test]
fn a_head_is_known_whichever_came_before() {
    let mut familiar = learned();
    for before in KINDS {
        for kind in KINDS {
            known(&mut familiar, before);
            assert!(
                known(&mut familiar, kind).is_some(),
                "{kind:?} behind {before:?}"
            );
        }
    }
}

#[test]
fn what_comes_once_never_pushes_out_what_comes_again() {
    let mut familiar = learned();
    for number in 0..40 * MEMORIES {
        known(&mut familiar, &stranger(number));
        let kind = KINDS[number % KINDS.len()];
        assert!(known(&mut familiar, kind).is_some(), "{number}");
    }
    assert_eq!(familiar.memories.len(), MEMORIES);
}

#[test]
fn what_is_not_used_any_more_gives_way() {
    let mut familiar = learned();
    for number in 0..MEMORIES {
        for _ in 0..=PATIENCE {
            known(&mut familiar, &stranger(number));
        }
        assert!(known(&mut familiar, &stranger(number)).is_some());
    }
    assert_eq!(familiar.memories.len(), MEMORIES);
    assert_eq!(KINDS.map(|kind| known(&mut familiar, kind)), [None; 6]);
}

#[test]
fn a_head_that_cannot_be_learned_leaves_the_others_known() {
    let mut familiar = learned();
    let name = "x".repeat(40);
    let endless = alloc::format!("Accept: text\r\n{name}: a\r\n");
    for _ in 0..20 * MEMORIES {
        assert_eq!(known(&mut familiar, &endless), None);
    }
    assert_eq!(familiar.memories.len(), KINDS.len() + 1);
    for kind in KINDS {
        assert!(known(&mut familiar, kind).is_some(), "{kind:?}");
    }
}
