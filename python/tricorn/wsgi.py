"""``wsgi.errors``: what an application writes there goes to the error log's streams, unformatted."""

import io
import logging
import sys


class ErrorStream(io.TextIOBase):
    """One per worker thread. The streams are looked up at each write: log files are reopened on USR1."""

    def __init__(self, cfg):
        self._to_stderr = cfg.errorlog == "-"
        self._log = logging.getLogger("gunicorn.error")

    def _streams(self):
        streams = [sys.stderr] if self._to_stderr else []
        for handler in self._log.handlers:
            stream = getattr(handler, "stream", None)
            if stream is not None and stream not in streams:
                streams.append(stream)
        return streams or [sys.stderr]

    def writable(self):
        return True

    def write(self, data):
        for stream in self._streams():
            try:
                stream.write(data)
            except UnicodeError:
                encoding = getattr(stream, "encoding", None) or "utf-8"
                stream.write(data.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        return len(data)

    def flush(self):
        for stream in self._streams():
            stream.flush()

    def close(self):
        """The streams belong to the log: closing does nothing."""
