//! The state machine: which input changes what, and what follows from the state.
//!
//! Every input first changes the state and then lets `settle` draw the conclusions, so that the pool is
//! brought to its wanted shape in one place, whatever made it differ.
use crate::action::{Action, Level, Order};
use crate::backoff::Backoff;
use crate::input::{Cause, Input, Pid, Settings, Signal};
use crate::pool::{Pool, Worker};
use crate::stop::Stop;

/// A worker's exit codes: its application could not be imported or started / was not found.
const BOOT_ERROR: i32 = 3;
const LOAD_ERROR: i32 = 4;
/// The longest sleep between two looks at the heartbeats.
const LOOK_MS: u64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reload {
    Idle,
    /// The configuration is being read.
    Reading,
    /// Workers of the new generation boot beside those of `previous`.
    Booting {
        previous: u64,
    },
    /// The new generation serves, the old one finishes.
    Leaving,
}

/// The arbiter's mind.
#[derive(Debug)]
pub struct Supervisor {
    settings: Settings,
    /// How many workers there shall be; starts as the setting, moved by TTIN, TTOU, WINCH.
    wanted: usize,
    /// The highest `wanted` so far: twice that many may be alive while some of them leave.
    most_wanted: usize,
    pool: Pool,
    generation: u64,
    last_generation: u64,
    reload: Reload,
    reload_again: bool,
    backoff: Backoff,
    started: bool,
    /// The pool was complete and ready once: from now on one failed boot does not end the server.
    proven: bool,
    /// Set by `Spawn`, cleared by its answer.
    spawning: usize,
    upgrade: Option<Pid>,
    has_parent: bool,
    stop: Option<Stop>,
    over: bool,
    /// When the last input came.
    heard_ms: u64,
}

impl Supervisor {
    /// `has_parent`: this arbiter was started by the upgrade of another one that still lives.
    pub fn new(settings: Settings, has_parent: bool) -> Supervisor {
        Supervisor {
            wanted: settings.workers,
            most_wanted: settings.workers,
            settings,
            pool: Pool::default(),
            generation: 1,
            last_generation: 1,
            reload: Reload::Idle,
            reload_again: false,
            backoff: Backoff::default(),
            started: false,
            proven: false,
            spawning: 0,
            upgrade: None,
            has_parent,
            stop: None,
            over: false,
            heard_ms: 0,
        }
    }

    /// Takes one input and says what to do.
    ///
    /// Units: `now_ms` in monotonic milliseconds, never going back.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Vec<Action> {
        let mut out = Vec::new();
        if self.over {
            return out;
        }
        self.heard_ms = now_ms;
        self.take(input, now_ms, &mut out);
        self.settle(now_ms, &mut out);
        out
    }

    /// When the next `Tick` is due at the latest. Units: monotonic milliseconds.
    pub fn next_look_ms(&self, now_ms: u64) -> u64 {
        let latest = now_ms + LOOK_MS;
        if let Some(stop) = &self.stop {
            return stop.due_ms(now_ms).min(latest);
        }
        let backoff = self.backoff.due_ms();
        let pool = self.pool.due_ms(self.settings.graceful_timeout_ms);
        // What was due at the last input and is still undone waits for something else than the clock.
        let ahead = |due: &u64| *due > self.heard_ms;
        let due = [backoff, pool].into_iter().flatten().filter(ahead).min();
        due.unwrap_or(latest).clamp(now_ms, latest)
    }

    /// How many workers there shall be.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    fn take(&mut self, input: Input, now_ms: u64, out: &mut Vec<Action>) {
        match input {
            Input::Start => self.started = true,
            Input::Signal(signal) => self.take_signal(signal, now_ms, out),
            Input::Spawned { pid } => {
                self.spawning = self.spawning.saturating_sub(1);
                self.pool.add(pid, self.generation, now_ms);
                if self.stop.is_some() {
                    // Forked by a hook while we are leaving: it cannot stay.
                    self.pool
                        .workers
                        .last_mut()
                        .into_iter()
                        .for_each(|worker| worker.dismiss(Order::Term, now_ms, out));
                }
            }
            Input::SpawnFailed { reason } => {
                self.spawning = self.spawning.saturating_sub(1);
                self.backoff.fork_failed(now_ms);
                out.push(Action::log(
                    Level::Error,
                    format!("Can't fork a worker: {reason}"),
                ));
            }
            Input::Exited { pid, cause, served } => {
                self.take_exit(pid, &cause, served, now_ms, out)
            }
            Input::Tick(seen) => self
                .pool
                .observe(&seen, self.settings.timeout_ms, now_ms, out),
            Input::Reloaded(settings) => self.take_reloaded(settings, out),
            Input::ReloadFailed { reason } => {
                self.reload = Reload::Idle;
                let text =
                    format!("Reload failed, the old configuration and workers stay: {reason}");
                out.push(Action::log(Level::Error, text));
            }
            Input::Reexeced { pid } => self.upgrade = Some(pid),
            Input::ParentGone => self.take_parent_gone(out),
            Input::SetWorkers(count) => self.set_wanted(count, out),
            Input::Halt {
                code,
                reason,
                graceful,
            } => self.begin_stop(code, reason, graceful, now_ms, out),
        }
    }

    fn take_signal(&mut self, signal: Signal, now_ms: u64, out: &mut Vec<Action>) {
        if let Some(stop) = &mut self.stop {
            if matches!(signal, Signal::Int | Signal::Quit) {
                stop.hurry(&self.pool, now_ms, out);
            }
            return;
        }
        out.push(Action::log(
            Level::Info,
            format!("Handling signal: {}", signal.name()),
        ));
        match signal {
            Signal::Term => self.begin_stop(0, None, true, now_ms, out),
            Signal::Int | Signal::Quit => self.begin_stop(0, None, false, now_ms, out),
            Signal::Hup if self.reload == Reload::Idle => self.begin_reload(out),
            Signal::Hup => self.reload_again = true,
            Signal::Ttin if 2 * (self.wanted + 1) <= self.settings.capacity => {
                self.set_wanted(self.wanted + 1, out)
            }
            Signal::Ttin => out.push(Action::log(
                Level::Warning,
                "TTIN ignored. No room for more workers.",
            )),
            Signal::Ttou if self.wanted > 1 => self.set_wanted(self.wanted - 1, out),
            Signal::Ttou => {}
            Signal::Usr1 => {
                out.push(Action::ReopenLogs);
                let pids = self.pool.workers.iter().map(|worker| worker.pid);
                out.extend(pids.map(|pid| Action::Signal {
                    pid,
                    order: Order::Usr1,
                }));
            }
            Signal::Usr2 if self.upgrade.is_some() => {
                out.push(Action::log(
                    Level::Warning,
                    "USR2 signal ignored. Child exists.",
                ));
            }
            Signal::Usr2 if self.has_parent => {
                out.push(Action::log(
                    Level::Warning,
                    "USR2 signal ignored. Parent exists.",
                ));
            }
            Signal::Usr2 => out.push(Action::Reexec),
            Signal::Winch if self.settings.daemon => {
                out.push(Action::log(Level::Info, "graceful stop of workers"));
                self.set_wanted(0, out);
            }
            Signal::Winch => out.push(Action::log(
                Level::Debug,
                "SIGWINCH ignored. Not daemonized",
            )),
        }
    }

    fn take_exit(
        &mut self,
        pid: Pid,
        cause: &Cause,
        served: u64,
        now_ms: u64,
        out: &mut Vec<Action>,
    ) {
        if self.upgrade == Some(pid) {
            self.upgrade = None;
            out.push(Action::ForgetUpgrade);
            return;
        }
        let Some(worker) = self.pool.remove(pid) else {
            out.push(Action::log(
                Level::Debug,
                format!("Reaped a child that is no worker (pid:{pid})"),
            ));
            return;
        };
        out.extend(obituary(&worker, cause));
        out.push(Action::Forget { pid });
        if self.stop.is_some() || !worker.stays() {
            return;
        }
        let unfit = match cause {
            Cause::Code(BOOT_ERROR) => Some("Worker failed to boot."),
            Cause::Code(LOAD_ERROR) => Some("App failed to load."),
            _ => None,
        };
        let lived_ms = now_ms.saturating_sub(worker.born_ms);
        let peacefully = *cause == Cause::Code(0) && served > 0;
        let tolerated = if unfit.is_some() { 0 } else { self.wanted };
        self.backoff.death(lived_ms, peacefully, tolerated, now_ms);
        match (self.reload, unfit) {
            (Reload::Booting { previous }, _)
                if !worker.ready && worker.generation == self.generation =>
            {
                self.roll_back(previous, pid, now_ms, out);
            }
            (_, Some(reason)) if !self.proven || self.pool.serving() == 0 => {
                let Cause::Code(code) = cause else { return };
                self.begin_stop(*code, Some(reason.to_owned()), true, now_ms, out);
            }
            _ => {}
        }
    }

    fn begin_reload(&mut self, out: &mut Vec<Action>) {
        self.reload = Reload::Reading;
        self.reload_again = false;
        out.push(Action::log(Level::Info, "Hang up: Master"));
        out.push(Action::ReloadConfig);
    }

    fn take_reloaded(&mut self, settings: Settings, out: &mut Vec<Action>) {
        self.settings = settings;
        let old = std::mem::replace(&mut self.wanted, self.settings.workers);
        out.push(Action::WorkersChanged {
            new: self.wanted,
            old,
        });
        self.reload = Reload::Booting {
            previous: self.generation,
        };
        self.last_generation += 1;
        self.generation = self.last_generation;
    }

    /// The new generation does not boot: the old one stays.
    fn roll_back(&mut self, previous: u64, pid: Pid, now_ms: u64, out: &mut Vec<Action>) {
        let failed = self.generation;
        if self.pool.staying(previous) == 0 {
            // Nobody to go back to; this generation is all there is.
            self.reload = Reload::Idle;
            if self.pool.serving() == 0 {
                self.begin_stop(
                    BOOT_ERROR,
                    Some("Worker failed to boot.".to_owned()),
                    true,
                    now_ms,
                    out,
                );
            }
            return;
        }
        let text =
            format!("Reload failed, the old workers stay: the new worker (pid:{pid}) did not boot");
        out.push(Action::log(Level::Error, text));
        self.generation = previous;
        self.reload = Reload::Idle;
        self.dismiss_generation(|generation| generation == failed, now_ms, out);
    }

    fn take_parent_gone(&mut self, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.has_parent) {
            out.push(Action::log(Level::Info, "Master has been promoted."));
            out.push(Action::Promote);
        }
    }

    fn set_wanted(&mut self, count: usize, out: &mut Vec<Action>) {
        let new = count.min(self.settings.capacity / 2);
        let old = std::mem::replace(&mut self.wanted, new);
        out.push(Action::WorkersChanged { new, old });
    }

    fn begin_stop(
        &mut self,
        code: i32,
        reason: Option<String>,
        graceful: bool,
        now_ms: u64,
        out: &mut Vec<Action>,
    ) {
        match &mut self.stop {
            Some(stop) if !graceful => stop.hurry(&self.pool, now_ms, out),
            Some(_) => {}
            None => {
                let limit = self.settings.graceful_timeout_ms;
                self.stop = Some(Stop::begin(
                    code,
                    reason,
                    graceful,
                    limit,
                    &mut self.pool,
                    now_ms,
                    out,
                ));
            }
        }
    }

    /// Brings the pool to its wanted shape, or the stop to its end.
    fn settle(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if let Some(stop) = &mut self.stop {
            // A worker whose fork was ordered before the stop is on its way; it must not be left behind.
            if self.spawning == 0 {
                self.over = stop.advance(&mut self.pool, now_ms, out);
            }
            return;
        }
        if !self.started {
            return;
        }
        self.most_wanted = self.most_wanted.max(self.wanted);
        self.pool
            .kill_laggards(self.settings.graceful_timeout_ms, now_ms, out);
        self.advance_reload(now_ms, out);
        self.fill(now_ms, out);
    }

    fn advance_reload(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let current = self.generation;
        if self.ready() >= self.wanted && self.reload != Reload::Reading {
            self.proven |= self.wanted > 0;
            self.dismiss_generation(|generation| generation < current, now_ms, out);
            if matches!(self.reload, Reload::Booting { .. }) {
                self.reload = Reload::Leaving;
            }
        }
        let old_remain = self
            .pool
            .workers
            .iter()
            .any(|worker| worker.generation < current);
        if self.reload == Reload::Leaving && !old_remain {
            self.reload = Reload::Idle;
        }
        if self.reload == Reload::Idle && self.reload_again {
            self.begin_reload(out);
        }
    }

    fn fill(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let present = self.pool.staying(self.generation) + self.spawning;
        if present < self.wanted {
            // Those that are leaving take part of the room; it is freed when they are gone.
            let alive = self.pool.workers.len() + self.spawning;
            let room = (2 * self.most_wanted).saturating_sub(alive);
            if room > 0 {
                let missing = (self.wanted - present).min(room);
                let granted = self.backoff.grant(missing, now_ms);
                self.spawning += granted;
                out.extend(std::iter::repeat_n(Action::Spawn, granted));
            }
            return;
        }
        self.backoff.grant(0, now_ms);
        let current = self.generation;
        let staying = self
            .pool
            .workers
            .iter_mut()
            .filter(|worker| worker.stays() && worker.generation == current);
        // The oldest go first.
        staying
            .take(present - self.wanted)
            .for_each(|worker| worker.dismiss(Order::Term, now_ms, out));
    }

    fn ready(&self) -> usize {
        let fit = |worker: &&Worker| {
            worker.stays() && worker.ready && worker.generation == self.generation
        };
        self.pool.workers.iter().filter(fit).count()
    }

    fn dismiss_generation(
        &mut self,
        whose: impl Fn(u64) -> bool,
        now_ms: u64,
        out: &mut Vec<Action>,
    ) {
        for worker in self
            .pool
            .workers
            .iter_mut()
            .filter(|worker| whose(worker.generation))
        {
            worker.dismiss(Order::Term, now_ms, out);
        }
    }
}

/// The line in the log for a worker's death.
fn obituary(worker: &Worker, cause: &Cause) -> Option<Action> {
    let pid = worker.pid;
    match cause {
        Cause::Code(0) => None,
        Cause::Code(code) => Some(Action::log(
            Level::Error,
            format!("Worker (pid:{pid}) exited with code {code}."),
        )),
        Cause::Signal(name) => {
            let (level, hint) = match name.as_str() {
                "SIGTERM" => (Level::Info, ""),
                "SIGKILL" if !worker.killed => (Level::Error, " Perhaps out of memory?"),
                "SIGKILL" => (Level::Error, ""),
                _ => (Level::Warning, ""),
            };
            Some(Action::log(
                level,
                format!("Worker (pid:{pid}) was sent {name}!{hint}"),
            ))
        }
    }
}
