"""Going to the background: setting `daemon`."""

import os
import sys


def daemonize(keep_stdio):
    """Fork away from the terminal and session. The process that was started exits with 0.

    `keep_stdio`: output that does not go to a terminal stays where it is.
    """
    if "GUNICORN_FD" in os.environ or "GUNICORN_PID" in os.environ:
        # Started by the upgrade of a daemon: we are in the background already.
        return
    _fork_and_leave()
    os.setsid()
    _fork_and_leave()
    os.umask(0o22)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for fd in (0, 1, 2):
        if fd == 0 or not keep_stdio or os.isatty(fd):
            os.dup2(null, fd)
    if null > 2:
        os.close(null)


def _fork_and_leave():
    if os.fork():
        os._exit(0)
