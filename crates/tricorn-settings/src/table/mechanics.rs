//! How the server lives in its system, and how it reads requests.
use super::Action::*;
use super::{Setting, UNSET, computed, int, list, map, text, truth};
use crate::kind::Kind::*;
use crate::kind::WordChoice;

static HEADER_MAP: WordChoice = WordChoice::of(
    &["drop", "refuse", "dangerous"],
    "Invalid header map behaviour",
);
static PROXY_MODE: WordChoice = WordChoice {
    unset: Some("off"),
    synonyms: &[
        ("false", "off"),
        ("0", "off"),
        ("none", "off"),
        ("true", "auto"),
        ("1", "auto"),
    ],
    truth: Some(("auto", "off")),
    ..WordChoice::of(&["off", "v1", "v2", "auto"], "Invalid proxy_protocol")
};

#[rustfmt::skip]
pub(super) const SERVER_MECHANICS: &[Setting] = &[
    Setting::new("preload_app", Bool, truth(false)).flags(&["--preload"])
        .help("Import the application in the master before forking workers."),
    Setting::new("gc_freeze", Bool, truth(true)).flags(&["--no-gc-freeze"]).action(StoreFalse).own()
        .help("Keep what has been loaded before the first request out of Python's later garbage collections (gc.freeze), after one that frees what loading left."),
    Setting::new("sendfile", Bool, UNSET).flags(&["--no-sendfile"]).action(StoreFalse)
        .help("Whether files are sent with sendfile(); unset, the variable SENDFILE decides, and without it they are."),
    Setting::new("io_uring", Bool, truth(true)).flags(&["--no-io-uring"]).action(StoreFalse).own()
        .help("Send small answers of several clients by one system call where the system allows io_uring (Linux 5.19; many containers forbid it). Without it each answer is sent by a call of its own, which costs a few hundredths more CPU. Each worker says at its start which it is (level `debug`)."),
    Setting::new("reuse_port", Bool, truth(false)).flags(&["--reuse-port"])
        .help("Each worker binds its own listener using SO_REUSEPORT."),
    Setting::new("chdir", Directory, computed("the current directory")).flags(&["--chdir"])
        .help("Directory to switch to, and put first on sys.path, before loading."),
    Setting::new("daemon", Bool, truth(false)).flags(&["-D", "--daemon"])
        .help("Detach from the terminal and run in the background."),
    Setting::new("raw_env", TextList, list(&[])).flags(&["-e", "--env"]).metavar("ENV")
        .help("Extra KEY=VALUE environment variables for master and workers."),
    Setting::new("pidfile", Text, UNSET).flags(&["-p", "--pid"]).metavar("FILE")
        .help("Path of the file that holds the master process id."),
    Setting::new("worker_tmp_dir", Text, UNSET).flags(&["--worker-tmp-dir"]).metavar("DIR")
        .help("Directory for request bodies that outgrow memory; unset, the temporary directory of the system."),
    Setting::new("user", User, computed("the user Tricorn runs as")).flags(&["-u", "--user"]).metavar("USER")
        .help("Account that worker processes switch to."),
    Setting::new("group", Group, computed("the group Tricorn runs as")).flags(&["-g", "--group"]).metavar("GROUP")
        .help("Group that worker processes switch to."),
    Setting::new("umask", Count, int(0)).flags(&["-m", "--umask"]).metavar("INT").any_base()
        .help("File creation mask for unix listener sockets."),
    Setting::new("initgroups", Bool, truth(false)).flags(&["--initgroups"])
        .help("Give workers all supplementary groups of the configured user."),
    Setting::new("tmp_upload_dir", Text, UNSET).metavar("DIR").no_effect("requests never pass through it")
        .help("Leftover of Gunicorn: directory for temporary request data."),
    Setting::new("secure_scheme_headers", Map, map(&[("X-FORWARDED-PROTOCOL", "ssl"), ("X-FORWARDED-PROTO", "https"), ("X-FORWARDED-SSL", "on")]))
        .help("Header/value pairs that mean https when sent by a trusted proxy."),
    Setting::new("forwarded_allow_ips", Networks, text("127.0.0.1,::1")).flags(&["--forwarded-allow-ips"]).metavar("STRING")
        .help("Proxy addresses trusted for scheme headers and forwarder headers."),
    Setting::new("pythonpath", Text, UNSET).flags(&["--pythonpath"]).metavar("STRING")
        .help("Comma-separated directories prepended to sys.path."),
    Setting::new("paste", Text, UNSET).flags(&["--paste", "--paster"]).metavar("STRING")
        .help("PasteDeploy ini file, with optional #section, to load the app from."),
    Setting::new("proxy_protocol", Choice(&PROXY_MODE), text("off")).flags(&["--proxy-protocol"]).metavar("MODE").action(StoreOptional("auto")).not_yet()
        .help("Accept PROXY protocol headers: off, v1, v2 or auto."),
    Setting::new("proxy_allow_ips", Networks, text("127.0.0.1,::1")).flags(&["--proxy-allow-from"]).not_yet()
        .help("Peer addresses allowed to send PROXY headers."),
    Setting::new("protocol", Text, text("http")).flags(&["--protocol"]).metavar("STRING").not_yet()
        .help("Wire protocol on listeners: http or uwsgi."),
    Setting::new("uwsgi_allow_ips", Networks, text("127.0.0.1,::1")).flags(&["--uwsgi-allow-from"]).not_yet()
        .help("Peer addresses allowed to send uwsgi requests (exact match only)."),
    Setting::new("raw_paste_global_conf", TextList, list(&[])).flags(&["--paste-global"]).metavar("CONF")
        .help("Extra KEY=VALUE items for PasteDeploy global configuration."),
    Setting::new("permit_obsolete_folding", Bool, truth(false)).flags(&["--permit-obsolete-folding"])
        .help("Accept folded (multi-line) header values."),
    Setting::new("strip_header_spaces", Bool, truth(false)).flags(&["--strip-header-spaces"])
        .help("Tolerate blanks between header name and colon."),
    Setting::new("permit_unconventional_http_method", Bool, truth(false)).flags(&["--permit-unconventional-http-method"])
        .help("Allow lower-case, \"#\", very short or long method names."),
    Setting::new("permit_unconventional_http_version", Bool, truth(false)).flags(&["--permit-unconventional-http-version"])
        .help("Allow HTTP versions other than 1.0 and 1.1."),
    Setting::new("casefold_http_method", Bool, truth(false)).flags(&["--casefold-http-method"])
        .help("Upper-case the request method."),
    Setting::new("forwarder_headers", Words, text("SCRIPT_NAME,PATH_INFO")).flags(&["--forwarder-headers"])
        .help("Underscore header names trusted proxies may send into the environ."),
    Setting::new("header_map", Choice(&HEADER_MAP), text("drop")).flags(&["--header-map"])
        .help("What to do with header names containing underscores."),
    Setting::new("root_path", Text, text("")).flags(&["--root-path"]).metavar("STRING")
        .help("Value of root_path in ASGI scopes."),
];
