//! Drivers whose own threads turn the engine: the main thread alone (`sync`) or a pool (`gthread`).
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use pyo3::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tricorn_engine::{Events, Helm, clock};

use super::settings;
use super::station::{self, Station};
use crate::gateway::{Waits, Wsgi};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(serve, module)?)?;
    module.add_function(wrap_pyfunction!(serve_threads, module)?)?;
    Ok(())
}

/// A station and who turns its engine.
struct Crew {
    station: Arc<Station>,
    helm: Arc<Helm>,
}

impl Crew {
    /// `inline`: the only thread is the main thread, and its calls are the heartbeat.
    fn muster(worker: &Bound<'_, PyAny>, threads: usize, inline: bool) -> PyResult<Arc<Crew>> {
        let config = settings::engine_config(&worker.getattr("cfg")?)?;
        let station = Station::open(worker, config)?;
        let ticking = station.clone();
        let helm = Helm::start(
            station.engine().clone(),
            threads,
            inline.then_some(station.slot()),
            station.beat_ms(),
            Box::new(move |_| ticking.tick()),
        )?;
        Ok(Arc::new(Crew { station, helm }))
    }

    /// Ends the monitor and whatever thread still waits, and writes what the log holds.
    fn dismiss(&self, py: Python<'_>) {
        self.helm.stop();
        self.station.close(py);
    }
}

/// Serves on the calling thread until the worker is no longer alive and everything begun is answered.
///
/// Raises what signal handlers raise (`SystemExit`), and OSError when the engine cannot be set up.
#[pyfunction]
fn serve(worker: &Bound<'_, PyAny>) -> PyResult<()> {
    let crew = Crew::muster(worker, 1, true)?;
    let pipe = station::signal_pipe(worker)?;
    crew.station.engine().watch_driver(borrow(&pipe))?;
    let result = crew.work(worker.py(), Some(pipe));
    crew.dismiss(worker.py());
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
    let crew = Crew::muster(worker, threads, false)?;
    let done = Arc::new(
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(std::io::Error::from)?,
    );
    let thread_class = py.import("threading")?.getattr("Thread")?;
    let mut pool = Vec::with_capacity(threads);
    for number in 0..threads {
        let target = Bound::new(
            py,
            PoolThread {
                crew: crew.clone(),
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
    let result = look_after(py, worker, &crew, &done);
    if result.is_ok() {
        for thread in pool {
            thread.call_method0("join")?;
        }
    }
    crew.dismiss(py);
    result
}

fn look_after(
    py: Python<'_>,
    worker: &Bound<'_, PyAny>,
    crew: &Crew,
    done: &OwnedFd,
) -> PyResult<()> {
    let station = &crew.station;
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
        if crew.helm.is_stopped() {
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
    crew: Arc<Crew>,
    done: Arc<OwnedFd>,
}

#[pymethods]
impl PoolThread {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        tricorn_engine::block_signals();
        let result = self.crew.work(py, None);
        if let Err(error) = &result {
            // An exit asked for on a pool thread ends that thread's call, not the server (as in a thread pool).
            error.clone_ref(py).print(py);
        }
        let _ = rustix::io::write(&*self.done, &1u64.to_ne_bytes());
        result
    }
}

impl Crew {
    /// One thread's life: requests until the end. `pipe`: the signal pipe, for the thread that is the main thread.
    fn work(&self, py: Python<'_>, pipe: Option<RawFd>) -> PyResult<()> {
        let (station, helm) = (&self.station, &self.helm);
        let me = helm.take_seat();
        let gateway = Wsgi::new(station.worker(py), Waits::InThread)?;
        let mut events = Events::new();
        let mut now_ns = clock::now_ns();
        loop {
            let next = match helm.try_next(me, now_ns) {
                Some(next) => next,
                None => py.detach(|| helm.next(me, &mut events)),
            };
            match next {
                tricorn_engine::helm::Next::Call(exchange, call) => {
                    station.count_request(py)?;
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
                    station.attend(py)?;
                    now_ns = clock::now_ns();
                }
                tricorn_engine::helm::Next::Stop => return Ok(()),
            }
        }
    }
}
