"""Validators of the value kinds that need Python or the running system: classes, hooks, accounts, files.

The other kinds are checked by the settings table in `tricorn._core`.
"""

import os
import types

from tricorn import _core
from tricorn.errors import ConfigError


def _of_kind(kind, doc):
    def validate(value):
        return _core.validate_kind(kind, value)

    validate.__doc__ = doc
    return validate


validate_bool = _of_kind("bool", "A truth value, also as text.")
validate_pos_int = _of_kind("int", "A whole number of at least 0, also as text.")
validate_string = _of_kind("text", "Text, trimmed; may be None.")
validate_list_string = _of_kind("list", "A list of texts; a lone text is a list of one.")
validate_string_to_list = _of_kind("words", "Text split at its commas.")
validate_string_to_addr_list = _of_kind("networks", "Addresses and networks split at their commas.")
validate_dict = _of_kind("map", "A dictionary.")


def validate_class(value):
    """A class or the text that names one; a function is called to say which."""
    if isinstance(value, (types.FunctionType, types.MethodType)):
        value = value()
    if isinstance(value, type):
        return value
    return validate_string(value)


def validate_chdir(value):
    """An existing directory, made absolute."""
    value = validate_string(value)
    if value is None:
        raise TypeError("Not a string: None (wanted an existing directory)")
    path = os.path.abspath(os.path.join(current_directory(), value))
    if not os.path.exists(path):
        raise ConfigError(f"can't chdir to {value!r}")
    return path


def current_directory():
    """The working directory, by the name the shell knows it under if that is the same directory."""
    try:
        here = os.stat(os.getcwd())
        named = os.stat(os.environ["PWD"])
        if (here.st_ino, here.st_dev) == (named.st_ino, named.st_dev):
            return os.environ["PWD"]
    except (KeyError, OSError):
        pass
    return os.getcwd()


def validate_user(value):
    """A user as a number. None is the user the server runs as."""
    if value is None:
        return os.geteuid()
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        if value.isdigit():
            return int(value)
        import pwd

        try:
            return pwd.getpwnam(value).pw_uid
        except KeyError:
            pass
    raise ConfigError(f"No such user: {value!r}")


def validate_group(value):
    """A group as a number. None is the group the server runs as."""
    if value is None:
        return os.getegid()
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        if value.isdigit():
            return int(value)
        import grp

        try:
            return grp.getgrnam(value).gr_gid
        except KeyError:
            pass
    raise ConfigError(f"No such group: {value!r}")


def validate_files(value):
    """A list of existing files and of glob patterns, which stay patterns."""
    files = validate_list_string(value)
    for name in files:
        if any(sign in name for sign in "*?["):
            import glob
            import warnings

            if not glob.glob(name):
                warnings.warn(f"Pattern {name} currently matches no files.", RuntimeWarning, stacklevel=4)
        elif not os.path.exists(name):
            raise ValueError(f"File {name} does not exists.")
    return files


def count_parameters(function):
    """How many positional parameters a callable declares."""
    if type(function) is types.FunctionType and not hasattr(function, "__wrapped__"):
        return function.__code__.co_argcount
    import inspect

    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        raise TypeError(f"Value has no readable signature: {function}") from None
    return sum(parameter.kind in positional for parameter in parameters)


def validate_callable(arity):
    """A validator of callables, or dotted paths of them, with that many parameters; -1 is any number."""

    def validate(value):
        value = _load_callable(value)
        if arity != -1 and count_parameters(value) != arity:
            raise TypeError(f"Value must have an arity of: {arity}")
        return value

    return validate


def _load_callable(value):
    if not isinstance(value, str):
        if not callable(value):
            raise TypeError(f"Value is not callable: {value}")
        return value
    value = value.strip()
    module_name, dot, name = value.rpartition(".")
    if not dot:
        message = f"Value '{value}' is not import string. Format: module[.submodules...].object"
        raise TypeError(message)
    from importlib import import_module

    try:
        function = getattr(import_module(module_name), name)
    except AttributeError:
        raise TypeError(f"Can not load '{name}' from '{module_name}'") from None
    except ImportError as error:
        raise TypeError(str(error)) from None
    if not callable(function):
        raise TypeError(f"Value is not callable: {function}")
    return function


def validate_post_request(value):
    """The post_request hook: with four parameters as it is, with two or three wrapped to take four."""
    function = _load_callable(value)
    arity = count_parameters(function)
    if arity == 4:
        return function
    if arity == 3:
        return lambda worker, req, environ, resp: function(worker, req, environ)
    if arity == 2:
        return lambda worker, req, environ, resp: function(worker, req)
    raise TypeError("Value must have an arity of: 4")
