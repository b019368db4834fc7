//! The access log of a worker: Gunicorn's atoms, written from Rust unless Python must see the lines.
//!
//! Invariant: no lock and no borrow is held while a record source is asked, since that may run Python.
//! Source: Gunicorn settings `accesslog`, `access_log_format`, `logger_class`.

use std::cell::Cell;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::clock::Clock;
use super::format::Format;
pub use super::record::RecordSource;
use super::sink::Sink;

/// How long a worker that leaves waits for a reader that does not keep up.
const LAST_PATIENCE: Duration = Duration::from_millis(500);

thread_local! {
    static SCRATCH: Cell<(Vec<u8>, Clock)> = Cell::default();
}

/// Who writes access lines, and the writer if it is Rust. Share one by `Arc` among threads.
pub struct AccessLog {
    target: Target,
}

enum Target {
    Nobody,
    Python,
    Native(Format, Arc<Sink>),
}

impl AccessLog {
    /// Decide from the configuration and the logger as they stand once the application is loaded.
    ///
    /// Errors: those of a custom logger's properties, and a descriptor that cannot be duplicated.
    pub fn from_config(
        py: Python<'_>,
        cfg: &Bound<'_, PyAny>,
        logger: &Bound<'_, PyAny>,
    ) -> PyResult<AccessLog> {
        let target = Self::target(py, cfg, logger)?;
        Ok(AccessLog { target })
    }

    /// Whether an exchange has to be reported at all.
    pub fn is_enabled(&self) -> bool {
        !matches!(self.target, Target::Nobody)
    }

    /// Whether `logger.access(resp, req, environ, request_time)` has to be called instead of `record`.
    pub fn uses_python(&self) -> bool {
        matches!(self.target, Target::Python)
    }

    /// Whether `record` asks for response fields.
    pub fn needs_response_fields(&self) -> bool {
        matches!(&self.target, Target::Native(format, _) if format.needs_response_fields())
    }

    /// Format one line into the buffer; nothing unless the writer is Rust.
    pub fn record(&self, source: &dyn RecordSource) {
        let Target::Native(format, sink) = &self.target else {
            return;
        };
        let (mut line, mut clock) = SCRATCH.take();
        line.clear();
        format.write(&mut line, source, &mut clock);
        line.push(b'\n');
        sink.append(&line);
        SCRATCH.set((line, clock));
    }

    /// Write what is buffered; cheap when nothing is; never blocks on a reader.
    pub fn flush(&self) {
        if let Target::Native(_, sink) = &self.target {
            sink.flush();
        }
    }

    fn target(
        py: Python<'_>,
        cfg: &Bound<'_, PyAny>,
        logger: &Bound<'_, PyAny>,
    ) -> PyResult<Target> {
        // A logger that is not ours decides by itself what `access` does.
        let Ok(custom) = logger.call_method0("access_is_custom") else {
            return Ok(Target::Python);
        };
        if custom.is_truthy()? {
            return Ok(Target::Python);
        }
        if !logger.getattr("access_log_enabled")?.is_truthy()? {
            return Ok(Target::Nobody);
        }
        let Some(fd) = logger
            .call_method0("native_access_fd")?
            .extract::<Option<RawFd>>()?
        else {
            return Ok(Target::Python);
        };
        let format = cfg.getattr("access_log_format")?.extract::<String>().ok();
        let Some(format) = format.as_deref().and_then(Format::compile) else {
            return Ok(Target::Python);
        };
        Ok(Target::Native(format, Self::sink(py, logger, fd)?))
    }

    /// The sink of this process: the threads of a worker share one, through its logger.
    fn sink(py: Python<'_>, logger: &Bound<'_, PyAny>, fd: RawFd) -> PyResult<Arc<Sink>> {
        if let Ok(known) = logger.getattr("_access_sink")?.cast::<AccessSink>()
            && known.get().sink.is_ours()
        {
            return Ok(known.get().sink.clone());
        }
        // SAFETY: the logger's handler, which we hold, keeps the descriptor open during this call.
        let sink = Arc::new(Sink::new(unsafe { BorrowedFd::borrow_raw(fd) })?);
        let handle = Bound::new(py, AccessSink { sink: sink.clone() })?;
        py.import("atexit")?
            .call_method1("register", (handle.getattr("close")?,))?;
        logger.setattr("_access_sink", handle)?;
        Ok(sink)
    }
}

/// What the Python logger holds of the writer.
#[pyclass(frozen, module = "tricorn._core")]
pub struct AccessSink {
    sink: Arc<Sink>,
}

#[pymethods]
impl AccessSink {
    /// Go on with the file behind the descriptor.
    fn reopen(&self, fd: RawFd) -> PyResult<()> {
        // SAFETY: the logger passes the descriptor of a stream that it holds open.
        Ok(self.sink.reopen(unsafe { BorrowedFd::borrow_raw(fd) })?)
    }

    /// Write what is buffered, as far as that does not block.
    fn flush(&self) {
        self.sink.flush();
    }

    /// Write what is buffered at the end of the process, with some patience for a slow reader.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.sink.drain(LAST_PATIENCE));
    }

    /// Lines lost because the reader was slow or gone.
    #[getter]
    fn dropped(&self) -> u64 {
        self.sink.dropped()
    }
}
