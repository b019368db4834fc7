"""Development reload: watches the files of the loaded modules and says when one has changed.

Engines: `poll` looks at modification times once a second; `inotify` asks the kernel, through the package of
that name; `auto` takes inotify when it is there. Source: settings reload, reload_engine, reload_extra_files.
"""

import glob
import os
import sys
import threading
import traceback

INTERVAL = 1.0


class BrokenApplication:
    """Answers for an application that cannot be loaded."""

    def __init__(self, error):
        self.text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")

    def __call__(self, environ, start_response):
        length = str(len(self.text))
        start_response(
            "500 Internal Server Error",
            [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", length)],
        )
        return [self.text]


class Watch:
    """The files that matter, as of now."""

    def __init__(self, extra_files):
        self._extra = set(extra_files)

    def add_extra_file(self, filename):
        self._extra.add(filename)

    def files(self):
        found = set()
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str):
                found.add(path[:-1] if path.endswith(".pyc") else path)
        for entry in self._extra:
            found.update(glob.glob(entry, recursive=True) if glob.has_magic(entry) else (entry,))
        return found


class PollReloader(threading.Thread):
    """Compares modification times once a second."""

    def __init__(self, extra_files, callback):
        super().__init__(daemon=True, name="tricorn-reloader")
        self._watch = Watch(extra_files)
        self._callback = callback
        self._known = {}

    def add_extra_file(self, filename):
        self._watch.add_extra_file(filename)

    def start(self):
        # Before the first request is answered: what is edited from now on is noticed.
        for _ in self._changed():
            pass
        super().start()

    def run(self):
        pause = threading.Event()
        while True:
            for filename in self._changed():
                self._callback(filename)
            pause.wait(INTERVAL)

    def _changed(self):
        """The files whose time is another one than when they were last looked at."""
        for filename in self._watch.files():
            try:
                changed = os.stat(filename).st_mtime_ns
            except OSError:
                continue
            if self._known.setdefault(filename, changed) != changed:
                self._known[filename] = changed
                yield filename


class InotifyReloader(threading.Thread):
    """Watches the directories of the files, so that editors that replace a file are noticed too."""

    def __init__(self, extra_files, callback):
        super().__init__(daemon=True, name="tricorn-reloader")
        from inotify.adapters import Inotify

        self._watch = Watch(extra_files)
        self._callback = callback
        self._inotify = Inotify()
        self._directories = set()

    def add_extra_file(self, filename):
        self._watch.add_extra_file(filename)

    def _watch_directories(self):
        from inotify import constants

        mask = constants.IN_MODIFY | constants.IN_CREATE | constants.IN_MOVED_TO | constants.IN_ATTRIB
        real = {os.path.dirname(os.path.realpath(filename)) for filename in self._watch.files()}
        for directory in real - self._directories:
            if os.path.isdir(directory):
                self._inotify.add_watch(directory, mask=mask)
                self._directories.add(directory)

    def start(self):
        self._watch_directories()
        super().start()

    def run(self):
        while True:
            self._watch_directories()
            for event in self._inotify.event_gen(timeout_s=INTERVAL, yield_nones=False):
                path = os.path.join(event[2], event[3])
                if path in {os.path.realpath(filename) for filename in self._watch.files()}:
                    self._callback(path)


def make_reloader(cfg, callback):
    """The reloader that `reload_engine` names. Errors: RuntimeError when inotify is not installed."""
    engine = cfg.reload_engine
    if engine in ("auto", "inotify"):
        try:
            return InotifyReloader(cfg.reload_extra_files, callback)
        except ImportError as error:
            if engine == "inotify":
                raise RuntimeError("reload_engine = inotify needs the package inotify") from error
    return PollReloader(cfg.reload_extra_files, callback)
