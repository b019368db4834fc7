//! What an arbiter's hands are told to do.
use crate::input::Pid;

/// Severity of a line in the error log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// The signals sent to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Finish what you have, then leave.
    Term,
    /// Leave now.
    Quit,
    /// You are stuck.
    Abrt,
    Kill,
    /// Open your log files again.
    Usr1,
}

/// One thing to do. Actions are carried out in the order they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Log {
        level: Level,
        text: String,
    },
    /// Fork one worker and feed `Spawned` or `SpawnFailed`.
    Spawn,
    Signal {
        pid: Pid,
        order: Order,
    },
    /// A worker of ours is gone: forget it, then call `child_exit`.
    Forget {
        pid: Pid,
    },
    /// Call `nworkers_changed`.
    WorkersChanged {
        new: usize,
        old: usize,
    },
    /// Read the configuration again and feed `Reloaded` or `ReloadFailed`.
    ReloadConfig,
    ReopenLogs,
    /// Start the new program over the same sockets and feed `Reexeced`.
    Reexec,
    /// The upgrade's arbiter has gone; ours goes on alone.
    ForgetUpgrade,
    /// We are the only arbiter now: take over the pid file and the name.
    Promote,
    /// Let no new connection complete and tell the workers to empty the accept queue.
    StopAccepting,
    CloseListeners,
    RemovePidfile,
    /// Call `on_exit`.
    OnExit,
    /// The end.
    Exit(i32),
}

impl Action {
    pub(crate) fn log(level: Level, text: impl Into<String>) -> Action {
        Action::Log {
            level,
            text: text.into(),
        }
    }
}
