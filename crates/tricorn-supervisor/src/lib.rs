//! What the arbiter decides, as a pure function: Input (signal, exit, tick, worker state) to Actions.
//!
//! Not the hands: nothing here forks, waits, binds, reads a clock or calls Python. The caller feeds every
//! [`Input`] with the time it happened (monotonic milliseconds) and carries out the [`Action`]s it gets back,
//! in order, before it feeds the next one. Source: the behaviour of Gunicorn 27's arbiter and its log lines.
//!
//! Invariants, kept by the seeded simulation in `tests/simulation.rs`:
//! no more than twice the wanted workers are alive at once; no worker is told to leave twice;
//! once a stop has begun it ends, at the latest a moment after its deadline; and the last three actions are
//! always the removal of the pid file, the `on_exit` hook and the exit itself.
#![forbid(unsafe_code)]

mod action;
mod backoff;
mod input;
mod pool;
mod stop;
mod supervisor;

pub use action::{Action, Level, Order};
pub use input::{Cause, Input, Observation, Pid, Settings, Signal};
pub use supervisor::Supervisor;
