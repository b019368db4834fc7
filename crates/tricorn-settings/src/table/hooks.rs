//! Callables that configuration files may set.
use super::{HOOK, Setting};
use crate::kind::Kind::*;

#[rustfmt::skip]
pub(super) const SERVER_HOOKS: &[Setting] = &[
    Setting::new("on_starting", Hook(&["server"]), HOOK)
        .help("Hook: master is starting, before signals and sockets are set up."),
    Setting::new("on_reload", Hook(&["server"]), HOOK)
        .help("Hook: SIGHUP reload, after new config and before new workers."),
    Setting::new("when_ready", Hook(&["server"]), HOOK)
        .help("Hook: master is listening, before any worker is forked."),
    Setting::new("pre_fork", Hook(&["server", "worker"]), HOOK)
        .help("Hook: master is about to fork a worker."),
    Setting::new("post_fork", Hook(&["server", "worker"]), HOOK)
        .help("Hook: first code run inside a newly forked worker."),
    Setting::new("post_worker_init", Hook(&["worker"]), HOOK)
        .help("Hook: worker has loaded the app, just before serving."),
    Setting::new("worker_int", Hook(&["worker"]), HOOK)
        .help("Hook: worker got SIGINT or SIGQUIT, or is reloading code."),
    Setting::new("worker_abort", Hook(&["worker"]), HOOK)
        .help("Hook: worker got SIGABRT, normally a timeout."),
    Setting::new("pre_exec", Hook(&["server"]), HOOK)
        .help("Hook: forked child is about to exec the new master (USR2)."),
    Setting::new("pre_request", Hook(&["worker", "req"]), HOOK)
        .help("Hook: request parsed, application not called yet."),
    Setting::new("post_request", Hook(&["worker", "req", "environ", "resp"]), HOOK)
        .help("Hook: request finished, also after errors."),
    Setting::new("child_exit", Hook(&["server", "worker"]), HOOK)
        .help("Hook: master reaped a dead worker."),
    Setting::new("worker_exit", Hook(&["server", "worker"]), HOOK)
        .help("Hook: worker is ending, inside the worker process."),
    Setting::new("nworkers_changed", Hook(&["server", "new_value", "old_value"]), HOOK)
        .help("Hook: target worker count assigned, including the first time."),
    Setting::new("on_exit", Hook(&["server"]), HOOK)
        .help("Hook: master is about to exit."),
    Setting::new("ssl_context", Hook(&["config", "default_ssl_context_factory"]), HOOK).not_yet()
        .help("Hook: build or adjust the TLS context."),
];
