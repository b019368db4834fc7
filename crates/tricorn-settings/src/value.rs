//! A setting's value, in the few shapes settings take. Not a mirror of Python: what fits none of the shapes
//! travels as [`Value::Other`], which only carries the text an error message shows.
use std::fmt;

/// A value handed to, or returned by, a validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: the setting is unset.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Text(String),
    /// Several values, in order.
    List(Vec<Value>),
    /// Names with their values, in order.
    Map(Vec<(String, Value)>),
    /// A host and its port.
    Address(String, u16),
    /// Anything else, as it prints.
    Other(String),
}

impl Value {
    /// Text as a value.
    pub fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    /// Whether the value leaves the setting as good as unset: nothing or empty text.
    pub fn is_blank(&self) -> bool {
        matches!(self, Value::Null) || matches!(self, Value::Text(text) if text.is_empty())
    }

    /// The value as it prints inside a container: text in quotes.
    fn quoted(&self) -> String {
        match self {
            Value::Text(text) => format!("'{text}'"),
            other => other.to_string(),
        }
    }
}

/// Prints as Python would, since that is how users wrote it.
impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => out.write_str("None"),
            Value::Bool(true) => out.write_str("True"),
            Value::Bool(false) => out.write_str("False"),
            Value::Int(number) => write!(out, "{number}"),
            Value::Text(text) | Value::Other(text) => out.write_str(text),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(Value::quoted).collect();
                write!(out, "[{}]", items.join(", "))
            }
            Value::Map(items) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|(name, value)| format!("'{name}': {}", value.quoted()))
                    .collect();
                write!(out, "{{{}}}", items.join(", "))
            }
            Value::Address(host, port) => write!(out, "('{host}', {port})"),
        }
    }
}
