//! What every driver on somebody else's loop does: turn the engine when its descriptor is readable, hand out requests,
//! flush at the end of the step.
//!
//! Not the loop, and not the way the application is called: those are the worker class's. Used by the loop's thread only.
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use tricorn_engine::{EngineConfig, Events, Exchange, Helm, clock};

use super::settings;
use super::station::{self, Station};

pub struct Pollable {
    station: Arc<Station>,
    /// Its monitor looks after output and siblings while the application blocks the loop.
    helm: Arc<Helm>,
    me: u32,
    events: Mutex<Events>,
    /// How many requests may be in the application (`worker_connections`).
    most: usize,
    pipe: RawFd,
}

impl Pollable {
    /// `adapt`: what the worker class wants otherwise than the settings say.
    pub fn open(
        worker: &Bound<'_, PyAny>,
        adapt: impl FnOnce(&mut EngineConfig),
    ) -> PyResult<Pollable> {
        let mut config = settings::engine_config(&worker.getattr("cfg")?)?;
        config.foreign_loop = true;
        adapt(&mut config);
        let most = config.worker_connections.max(1);
        let station = Station::open(worker, config)?;
        let ticking = station.clone();
        let helm = Helm::start(
            station.engine().clone(),
            1,
            None,
            station.beat_ms(),
            Box::new(move |_| ticking.tick()),
        )?;
        Ok(Pollable {
            station,
            me: helm.take_seat(),
            helm,
            events: Mutex::new(Events::new()),
            most,
            pipe: station::signal_pipe(worker)?,
        })
    }

    /// Readable while `turn` has something to do.
    pub fn fileno(&self) -> RawFd {
        self.station.engine().fileno()
    }

    /// To be called by the loop's thread around whatever may call the application.
    pub fn begin_step(&self) {
        self.helm.begin_step(self.me);
    }

    pub fn end_step(&self) {
        self.helm.end_step(self.me);
    }

    /// The worker ends before its time: nobody new is let in.
    pub fn leave(&self) {
        self.station.engine().start_drain(false);
    }

    /// Handles what has happened, without waiting. Returns the keys of exchanges for which has come what they wait for.
    pub fn turn(&self, py: Python<'_>) -> PyResult<Vec<u64>> {
        let engine = self.station.engine();
        let turn = {
            let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            engine.turn(&mut events, 0)
        };
        if turn.notices {
            self.station.attend(py)?;
        }
        let mut keys = Vec::new();
        engine.take_woken(&mut keys);
        Ok(keys)
    }

    /// Would `next` return one?
    pub fn has_request(&self, running: usize) -> bool {
        running < self.most && self.station.engine().ready_len() > 0
    }

    /// The next request for the application; `None` when there is none, or when as many run as may.
    pub fn next(&self, py: Python<'_>, running: usize) -> PyResult<Option<Exchange>> {
        if running >= self.most {
            return Ok(None);
        }
        let now_ns = clock::now_ns();
        let Some(exchange) = self.station.engine().next_ready(now_ns) else {
            return Ok(None);
        };
        self.helm.go_on(self.me, now_ns);
        self.station.count_request(py)?;
        Ok(Some(exchange))
    }

    /// The step of the loop is over: what waits leaves.
    pub fn flush(&self) {
        self.station.engine().flush_waiting();
        self.station.tick();
    }

    /// Looks after signals, the heartbeat, the log, deadlines and the end. True when everything begun is answered.
    pub fn attend(&self, py: Python<'_>) -> PyResult<bool> {
        station::empty(self.pipe);
        self.station.beat(clock::now_ms());
        self.station.attend(py)?;
        self.station.tick();
        Ok(self.station.engine().is_drained())
    }

    pub fn close(&self, py: Python<'_>) {
        self.helm.stop();
        self.station.close(py);
    }
}
