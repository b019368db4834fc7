//! Documentation made from the table: docs/settings.md, as text. Not the writer of the file.
//!
//! Invariant: the same table always renders the same text.
use crate::table::{Action, SECTIONS, Section, Setting, Status};
use std::fmt::Write as _;

const INTRODUCTION: &str = "\
# Settings

<!-- Made from the settings table: cargo run -p tricorn-settings --example render_docs > docs/settings.md -->

Tricorn knows the settings of Gunicorn 27 by the same names and flags, and a few of its own. Where a value comes
from, from weak to strong:

1. the default; `PORT`, `WEB_CONCURRENCY` and `FORWARDED_ALLOW_IPS` change it for `bind`, `workers` and
   `forwarded_allow_ips`;
2. the environment variable `TRICORN_<SETTING>`, for instance `TRICORN_TIMEOUT=60`. Truth values are `true` or
   `false`, lists are separated by commas, dictionaries are JSON;
3. what the application's framework decides (the process name; the logging of a PasteDeploy file);
4. the configuration file: `-c`, else `TRICORN_CONFIG`, else `./tricorn.conf.py`, else `./gunicorn.conf.py`;
5. `GUNICORN_CMD_ARGS`, then `TRICORN_CMD_ARGS`: flags, as on a command line;
6. the command line.

A value that is not valid stops the start with a line that says what was wanted. A setting that this version does
not implement is refused unless it keeps its default.
";

/// The text of docs/settings.md.
pub fn settings_markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    for section in SECTIONS {
        render_section(&mut text, section);
    }
    text
}

fn render_section(text: &mut String, section: &Section) {
    write_line(text, format_args!("\n## {}", section.title));
    for setting in section.settings {
        render_setting(text, setting);
    }
}

fn render_setting(text: &mut String, setting: &Setting) {
    write_line(text, format_args!("\n### `{}`\n", setting.name));
    write_line(text, format_args!("{}\n", setting.help));
    let flags = flags(setting);
    if flags.is_empty() {
        write_line(
            text,
            format_args!("- Flags: none; set it in a configuration file"),
        );
    } else {
        write_line(text, format_args!("- Flags: {flags}"));
    }
    write_line(text, format_args!("- Value: {}", setting.kind.wanted()));
    write_line(text, format_args!("- Default: {}", default(setting)));
    match setting.status {
        Status::Works => {}
        Status::NotYet => write_line(
            text,
            format_args!(
                "- **Not implemented in this version**: any value but the default is refused"
            ),
        ),
        Status::NoEffect(reason) => write_line(text, format_args!("- No effect: {reason}")),
    }
    if setting.own {
        write_line(text, format_args!("- Not a setting of Gunicorn"));
    }
}

fn flags(setting: &Setting) -> String {
    let argument = setting.metavar.unwrap_or(setting.name).to_uppercase();
    let flags: Vec<String> = setting
        .flags
        .iter()
        .map(|flag| match setting.action {
            Action::Store | Action::Append => format!("`{flag} {argument}`"),
            Action::StoreOptional(_) => format!("`{flag} [{argument}]`"),
            Action::StoreTrue | Action::StoreFalse => format!("`{flag}`"),
        })
        .collect();
    let repeatable = if setting.action == Action::Append && !flags.is_empty() {
        ", repeatable"
    } else {
        ""
    };
    flags.join(", ") + repeatable
}

fn default(setting: &Setting) -> String {
    use crate::table::Default;
    match setting.default {
        Default::Computed(_) | Default::Hook | Default::Unset | Default::Text("") => {
            setting.default.words()
        }
        _ => format!("`{}`", setting.default.words()),
    }
}

/// Appends one line; writing to text cannot fail.
fn write_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{line}");
}
