//! Where the server listens, what it loads and what it is called.
use super::{Setting, UNSET, int, list, text};
use crate::kind::Kind::*;

#[rustfmt::skip]
pub(super) const CONFIG_FILE: &[Setting] = &[
    Setting::new("config", Text, text("./gunicorn.conf.py")).flags(&["-c", "--config"]).metavar("CONFIG")
        .help("Where to read the Python configuration: a path, file: and a path, or python: and a module."),
    Setting::new("wsgi_app", Text, UNSET).metavar("STRING")
        .help("Application target used when none is given on the command line."),
];

#[rustfmt::skip]
pub(super) const SERVER_SOCKET: &[Setting] = &[
    Setting::new("bind", TextList, list(&["127.0.0.1:8000"])).flags(&["-b", "--bind"]).metavar("ADDRESS")
        .help("Addresses to listen on; repeatable host:port, unix:, fd:// or tcp:// forms."),
    Setting::new("backlog", Count, int(2048)).flags(&["--backlog"]).metavar("INT")
        .help("Length passed to listen() for pending connections."),
];

#[rustfmt::skip]
pub(super) const PROCESS_NAMING: &[Setting] = &[
    Setting::new("proc_name", Text, UNSET).flags(&["-n", "--name"]).metavar("STRING")
        .help("Name shown inside process titles."),
    Setting::new("default_proc_name", Text, text("tricorn"))
        .help("Internal fallback process name, set from the application target."),
];
