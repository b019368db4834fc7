//! Processes for long blocking jobs.
use super::{HOOK, Setting, int, list};
use crate::kind::Kind::*;

#[rustfmt::skip]
pub(super) const DIRTY_ARBITERS: &[Setting] = &[
    Setting::new("dirty_apps", TextList, list(&[])).flags(&["--dirty-app"]).metavar("STRING").not_yet()
        .help("Dirty application classes to load, module:Class or module:Class:N."),
    Setting::new("dirty_workers", Count, int(0)).flags(&["--dirty-workers"]).metavar("INT").not_yet()
        .help("Number of dirty worker processes; zero disables the feature."),
    Setting::new("dirty_timeout", Count, int(300)).flags(&["--dirty-timeout"]).metavar("INT").not_yet()
        .help("Seconds a dirty task or silent dirty worker may take."),
    Setting::new("dirty_threads", Count, int(1)).flags(&["--dirty-threads"]).metavar("INT").not_yet()
        .help("Threads per dirty worker."),
    Setting::new("dirty_graceful_timeout", Count, int(30)).flags(&["--dirty-graceful-timeout"]).metavar("INT").not_yet()
        .help("Seconds dirty workers get to stop before SIGKILL."),
];

#[rustfmt::skip]
pub(super) const DIRTY_ARBITER_HOOKS: &[Setting] = &[
    Setting::new("on_dirty_starting", Hook(&["arbiter"]), HOOK).not_yet()
        .help("Hook: dirty arbiter process is starting."),
    Setting::new("dirty_post_fork", Hook(&["arbiter", "worker"]), HOOK).not_yet()
        .help("Hook: dirty worker forked; runs in the dirty arbiter."),
    Setting::new("dirty_worker_init", Hook(&["worker"]), HOOK).not_yet()
        .help("Hook: dirty worker has initialised all its apps."),
    Setting::new("dirty_worker_exit", Hook(&["arbiter", "worker"]), HOOK).not_yet()
        .help("Hook: dirty worker ended; runs in the dirty arbiter."),
];
