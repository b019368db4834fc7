"""`gthread`: `threads` long-lived threads call the application; the main thread looks after signals."""

from tricorn import _core
from tricorn.workers.base import Worker


class ThreadWorker(Worker):
    accepts_in_engine = True
    threaded = True

    def run(self):
        _core.serve_threads(self)
