//! The engine's configuration, read from the worker's `cfg`.
use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tricorn_engine::EngineConfig;
use tricorn_proto::trust::AddrList;
use tricorn_proto::{HeaderMap, Policy};

/// Errors: what reading an attribute raises; ValueError for an address list that cannot be read.
pub fn engine_config(cfg: &Bound<'_, PyAny>) -> PyResult<EngineConfig> {
    let size = |name: &str| -> PyResult<usize> { cfg.getattr(name)?.extract() };
    let flag = |name: &str| -> PyResult<bool> { cfg.getattr(name)?.is_truthy() };
    let millis = |name: &str| -> PyResult<u64> {
        Ok((cfg.getattr(name)?.extract::<f64>()? * 1000.0) as u64)
    };
    let allowed: Vec<String> = cfg.getattr("forwarded_allow_ips")?.extract()?;
    let spool_dir = match cfg
        .getattr("worker_tmp_dir")?
        .extract::<Option<PathBuf>>()?
    {
        Some(dir) => dir,
        None => std::env::temp_dir(),
    };
    Ok(EngineConfig {
        policy: policy(cfg)?,
        trusted_peers: AddrList::parse(&allowed).map_err(PyValueError::new_err)?,
        keepalive_ms: millis("keepalive")?,
        client_header_timeout_ms: millis("client_header_timeout")?,
        client_body_timeout_ms: millis("client_body_timeout")?,
        client_body_min_rate: size("client_body_min_rate")? as u64,
        send_timeout_ms: millis("send_timeout")?,
        request_buffering: flag("request_buffering")?,
        request_buffer_memory: size("request_buffer_memory")?,
        limit_request_body: size("limit_request_body")? as u64,
        response_buffer_memory: size("response_buffer_memory")?,
        worker_buffer_memory: size("worker_buffer_memory")?,
        worker_connections: size("worker_connections")?,
        sendfile: flag("sendfile")?,
        io_uring: flag("io_uring")?,
        foreign_loop: false,
        parallel_calls: cfg!(Py_GIL_DISABLED),
        spool_dir,
        server: b"tricorn".to_vec(),
    })
}

fn policy(cfg: &Bound<'_, PyAny>) -> PyResult<Policy> {
    let size = |name: &str| -> PyResult<usize> { cfg.getattr(name)?.extract() };
    let flag = |name: &str| -> PyResult<bool> { cfg.getattr(name)?.is_truthy() };
    let header_map = match cfg
        .getattr("header_map")?
        .extract::<Option<String>>()?
        .as_deref()
    {
        Some("refuse") => HeaderMap::Refuse,
        Some("dangerous") => HeaderMap::Dangerous,
        _ => HeaderMap::Drop,
    };
    let mut secure_scheme_headers = Vec::new();
    for pair in cfg
        .getattr("secure_scheme_headers")?
        .call_method0("items")?
        .try_iter()?
    {
        let (name, value): (String, String) = pair?.extract()?;
        secure_scheme_headers.push((name.to_uppercase(), value));
    }
    Ok(Policy {
        limit_request_line: size("limit_request_line")?,
        limit_request_fields: size("limit_request_fields")?,
        limit_request_field_size: size("limit_request_field_size")?,
        permit_obsolete_folding: flag("permit_obsolete_folding")?,
        strip_header_spaces: flag("strip_header_spaces")?,
        permit_unconventional_http_method: flag("permit_unconventional_http_method")?,
        permit_unconventional_http_version: flag("permit_unconventional_http_version")?,
        casefold_http_method: flag("casefold_http_method")?,
        header_map,
        forwarder_headers: cfg.getattr("forwarder_headers")?.extract()?,
        secure_scheme_headers,
    })
}
