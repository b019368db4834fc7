//! How many processes and threads serve, and for how long.
use super::Action::*;
use super::{Setting, int, text, truth};
use crate::kind::Kind::*;
use crate::kind::WordChoice;

static ASGI_LOOP: WordChoice = WordChoice {
    unset: Some("auto"),
    ..WordChoice::of(&["auto", "asyncio", "uvloop"], "Invalid ASGI loop")
};
static ASGI_LIFESPAN: WordChoice = WordChoice {
    unset: Some("auto"),
    ..WordChoice::of(&["auto", "on", "off"], "Invalid ASGI lifespan")
};
static HTTP_PARSER: WordChoice = WordChoice {
    unset: Some("auto"),
    ..WordChoice::of(&["auto", "fast", "python"], "Invalid http_parser")
};

#[rustfmt::skip]
pub(super) const WORKER_PROCESSES: &[Setting] = &[
    Setting::new("workers", Count, int(1)).flags(&["-w", "--workers"]).metavar("INT")
        .help("How many request-serving processes the master keeps alive."),
    Setting::new("worker_class", Class, text("sync")).flags(&["-k", "--worker-class"]).metavar("STRING")
        .help("Which worker implementation serves requests: alias, dotted path, egg: URI or class."),
    Setting::new("threads", Count, int(1)).flags(&["--threads"]).metavar("INT")
        .help("Thread pool size per worker for the gthread worker."),
    Setting::new("worker_connections", Count, int(1000)).flags(&["--worker-connections"]).metavar("INT")
        .help("Cap on simultaneous clients per worker for gthread and gevent."),
    Setting::new("max_requests", Count, int(0)).flags(&["--max-requests"]).metavar("INT")
        .help("Recycle a worker after this many requests; zero disables."),
    Setting::new("max_requests_jitter", Count, int(0)).flags(&["--max-requests-jitter"]).metavar("INT")
        .help("Upper bound of the random amount added to max_requests for each worker."),
    Setting::new("timeout", Count, int(30)).flags(&["-t", "--timeout"]).metavar("INT")
        .help("Seconds without heartbeat before the master aborts a worker; zero disables."),
    Setting::new("graceful_timeout", Count, int(30)).flags(&["--graceful-timeout"]).metavar("INT")
        .help("Seconds workers get to finish after a stop or reload before SIGKILL."),
    Setting::new("keepalive", Count, int(2)).flags(&["--keep-alive"]).metavar("INT")
        .help("Seconds an idle persistent connection stays open, with every worker class."),
    Setting::new("asgi_loop", Choice(&ASGI_LOOP), text("auto")).flags(&["--asgi-loop"]).metavar("STRING")
        .help("Event loop implementation of the asgi worker."),
    Setting::new("asgi_lifespan", Choice(&ASGI_LIFESPAN), text("auto")).flags(&["--asgi-lifespan"]).metavar("STRING")
        .help("Whether the asgi worker runs the lifespan protocol."),
    Setting::new("asgi_disconnect_grace_period", Count, int(3)).flags(&["--asgi-disconnect-grace-period"]).metavar("INT")
        .help("Seconds an ASGI app may continue after the client left."),
    Setting::new("websocket_max_message_size", Count, int(16777216)).flags(&["--websocket-max-message-size"]).metavar("INT")
        .help("Largest incoming WebSocket message in bytes; zero is unlimited."),
    Setting::new("websocket_ping_interval", Count, int(20)).flags(&["--websocket-ping-interval"]).metavar("INT").own()
        .help("Seconds between the pings sent on a quiet WebSocket; zero sends none."),
    Setting::new("websocket_ping_timeout", Count, int(20)).flags(&["--websocket-ping-timeout"]).metavar("INT").own()
        .help("Seconds a WebSocket may take to answer a ping before it counts as gone; zero is unlimited."),
    Setting::new("websocket_deflate", Bool, truth(true)).flags(&["--no-websocket-deflate"]).action(StoreFalse).own()
        .help("Compress WebSocket messages for clients that ask for it (permessage-deflate)."),
    Setting::new("http_parser", Choice(&HTTP_PARSER), text("auto")).flags(&["--http-parser"]).metavar("STRING").no_effect("there is one parser, and it is the fast one")
        .help("Gunicorn chooses here between its C parser and its Python parser."),
];
