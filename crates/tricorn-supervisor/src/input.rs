//! What can happen to an arbiter.

/// A process id.
pub type Pid = i32;

/// The part of the configuration that the decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Setting `workers`.
    pub workers: usize,
    /// Setting `timeout`; 0 = workers are never murdered. Units: milliseconds.
    pub timeout_ms: u64,
    /// Setting `graceful_timeout`. Units: milliseconds.
    pub graceful_timeout_ms: u64,
    /// Setting `daemon`: only a daemon heeds WINCH.
    pub daemon: bool,
    /// How many workers the scoreboard has room for.
    pub capacity: usize,
}

/// The signals the arbiter handles; CHLD reaches the supervisor as [`Input::Exited`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    Hup,
    Int,
    Quit,
    Term,
    Ttin,
    Ttou,
    Usr1,
    Usr2,
    Winch,
}

impl Signal {
    /// The name as the log shows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Signal::Hup => "hup",
            Signal::Int => "int",
            Signal::Quit => "quit",
            Signal::Term => "term",
            Signal::Ttin => "ttin",
            Signal::Ttou => "ttou",
            Signal::Usr1 => "usr1",
            Signal::Usr2 => "usr2",
            Signal::Winch => "winch",
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it; its name, such as `SIGKILL`.
    Signal(String),
}

/// What the scoreboard says about one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    pub pid: Pid,
    /// Its last heartbeat. Units: monotonic milliseconds.
    pub beat_ms: u64,
    /// Its application is loaded.
    pub ready: bool,
    /// It still takes connections.
    pub accepting: bool,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The listeners are open: fill the pool.
    Start,
    Signal(Signal),
    /// [`crate::Action::Spawn`] was carried out, or a hook forked a worker of its own accord.
    Spawned {
        pid: Pid,
    },
    /// [`crate::Action::Spawn`] could not be carried out.
    SpawnFailed {
        reason: String,
    },
    /// A child was reaped; it may be a stranger. `served`: the requests it had begun.
    Exited {
        pid: Pid,
        cause: Cause,
        served: u64,
    },
    /// Time has passed; fed at least once a second.
    Tick(Vec<Observation>),
    /// [`crate::Action::ReloadConfig`] succeeded with these settings.
    Reloaded(Settings),
    /// [`crate::Action::ReloadConfig`] failed; the old configuration stands.
    ReloadFailed {
        reason: String,
    },
    /// The upgrade's child was forked ([`crate::Action::Reexec`]).
    Reexeced {
        pid: Pid,
    },
    /// The arbiter that upgraded to us has gone.
    ParentGone,
    /// User code set the number of workers.
    SetWorkers(usize),
    /// User code, or an error in it, wants the end.
    Halt {
        code: i32,
        reason: Option<String>,
        graceful: bool,
    },
}
