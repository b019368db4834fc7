//! Help while developing.
use super::{Setting, list, text, truth};
use crate::kind::Kind::*;
use crate::kind::WordChoice;

static RELOAD_ENGINE: WordChoice = WordChoice {
    exact: true,
    ..WordChoice::of(&["auto", "poll", "inotify"], "Invalid reload_engine")
};

#[rustfmt::skip]
pub(super) const DEBUGGING: &[Setting] = &[
    Setting::new("reload", Bool, truth(false)).flags(&["--reload"])
        .help("Development mode: restart workers whenever watched source files change."),
    Setting::new("reload_engine", Choice(&RELOAD_ENGINE), text("auto")).flags(&["--reload-engine"]).metavar("STRING")
        .help("Which file watching mechanism the reloader uses."),
    Setting::new("reload_extra_files", Files, list(&[])).flags(&["--reload-extra-file"]).metavar("FILES")
        .help("Additional files or glob patterns watched by the reloader."),
    Setting::new("spew", Bool, truth(false)).flags(&["--spew"])
        .help("Trace every executed Python line to standard output."),
    Setting::new("check_config", Bool, truth(false)).flags(&["--check-config"])
        .help("Validate configuration and app import, then exit 0 or 1."),
    Setting::new("print_config", Bool, truth(false)).flags(&["--print-config"])
        .help("Print resolved settings, load the app, then exit."),
];
