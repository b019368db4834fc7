//! wsgi.file_wrapper: an iterable over a file, which the engine sends itself when it can.
//!
//! Source: PEP 3333 "Optional Platform-Specific File Handling".
use std::fs::File;
use std::os::fd::BorrowedFd;

use pyo3::exceptions::{PyIndexError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;

use super::response::unsupported;

#[pyclass(frozen, subclass, module = "tricorn._core")]
pub struct FileWrapper {
    #[pyo3(get)]
    filelike: Py<PyAny>,
    #[pyo3(get)]
    blksize: Py<PyAny>,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=None))]
    fn new(py: Python<'_>, filelike: Py<PyAny>, blksize: Option<Py<PyAny>>) -> PyResult<Self> {
        let blksize = match blksize {
            Some(size) => size,
            None => 8192_i64.into_pyobject(py)?.into_any().unbind(),
        };
        Ok(FileWrapper { filelike, blksize })
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self
            .filelike
            .bind(py)
            .call_method1(intern!(py, "read"), (&self.blksize,))?;
        Ok(if block.is_truthy()? {
            Some(block)
        } else {
            None
        })
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        _index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)?
            .ok_or_else(|| PyIndexError::new_err("end of file"))
    }

    /// Closes the file, when it can be closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.filelike.bind(py).getattr_opt(intern!(py, "close"))? {
            close.call0()?;
        }
        Ok(())
    }
}

/// A file the engine can send.
pub struct Sendable {
    pub file: File,
    pub offset: u64,
    pub length: u64,
}

impl FileWrapper {
    /// The file behind the wrapper, from its current position, or `None` when its blocks have to be read instead:
    /// no descriptor, not a regular file, or an object whose bytes are not those of its descriptor (gzip).
    pub fn sendable(&self, py: Python<'_>) -> PyResult<Option<Sendable>> {
        let filelike = self.filelike.bind(py);
        if !is_plain(filelike)? {
            return Ok(None);
        }
        let descriptor = match filelike.call_method0(intern!(py, "fileno")) {
            Ok(number) => match number.extract::<i32>() {
                Ok(number) if number >= 0 => number,
                _ => return Ok(None),
            },
            Err(error) if is_refusal(py, &error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // SAFETY: the application's file is open: it has just told its descriptor and we keep the object alive; a
        // wrong number gives EBADF from the duplication.
        let file: File = unsafe { BorrowedFd::borrow_raw(descriptor) }
            .try_clone_to_owned()?
            .into();
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let Some(offset) = position(filelike, &file)? else {
            return Ok(None);
        };
        Ok(Some(Sendable {
            file,
            offset,
            length: metadata.len().saturating_sub(offset),
        }))
    }
}

/// `fileno()` is missing, or says that there is none.
fn is_refusal(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<pyo3::exceptions::PyAttributeError>(py)
        || error.is_instance_of::<PyOSError>(py)
        || error.is_instance_of::<pyo3::exceptions::PyTypeError>(py)
        || error.is_instance(py, unsupported(py, "").value(py).get_type().as_any())
}

/// Are the bytes of the object those of its descriptor? Looks through wrappers with a `file` attribute (tempfile,
/// Django); io's own classes are known; an object of another kind is believed, as Gunicorn does.
fn is_plain(filelike: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = filelike.py();
    let io = py.import(intern!(py, "io"))?;
    let base = io.getattr(intern!(py, "IOBase"))?;
    let mut inner = filelike.clone();
    for _ in 0..4 {
        if inner.is_instance(&base)? {
            let plain = [
                "FileIO",
                "BufferedReader",
                "BufferedRandom",
                "TextIOWrapper",
            ];
            let mut known = false;
            for class in plain {
                known |= inner.is_instance(&io.getattr(class)?)?;
            }
            if !known {
                return Ok(false);
            }
            // What a buffer or a text layer wraps must be plain itself.
            let below = match inner.getattr_opt(intern!(py, "raw"))? {
                Some(raw) => Some(raw),
                None => inner.getattr_opt(intern!(py, "buffer"))?,
            };
            match below {
                Some(below) => inner = below,
                None => return Ok(true),
            }
        } else {
            match inner.getattr_opt(intern!(py, "file"))? {
                Some(file) => inner = file,
                None => return Ok(true),
            }
        }
    }
    Ok(false)
}

/// Where the application stands in the file. A buffering reader has read ahead of its `tell()`.
fn position(filelike: &Bound<'_, PyAny>, file: &File) -> PyResult<Option<u64>> {
    let py = filelike.py();
    let text = filelike.is_instance(
        &py.import(intern!(py, "io"))?
            .getattr(intern!(py, "TextIOBase"))?,
    )?;
    if !text
        && let Some(tell) = filelike.getattr_opt(intern!(py, "tell"))?
        && let Ok(told) = tell.call0()
        && let Ok(position) = told.extract::<u64>()
    {
        return Ok(Some(position));
    }
    Ok(rustix::fs::seek(file, rustix::fs::SeekFrom::Current(0)).ok())
}
