//! Claims about the memory of lines: what it knows again, what it never keeps, when it learns anew.
use super::*;
use crate::head::Span;

/// A line alone, and the field in it.
fn parted(line: &[u8]) -> Field {
    let name_len = line.iter().position(|&byte| byte == b':').expect("a colon");
    let end = line.iter().position(|&byte| byte == b'\r');
    let span = |start: usize, end: usize| Span {
        start: start as u32,
        end: end as u32,
    };
    Field {
        name: span(0, name_len),
        value: span(name_len + 2, end.unwrap_or(line.len())),
    }
}

fn learned(lines: &[&[u8]]) -> Memory {
    let mut memory = Memory::default();
    for (index, line) in lines.iter().enumerate() {
        assert!(memory.learn(index, line, parted(line), false));
    }
    memory
}

/// Which of the lines, one behind the other, are those that are kept.
fn same_again(memory: &mut Memory, lines: &[&[u8]]) -> Vec<bool> {
    let start = b"GET / HTTP/1.1\r\n";
    let bytes = [start, lines.concat().as_slice(), b"\r\n"].concat();
    let mut fields = Vec::new();
    let taken = memory.take(&bytes, start.len(), (lines.len(), 1 << 16), &mut fields);
    assert_eq!(taken.end, bytes.len() - 2);
    let mut at = start.len() as u32;
    for (field, line) in fields.iter().zip(lines) {
        assert_eq!(*field, parted(line).moved(at));
        at += line.len() as u32;
    }
    (0..lines.len())
        .map(|index| taken.same >> index & 1 == 1)
        .collect()
}

#[test]
fn a_line_is_known_to_the_last_byte() {
    for length in [0, 1, 13, 60, 200] {
        let line = alloc::format!("Name: {}\r\n", "v".repeat(length)).into_bytes();
        let mut memory = learned(&[b"Host: a\r\n", &line]);
        assert_eq!(
            same_again(&mut memory, &[b"Host: a\r\n", &line]),
            [true, true]
        );
        let mut again = |bytes: &[u8]| {
            let mut fields = Vec::new();
            again(
                &mut memory.lines[1..],
                &memory.text,
                bytes,
                &mut 0,
                &mut fields,
            );
            fields.len()
        };
        assert_eq!(again(&line), 1);
        for place in 0..line.len() {
            let mut other = line.clone();
            other[place] ^= 1;
            assert_eq!(again(&other), 0, "{place}");
            assert_eq!(again(&line[..place]), 0, "{place}");
        }
    }
}

#[test]
fn what_two_begin_with_is_found_wherever_it_ends() {
    for length in 0..70 {
        let one = alloc::vec![b'a'; length];
        assert_eq!(common(&one, &one), length);
        assert_eq!(common(&one, &[one.as_slice(), b"b"].concat()), length);
        for place in 0..length {
            let mut other = one.clone();
            other[place] = b'b';
            assert_eq!(common(&one, &other), place);
            assert_eq!(common(&other[..place], &one), place);
        }
    }
}

#[test]
fn another_value_at_any_place_leaves_the_others_known() {
    let lines: [&[u8]; 3] = [b"Host: a\r\n", b"Accept: things\r\n", b"DNT: 1\r\n"];
    for place in 0..3 {
        for value in ["", "x", "something that is longer than it was"] {
            let mut memory = learned(&lines);
            let name_len = parted(lines[place]).name.end as usize;
            let name = core::str::from_utf8(&lines[place][..name_len]).expect("text");
            let line = alloc::format!("{name}: {value}\r\n").into_bytes();
            let mut others = lines;
            others[place] = &line;
            assert_eq!(
                same_again(&mut memory, &others)
                    .iter()
                    .filter(|&&is| is)
                    .count(),
                2
            );
            memory.keep(place, &line, parted(&line));
            assert_eq!(
                same_again(&mut memory, &others),
                [true; 3],
                "{name}: {value}"
            );
        }
    }
}

#[test]
fn secrets_long_lines_and_blanks_behind_a_value_are_known_by_name_alone() {
    let long = alloc::format!("Long: {}\r\n", "v".repeat(LONGEST_LINE));
    let secrets: [&[u8]; 4] = [
        b"Cookie: a=b\r\n",
        b"AUTHORIZATION: me\r\n",
        b"proxy-authorization: me\r\n",
        long.as_bytes(),
    ];
    let mut memory = learned(&secrets);
    assert_eq!(same_again(&mut memory, &secrets), [false; 4]);
    assert!(memory.text.is_empty());
    let field = parted(b"Name: value");
    assert!(memory.learn(4, b"Name: value \r\n", field, false));
    assert_eq!(memory.lines.len(), 5);
    assert!(memory.text.is_empty());
}

#[test]
fn values_that_always_differ_are_kept_ever_more_rarely() {
    let mut memory = learned(&[b"Name: 0\r\n"]);
    let mut kept = Vec::new();
    for turn in 1..2000 {
        let line = b"Name: 1\r\n\r\n";
        // As if the value that is kept were another each time.
        memory.text[6] = b'0';
        let taken = memory.take(line, 0, (1, 100), &mut Vec::new());
        if memory.note_missed(taken.missed) == 1 {
            kept.push(turn);
            memory.keep(0, line, parted(line));
        }
    }
    let gaps: Vec<i32> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.is_sorted() && gaps.len() < 25, "{gaps:?}");
    assert_eq!(gaps.last(), Some(&i32::from(Patience::LAST)));
}

#[test]
fn what_is_cut_off_leaves_no_text() {
    let mut memory = learned(&[b"Host: a\r\n", b"Accept: b\r\n", b"DNT: 1\r\n"]);
    assert!(memory.learn(1, b"TE: c\r\n", parted(b"TE: c\r\n"), false));
    assert_eq!(memory.text, b"Host: a\r\nTE: c\r\n");
    let lines: [&[u8]; 2] = [b"Host: a\r\n", b"TE: c\r\n"];
    assert_eq!(same_again(&mut memory, &lines), [true; 2]);
}

#[test]
fn a_name_is_known_to_the_last_byte() {
    for len in 1..LONGEST - 1 {
        let mut line = alloc::vec![b'a'; len];
        line.extend_from_slice(
            b": value and enough of it to fill all the blocks that are read\r\n",
        );
        let memory = learned(&[&line]);
        let known = memory.names[0].clone();
        assert!(known.begins(&line));
        assert_eq!((known.name_len, known.len), (len, len + 2));
        for place in 0..len + 2 {
            let mut other = line.clone();
            other[place] ^= 0x20;
            assert!(!known.begins(&other), "{place} of {len}");
        }
        let mut other = line.clone();
        other[len + 2] = b'x';
        assert!(known.begins(&other), "the value is not looked at");
    }
}

#[test]
fn a_line_may_end_where_its_name_does_and_not_before() {
    let long = b"Upgrade-Insecure-Requests: 1\r\n\r\n";
    let [host, long_name] = &learned(&[b"Host: a\r\n", long]).names[..] else {
        panic!("two names");
    };
    assert!(host.begins(b"Host: abcdefgh\r\n"));
    assert!(host.begins(b"Host: a\r\n"));
    assert!(!host.begins(b"Hosts: a\r\n") && !host.begins(b"Host:"));
    assert!(long_name.begins(long));
    assert!(long_name.begins(&long[..27]) && !long_name.begins(&long[..26]));
    assert!(!long_name.begins(b""));
}

#[test]
fn a_colon_without_a_blank_belongs_to_the_name_as_well() {
    let host = &learned(&[b"Host:a and what follows\r\n"]).names[0];
    assert_eq!(host.len, 5);
    assert!(host.begins(b"Host:b and what follows\r\n"));
    assert!(host.begins(b"Host: b and what follows"));
}

#[test]
fn names_too_long_or_too_many_are_not_kept() {
    let mut memory = Memory::default();
    let mut line = alloc::vec![b'a'; 31];
    line.extend_from_slice(b": b\r\n");
    assert!(!memory.learn(0, &line, parted(&line), false));
    let line = &line[1..];
    assert!(memory.learn(0, line, parted(line), false));
    assert!(!memory.learn(MOST, line, parted(line), false));
    assert_eq!(memory.lines.len(), 1);
}
