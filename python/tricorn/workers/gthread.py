"""`gthread`: `threads` long-lived threads call the application; the main thread looks after signals."""

from tricorn import _core
from tricorn.workers.base import EngineWorker


class ThreadWorker(EngineWorker):
    threaded = True

    def run(self):
        _core.serve_threads(self)
