//! The settings table as Python sees it: rows for `tricorn.config`, and the validators.
//!
//! What it is not: it holds no configuration; values live in the Python `Config`.
//! Invariant: a value that passes comes back as the type that Gunicorn's configuration files expect.
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};
use tricorn_settings::table::SECTIONS;
use tricorn_settings::{Action, Default, Fault, Invalid, Kind, Setting, Status, Value, find};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(settings_table, module)?)?;
    module.add_function(wrap_pyfunction!(validate_setting, module)?)?;
    module.add_function(wrap_pyfunction!(validate_kind, module)?)?;
    module.add_function(wrap_pyfunction!(refusal, module)?)
}

/// Every setting as a dict: name, section, flags, metavar, action, const, number, kind, parameters, default,
/// status, reason, own, help (and wanted, computed).
#[pyfunction]
fn settings_table(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let rows = PyList::empty(py);
    for section in SECTIONS {
        for setting in section.settings {
            rows.append(row(py, section.title, setting)?)?;
        }
    }
    Ok(rows)
}

fn row<'py>(py: Python<'py>, section: &str, setting: &Setting) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    row.set_item("name", setting.name)?;
    row.set_item("section", section)?;
    row.set_item("flags", PyList::new(py, setting.flags)?)?;
    row.set_item("metavar", setting.metavar)?;
    let (action, constant) = match setting.action {
        Action::Store => ("store", None),
        Action::Append => ("append", None),
        Action::StoreTrue => ("store_true", None),
        Action::StoreFalse => ("store_false", None),
        Action::StoreOptional(constant) => ("store_optional", Some(constant)),
    };
    row.set_item("action", action)?;
    row.set_item("const", constant)?;
    let number = match setting.kind {
        Kind::Count | Kind::Range { .. } if setting.any_base => Some("any base"),
        Kind::Count | Kind::Range { .. } => Some("decimal"),
        _ => None,
    };
    row.set_item("number", number)?;
    row.set_item("kind", setting.kind.name())?;
    row.set_item("wanted", setting.kind.wanted())?;
    let parameters: &[&str] = match setting.kind {
        Kind::Hook(parameters) => parameters,
        _ => &[],
    };
    row.set_item("parameters", PyTuple::new(py, parameters)?)?;
    row.set_item("default", to_python(py, setting.default.value())?)?;
    let computed = matches!(setting.default, Default::Computed(_));
    row.set_item("computed", computed)?;
    let (status, reason) = match setting.status {
        Status::Works => ("works", None),
        Status::NotYet => ("not yet", None),
        Status::NoEffect(reason) => ("no effect", Some(reason)),
    };
    row.set_item("status", status)?;
    row.set_item("reason", reason)?;
    row.set_item("own", setting.own)?;
    row.set_item("help", setting.help)?;
    Ok(row)
}

/// Checks a value for a setting of the table and returns it as it is stored.
///
/// Errors: KeyError for an unknown name; TypeError, ValueError or NotImplementedYet for a refused value.
#[pyfunction]
fn validate_setting<'py>(name: &str, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let setting = find(name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
    checked(value, setting.kind, |value| setting.validate(value))
}

/// Checks a value against a kind by its name, for settings that users declare.
///
/// Errors: KeyError for an unknown kind; TypeError or ValueError for a refused value.
#[pyfunction]
fn validate_kind<'py>(kind: &str, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let kind = match kind {
        "bool" => Kind::Bool,
        "int" => Kind::Count,
        "text" => Kind::Text,
        "list" => Kind::TextList,
        "words" => Kind::Words,
        "networks" => Kind::Networks,
        "map" => Kind::Map,
        _ => return Err(PyKeyError::new_err(kind.to_owned())),
    };
    checked(value, kind, |value| kind.validate(value))
}

/// The refusal of a setting that is not implemented, for values that Python checks; None if it is implemented.
#[pyfunction]
fn refusal(name: &str) -> Option<String> {
    let setting = find(name)?;
    (setting.status == Status::NotYet).then(|| setting.refusal().text)
}

fn checked<'py>(
    value: Bound<'py, PyAny>,
    kind: Kind,
    check: impl Fn(Value) -> Result<Value, Invalid>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    let accepted = check(from_python(&value)?).map_err(|invalid| to_error(py, invalid))?;
    match kind {
        Kind::Map | Kind::Anything => Ok(value),
        _ => to_python(py, accepted),
    }
}

fn to_error(py: Python<'_>, invalid: Invalid) -> PyErr {
    match invalid.fault {
        Fault::Type => PyTypeError::new_err(invalid.text),
        Fault::Value => PyValueError::new_err(invalid.text),
        Fault::NotYet => {
            let error = py
                .import("tricorn.errors")
                .and_then(|errors| errors.getattr("NotImplementedYet"));
            match error.and_then(|class| class.call1((invalid.text,))) {
                Ok(error) => PyErr::from_value(error),
                Err(error) => error,
            }
        }
    }
}

/// A Python value in the shapes that validators know. The contents of dictionaries are not looked at.
fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(truth) = value.cast::<PyBool>() {
        return Ok(Value::Bool(truth.is_true()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::Text(text.to_str()?.to_owned()));
    }
    if let Ok(number) = value.cast::<PyInt>()
        && let Ok(number) = number.extract::<i64>()
    {
        return Ok(Value::Int(number));
    }
    if value.is_instance_of::<PyDict>() {
        return Ok(Value::Map(Vec::new()));
    }
    if !value.is_instance_of::<PyBytes>()
        && let Ok(items) = value.try_iter()
    {
        let items: PyResult<Vec<Value>> = items.map(|item| from_python(&item?)).collect();
        return Ok(Value::List(items?));
    }
    Ok(Value::Other(value.str()?.to_str()?.to_owned()))
}

fn to_python(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(truth) => PyBool::new(py, truth).to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Text(text) | Value::Other(text) => PyString::new(py, &text).into_any(),
        Value::List(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(to_python(py, item)?)?;
            }
            list.into_any()
        }
        Value::Map(items) => {
            let dict = PyDict::new(py);
            for (name, value) in items {
                dict.set_item(name, to_python(py, value)?)?;
            }
            dict.into_any()
        }
        Value::Address(host, port) => (host, port).into_pyobject(py)?.into_any(),
    })
}
