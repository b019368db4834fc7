"""Configuration as Python code sees it: `Config`, and a `Setting` class for every row of the settings table.

Invariant: settings are listed in the table of `tricorn._core` only; this module gives its rows the surface
that configuration files, custom applications and third-party workers use. Users may add settings of their
own by subclassing `Setting`.
"""

import os
import sys

from tricorn import _core, hooks
from tricorn.addresses import parse_address
from tricorn.errors import ConfigError, NotImplementedYet
from tricorn.importer import load_class, refuse_missing_worker_class
from tricorn.validators import (  # noqa: F401  (settings that users declare import these from here)
    current_directory,
    validate_bool,
    validate_callable,
    validate_chdir,
    validate_class,
    validate_dict,
    validate_files,
    validate_group,
    validate_list_string,
    validate_pos_int,
    validate_post_request,
    validate_string,
    validate_string_to_addr_list,
    validate_string_to_list,
    validate_user,
)

KNOWN_SETTINGS = []
ENVIRONMENT_PREFIX = "TRICORN_"
_TRUE_WORDS = {"1", "yes", "on", "y"}
_FALSE_WORDS = {"0", "no", "off", "n"}
_warned = set()


def auto_int(_, text):
    """A number as a command line argument: with a prefix (`0o22`), or octal after a leading zero (`022`)."""
    if text[:1] == "0" and text[1:].isdecimal():
        return int(text, 8)
    return int(text, 0)


_ARGUMENT_TYPES = {"decimal": int, "any base": auto_int, None: None}


class SettingMeta(type):
    """Registers every subclass of `Setting` as a known setting."""

    def __new__(cls, name, bases, attrs):
        if not any(isinstance(base, SettingMeta) for base in bases):
            return super().__new__(cls, name, bases, attrs)
        attrs["order"] = len(KNOWN_SETTINGS)
        if "validator" in attrs:
            attrs["validator"] = staticmethod(attrs["validator"])
        desc = _dedent(attrs.get("desc") or "")
        attrs["desc"] = desc
        attrs.setdefault("short", desc.partition("\n")[0])
        setting = super().__new__(cls, name, bases, attrs)
        KNOWN_SETTINGS.append(setting)
        return setting


def _dedent(text):
    if "\n" not in text:
        return text.strip()
    import textwrap

    return textwrap.dedent(text).strip()


class Setting(metaclass=SettingMeta):
    """One setting with its value. Subclass it with a name and a validator to register a new setting."""

    name = None
    value = None
    section = None
    cli = None
    validator = None
    type = None
    meta = None
    action = None
    default = None
    short = None
    desc = None
    nargs = None
    const = None
    # Gunicorn has no such attributes: which kind of value the table declares, how far it is honoured, and
    # whether somebody has given this one a value.
    given = False
    kind = None
    status = "works"
    reason = None

    def __init__(self):
        if self.kind == "hook":
            self.value = self.default
        elif self.default is not None:
            self.set(self.default)

    def __lt__(self, other):
        return self.section == other.section and self.order < other.order

    def __repr__(self):
        return f"<{type(self).__module__}.{type(self).__name__} {self.name}={self.value!r}>"

    def copy(self):
        import copy

        return copy.copy(self)

    def get(self):
        return self.value

    def set(self, value):
        """Errors: whatever the validator raises."""
        if not callable(self.validator):
            raise TypeError(f"Invalid validator: {self.validator} for {self.name}")
        self.value = self.validator(value)

    def add_option(self, parser):
        """Declare the flags of this setting, if it has any."""
        if not self.cli:
            return
        action = self.action or "store"
        options = {
            "dest": self.name,
            "action": action,
            "default": None,
            "help": f"{self.short} [{self.default}]".replace("%", "%%"),
        }
        if action in ("store", "append"):
            options["type"] = self.type or str
            if self.meta is not None:
                options["metavar"] = self.meta
            if self.nargs is not None:
                options["nargs"] = self.nargs
        if self.const is not None:
            options["const"] = self.const
        parser.add_argument(*self.cli, **options)


def _environment_defaults():
    """Defaults that the environment or the system decides."""
    defaults = {
        "chdir": current_directory(),
        "user": os.geteuid(),
        "group": os.getegid(),
    }
    if os.environ.get("PORT"):
        defaults["bind"] = [f"0.0.0.0:{os.environ['PORT']}"]
    workers = os.environ.get("WEB_CONCURRENCY")
    if workers:
        defaults["workers"] = int(workers) if workers.isdecimal() else workers
    if "FORWARDED_ALLOW_IPS" in os.environ:
        defaults["forwarded_allow_ips"] = os.environ["FORWARDED_ALLOW_IPS"]
    if sys.platform == "darwin":
        defaults["syslog_addr"] = "unix:///var/run/syslog"
    elif sys.platform.startswith(("freebsd", "dragonfly")):
        defaults["syslog_addr"] = "unix:///var/run/log"
    elif sys.platform.startswith("openbsd"):
        defaults["syslog_addr"] = "unix:///dev/log"
    return defaults


_VALIDATORS = {
    "class": validate_class,
    "directory": validate_chdir,
    "files": validate_files,
    "user": validate_user,
    "group": validate_group,
}


def _validator(row):
    name, kind = row["name"], row["kind"]
    if name == "post_request":
        return validate_post_request
    if kind == "hook":
        check = validate_callable(len(row["parameters"]))
        if row["status"] != "not yet":
            return check

        def refuse(value):
            raise NotImplementedYet(_core.refusal(name))

        return refuse
    if kind in _VALIDATORS:
        return _VALIDATORS[kind]
    if row["status"] == "no effect":
        return lambda value: _without_effect(row, _core.validate_setting(name, value))
    return lambda value: _core.validate_setting(name, value)


def _without_effect(row, value):
    """Say once that a setting does nothing."""
    if value and value != row["default"] and row["name"] not in _warned:
        _warned.add(row["name"])
        print(f"Warning: the setting `{row['name']}` has no effect: {row['reason']}.", file=sys.stderr)
    return value


def _declare(row, defaults):
    """Make the `Setting` class of a table row."""
    name = row["name"]
    action, const, nargs = row["action"], row["const"], None
    if action == "store_false":
        action, const = "store_const", False
    elif action == "store_optional":
        action, nargs = "store", "?"
    default = getattr(hooks, name) if row["kind"] == "hook" else defaults.get(name, row["default"])
    attrs = {
        "__module__": __name__,
        "name": name,
        "section": row["section"],
        "cli": row["flags"] or None,
        "validator": _validator(row),
        "type": _ARGUMENT_TYPES[row["number"]],
        "meta": row["metavar"],
        "action": action,
        "const": const,
        "nargs": nargs,
        "default": staticmethod(default) if row["kind"] == "hook" else default,
        "desc": row["help"],
        "kind": row["kind"],
        "status": row["status"],
        "reason": row["reason"],
    }
    class_name = "".join(word.capitalize() for word in name.split("_"))
    return SettingMeta(class_name, (Setting,), attrs)


def _declare_table():
    defaults = _environment_defaults()
    for row in _core.settings_table():
        setting = _declare(row, defaults)
        globals()[setting.__name__] = setting


_declare_table()


def make_settings(ignore=None):
    """A fresh instance of every known setting, by name.

    Errors: ConfigError for a default that came from the environment and is not valid.
    """
    settings = {}
    ignore = ignore or ()
    for known in KNOWN_SETTINGS:
        if known.name in ignore:
            continue
        try:
            settings[known.name] = known()
        except (TypeError, ValueError) as error:
            raise ConfigError(f"Invalid value for {known.name}: {known.default}: {error}") from None
    return settings


class Config:
    """The configuration: every setting as an attribute, read-only; `set` changes one."""

    def __init__(self, usage=None, prog=None):
        self.settings = make_settings()
        self.usage = usage
        self.prog = prog or os.path.basename(sys.argv[0])
        self.env_orig = os.environ.copy()

    def __str__(self):
        width = max(map(len, self.settings))
        lines = []
        for name in sorted(self.settings):
            value = self.settings[name].value
            if callable(value):
                value = f"<{getattr(value, '__qualname__', value)}()>"
                if self.hook_is_default(name):
                    value = f"<{type(self.settings[name]).__name__}.{name}()>"
            lines.append(f"{name:{width}} = {value}")
        return "\n".join(lines)

    def __getattr__(self, name):
        try:
            return self.__dict__["settings"][name].get()
        except KeyError:
            raise AttributeError(f"No configuration setting for: {name}") from None

    def __setattr__(self, name, value):
        if name != "settings" and name in self.__dict__.get("settings", ()):
            raise AttributeError("Invalid access!")
        super().__setattr__(name, value)

    def set(self, name, value):
        """Errors: AttributeError for an unknown setting; whatever its validator raises."""
        if name not in self.settings:
            raise AttributeError(f"No configuration setting for: {name}")
        self.settings[name].set(value)
        self.settings[name].given = True

    def set_from(self, name, value):
        """Set a value that a user wrote somewhere, saying which one it was when it is refused."""
        try:
            self.set(name, value)
        except NotImplementedYet:
            raise
        except Exception:
            print(f"Invalid value for {name}: {value}\n", file=sys.stderr)
            raise

    def set_from_environment(self):
        """Take every `TRICORN_<SETTING>` variable. Lists are split at commas, dictionaries are JSON."""
        for name, setting in self.settings.items():
            text = self.env_orig.get(ENVIRONMENT_PREFIX + name.upper())
            if text is not None:
                self.set_from(name, read_text(setting, text))

    def validate(self):
        """Check what one setting alone cannot tell.

        Errors: NotImplementedYet for a worker class that this version lacks.
        """
        refuse_missing_worker_class(self.settings["worker_class"].get())

    def get_cmd_args_from_env(self, variable="GUNICORN_CMD_ARGS"):
        """The command line arguments that an environment variable holds."""
        text = self.env_orig.get(variable)
        if not text:
            return []
        import shlex

        return shlex.split(text)

    def parser(self):
        """A command line parser with the flags of every setting."""
        import argparse

        from tricorn import __version__

        columns = _columns()

        class Formatter(argparse.HelpFormatter):
            """Made anew for each option added; left alone it imports shutil and measures the terminal."""

            def __init__(self, prog, **options):
                options["width"] = options.get("width") or columns - 2
                super().__init__(prog, **options)

        parser = argparse.ArgumentParser(usage=self.usage, prog=self.prog, formatter_class=Formatter)
        version = f"%(prog)s (version {__version__})"
        parser.add_argument("-v", "--version", action="version", version=version)
        parser.add_argument("args", nargs="*", help=argparse.SUPPRESS)
        for setting in self.settings.values():
            setting.add_option(parser)
        return parser

    def hook_is_default(self, name):
        """Whether a hook is the one that runs when nobody sets it."""
        setting = self.settings[name]
        return setting.value is setting.default

    @property
    def worker_class_str(self):
        uri = self._worker_uri()
        return uri if isinstance(uri, str) else uri.__name__

    @property
    def worker_class(self):
        uri = self._worker_uri()
        refuse_missing_worker_class(uri)
        worker_class = load_class(uri)
        refuse_missing_worker_class(worker_class)
        if hasattr(worker_class, "setup"):
            worker_class.setup()
        return worker_class

    def _worker_uri(self):
        """The worker class as configured; sync with several threads is gthread."""
        uri = self.settings["worker_class"].get()
        if isinstance(uri, str) and (uri == "sync" or uri.endswith("SyncWorker")) and self.threads > 1:
            return "gthread"
        return uri

    @property
    def logger_class(self):
        uri = self.settings["logger_class"].get()
        if uri in (None, "simple"):
            uri = self.settings["logger_class"].default
        logger_class = load_class(
            uri, default=self.settings["logger_class"].default, section="gunicorn.loggers"
        )
        if hasattr(logger_class, "install"):
            logger_class.install()
        return logger_class

    @property
    def address(self):
        """Where to listen: `(host, port)` pairs, socket paths and descriptor numbers."""
        return [parse_address(bind) for bind in self.settings["bind"].get()]

    @property
    def uid(self):
        return self.settings["user"].get()

    @property
    def gid(self):
        return self.settings["group"].get()

    @property
    def proc_name(self):
        name = self.settings["proc_name"].get()
        return self.settings["default_proc_name"].get() if name is None else name

    @property
    def is_ssl(self):
        return self.certfile or self.keyfile

    @property
    def ssl_options(self):
        return {name: setting.get() for name, setting in self.settings.items() if setting.section == "SSL"}

    @property
    def env(self):
        """The variables of `raw_env`.

        Errors: RuntimeError for an entry without `=`.
        """
        env = {}
        for entry in self.settings["raw_env"].get():
            name, equals, value = entry.partition("=")
            if not equals:
                raise RuntimeError(f"environment setting {entry!r} invalid")
            env[name] = value
        return env

    @property
    def sendfile(self):
        value = self.settings["sendfile"].get()
        if value is not None:
            return value
        if "SENDFILE" in os.environ:
            return os.environ["SENDFILE"].lower() in ("y", "1", "yes", "true")
        return True

    @property
    def forwarded_allow_networks(self):
        return _networks(self.forwarded_allow_ips)

    @property
    def proxy_allow_networks(self):
        return _networks(self.proxy_allow_ips)

    @property
    def paste_global_conf(self):
        """The global configuration of PasteDeploy; `\\=` stands for `=` in names and values.

        Errors: RuntimeError for an entry without `=`.
        """
        conf = {}
        for entry in self.settings["raw_paste_global_conf"].get():
            name, equals, value = entry.replace("\\=", "\0").partition("=")
            if not equals:
                raise RuntimeError(f"environment setting {entry!r} invalid")
            conf[name.replace("\0", "=")] = value.replace("\0", "=")
        return conf


def _networks(entries):
    import ipaddress

    return [ipaddress.ip_network(entry) for entry in entries if entry != "*"]


def read_text(setting, text):
    """The value that a text from the environment stands for."""
    kind = setting.kind
    if kind == "bool":
        word = text.strip().lower()
        return True if word in _TRUE_WORDS else False if word in _FALSE_WORDS else text
    if kind in ("list", "files"):
        return [item.strip() for item in text.split(",") if item.strip()]
    if kind == "map":
        import json

        try:
            return json.loads(text)
        except ValueError:
            return text
    if getattr(setting.type, "__func__", None) is auto_int:
        return setting.type(text)
    return text


def _columns():
    """The width of the terminal, for the help."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80
    except (AttributeError, ValueError, OSError):
        return 80
