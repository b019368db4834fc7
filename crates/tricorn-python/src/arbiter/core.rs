//! The main loop: gathers what happened, asks the supervisor, does what it says.
//!
//! Invariant: no lock is held while Python runs, because hooks call back into the arbiter at will; what
//! they ask for is queued as an input and decided on like everything else.
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError, PySystemExit};
use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid as ProcessId, WaitOptions, getpid, wait};
use tricorn_engine::Passage;
use tricorn_scoreboard::{Scoreboard, State};
use tricorn_supervisor::{
    Action, Cause, Input, Level, Observation, Order, Pid, Settings, Signal, Supervisor,
};

use super::signals::{self, Held, Signals};
use super::{Slot, now_ms, os_error};

/// Room for workers that the configuration does not ask for: TTIN, reloads with a larger pool.
const SPARE_SLOTS: usize = 1024;

/// The arbiter's loop and memory; `tricorn.arbiter.Arbiter` holds one.
#[pyclass(frozen, module = "tricorn._core", name = "ArbiterCore")]
pub(super) struct Core {
    board: &'static Scoreboard,
    wake_reader: OwnedFd,
    wake_writer: OwnedFd,
    master: ProcessId,
    memory: Mutex<Memory>,
}

struct Memory {
    supervisor: Supervisor,
    inputs: VecDeque<Input>,
    /// What came of actions; decided on before any other input, so that none of those meets half an action.
    answers: VecDeque<Input>,
    /// Whose slot is which.
    slots: Vec<(Pid, &'static tricorn_scoreboard::Slot)>,
    signals: Option<Arc<Signals>>,
}

#[pymethods]
impl Core {
    /// Shape: (workers, timeout in s, graceful_timeout in s, daemon, has_parent).
    #[new]
    fn new(
        workers: usize,
        timeout: f64,
        graceful_timeout: f64,
        daemon: bool,
        has_parent: bool,
    ) -> PyResult<Core> {
        let capacity = workers.saturating_mul(4).max(SPARE_SLOTS);
        let board = Scoreboard::create(capacity).map_err(|error| os_error(&error))?;
        // A process has one arbiter; a second one (in a test) keeps the first board for its workers' drivers.
        let _ = super::BOARD.set(board);
        let passage = Passage::new(board).map_err(|error| os_error(&error))?;
        let _ = super::PASSAGE.set(Arc::new(passage));
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let (wake_reader, wake_writer) = pipe.map_err(|error| os_error(&error.into()))?;
        let settings = settings(board, workers, timeout, graceful_timeout, daemon);
        let memory = Memory {
            supervisor: Supervisor::new(settings, has_parent),
            inputs: VecDeque::new(),
            answers: VecDeque::new(),
            slots: Vec::new(),
            signals: None,
        };
        Ok(Core {
            board,
            wake_reader,
            wake_writer,
            master: getpid(),
            memory: Mutex::new(memory),
        })
    }

    /// Takes the arbiter's signals over.
    fn install_signals(&self) -> PyResult<()> {
        let signals = Signals::install().map_err(|error| os_error(&error))?;
        self.memory().signals = Some(Arc::new(signals));
        Ok(())
    }

    /// A slot for a worker about to be forked. Errors: `OSError` when there is none left.
    fn claim_slot(&self) -> PyResult<Slot> {
        let slot = self.board.claim(now_ms());
        let slot = slot.ok_or_else(|| PyOSError::new_err("no room for more workers"))?;
        Ok(Slot::new(slot, self.wake_writer.as_raw_fd()))
    }

    /// Forks through `os.fork`; in the child the arbiter's signals are back at their default actions.
    fn fork(&self, py: Python<'_>) -> PyResult<i32> {
        let held = Held::hold();
        let pid: i32 = py.import("os")?.call_method0("fork")?.extract()?;
        if pid == 0 {
            Held::forget_parent();
            self.memory().signals = None;
        }
        drop(held);
        Ok(pid)
    }

    /// A worker was forked.
    fn spawned(&self, pid: i32, slot: &Slot) {
        let mut memory = self.memory();
        memory.slots.push((pid, slot.slot()));
        self.board.set_workers(memory.slots.len());
        memory.answers.push_back(Input::Spawned { pid });
    }

    fn signal(&self, name: &str) -> PyResult<()> {
        let signal = match name {
            "HUP" => Signal::Hup,
            "USR2" => Signal::Usr2,
            other => return Err(PyRuntimeError::new_err(format!("not a request: {other}"))),
        };
        self.memory().inputs.push_back(Input::Signal(signal));
        Ok(())
    }

    /// The configuration was read again. Shape: as the constructor's.
    fn reloaded(&self, workers: usize, timeout: f64, graceful_timeout: f64, daemon: bool) {
        let settings = settings(self.board, workers, timeout, graceful_timeout, daemon);
        self.memory().answers.push_back(Input::Reloaded(settings));
    }

    fn reload_failed(&self, reason: String) {
        self.memory()
            .answers
            .push_back(Input::ReloadFailed { reason });
    }

    fn reexeced(&self, pid: i32) {
        self.memory().answers.push_back(Input::Reexeced { pid });
    }

    fn set_workers(&self, count: usize) {
        self.memory().inputs.push_back(Input::SetWorkers(count));
    }

    #[pyo3(signature = (code, reason, graceful))]
    fn halt(&self, code: i32, reason: Option<String>, graceful: bool) {
        self.memory().inputs.push_back(Input::Halt {
            code,
            reason,
            graceful,
        });
        self.wakeup();
    }

    /// Cuts the loop's sleep short.
    fn wakeup(&self) {
        let _ = rustix::io::write(&self.wake_writer, &[1]);
    }

    /// Tells the workers that nobody will take what they leave in the accept queue.
    fn set_stopping(&self) {
        self.board.set_stopping();
    }

    /// The loop, until the end. Returns the exit code; `SystemExit` in a forked child passes through.
    fn run(&self, py: Python<'_>, arbiter: &Bound<'_, PyAny>) -> PyResult<i32> {
        self.memory().inputs.push_back(Input::Start);
        loop {
            self.observe();
            self.gather(arbiter)?;
            while let Some(actions) = self.decide() {
                for action in actions {
                    if let Action::Exit(code) = action {
                        return Ok(code);
                    }
                    if let Err(error) = self.carry_out(arbiter, action) {
                        self.survive(py, arbiter, error)?;
                    }
                }
            }
            self.sleep(py, arbiter)?;
        }
    }
}

impl Core {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the scoreboard. It comes before the signals, which are decided on with fresh knowledge.
    fn observe(&self) {
        let mut memory = self.memory();
        let observe = |(pid, slot): &(Pid, &tricorn_scoreboard::Slot)| Observation {
            pid: *pid,
            beat_ms: slot.last_beat(),
            ready: !matches!(slot.state(), State::Free | State::Booting),
            accepting: slot.accepting(),
        };
        let seen = memory.slots.iter().map(observe).collect();
        memory.inputs.push_back(Input::Tick(seen));
    }

    /// Queues the dead, a lost parent, and the signals.
    fn gather(&self, arbiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let parent: i32 = arbiter.getattr("master_pid")?.extract()?;
        let mut memory = self.memory();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let cause = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Cause::Code(code),
                (None, Some(number)) => Cause::Signal(signals::name(number)),
                (None, None) => continue,
            };
            let pid = pid.as_raw_nonzero().get();
            let served = memory
                .slots
                .iter()
                .find(|(owner, _)| *owner == pid)
                .map_or(0, |(_, slot)| slot.requests());
            memory
                .inputs
                .push_back(Input::Exited { pid, cause, served });
        }
        if parent != 0
            && rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()) != parent
        {
            memory.inputs.push_back(Input::ParentGone);
        }
        let signals = memory
            .signals
            .as_ref()
            .map(|signals| signals.drain())
            .unwrap_or_default();
        memory.inputs.extend(signals.into_iter().map(Input::Signal));
        Ok(())
    }

    /// The supervisor's answer to the next input; `None` when all are answered.
    fn decide(&self) -> Option<Vec<Action>> {
        let mut memory = self.memory();
        let answer = memory.answers.pop_front();
        let input = answer.or_else(|| memory.inputs.pop_front())?;
        Some(memory.supervisor.handle(input, now_ms()))
    }

    fn carry_out(&self, arbiter: &Bound<'_, PyAny>, action: Action) -> PyResult<()> {
        match action {
            Action::Log { level, text } => {
                let method = match level {
                    Level::Debug => "debug",
                    Level::Info => "info",
                    Level::Warning => "warning",
                    Level::Error => "error",
                    Level::Critical => "critical",
                };
                arbiter.getattr("log")?.call_method1(method, (text,))?;
            }
            Action::Spawn => self.spawn(arbiter)?,
            Action::Signal { pid, order } => {
                let method = if order == Order::Abrt {
                    "_abort_worker"
                } else {
                    "kill_worker"
                };
                arbiter.call_method1(method, (pid, signals::number(order)))?;
            }
            Action::Forget { pid } => {
                self.forget(pid);
                arbiter.call_method1("_forget", (pid,))?;
            }
            Action::WorkersChanged { new, old } => {
                arbiter.call_method1("_workers_changed", (new, old))?;
            }
            Action::ReloadConfig => {
                arbiter.call_method0("_reload_config")?;
            }
            Action::ReopenLogs => {
                arbiter.getattr("log")?.call_method0("reopen_files")?;
            }
            Action::Reexec => {
                arbiter.call_method0("_reexec")?;
            }
            Action::ForgetUpgrade => arbiter.setattr("reexec_pid", 0)?,
            Action::Promote => {
                arbiter.call_method0("_promote")?;
            }
            Action::StopAccepting => {
                arbiter.call_method0("_stop_accepting")?;
            }
            Action::CloseListeners => {
                arbiter.call_method0("_close_listeners")?;
            }
            Action::RemovePidfile => {
                arbiter.call_method0("_remove_pidfile")?;
            }
            Action::OnExit => {
                arbiter
                    .getattr("cfg")?
                    .call_method1("on_exit", (arbiter,))?;
            }
            Action::Exit(_) => {}
        }
        Ok(())
    }

    fn spawn(&self, arbiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let Err(error) = arbiter.call_method0("spawn_worker") else {
            return Ok(());
        };
        if getpid() == self.master && error.is_instance_of::<PyOSError>(arbiter.py()) {
            let reason = error.value(arbiter.py()).to_string();
            self.memory()
                .answers
                .push_back(Input::SpawnFailed { reason });
            return Ok(());
        }
        Err(error)
    }

    fn forget(&self, pid: Pid) {
        let mut memory = self.memory();
        if let Some(index) = memory.slots.iter().position(|(owner, _)| *owner == pid) {
            memory.slots.remove(index).1.free();
            self.board.set_workers(memory.slots.len());
        }
    }

    /// An error out of a hook or of our own Python. In a forked child it is the child's end; the arbiter
    /// itself turns it into an orderly stop.
    fn survive(&self, py: Python<'_>, arbiter: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        if getpid() != self.master {
            return Err(error);
        }
        let value = error.value(py);
        let (code, reason, graceful) = if let Ok(status) = value.getattr("exit_status") {
            (
                status.extract().unwrap_or(1),
                Some(value.getattr("reason")?.to_string()),
                true,
            )
        } else if error.is_instance_of::<PySystemExit>(py) {
            (value.getattr("code")?.extract().unwrap_or(1), None, false)
        } else if error.is_instance_of::<PyKeyboardInterrupt>(py) {
            (0, None, true)
        } else {
            arbiter.call_method1("_unhandled", (value,))?;
            (255, None, false)
        };
        self.memory().inputs.push_back(Input::Halt {
            code,
            reason,
            graceful,
        });
        Ok(())
    }

    /// Waits for a signal, a waking worker, or the next moment something is due.
    fn sleep(&self, py: Python<'_>, arbiter: &Bound<'_, PyAny>) -> PyResult<()> {
        let (signals, pause) = {
            let memory = self.memory();
            let now = now_ms();
            let pause = memory.supervisor.next_look_ms(now).saturating_sub(now);
            (memory.signals.clone(), pause)
        };
        let timeout = Duration::from_millis(pause).try_into().ok();
        py.detach(|| {
            let mut fds = vec![PollFd::new(&self.wake_reader, PollFlags::IN)];
            let signals = signals.as_ref().map(|signals| signals.as_fd());
            fds.extend(
                signals
                    .iter()
                    .map(|signals| PollFd::new(signals, PollFlags::IN)),
            );
            // Interrupted or not: the caller looks at everything anyway.
            let _ = poll(&mut fds, timeout.as_ref());
            let mut buffer = [0; 256];
            while let Ok(1..) = rustix::io::read(&self.wake_reader, &mut buffer) {}
        });
        // Handlers that user code set for other signals.
        if let Err(error) = py.check_signals() {
            self.survive(py, arbiter, error)?;
        }
        Ok(())
    }
}

fn settings(
    board: &Scoreboard,
    workers: usize,
    timeout: f64,
    graceful_timeout: f64,
    daemon: bool,
) -> Settings {
    let milliseconds = |seconds: f64| (seconds.max(0.0) * 1_000.0) as u64;
    Settings {
        workers,
        timeout_ms: milliseconds(timeout),
        graceful_timeout_ms: milliseconds(graceful_timeout),
        daemon,
        capacity: board.len(),
    }
}
