"""`sync`: one request at a time, called by the main thread; the engine keeps slow clients away from it."""

from tricorn import _core
from tricorn.workers.base import EngineWorker


class SyncWorker(EngineWorker):
    def run(self):
        _core.serve(self)
