//! What a finished exchange tells the access log.
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDelta, PyDict, PyString};
use tricorn_engine::{Exchange, Peer};

use super::environ::protocol;
use super::response::OwnedField;
use super::text;
use crate::log::access::RecordSource;

/// `request_time` as loggers get it.
pub fn request_time(py: Python<'_>, duration_ns: u64) -> PyResult<Bound<'_, PyDelta>> {
    let micros = duration_ns / 1_000;
    let (days, micros) = (micros / 86_400_000_000, micros % 86_400_000_000);
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    PyDelta::new(py, days as i32, seconds as i32, micros as i32, false)
}

pub struct Source<'a, 'py> {
    exchange: &'a Exchange,
    environ: Option<&'a Bound<'py, PyDict>>,
    status: &'a [u8],
    fields: &'a [OwnedField],
    duration_ns: u64,
    remote: Vec<u8>,
    protocol: String,
}

impl<'a, 'py> Source<'a, 'py> {
    pub fn new(
        py: Python<'py>,
        exchange: &'a Exchange,
        environ: Option<&'a Bound<'py, PyDict>>,
        status: &'a [u8],
        fields: &'a [OwnedField],
        duration_ns: u64,
    ) -> Self {
        let told =
            environ.and_then(|environ| environ.get_item(intern!(py, "REMOTE_ADDR")).ok().flatten());
        let told = told.and_then(|value| value.cast_into::<PyString>().ok());
        let remote = match (told.as_ref().and_then(text::as_latin1), exchange.peer()) {
            (Some(bytes), _) => bytes.to_vec(),
            (None, Peer::Inet(address)) => address.ip().to_string().into_bytes(),
            (None, Peer::Unix) => Vec::new(),
        };
        let protocol = protocol(exchange.head().version);
        Source {
            exchange,
            environ,
            status,
            fields,
            duration_ns,
            remote,
            protocol,
        }
    }
}

impl RecordSource for Source<'_, '_> {
    fn remote_addr(&self) -> &[u8] {
        &self.remote
    }

    fn method(&self) -> &[u8] {
        self.exchange.head().method()
    }

    fn target(&self) -> &[u8] {
        self.exchange.head().target()
    }

    fn path(&self) -> Vec<u8> {
        text::percent_decoded(self.exchange.head().path())
    }

    fn query(&self) -> &[u8] {
        self.exchange.head().query()
    }

    fn protocol(&self) -> &[u8] {
        self.protocol.as_bytes()
    }

    fn status(&self) -> &[u8] {
        self.status
    }

    fn body_bytes(&self) -> u64 {
        self.exchange.body_bytes()
    }

    fn duration_ns(&self) -> u64 {
        self.duration_ns
    }

    fn request_field(&self, name: &str) -> Option<Vec<u8>> {
        let head = self.exchange.head();
        let mut fields = head.fields.iter().rev();
        let field =
            fields.find(|field| head.slice(field.name).eq_ignore_ascii_case(name.as_bytes()))?;
        Some(head.slice(field.value).to_vec())
    }

    fn joined_field(&self, name: &str) -> Option<Vec<u8>> {
        let head = self.exchange.head();
        let fields = head.fields.iter();
        let mut values = fields
            .filter(|field| head.slice(field.name).eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| head.slice(field.value));
        let first = values.next()?.to_vec();
        Some(values.fold(first, |joined, value| [&joined, &b","[..], value].concat()))
    }

    fn response_field(&self, name: &str) -> Option<Vec<u8>> {
        let mut fields = self.fields.iter().rev();
        Some(
            fields
                .find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))?
                .1
                .clone(),
        )
    }

    fn environ_variable(&self, name: &str) -> Option<Vec<u8>> {
        // Names are compared without case, like all atoms.
        let found = self.environ?.iter().find(|(key, _)| {
            key.cast::<PyString>()
                .is_ok_and(|key| key.to_string_lossy().eq_ignore_ascii_case(name))
        });
        let shown = found?.1.str().ok()?;
        match text::as_latin1(&shown) {
            Some(bytes) => Some(bytes.to_vec()),
            None => {
                let encoded = shown
                    .call_method1("encode", ("latin-1", "backslashreplace"))
                    .ok()?;
                encoded.extract().ok()
            }
        }
    }
}
