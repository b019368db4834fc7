//! The one table of settings, its kinds and validators, and the readers made from it. Pure: no I/O, no libc, no pyo3.
#![forbid(unsafe_code)]
