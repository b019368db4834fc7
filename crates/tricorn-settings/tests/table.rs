//! Claims over the whole table.
use std::collections::HashSet;
use tricorn_settings::table::SECTIONS;
use tricorn_settings::{Action, Default, Fault, Kind, Setting, Status, Value, find, settings};

const FACTS: &str = include_str!("gunicorn-27.txt");

/// Settings whose default names the product, and so is ours.
const OWN_DEFAULTS: &[(&str, &str)] = &[
    ("logger_class", "tricorn.glogging.Logger"),
    ("default_proc_name", "tricorn"),
];

struct Fact {
    name: &'static str,
    section: &'static str,
    flags: Vec<&'static str>,
    default: &'static str,
}

fn facts() -> impl Iterator<Item = Fact> {
    FACTS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<&str> = line.splitn(4, " | ").collect();
            let [name, section, flags, default] = fields[..] else {
                panic!("four fields: {line}")
            };
            Fact {
                name,
                section,
                flags: flags.split_whitespace().collect(),
                default,
            }
        })
}

/// A default as the fact list writes it (JSON).
fn written(default: Default) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\\\""));
    match default {
        Default::Unset => "null".into(),
        Default::Bool(truth) => truth.to_string(),
        Default::Int(number) => number.to_string(),
        Default::Text(text) => quoted(text),
        Default::List(items) => {
            format!(
                "[{}]",
                items
                    .iter()
                    .map(|item| quoted(item))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        Default::Map(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|(name, value)| format!("{}: {}", quoted(name), quoted(value)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        Default::Computed(_) => "?".into(),
        Default::Hook => "hook".into(),
    }
}

#[test]
fn every_setting_of_gunicorn_is_there_with_its_flags_and_default() {
    let mut count = 0;
    for fact in facts() {
        count += 1;
        let setting = find(fact.name).unwrap_or_else(|| panic!("{} is missing", fact.name));
        assert_eq!(setting.flags, fact.flags, "flags of {}", fact.name);
        assert!(!setting.own, "{} is Gunicorn's", fact.name);
        match OWN_DEFAULTS.iter().find(|(name, _)| *name == fact.name) {
            Some((_, own)) => assert_eq!(setting.default, Default::Text(own)),
            None => assert_eq!(
                written(setting.default),
                fact.default,
                "default of {}",
                fact.name
            ),
        }
        let section = SECTIONS
            .iter()
            .find(|section| section.title == fact.section);
        let section = section.unwrap_or_else(|| panic!("section {} is missing", fact.section));
        assert!(
            section.settings.iter().any(|other| other.name == fact.name),
            "section of {}",
            fact.name
        );
    }
    assert_eq!(count, 120);
}

#[test]
fn every_other_setting_is_declared_as_ours() {
    let known: HashSet<&str> = facts().map(|fact| fact.name).collect();
    let others: Vec<&Setting> = settings()
        .filter(|setting| !known.contains(setting.name))
        .collect();
    assert!(others.iter().all(|setting| setting.own));
    assert_eq!(others.len(), 14);
}

#[test]
fn names_and_flags_are_unique() {
    let mut names = HashSet::new();
    let mut flags = HashSet::from(["-h", "--help", "-v", "--version"]);
    for setting in settings() {
        assert!(names.insert(setting.name), "{} twice", setting.name);
        for flag in setting.flags {
            assert!(flags.insert(flag), "{flag} twice");
        }
    }
}

#[test]
fn every_default_passes_its_own_validator() {
    for setting in settings().filter(|setting| !matches!(setting.default, Default::Computed(_))) {
        let checked = setting.validate(setting.default.value());
        assert!(checked.is_ok(), "{}: {checked:?}", setting.name);
    }
}

#[test]
fn every_help_is_one_sentence() {
    for setting in settings() {
        assert!(setting.help.ends_with('.'), "{}", setting.name);
        assert!(!setting.help.contains('\n'), "{}", setting.name);
    }
}

#[test]
fn flags_suit_the_kind() {
    for setting in settings().filter(|setting| !setting.flags.is_empty()) {
        let name = setting.name;
        assert!(
            !matches!(setting.kind, Kind::Map | Kind::Hook(_)),
            "{name} cannot be a flag"
        );
        let switch = matches!(setting.action, Action::StoreTrue | Action::StoreFalse);
        assert_eq!(switch, setting.kind == Kind::Bool, "{name}");
        assert!(
            !switch || setting.metavar.is_none(),
            "{name} takes no argument"
        );
    }
}

/// A value each kind accepts, other than any default of the table.
fn unusual(kind: Kind) -> Option<Value> {
    Some(match kind {
        Kind::Bool => return None,
        Kind::Count => Value::Int(123_457),
        Kind::Range { min, max } => Value::Int(max.min(min + 1)),
        Kind::Text => Value::text("/unusual"),
        Kind::TextList => Value::List(vec![Value::text("unusual")]),
        Kind::Words => Value::text("UNUSUAL"),
        Kind::Networks => Value::text("192.0.2.7"),
        Kind::Choice(choice) => Value::text(choice.words.last()?),
        Kind::HttpVersions => Value::text("h2"),
        Kind::StatsdAddress => Value::text("localhost:1"),
        _ => return None,
    })
}

#[test]
fn unimplemented_settings_are_refused_by_name_unless_default() {
    let mut refused = 0;
    for setting in settings().filter(|setting| setting.status == Status::NotYet) {
        assert!(
            setting.validate(setting.default.value()).is_ok(),
            "{} at its default",
            setting.name
        );
        let truth = matches!(setting.default, Default::Bool(true));
        let value = match setting.kind {
            Kind::Bool => Some(Value::Bool(!truth)),
            kind => unusual(kind),
        };
        if let Some(value) = value {
            let refusal = setting.validate(value).expect_err(setting.name);
            assert_eq!(refusal.fault, Fault::NotYet, "{}", setting.name);
            assert!(
                refusal.text.contains(&format!("`{}`", setting.name)),
                "{}",
                refusal.text
            );
            refused += 1;
        }
    }
    assert!(refused > 20, "only {refused} settings were tried");
}

#[test]
fn blank_text_leaves_an_unimplemented_setting_unset() {
    let certfile = find("certfile").expect("certfile");
    assert_eq!(certfile.validate(Value::Null), Ok(Value::Null));
    assert!(certfile.validate(Value::text("")).is_ok());
    assert!(certfile.validate(Value::text("cert.pem")).is_err());
}

#[test]
fn settings_that_work_accept_unusual_values() {
    for setting in settings().filter(|setting| setting.status == Status::Works) {
        if let Some(value) = unusual(setting.kind) {
            assert!(setting.validate(value).is_ok(), "{}", setting.name);
        }
    }
}
