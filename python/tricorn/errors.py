"""Errors that leave the server, or that the server raises against its own configuration."""


class HaltServer(BaseException):
    """Stops the arbiter with an exit status. Not an Exception, so that no catch-all swallows it."""

    def __init__(self, reason, exit_status=1):
        self.reason = reason
        self.exit_status = exit_status

    def __str__(self):
        return f"<HaltServer {self.reason!r} {self.exit_status}>"


class ConfigError(Exception):
    """A configuration that cannot be used."""


class NotImplementedYet(ConfigError):
    """A setting, or a value of one, that this version does not implement."""


class ConfigFileError(ConfigError):
    """A configuration file that failed to run; its traceback has been printed already."""


class AppImportError(Exception):
    """An application that was found wanting: no such attribute, not callable, a factory called wrongly."""
