//! One worker's engine and log, as its threads or its loop share them.
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use tricorn_engine::{Engine, EngineConfig, ListenerInfo, Notice, Peer};
use tricorn_proto::RejectKind;
use tricorn_scoreboard::Slot;

use crate::log::access::AccessLog;

const LONGEST_BEAT_MS: u64 = 1_000;

pub struct Station {
    worker: Py<PyAny>,
    log: Py<PyAny>,
    engine: Arc<Engine>,
    access: Arc<AccessLog>,
    slot: &'static Slot,
    beat_ms: u64,
    /// 0 = unlimited.
    max_requests: u64,
    recycled: AtomicBool,
    draining: AtomicBool,
}

impl Station {
    pub fn open(worker: &Bound<'_, PyAny>, config: EngineConfig) -> PyResult<Arc<Station>> {
        let py = worker.py();
        let cfg = worker.getattr("cfg")?;
        let log = worker.getattr("log")?;
        let slot = crate::arbiter::slot_of(worker)?;
        let listeners = listeners(worker)?;
        let engine = Engine::new(config, listeners, Some(slot))?;
        if let Some(passage) = crate::arbiter::passage() {
            engine.join(passage)?;
        }
        Ok(Arc::new(Station {
            worker: worker.clone().unbind(),
            access: Arc::new(AccessLog::from_config(py, &cfg, &log)?),
            log: log.unbind(),
            engine,
            slot,
            beat_ms: beat_ms(&cfg)?,
            max_requests: worker
                .getattr("max_requests")?
                .extract::<f64>()
                .map_or(0, |limit| limit as u64),
            recycled: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }))
    }

    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub fn slot(&self) -> &'static Slot {
        self.slot
    }

    /// What must not wait for the application; needs no GIL. Writes the log, and leaves the accept set of a stopping
    /// server even while the application holds every thread.
    pub fn tick(&self) {
        self.access.flush();
        if crate::arbiter::stopping() {
            self.engine.start_drain(true);
        }
    }

    pub fn worker<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.worker.bind(py)
    }

    pub fn beat(&self, now_ms: u64) {
        self.slot.beat(now_ms);
    }

    /// How often the heart has to beat, in milliseconds.
    pub fn beat_ms(&self) -> u64 {
        self.beat_ms
    }

    /// Counts a request before the application sees it, so that the one that reaches the limit is the last of its
    /// connection.
    pub fn count_request(&self, py: Python<'_>) -> PyResult<()> {
        let count = self.slot.add_request();
        if self.max_requests == 0
            || count < self.max_requests
            || self.recycled.swap(true, Ordering::Relaxed)
        {
            return Ok(());
        }
        let worker = self.worker.bind(py);
        if worker.getattr("alive")?.is_truthy()? {
            self.log
                .bind(py)
                .call_method1("info", ("Autorestarting worker after current request.",))?;
            worker.setattr("alive", false)?;
        }
        self.attend(py)
    }

    /// Puts the engine's notices into the log, and starts to drain once the worker is no longer alive.
    pub fn attend(&self, py: Python<'_>) -> PyResult<()> {
        for notice in self.engine().take_notices() {
            self.tell(py, &notice)?;
        }
        let worker = self.worker.bind(py);
        let stopping = crate::arbiter::stopping();
        if !worker.getattr("alive")?.is_truthy()?
            && (!self.draining.swap(true, Ordering::Relaxed) || stopping)
        {
            self.engine().start_drain(stopping);
        }
        Ok(())
    }

    fn tell(&self, py: Python<'_>, notice: &Notice) -> PyResult<()> {
        let log = self.log.bind(py);
        match notice {
            Notice::Rejected { peer, reject } => {
                let address = match peer {
                    Peer::Inet(address) => address.ip().to_string(),
                    Peer::Unix => String::new(),
                };
                // A client that is merely slow, or leaves, is everyday life, and an attacker could fill the disk with it.
                let level = match reject.kind {
                    RejectKind::RequestTimeout | RejectKind::Incomplete => "debug",
                    _ => "warning",
                };
                log.call_method1(
                    level,
                    (
                        "Invalid request from ip=%s: %s",
                        address,
                        reject.to_string(),
                    ),
                )?;
            }
            Notice::Spool(error) => {
                log.call_method1(
                    "error",
                    ("Cannot store a request body: %s", error.to_string()),
                )?;
            }
            Notice::SpoolResponse(error) => {
                log.call_method1(
                    "warning",
                    (
                        "Cannot store a response for a slow client: %s",
                        error.to_string(),
                    ),
                )?;
            }
            Notice::Accept(error) => {
                log.call_method1(
                    "error",
                    ("Cannot accept a connection: %s", error.to_string()),
                )?;
            }
            Notice::Batches(Ok(())) => {
                log.call_method1("debug", ("Answers that leave together leave by io_uring",))?;
            }
            Notice::Batches(Err(error)) => {
                log.call_method1(
                    "debug",
                    (
                        "Each answer is sent on its own, io_uring is not to be had: %s",
                        error.to_string(),
                    ),
                )?;
            }
        }
        Ok(())
    }

    /// Writes what the log holds.
    pub fn close(&self, py: Python<'_>) {
        py.detach(|| self.access.flush());
    }
}

/// A beat at least twice within `timeout`, and once a second.
fn beat_ms(cfg: &Bound<'_, PyAny>) -> PyResult<u64> {
    let timeout_ms = (cfg.getattr("timeout")?.extract::<f64>()? * 1_000.0) as u64;
    Ok(match timeout_ms {
        0 => LONGEST_BEAT_MS,
        timeout => (timeout / 2).clamp(1, LONGEST_BEAT_MS),
    })
}

/// Duplicates of the worker's listening sockets: the arbiter's own stay open.
fn listeners(worker: &Bound<'_, PyAny>) -> PyResult<Vec<(OwnedFd, ListenerInfo)>> {
    let mut listeners = Vec::new();
    for socket in worker.getattr("sockets")?.try_iter()? {
        let raw: RawFd = socket?.call_method0("fileno")?.extract()?;
        // SAFETY: the worker's socket object keeps the descriptor open during this call.
        let fd = unsafe { BorrowedFd::borrow_raw(raw) }.try_clone_to_owned()?;
        rustix::io::ioctl_fionbio(&fd, true).map_err(std::io::Error::from)?;
        let address = rustix::net::getsockname(&fd).map_err(std::io::Error::from)?;
        let info = match SocketAddr::try_from(address.clone()) {
            Ok(address) => ListenerInfo::Inet(address),
            Err(_) => ListenerInfo::Unix(unix_path(address)),
        };
        listeners.push((fd, info));
    }
    Ok(listeners)
}

fn unix_path(address: rustix::net::SocketAddrAny) -> PathBuf {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let path = rustix::net::SocketAddrUnix::try_from(address).ok();
    let path = path
        .and_then(|address| address.path_bytes().map(<[u8]>::to_vec))
        .unwrap_or_default();
    PathBuf::from(OsString::from_vec(path))
}

/// The reading end of the pipe that Python's signal handlers write to.
pub fn signal_pipe(worker: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    worker.getattr("PIPE")?.get_item(0)?.extract()
}

/// Reads the pipe empty (it is non-blocking).
pub fn empty(pipe: RawFd) {
    // SAFETY: the worker keeps its signal pipe open as long as it runs.
    let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
    let mut bytes = [0u8; 64];
    while matches!(rustix::io::read(pipe, &mut bytes), Ok(count) if count == bytes.len()) {}
}
