"""The logger of a server whose host program has set up logging already, as PasteDeploy's runners do.

Invariant: what the host has configured stays as it is. Lines of the server go where the host's loggers lead;
a handler of our own is added only for an `errorlog` or `accesslog` that the settings name.

Source: the section `[loggers]` of an ini file, which `runwsgi` and `pserve` read before they make a server.
"""

import logging

from tricorn.glogging import Logger


def is_configured():
    """Whether somebody has given the root logger or one of ours a handler."""
    names = (None, "gunicorn", "gunicorn.error", "gunicorn.access")
    return any(logging.getLogger(name).handlers for name in names)


class HostLogger(Logger):
    def __init__(self, cfg):
        ours = [logging.getLogger(name) for name in ("gunicorn.error", "gunicorn.access")]
        self._found = [(log, log.propagate, log.level, bool(log.handlers)) for log in ours]
        super().__init__(cfg)

    def setup(self, cfg):
        super().setup(cfg)
        (error, error_propagates, error_level, _), (access, access_propagates, access_level, _) = self._found
        if cfg.errorlog == "-":
            error.propagate = error_propagates
        if cfg.loglevel.lower() == "info":
            # Nobody asked for it: the level is the one that the host has chosen.
            error.setLevel(error_level)
        if cfg.accesslog is None:
            access.propagate = access_propagates
            access.setLevel(access_level)

    def _set_handler(self, log, output, fmt, stream=None):
        if log is not self.error_log or output != "-":
            super()._set_handler(log, output, fmt, stream)

    def _wants_access_log(self):
        has_handlers = self._found[1][3]
        return super()._wants_access_log() or has_handlers
