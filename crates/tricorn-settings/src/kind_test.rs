//! The validators of the value kinds: what each takes, what it refuses, and in which words.

use super::*;

static LEVEL: WordChoice = WordChoice {
    unset: Some("low"),
    synonyms: &[("1", "high")],
    truth: Some(("high", "low")),
    ..WordChoice::of(&["low", "high"], "Invalid level")
};
static PLAIN: WordChoice = WordChoice::of(&["low", "high"], "Invalid level");
static EXACT: WordChoice = WordChoice {
    exact: true,
    ..WordChoice::of(&["low", "high"], "Invalid level")
};

fn texts(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| Value::text(item)).collect())
}

fn refusal(kind: Kind, value: Value) -> String {
    kind.validate(value.clone())
        .expect_err(&format!("{kind:?} {value:?}"))
        .text
}

#[test]
fn numbers_are_read_as_python_reads_literals() {
    for (text, number) in [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("+7", 7),
        ("0x10", 16),
        ("0X1f", 31),
        ("0o22", 18),
        ("0b101", 5),
        ("0x_10", 16),
        ("1_000", 1000),
        ("000", 0),
    ] {
        assert_eq!(
            Kind::Count.validate(Value::text(text)),
            Ok(Value::Int(number)),
            "{text}"
        );
    }
    for text in [
        "",
        " ",
        "abc",
        "1.5",
        "022",
        "1__0",
        "_1",
        "1_",
        "0x",
        "0o8",
        "- 1",
        "+-1",
        "٣",
        "99999999999999999999",
    ] {
        let text = refusal(Kind::Count, Value::text(text));
        assert!(
            text.starts_with("invalid literal for int() with base 0: "),
            "{text}"
        );
    }
}

#[test]
fn truth_values_count_as_numbers() {
    assert_eq!(Kind::Count.validate(Value::Bool(true)), Ok(Value::Int(1)));
}

#[test]
fn numbers_out_of_range_are_refused() {
    assert_eq!(
        refusal(Kind::Count, Value::Int(-1)),
        "Value must be positive: -1 (wanted a whole number, 0 or more)"
    );
    let range = Kind::Range { min: 2, max: 5 };
    assert_eq!(range.validate(Value::Int(2)), Ok(Value::Int(2)));
    assert_eq!(range.validate(Value::Int(5)), Ok(Value::Int(5)));
    for number in [1, 6] {
        let text = format!("Value is out of range: {number} (wanted a whole number from 2 to 5)");
        assert_eq!(refusal(range, Value::Int(number)), text);
    }
}

#[test]
fn numbers_of_other_types_are_refused() {
    for value in [Value::Null, Value::Other("1.5".into()), texts(&["1"])] {
        assert_eq!(
            Kind::Count.validate(value).expect_err("not a number").fault,
            Fault::Type
        );
    }
}

#[test]
fn truth_values_may_be_text() {
    for text in ["true", "TRUE", " True "] {
        assert_eq!(
            Kind::Bool.validate(Value::text(text)),
            Ok(Value::Bool(true)),
            "{text}"
        );
    }
    assert_eq!(
        Kind::Bool.validate(Value::text("False")),
        Ok(Value::Bool(false))
    );
    assert_eq!(Kind::Bool.validate(Value::Null), Ok(Value::Null));
    assert_eq!(
        refusal(Kind::Bool, Value::text("yes")),
        "Invalid boolean: yes (wanted true or false)"
    );
    assert_eq!(
        refusal(Kind::Bool, Value::Int(1)),
        "Invalid type for casting: 1 (wanted true or false)"
    );
}

#[test]
fn text_is_trimmed() {
    assert_eq!(
        Kind::Text.validate(Value::text(" x ")),
        Ok(Value::text("x"))
    );
    assert_eq!(Kind::Text.validate(Value::Null), Ok(Value::Null));
    assert_eq!(
        refusal(Kind::Text, Value::Int(1)),
        "Not a string: 1 (wanted text)"
    );
}

#[test]
fn a_lone_text_is_a_list_of_one() {
    assert_eq!(
        Kind::TextList.validate(Value::text("a,b")),
        Ok(texts(&["a,b"]))
    );
    assert_eq!(
        Kind::TextList.validate(texts(&[" a ", "b"])),
        Ok(texts(&["a", "b"]))
    );
    for nothing in [Value::Null, Value::text(""), texts(&[])] {
        assert_eq!(Kind::TextList.validate(nothing), Ok(texts(&[])));
    }
    assert!(
        Kind::TextList
            .validate(Value::List(vec![Value::Int(1)]))
            .is_err()
    );
    assert!(
        Kind::TextList
            .validate(Value::List(vec![Value::Null]))
            .is_err()
    );
    assert!(Kind::TextList.validate(Value::Int(5)).is_err());
}

#[test]
fn words_are_split_at_commas() {
    assert_eq!(
        Kind::Words.validate(Value::text(" a , b,,")),
        Ok(texts(&["a", "b"]))
    );
    assert_eq!(Kind::Words.validate(Value::Null), Ok(texts(&[])));
    assert!(Kind::Words.validate(texts(&["a"])).is_err());
}

#[test]
fn networks_are_checked_one_by_one() {
    let value = Value::text("192.0.2.1, 10.0.0.0/8,*,::1");
    assert_eq!(
        Kind::Networks.validate(value),
        Ok(texts(&["192.0.2.1", "10.0.0.0/8", "*", "::1"]))
    );
    assert!(
        refusal(Kind::Networks, Value::text("::1,10.0.0.1/8"))
            .starts_with("10.0.0.1/8 has host bits set")
    );
    let text = refusal(Kind::Networks, Value::text("::1,proxy"));
    assert!(
        text.starts_with("'proxy' does not appear to be an IPv4 or IPv6 network"),
        "{text}"
    );
}

#[test]
fn choices_ignore_case_and_blanks_and_know_synonyms() {
    let kind = Kind::Choice(&LEVEL);
    for (value, word) in [
        (Value::text(" HIGH "), "high"),
        (Value::text("1"), "high"),
        (Value::Bool(true), "high"),
        (Value::Bool(false), "low"),
        (Value::Null, "low"),
    ] {
        assert_eq!(kind.validate(value), Ok(Value::text(word)));
    }
    assert_eq!(
        refusal(kind, Value::text("x")),
        "Invalid level: x (wanted one of: low, high)"
    );
    assert_eq!(
        kind.validate(Value::Int(1)).expect_err("a number").fault,
        Fault::Type
    );
}

#[test]
fn plain_choices_may_be_unset_and_have_no_truth_values() {
    assert_eq!(Kind::Choice(&PLAIN).validate(Value::Null), Ok(Value::Null));
    assert!(Kind::Choice(&PLAIN).validate(Value::Bool(true)).is_err());
}

#[test]
fn exact_choices_heed_case() {
    assert_eq!(
        Kind::Choice(&EXACT).validate(Value::text("low")),
        Ok(Value::text("low"))
    );
    assert!(Kind::Choice(&EXACT).validate(Value::text("Low")).is_err());
    assert!(Kind::Choice(&EXACT).validate(Value::Null).is_err());
}

#[test]
fn http_versions_are_known_and_named_once() {
    let kind = Kind::HttpVersions;
    assert_eq!(
        kind.validate(Value::text(" H2 , h1")),
        Ok(texts(&["h2", "h1"]))
    );
    assert_eq!(kind.validate(Value::text("")), Ok(texts(&["h1"])));
    assert!(refusal(kind, Value::text("h1,h1")).starts_with("Duplicate protocols specified"));
    assert!(refusal(kind, Value::text("h3")).starts_with("Invalid protocol 'h3'"));
}

#[test]
fn statsd_addresses_have_a_host_or_a_path() {
    let kind = Kind::StatsdAddress;
    for (text, host, port) in [
        ("Host", "host", 8125),
        ("host:1", "host", 1),
        ("[::1]", "::1", 8125),
        ("[::1]:99", "::1", 99),
    ] {
        assert_eq!(
            kind.validate(Value::text(text)),
            Ok(Value::Address(host.into(), port)),
            "{text}"
        );
    }
    assert_eq!(
        kind.validate(Value::text("unix:///run/statsd")),
        Ok(Value::text("/run/statsd"))
    );
    for text in ["host:x", "a:b:c", "[::1]x", "host:65536"] {
        assert!(kind.validate(Value::text(text)).is_err(), "{text}");
    }
}

#[test]
fn dictionaries_pass_whole() {
    let map = Value::Map(vec![("a".into(), Value::text("b"))]);
    assert_eq!(Kind::Map.validate(map.clone()), Ok(map));
    assert_eq!(
        Kind::Map.validate(Value::Null).expect_err("nothing").fault,
        Fault::Type
    );
}

#[test]
fn refusals_show_values_as_python_prints_them() {
    assert!(refusal(Kind::Text, texts(&["a"])).starts_with("Not a string: ['a']"));
    assert!(refusal(Kind::Text, Value::Bool(true)).starts_with("Not a string: True"));
}
