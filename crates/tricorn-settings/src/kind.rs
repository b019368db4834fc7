//! Value kinds and their validators: what a setting accepts, and how an accepted value is stored.
//!
//! What it is not: kinds that need the running system or Python (a directory, an account, a class, a hook)
//! are named here but checked by the Python side; [`Kind::is_checked_here`] tells them apart.
//! Invariant: every refusal says what was wanted.
//! Source: the value types of Gunicorn 27; refusals begin with Gunicorn's text.
use crate::address::{NotANetwork, check_network};
use crate::value::Value;
use std::fmt;

/// One of several words, compared without regard to case and surrounding blanks.
#[derive(Debug, PartialEq, Eq)]
pub struct WordChoice {
    /// The words.
    pub words: &'static [&'static str],
    /// How a refusal begins; the refused value follows.
    pub refusal: &'static str,
    /// What an unset value becomes; `None` leaves it unset.
    pub unset: Option<&'static str>,
    /// Further texts, and the word each stands for.
    pub synonyms: &'static [(&'static str, &'static str)],
    /// The words that True and False stand for.
    pub truth: Option<(&'static str, &'static str)>,
    /// Whether case and blanks matter after all.
    pub exact: bool,
}

impl WordChoice {
    /// A plain choice, without synonyms.
    pub const fn of(words: &'static [&'static str], refusal: &'static str) -> WordChoice {
        WordChoice {
            words,
            refusal,
            unset: None,
            synonyms: &[],
            truth: None,
            exact: false,
        }
    }
}

/// What a setting accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false, also as text.
    Bool,
    /// A whole number of at least 0, also as text with Python's prefixes (`0x`, `0o`, `0b`).
    Count,
    /// A whole number between two bounds.
    Range {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// Text, trimmed; may be unset.
    Text,
    /// A list of texts; a lone text is a list of one.
    TextList,
    /// Words separated by commas.
    Words,
    /// Addresses and networks separated by commas, or `*`.
    Networks,
    /// One of several words.
    Choice(&'static WordChoice),
    /// HTTP versions separated by commas.
    HttpVersions,
    /// `host:port` or `unix://PATH`.
    StatsdAddress,
    /// A dictionary.
    Map,
    /// Any value at all.
    Anything,
    /// An existing directory (checked in Python).
    Directory,
    /// Existing files, or glob patterns (checked in Python).
    Files,
    /// A user by name or number (checked in Python).
    User,
    /// A group by name or number (checked in Python).
    Group,
    /// A class, or a text that leads to one (checked in Python).
    Class,
    /// A callable, or the dotted path of one, with the named parameters (checked in Python).
    Hook(&'static [&'static str]),
}

/// What kind of mistake a refused value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A value of the wrong type.
    Type,
    /// A value of the right type that is not allowed.
    Value,
    /// A value that this version cannot honour.
    NotYet,
}

/// Why a value was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What kind of mistake it is.
    pub fault: Fault,
    /// One line for the user.
    pub text: String,
}

impl Invalid {
    fn of_type(text: String) -> Invalid {
        Invalid {
            fault: Fault::Type,
            text,
        }
    }

    fn of_value(text: String) -> Invalid {
        Invalid {
            fault: Fault::Value,
            text,
        }
    }

    fn wanting(mut self, wanted: &str) -> Invalid {
        self.text = format!("{} (wanted {wanted})", self.text);
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for Invalid {}

impl Kind {
    /// Whether [`Kind::validate`] has the whole rule; otherwise the Python side checks the value.
    pub fn is_checked_here(self) -> bool {
        !matches!(
            self,
            Kind::Directory | Kind::Files | Kind::User | Kind::Group | Kind::Class | Kind::Hook(_)
        )
    }

    /// A short name for the Python side.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Count | Kind::Range { .. } => "int",
            Kind::Text => "text",
            Kind::TextList => "list",
            Kind::Words => "words",
            Kind::Networks => "networks",
            Kind::Choice(_) => "choice",
            Kind::HttpVersions => "http_versions",
            Kind::StatsdAddress => "statsd_address",
            Kind::Map => "map",
            Kind::Anything => "anything",
            Kind::Directory => "directory",
            Kind::Files => "files",
            Kind::User => "user",
            Kind::Group => "group",
            Kind::Class => "class",
            Kind::Hook(_) => "hook",
        }
    }

    /// What is wanted, as a noun phrase for refusals and documentation.
    pub fn wanted(self) -> String {
        match self {
            Kind::Bool => "true or false".into(),
            Kind::Count => "a whole number, 0 or more".into(),
            Kind::Range { min, max } if max == i64::MAX => format!("a whole number, {min} or more"),
            Kind::Range { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Text => "text".into(),
            Kind::TextList => "a list of texts".into(),
            Kind::Words => "text: words separated by commas".into(),
            Kind::Networks => "text: addresses or networks separated by commas, or *".into(),
            Kind::Choice(choice) => format!("one of: {}", choice.words.join(", ")),
            Kind::HttpVersions => "text: h1 and h2 separated by commas".into(),
            Kind::StatsdAddress => "host:port or unix://PATH".into(),
            Kind::Map => "a dictionary".into(),
            Kind::Anything => "any value".into(),
            Kind::Directory => "an existing directory".into(),
            Kind::Files => "existing files or glob patterns".into(),
            Kind::User => "a user name or number".into(),
            Kind::Group => "a group name or number".into(),
            Kind::Class => "a class or the name of one".into(),
            Kind::Hook(parameters) => {
                format!(
                    "a callable with the parameters ({}), or its dotted path",
                    parameters.join(", ")
                )
            }
        }
    }

    /// Checks a value and returns it as it is stored.
    ///
    /// Errors: a value of the wrong type, or one that is not allowed. Kinds that are not checked here return
    /// the value as it came.
    pub fn validate(self, value: Value) -> Result<Value, Invalid> {
        let checked = match self {
            Kind::Bool => check_bool(value),
            Kind::Count => check_range(value, 0, i64::MAX),
            Kind::Range { min, max } => check_range(value, min, max),
            Kind::Text => check_text(value),
            Kind::TextList => check_text_list(value),
            Kind::Words => check_words(value),
            Kind::Networks => check_networks(value),
            Kind::Choice(choice) => check_choice(value, choice),
            Kind::HttpVersions => check_http_versions(value),
            Kind::StatsdAddress => check_statsd_address(value),
            Kind::Map => match value {
                Value::Map(_) => Ok(value),
                other => Err(Invalid::of_type(format!(
                    "Value is not a dictionary: {other}"
                ))),
            },
            _ => Ok(value),
        };
        checked.map_err(|invalid| invalid.wanting(&self.wanted()))
    }
}

fn check_bool(value: Value) -> Result<Value, Invalid> {
    match value {
        Value::Null | Value::Bool(_) => Ok(value),
        Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(Invalid::of_value(format!("Invalid boolean: {text}"))),
        },
        other => Err(Invalid::of_type(format!(
            "Invalid type for casting: {other}"
        ))),
    }
}

fn check_range(value: Value, min: i64, max: i64) -> Result<Value, Invalid> {
    let number = match value {
        Value::Bool(truth) => i64::from(truth),
        Value::Int(number) => number,
        Value::Text(text) => parse_int(&text).ok_or_else(|| {
            Invalid::of_value(format!("invalid literal for int() with base 0: '{text}'"))
        })?,
        other => return Err(Invalid::of_type(format!("Not a whole number: {other}"))),
    };
    if number < 0 {
        return Err(Invalid::of_value(format!(
            "Value must be positive: {number}"
        )));
    }
    if number < min || number > max {
        return Err(Invalid::of_value(format!(
            "Value is out of range: {number}"
        )));
    }
    Ok(Value::Int(number))
}

/// Reads a whole number as Python's `int(text, 0)` does: a sign, a prefix, single underscores between digits,
/// and no leading zeros on a decimal number.
fn parse_int(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', b'o' | b'O', ..] => (8, &text[2..]),
        [b'0', b'b' | b'B', ..] => (2, &text[2..]),
        _ => (10, text),
    };
    let digits = if radix == 10 {
        digits
    } else {
        digits.strip_prefix('_').unwrap_or(digits)
    };
    if digits.is_empty()
        || digits.starts_with('_')
        || digits.ends_with('_')
        || digits.contains("__")
    {
        return None;
    }
    let plain: String = digits.chars().filter(|digit| *digit != '_').collect();
    if !plain.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    if radix == 10 && plain.starts_with('0') && plain.bytes().any(|digit| digit != b'0') {
        return None;
    }
    let number = i64::from_str_radix(&plain, radix).ok()?;
    Some(if negative { -number } else { number })
}

fn check_text(value: Value) -> Result<Value, Invalid> {
    match value {
        Value::Null => Ok(Value::Null),
        Value::Text(text) => Ok(Value::text(text.trim())),
        other => Err(Invalid::of_type(format!("Not a string: {other}"))),
    }
}

fn check_text_list(value: Value) -> Result<Value, Invalid> {
    let items = match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => Vec::new(),
        Value::Text(text) if text.is_empty() => Vec::new(),
        Value::Text(_) => vec![value],
        Value::List(items) => items,
        other => return Err(Invalid::of_type(format!("Not a list: {other}"))),
    };
    let checked: Result<Vec<Value>, Invalid> = items
        .into_iter()
        .map(|item| match item {
            Value::Null => Err(Invalid::of_type("Not a string: None".into())),
            item => check_text(item),
        })
        .collect();
    Ok(Value::List(checked?))
}

/// The words of a comma-separated text, lower-cased when asked.
fn split_words(value: Value) -> Result<Vec<String>, Invalid> {
    match check_text(value)? {
        Value::Text(text) => Ok(text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()),
        _ => Ok(Vec::new()),
    }
}

fn check_words(value: Value) -> Result<Value, Invalid> {
    Ok(Value::List(
        split_words(value)?.into_iter().map(Value::Text).collect(),
    ))
}

fn check_networks(value: Value) -> Result<Value, Invalid> {
    let words = split_words(value)?;
    for word in words.iter().filter(|word| *word != "*") {
        match check_network(word) {
            Ok(()) => {}
            Err(NotANetwork::HostBits) => {
                return Err(Invalid::of_value(format!("{word} has host bits set")));
            }
            Err(NotANetwork::Unreadable) => {
                let text = format!("'{word}' does not appear to be an IPv4 or IPv6 network");
                return Err(Invalid::of_value(text));
            }
        }
    }
    Ok(Value::List(words.into_iter().map(Value::Text).collect()))
}

fn check_choice(value: Value, choice: &WordChoice) -> Result<Value, Invalid> {
    let text = match (&value, choice.truth) {
        (Value::Null, _) if choice.unset.is_some() || !choice.exact => {
            return Ok(choice.unset.map_or(Value::Null, Value::text));
        }
        (Value::Bool(true), Some((yes, _))) => return Ok(Value::text(yes)),
        (Value::Bool(false), Some((_, no))) => return Ok(Value::text(no)),
        (Value::Text(text), _) if choice.exact => text.clone(),
        (Value::Text(text), _) => text.trim().to_lowercase(),
        (other, _) => {
            return Err(Invalid::of_type(format!(
                "Invalid type for casting: {other}"
            )));
        }
    };
    if choice.words.contains(&text.as_str()) {
        return Ok(Value::Text(text));
    }
    match choice.synonyms.iter().find(|(synonym, _)| *synonym == text) {
        Some((_, word)) => Ok(Value::text(word)),
        None => Err(Invalid::of_value(format!("{}: {value}", choice.refusal))),
    }
}

fn check_http_versions(value: Value) -> Result<Value, Invalid> {
    let mut versions: Vec<Value> = Vec::new();
    for word in split_words(value)? {
        let version = word.to_ascii_lowercase();
        if version != "h1" && version != "h2" {
            return Err(Invalid::of_value(format!(
                "Invalid protocol '{version}'. Valid protocols: h1, h2"
            )));
        }
        let version = Value::Text(version);
        if versions.contains(&version) {
            return Err(Invalid::of_value("Duplicate protocols specified".into()));
        }
        versions.push(version);
    }
    if versions.is_empty() {
        versions.push(Value::text("h1"));
    }
    Ok(Value::List(versions))
}

fn check_statsd_address(value: Value) -> Result<Value, Invalid> {
    let Value::Text(text) = check_text(value)? else {
        return Ok(Value::Null);
    };
    if let Some(path) = text.strip_prefix("unix://") {
        return Ok(Value::text(path));
    }
    let invalid = || Invalid::of_type(format!("Not a statsd address: {text}"));
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(invalid)?)),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text.as_str(), None),
        },
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| invalid())?,
        None => 8125,
    };
    Ok(Value::Address(host.to_lowercase(), port))
}

#[cfg(test)]
#[path = "kind_test.rs"]
mod tests;
