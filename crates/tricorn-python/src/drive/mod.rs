//! Drivers: which loop turns the engine. `serve` is the main thread itself (sync), `serve_threads` a pool (gthread).
//!
//! No protocol, no limits, no header policy here: a driver looks for requests, hands them to the gateway and looks
//! after the worker's signals, heartbeat and end.
mod settings;
mod station;

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tricorn_engine::{Events, clock};

use self::station::Station;
use crate::gateway::Wsgi;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(serve, module)?)?;
    module.add_function(wrap_pyfunction!(serve_threads, module)?)?;
    Ok(())
}

/// Serves on the calling thread until the worker is no longer alive and everything begun is answered.
///
/// Raises what signal handlers raise (`SystemExit`), and OSError when the engine cannot be set up.
#[pyfunction]
fn serve(worker: &Bound<'_, PyAny>) -> PyResult<()> {
    let station = Station::open(worker, 1, true)?;
    let pipe = station::signal_pipe(worker)?;
    station.engine().watch_driver(borrow(&pipe))?;
    let result = station.work(worker.py(), Some(pipe));
    station.close(worker.py());
    result
}

/// Serves with `worker.cfg.threads` long-lived threads; the calling thread looks after signals and the heartbeat.
///
/// Raises as `serve` does.
#[pyfunction]
fn serve_threads(worker: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = worker.py();
    let threads = worker
        .getattr("cfg")?
        .getattr("threads")?
        .extract::<usize>()?
        .max(1);
    let station = Station::open(worker, threads, false)?;
    let done = Arc::new(
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(std::io::Error::from)?,
    );
    let thread_class = py.import("threading")?.getattr("Thread")?;
    let mut pool = Vec::with_capacity(threads);
    for number in 0..threads {
        let target = Bound::new(
            py,
            PoolThread {
                station: station.clone(),
                done: done.clone(),
            },
        )?;
        let options = pyo3::types::PyDict::new(py);
        options.set_item("target", target)?;
        options.set_item("name", format!("tricorn-{number}"))?;
        options.set_item("daemon", true)?;
        let thread = thread_class.call((), Some(&options))?;
        thread.call_method0("start")?;
        pool.push(thread);
    }
    let result = look_after(py, worker, &station, &done);
    if result.is_ok() {
        for thread in pool {
            thread.call_method0("join")?;
        }
    }
    station.close(py);
    result
}

fn look_after(
    py: Python<'_>,
    worker: &Bound<'_, PyAny>,
    station: &Arc<Station>,
    done: &OwnedFd,
) -> PyResult<()> {
    let pipe = station::signal_pipe(worker)?;
    loop {
        station.beat(clock::now_ms());
        py.detach(|| {
            let pipe = borrow(&pipe);
            let mut fds = [
                PollFd::new(&pipe, PollFlags::IN),
                PollFd::new(done, PollFlags::IN),
            ];
            let timeout = Timespec {
                tv_sec: (station.beat_ms() / 1_000) as i64,
                tv_nsec: (station.beat_ms() % 1_000 * 1_000_000) as i64,
            };
            // Interrupted or late: either way the handlers are given their chance.
            let _ = poll(&mut fds, Some(&timeout));
        });
        station::empty(pipe);
        py.check_signals()?;
        station.attend(py)?;
        if station.is_stopped() {
            return Ok(());
        }
    }
}

fn borrow(fd: &RawFd) -> BorrowedFd<'_> {
    // SAFETY: the worker keeps its signal pipe open as long as it runs.
    unsafe { BorrowedFd::borrow_raw(*fd) }
}

/// What a thread of the pool runs.
#[pyclass(frozen, module = "tricorn._core")]
struct PoolThread {
    station: Arc<Station>,
    done: Arc<OwnedFd>,
}

#[pymethods]
impl PoolThread {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        tricorn_engine::block_signals();
        let result = self.station.work(py, None);
        if let Err(error) = &result {
            // An exit asked for on a pool thread ends that thread's call, not the server (as in a thread pool).
            error.clone_ref(py).print(py);
        }
        let _ = rustix::io::write(&*self.done, &1u64.to_ne_bytes());
        result
    }
}

impl Station {
    /// One thread's life: requests until the end. `pipe`: the signal pipe, for the thread that is the main thread.
    fn work(&self, py: Python<'_>, pipe: Option<RawFd>) -> PyResult<()> {
        let helm = self.helm();
        let me = helm.take_seat();
        let gateway = Wsgi::new(self.worker(py))?;
        let mut events = Events::new();
        let mut now_ns = clock::now_ns();
        loop {
            let next = match helm.try_next(me, now_ns) {
                Some(next) => next,
                None => py.detach(|| helm.next(me, &mut events)),
            };
            match next {
                tricorn_engine::helm::Next::Call(exchange, call) => {
                    self.count_request(py)?;
                    let result = gateway.call(py, exchange);
                    now_ns = helm.end_call(me, call);
                    match (result, pipe) {
                        (Ok(()), _) => {}
                        (Err(error), Some(_)) => return Err(error),
                        (Err(error), None) => error.print(py),
                    }
                }
                tricorn_engine::helm::Next::Attend => {
                    if let Some(pipe) = pipe {
                        station::empty(pipe);
                        py.check_signals()?;
                    }
                    self.attend(py)?;
                    now_ns = clock::now_ns();
                }
                tricorn_engine::helm::Next::Stop => return Ok(()),
            }
        }
    }
}
