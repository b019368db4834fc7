//! The table: every setting once, by section. Readers (command line, configuration, documentation) are made
//! from it; nothing else in the project lists settings.
//!
//! Invariant: names and flags are unique; every default passes its own kind; a flag needs a kind that text can
//! be read into.
use crate::kind::{Fault, Invalid, Kind};
use crate::value::Value;

mod control;
mod debugging;
mod dirty;
mod hooks;
mod limits;
mod logging;
mod mechanics;
mod server;
mod tls;
mod workers;

/// Settings that belong together.
#[derive(Debug)]
pub struct Section {
    /// The heading, as Gunicorn names it.
    pub title: &'static str,
    /// The settings, in the order of the documentation.
    pub settings: &'static [Setting],
}

/// All sections, in the order of the documentation.
pub static SECTIONS: &[Section] = &[
    Section {
        title: "Config File",
        settings: server::CONFIG_FILE,
    },
    Section {
        title: "Server Socket",
        settings: server::SERVER_SOCKET,
    },
    Section {
        title: "Worker Processes",
        settings: workers::WORKER_PROCESSES,
    },
    Section {
        title: "Security",
        settings: limits::SECURITY,
    },
    Section {
        title: "Buffering and Deadlines",
        settings: limits::BUFFERING,
    },
    Section {
        title: "Debugging",
        settings: debugging::DEBUGGING,
    },
    Section {
        title: "Server Mechanics",
        settings: mechanics::SERVER_MECHANICS,
    },
    Section {
        title: "Logging",
        settings: logging::LOGGING,
    },
    Section {
        title: "Process Naming",
        settings: server::PROCESS_NAMING,
    },
    Section {
        title: "Server Hooks",
        settings: hooks::SERVER_HOOKS,
    },
    Section {
        title: "SSL",
        settings: tls::SSL,
    },
    Section {
        title: "HTTP/2",
        settings: tls::HTTP2,
    },
    Section {
        title: "Dirty Arbiters",
        settings: dirty::DIRTY_ARBITERS,
    },
    Section {
        title: "Dirty Arbiter Hooks",
        settings: dirty::DIRTY_ARBITER_HOOKS,
    },
    Section {
        title: "Control",
        settings: control::CONTROL,
    },
];

/// All settings, section by section.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.name == name)
}

/// What a command line flag does with its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Takes one argument.
    Store,
    /// Takes one argument, and may be repeated.
    Append,
    /// Takes none: the setting becomes true.
    StoreTrue,
    /// Takes none: the setting becomes false.
    StoreFalse,
    /// May take an argument; without one, the setting becomes this.
    StoreOptional(&'static str),
}

/// A default value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Nothing.
    Unset,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Text(&'static str),
    /// A list of texts.
    List(&'static [&'static str]),
    /// A dictionary of texts.
    Map(&'static [(&'static str, &'static str)]),
    /// Found at start, in these words.
    Computed(&'static str),
    /// A hook that the Python side supplies.
    Hook,
}

impl Default {
    /// The default as a value; nothing where it is only found at start.
    pub fn value(self) -> Value {
        match self {
            Default::Unset | Default::Computed(_) | Default::Hook => Value::Null,
            Default::Bool(truth) => Value::Bool(truth),
            Default::Int(number) => Value::Int(number),
            Default::Text(text) => Value::text(text),
            Default::List(items) => {
                Value::List(items.iter().map(|item| Value::text(item)).collect())
            }
            Default::Map(items) => Value::Map(
                items
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), Value::text(value)))
                    .collect(),
            ),
        }
    }
}

impl Default {
    /// The default in words, as documentation and refusals show it.
    pub fn words(self) -> String {
        match self {
            Default::Computed(words) => words.to_owned(),
            Default::Hook => "no hook".to_owned(),
            Default::Unset => "unset".to_owned(),
            Default::Text("") => "empty".to_owned(),
            other => other.value().to_string(),
        }
    }
}

/// How far this version honours a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Works,
    /// Not implemented in this version: any value but the default is refused.
    NotYet,
    /// Accepted, but nothing reads it, for this reason.
    NoEffect(&'static str),
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in configuration files.
    pub name: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// Its value when nobody sets it.
    pub default: Default,
    /// Its command line flags; none if only configuration files may set it.
    pub flags: &'static [&'static str],
    /// What the help calls its argument.
    pub metavar: Option<&'static str>,
    /// What its flags do.
    pub action: Action,
    /// Whether its flag reads a number with a prefix (`0o22`) too.
    pub any_base: bool,
    /// How far it is honoured.
    pub status: Status,
    /// Whether Gunicorn lacks it.
    pub own: bool,
    /// One sentence.
    pub help: &'static str,
}

impl Setting {
    const fn new(name: &'static str, kind: Kind, default: Default) -> Setting {
        let action = match kind {
            Kind::Bool => Action::StoreTrue,
            Kind::TextList | Kind::Files => Action::Append,
            _ => Action::Store,
        };
        let status = Status::Works;
        Setting {
            name,
            kind,
            default,
            flags: &[],
            metavar: None,
            action,
            any_base: false,
            status,
            own: false,
            help: "",
        }
    }

    const fn flags(mut self, flags: &'static [&'static str]) -> Setting {
        self.flags = flags;
        self
    }

    const fn metavar(mut self, metavar: &'static str) -> Setting {
        self.metavar = Some(metavar);
        self
    }

    const fn action(mut self, action: Action) -> Setting {
        self.action = action;
        self
    }

    const fn any_base(mut self) -> Setting {
        self.any_base = true;
        self
    }

    const fn not_yet(mut self) -> Setting {
        self.status = Status::NotYet;
        self
    }

    const fn no_effect(mut self, reason: &'static str) -> Setting {
        self.status = Status::NoEffect(reason);
        self
    }

    const fn own(mut self) -> Setting {
        self.own = true;
        self
    }

    const fn help(mut self, help: &'static str) -> Setting {
        self.help = help;
        self
    }

    /// Checks a value for this setting and returns it as it is stored.
    ///
    /// Errors: a value its kind refuses, or any value but the default of a setting that is not implemented.
    pub fn validate(&self, value: Value) -> Result<Value, Invalid> {
        let value = self.kind.validate(value)?;
        if self.status == Status::NotYet && !self.is_default(&value) {
            return Err(self.refusal());
        }
        Ok(value)
    }

    /// The refusal of a value that this version cannot honour.
    pub fn refusal(&self) -> Invalid {
        let text = format!(
            "the setting `{}` is not implemented in this version of Tricorn; leave it at its default ({})",
            self.name,
            self.default.words()
        );
        Invalid {
            fault: Fault::NotYet,
            text,
        }
    }

    /// Whether a value, as it is stored, is the default or leaves the setting as good as unset.
    fn is_default(&self, value: &Value) -> bool {
        match self.kind.validate(self.default.value()) {
            Ok(default) => *value == default || (value.is_blank() && default.is_blank()),
            Err(_) => false,
        }
    }
}

const UNSET: Default = Default::Unset;
const HOOK: Default = Default::Hook;

const fn truth(value: bool) -> Default {
    Default::Bool(value)
}

const fn int(value: i64) -> Default {
    Default::Int(value)
}

const fn text(value: &'static str) -> Default {
    Default::Text(value)
}

const fn list(value: &'static [&'static str]) -> Default {
    Default::List(value)
}

const fn map(value: &'static [(&'static str, &'static str)]) -> Default {
    Default::Map(value)
}

const fn computed(words: &'static str) -> Default {
    Default::Computed(words)
}
