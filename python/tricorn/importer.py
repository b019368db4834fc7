"""Turns texts into objects: classes from their URIs, applications from `MODULE:EXPR`."""

import os
import sys

from tricorn.errors import AppImportError, NotImplementedYet

WORKER_CLASSES = {
    "sync": "tricorn.workers.sync.SyncWorker",
    "gthread": "tricorn.workers.gthread.ThreadWorker",
    "gevent": "tricorn.workers.gevent.GeventWorker",
    "gevent_wsgi": "tricorn.workers.gevent.GeventWorker",
    "gevent_pywsgi": "tricorn.workers.gevent.GeventWorker",
    "eventlet": "tricorn.workers.eventlet.EventletWorker",
    "tornado": "tricorn.workers.tornado.TornadoWorker",
    "asgi": "tricorn.workers.asgi.AsgiWorker",
}
MISSING_WORKER_CLASSES = {"gaiohttp"}
# Gunicorn's classes by their dotted names, and what they are called here.
GUNICORN_CLASSES = {
    "gunicorn.workers.sync.SyncWorker": "sync",
    "gunicorn.workers.gthread.ThreadWorker": "gthread",
    "gunicorn.workers.ggevent.GeventWorker": "gevent",
    "gunicorn.workers.ggevent.GeventPyWSGIWorker": "gevent",
    "gunicorn.workers.geventlet.EventletWorker": "eventlet",
    "gunicorn.workers.gtornado.TornadoWorker": "tornado",
    "gunicorn.workers.gasgi.ASGIWorker": "asgi",
}
FOREIGN_WORKER_CLASSES = {
    "uvicorn.workers",
    "uvicorn_worker",
    "aiohttp.worker",
    "aiohttp",
}


def refuse_missing_worker_class(uri):
    """Refuse a worker class that this version lacks, by its URI or by the class itself.

    Errors: NotImplementedYet.
    """
    if isinstance(uri, str):
        missing = (
            uri.lstrip("#") in MISSING_WORKER_CLASSES or uri.rpartition(".")[0] in FOREIGN_WORKER_CLASSES
        )
        name = uri
    else:
        missing = any(base.__module__.split(".")[0] == "gunicorn" for base in getattr(uri, "__mro__", ()))
        name = getattr(uri, "__name__", uri)
    if missing:
        raise NotImplementedYet(
            f"the worker class {name!r} is not implemented in this version of Tricorn;"
            " use 'sync' or 'gthread'"
        )


def load_class(uri, default=None, section="gunicorn.workers"):
    """The class that a URI names: `alias`, `#alias`, `pkg.mod.Class`, `egg:DIST#NAME`; or a class as it is.

    Errors: RuntimeError when the URI leads nowhere.
    """
    if not isinstance(uri, str):
        return uri
    try:
        if uri.startswith("egg:"):
            distribution, _, name = uri[len("egg:") :].partition("#")
            return _entry_point(distribution, section, name or default)
        alias = uri.lstrip("#")
        dotted = WORKER_CLASSES.get(alias, uri)
        if "." not in dotted:
            return _entry_point("tricorn", section, alias)
        return _dotted(dotted)
    except Exception:
        import traceback

        message = f"class uri {uri!r} invalid or not found: \n\n[{traceback.format_exc()}]"
        raise RuntimeError(message) from None


def _dotted(path):
    from importlib import import_module

    # Configurations written for Gunicorn name its own classes.
    if path in GUNICORN_CLASSES:
        path = WORKER_CLASSES[GUNICORN_CLASSES[path]]
    elif path.startswith("gunicorn.glogging."):
        path = "tricorn" + path[len("gunicorn") :]
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _entry_point(distribution, group, name):
    if distribution in ("gunicorn", "tricorn") and name in WORKER_CLASSES:
        return _dotted(WORKER_CLASSES[name])
    from importlib.metadata import distribution as find_distribution

    for entry_point in find_distribution(distribution).entry_points:
        if entry_point.group == group and entry_point.name == name:
            return entry_point.load()
    raise ImportError(f"Entry point {(group, name)!r} not found")


def import_app(target):
    """The application that `MODULE[:EXPR]` names. EXPR is a name, or a call of a name with literal arguments.

    Errors: ImportError with a hint when a file name was given; AppImportError for an expression that is not
    understood, a name that is missing or an object that is not callable. What the module or the factory
    raises itself passes through.
    """
    module_name, _, expression = target.partition(":")
    if ":" not in target:
        expression = "application"
    module = _import_module(module_name, expression)
    name, args, kwargs = _parse_expression(expression)
    try:
        app = getattr(module, name)
    except AttributeError:
        raise AppImportError(f"Failed to find attribute {name!r} in {module_name!r}.") from None
    if args is not None:
        app = _call_factory(app, args, kwargs)
    if app is None:
        raise AppImportError(f"Failed to find application object: {expression!r}")
    if not callable(app):
        raise AppImportError("Application object must be callable.")
    return app


def _import_module(name, expression):
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        if name.endswith(".py") and os.path.exists(name):
            stem = name.rpartition(".")[0]
            message = f"Failed to find application, did you mean '{stem}:{expression}'?"
            raise ImportError(message) from None
        raise


def _parse_expression(expression):
    """Shape: (name, None, None) for a name, (name, args, kwargs) for a call."""
    if expression.isidentifier():
        return expression, None, None
    import ast

    try:
        parsed = ast.parse(expression, mode="eval").body
    except SyntaxError:
        message = f"Failed to parse {expression!r} as an attribute name or function call."
        raise AppImportError(message) from None
    if isinstance(parsed, ast.Name):
        return parsed.id, None, None
    if not isinstance(parsed, ast.Call):
        raise AppImportError(f"Failed to parse {expression!r} as an attribute name or function call.")
    if not isinstance(parsed.func, ast.Name):
        raise AppImportError(f"Function reference must be a simple name: {expression!r}")
    try:
        args = [ast.literal_eval(arg) for arg in parsed.args]
        kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in parsed.keywords}
    except ValueError:
        raise AppImportError(f"Failed to parse arguments as literal values: {expression!r}") from None
    return parsed.func.id, args, kwargs


def _call_factory(factory, args, kwargs):
    try:
        return factory(*args, **kwargs)
    except TypeError as error:
        # Wrong arguments fail at the call itself; a TypeError from within the factory has a deeper traceback.
        if error.__traceback__.tb_next is None:
            raise AppImportError(f"TypeError: {error}") from None
        raise


def insert_path(path):
    """Put a directory first on the module search path, unless it is there already."""
    if path not in sys.path:
        sys.path.insert(0, path)
