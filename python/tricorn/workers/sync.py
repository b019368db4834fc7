"""`sync`: one request at a time, called by the main thread; the engine keeps slow clients away from it."""

from tricorn import _core
from tricorn.workers.base import Worker


class SyncWorker(Worker):
    accepts_in_engine = True

    def run(self):
        _core.serve(self)
