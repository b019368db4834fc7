"""The logger of the arbiter and its workers: error log, access log, and their configuration.

What it is not: the usual writer of access lines. When nobody customised the access log, workers write it
from Rust (`_core.AccessSink`); `Logger.access` serves custom loggers, logconfig and syslog.

Invariant: no control character that came from a peer reaches a log line through an access atom.

Source: Gunicorn settings of the section Logging; the stdlib logger names stay `gunicorn.error` and
`gunicorn.access` because configuration files of users name them.
"""

import logging
import os
import re
import sys
import threading
import time

SYSLOG_FACILITIES = {
    "kern": 0,
    "user": 1,
    "mail": 2,
    "daemon": 3,
    "auth": 4,
    "security": 4,
    "syslog": 5,
    "lpr": 6,
    "news": 7,
    "uucp": 8,
    "cron": 9,
    "authpriv": 10,
    "ftp": 11,
    **{f"local{number}": 16 + number for number in range(8)},
}

CONFIG_DEFAULTS = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {
            "level": "INFO",
            "handlers": ["error_console"],
            "propagate": True,
            "qualname": "gunicorn.error",
        },
        "gunicorn.access": {
            "level": "INFO",
            "handlers": ["console"],
            "propagate": True,
            "qualname": "gunicorn.access",
        },
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stdout",
        },
        "error_console": {
            "class": "logging.StreamHandler",
            "formatter": "generic",
            "stream": "ext://sys.stderr",
        },
    },
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
            "class": "logging.Formatter",
        },
    },
}

# C0, DEL, C1 (U+009B starts an escape sequence too) and the separators that split lines in many readers.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# In a traceback line feeds and tabs are the server's own.
_CONTROL_IN_TRACEBACK = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
# A backslash before a quote or at the end would undo the escape of the quote that follows it.
_LOOSE_BACKSLASHES = re.compile(r'\\+(?="|\Z)')


def _escape_control(match):
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def printable(text):
    """`text` with its control characters written as `\\xNN`: for peer data in error-log messages."""
    return _CONTROL.sub(_escape_control, str(text))


def loggers():
    """Every logger that exists by name, the root logger excepted."""
    return [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]


class SafeAtoms(dict):
    """Atoms made fit for a log line; what is missing reads `-`, names in braces ignore case."""

    def __init__(self, atoms):
        super().__init__((name, self._safe(value)) for name, value in atoms.items())

    @staticmethod
    def _safe(value):
        if not isinstance(value, str):
            return value
        if "\\" in value:
            value = _LOOSE_BACKSLASHES.sub(lambda run: run[0] * 2, value)
        return printable(value.replace('"', '\\"'))

    def __getitem__(self, name):
        return self.get(name.lower() if name.startswith("{") else name, "-")


def parse_syslog_address(addr):
    """`(socket type or None, address)` for SysLogHandler from udp://, tcp:// or unix:// forms.

    Errors: RuntimeError for another scheme or a port that is no number.
    """
    import socket

    scheme, found, rest = addr.partition("://")
    if not found or scheme not in ("unix", "udp", "tcp"):
        raise RuntimeError("invalid syslog address")
    if scheme == "unix":
        # Without an explicit type SysLogHandler tries datagram, then stream.
        path, _, kind = rest.partition("#")
        return (socket.SOCK_DGRAM if kind == "dgram" else None), path

    if rest.startswith("[") and "]" in rest:
        host, _, rest = rest[1:].partition("]")
        port = rest.partition(":")[2]
        has_port = ":" in rest
    else:
        host, colon, port = rest.partition(":")
        has_port = bool(colon)
    if has_port and not port.isdigit():
        raise RuntimeError(f"{port!r} is not a valid port number.")
    kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
    return kind, (host.lower() or "localhost", int(port) if has_port else 514)


class ErrorFormatter(logging.Formatter):
    """Formats error records; an exception's text may quote a peer, so its control characters are escaped."""

    def formatException(self, ei):
        return _CONTROL_IN_TRACEBACK.sub(_escape_control, super().formatException(ei))


class Logger:
    """Gunicorn's logger API; `logger_class` may name a subclass.

    Errors: RuntimeError from the constructor and from `setup` when a file cannot be written or a
    logging configuration is wrong.
    """

    LOG_LEVELS = {
        "critical": logging.CRITICAL,
        "error": logging.ERROR,
        "warning": logging.WARNING,
        "info": logging.INFO,
        "debug": logging.DEBUG,
    }
    loglevel = logging.INFO

    error_fmt = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = "[%Y-%m-%d %H:%M:%S %z]"
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"

    atoms_wrapper_class = SafeAtoms

    # The Rust writer of this worker's access lines, once it serves.
    _access_sink = None

    def __init__(self, cfg):
        self.error_log = logging.getLogger("gunicorn.error")
        self.error_log.propagate = False
        self.access_log = logging.getLogger("gunicorn.access")
        self.access_log.propagate = False
        self.error_handlers = []
        self.access_handlers = []
        self.logfile = None
        self.lock = threading.Lock()
        self.cfg = cfg
        self.setup(cfg)

    def setup(self, cfg):
        """Bring the stdlib loggers in line with `cfg`; runs again on each configuration reload."""
        self.cfg = cfg
        self._access_log_enabled = self._wants_access_log()
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)

        for log in (self.error_log, self.access_log):
            while self._get_gunicorn_handler(log):
                self._drop_handler(log)

        if cfg.capture_output and cfg.errorlog != "-":
            self._capture_output()
        self._set_handler(self.error_log, cfg.errorlog, ErrorFormatter(self.error_fmt, self.datefmt))
        if cfg.accesslog is not None:
            formatter = logging.Formatter(self.access_fmt)
            self._set_handler(self.access_log, cfg.accesslog, formatter, stream=sys.stdout)
        if cfg.syslog:
            self._set_syslog_handler(self.error_log, cfg, self.syslog_fmt, "error")
            if not cfg.disable_redirect_access_to_syslog:
                self._set_syslog_handler(self.access_log, cfg, self.syslog_fmt, "access")
        self._apply_logconfig(cfg)

    def critical(self, msg, *args, **kwargs):
        self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg, *args, **kwargs):
        self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg, *args, **kwargs):
        self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg, *args, **kwargs):
        self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg, *args, **kwargs):
        self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg, *args, **kwargs):
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl, msg, *args, **kwargs):
        if isinstance(lvl, str):
            lvl = self.LOG_LEVELS.get(lvl.lower(), logging.INFO)
        self.error_log.log(lvl, msg, *args, **kwargs)

    def atoms(self, resp, req, environ, request_time):
        """Every value an access format may name, raw; `atoms_wrapper_class` makes them safe to print.

        Units: `request_time` is a timedelta; T seconds, M milliseconds, D microseconds, L decimal seconds.
        """
        status = resp.status
        if isinstance(status, str):
            status = status.split(None, 1)[0]
        sent = getattr(resp, "sent", None)
        seconds, micros = request_time.seconds, request_time.microseconds
        atoms = {
            "h": environ.get("REMOTE_ADDR", "-"),
            "l": "-",
            "u": self._get_user(environ) or "-",
            "t": self.now(),
            "r": f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}",
            "s": status,
            "m": environ.get("REQUEST_METHOD"),
            "U": environ.get("PATH_INFO"),
            "q": environ.get("QUERY_STRING"),
            "H": environ.get("SERVER_PROTOCOL"),
            "b": "-" if sent is None else str(sent),
            "B": sent,
            "f": environ.get("HTTP_REFERER", "-"),
            "a": environ.get("HTTP_USER_AGENT", "-"),
            "T": seconds,
            "D": seconds * 1_000_000 + micros,
            "M": seconds * 1000 + micros // 1000,
            "L": f"{seconds}.{micros:06d}",
            "p": f"<{os.getpid()}>",
        }
        for suffix, source in (("i", getattr(req, "headers", req)), ("o", resp.headers), ("e", environ)):
            pairs = source.items() if hasattr(source, "items") else source
            atoms.update({f"{{{name.lower()}}}{suffix}": value for name, value in pairs})
        return atoms

    @property
    def access_log_enabled(self):
        """Whether the configuration asks for access lines anywhere."""
        # A subclass may replace setup() altogether.
        try:
            return self._access_log_enabled
        except AttributeError:
            return self._wants_access_log()

    def access(self, resp, req, environ, request_time):
        """Log one finished exchange in `access_log_format`."""
        if not self.access_log_enabled or not self._access_is_heard():
            return
        atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
        try:
            self.access_log.info(self.cfg.access_log_format, atoms)
        except Exception:
            import traceback

            self.error(traceback.format_exc())

    def now(self):
        """Local time in the form of the common log format."""
        return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")

    def reopen_files(self):
        """Let go of renamed log files: reopen the captured output and the files of every logger.

        A file that cannot be opened again stays as it is, and the error log says so.
        """
        if self.cfg.capture_output and self.cfg.errorlog != "-":
            with self.lock:
                self._attempt(self._capture_output, self.cfg.errorlog)
        for handler in self._file_handlers():
            self._attempt(lambda handler=handler: self._reopen_handler(handler), handler.baseFilename)
        if self._access_sink is not None:
            fd = self.native_access_fd()
            if fd is not None:
                self._access_sink.reopen(fd)

    def close_on_exec(self):
        """Keep the log files out of programs that this process starts."""
        for handler in self._file_handlers():
            handler.acquire()
            try:
                if handler.stream:
                    os.set_inheritable(handler.stream.fileno(), False)
            finally:
                handler.release()

    def native_access_fd(self):
        """The descriptor that access lines may be written to without Python; None when Python must see them.

        Python must see them when anything between the atoms and the stream was customised: methods of a
        subclass, formats, filters, further handlers, logconfig, syslog.
        """
        patched = any(
            name in self.__dict__ or getattr(type(self), name) is not original
            for name, original in _NATIVE_ACCESS.items()
        )
        cfg, log = self.cfg, self.access_log
        redirected = cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json
        if patched or redirected or log.filters or log.propagate or len(log.handlers) != 1:
            return None
        if not log.isEnabledFor(logging.INFO):
            return None
        handler = log.handlers[0]
        if type(handler) not in (logging.StreamHandler, logging.FileHandler) or handler.filters:
            return None
        formatter = handler.formatter
        plain = type(formatter) is logging.Formatter and formatter._fmt == "%(message)s"
        if not plain or handler.level > logging.INFO or handler.terminator != "\n":
            return None
        try:
            return handler.stream.fileno()
        except (AttributeError, OSError, ValueError):
            return None

    def access_is_custom(self):
        """Whether `access` was replaced: it is then called for every exchange, access log or not."""
        return "access" in self.__dict__ or type(self).access is not _NATIVE_ACCESS["access"]

    def _access_is_heard(self):
        # A logging configuration of the application's mostly does not know this logger; a line costs 70 us.
        log = self.access_log
        return log.isEnabledFor(logging.INFO) and (log.hasHandlers() or bool(log.filters))

    def _wants_access_log(self):
        cfg = self.cfg
        to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
        return bool(cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json or to_syslog)

    def _apply_logconfig(self, cfg):
        if not (cfg.logconfig_dict or cfg.logconfig_json or cfg.logconfig):
            return
        # Imported here because it is slow to import and seldom used.
        from logging.config import dictConfig, fileConfig

        try:
            if cfg.logconfig_dict:
                dictConfig(CONFIG_DEFAULTS | cfg.logconfig_dict)
            elif cfg.logconfig_json:
                if os.path.exists(cfg.logconfig_json):
                    import json

                    with open(cfg.logconfig_json, encoding="utf-8") as file:
                        dictConfig(CONFIG_DEFAULTS | json.load(file))
            elif os.path.exists(cfg.logconfig):
                defaults = CONFIG_DEFAULTS | {
                    "__file__": cfg.logconfig,
                    "here": os.path.dirname(cfg.logconfig),
                }
                fileConfig(cfg.logconfig, defaults=defaults, disable_existing_loggers=False)
            else:
                raise RuntimeError(f"Error: log config '{cfg.logconfig}' not found")
        except (AttributeError, ImportError, ValueError, TypeError) as error:
            raise RuntimeError(str(error)) from error

    def _capture_output(self):
        """Point descriptors 1 and 2 at the error log, for prints of the application and of C code."""
        file = open(self.cfg.errorlog, "a+")
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
        if self.logfile is not None:
            self.logfile.close()
        self.logfile = file

    def _attempt(self, reopen, path):
        try:
            reopen()
        except OSError as error:
            self.error("Could not reopen log file %s: %s", path, error)

    def _file_handlers(self):
        found = {}
        for log in (logging.root, *loggers()):
            for handler in log.handlers:
                if isinstance(handler, logging.FileHandler):
                    found[id(handler)] = handler
        return list(found.values())

    def _reopen_handler(self, handler):
        handler.acquire()
        try:
            if handler.stream:
                # In this order: the handler of another signal may want to log in between.
                stale, handler.stream = handler.stream, handler._open()
                stale.close()
                # The new file may be root's while workers, that reopen it too, are not.
                if getattr(handler, "_gunicorn", False):
                    self._own(handler.baseFilename)
        finally:
            handler.release()

    def _get_gunicorn_handler(self, log):
        return next((handler for handler in log.handlers if getattr(handler, "_gunicorn", False)), None)

    def _drop_handler(self, log):
        handler = self._get_gunicorn_handler(log)
        if handler is not None:
            log.removeHandler(handler)
            handler.close()

    def _set_handler(self, log, output, fmt, stream=None):
        self._drop_handler(log)
        if output is None:
            return
        if output == "-":
            handler = logging.StreamHandler(stream)
        else:
            try:
                handler = logging.FileHandler(output, encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise RuntimeError(f"Error: '{output}' isn't writable [{error!r}]") from error
            self._own(handler.baseFilename)
        handler.setFormatter(fmt)
        handler._gunicorn = True
        log.addHandler(handler)

    def _own(self, path):
        """Give the file to the account that workers switch to, so that they can reopen it."""
        try:
            status = os.stat(path)
            if (status.st_uid, status.st_gid) != (self.cfg.user, self.cfg.group):
                os.chown(path, self.cfg.user, self.cfg.group)
        except OSError:
            # Devices such as /dev/null and files of others are written to, not owned.
            pass

    def _set_syslog_handler(self, log, cfg, fmt, name):
        from logging.handlers import SysLogHandler

        facility = SYSLOG_FACILITIES.get(cfg.syslog_facility.lower())
        if facility is None:
            raise RuntimeError("unknown facility name")
        prefix = cfg.syslog_prefix or cfg.proc_name.replace(":", ".")
        kind, address = parse_syslog_address(cfg.syslog_addr)
        handler = SysLogHandler(address=address, facility=facility, socktype=kind)
        handler.setFormatter(ErrorFormatter(f"gunicorn.{prefix}.{name}: {fmt}"))
        handler._gunicorn = True
        log.addHandler(handler)

    def _get_user(self, environ):
        """The user of Basic credentials, None without any."""
        credentials = environ.get("HTTP_AUTHORIZATION")
        if not credentials or not credentials.lower().startswith("basic"):
            return None
        _, space, encoded = credentials.partition(" ")
        if not space:
            return None
        import base64

        try:
            # binascii.Error and UnicodeError are ValueErrors.
            return base64.b64decode(encoded.strip().encode()).partition(b":")[0].decode()
        except ValueError as error:
            self.debug("Couldn't get username: %s", error)
            return None


# What the Rust writer stands in for; captured before anybody can patch the class.
_NATIVE_ACCESS = {
    name: getattr(Logger, name)
    for name in ("access", "access_log_enabled", "atoms", "atoms_wrapper_class", "now", "_get_user")
}
