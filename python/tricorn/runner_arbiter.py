"""Workers that load the application through the program that started the server: a runner of PasteDeploy.

A runner (`runwsgi`, `pserve`, `bin/instance`) makes the server before the application. The arbiter starts
then and there, in the call that makes the server, and never comes back from it; every worker it forks does,
loads the application as the runner always does (same file, names and variables), and serves it.

What it is not: a fork of a loaded application. Invariants: the arbiter has not loaded the application and has
no threads; a worker ends in the call that serves, and none of the runner's `finally` blocks runs in it.

Source: the entry point `paste.server_factory` of PasteDeploy.
"""

import os
import sys
import threading

from tricorn import zodb
from tricorn.arbiter import Arbiter
from tricorn.errors import ConfigError
from tricorn.process_exit import leave

# Longer than any path and sentence: what workers tell arrives in one piece.
LONGEST_TALE = 4096


class Hatched(BaseException):
    """Carries a new worker from the fork up to the call of the runner."""

    def __init__(self, worker):
        self.worker = worker


class RunnerArbiter(Arbiter):
    def __init__(self, app):
        super().__init__(app)
        # Workers tell the arbiter what only those know that have loaded the application.
        self._tales, self._teller = os.pipe()
        os.set_blocking(self._tales, False)
        os.set_blocking(self._teller, False)
        self._pid_files = set()
        self._explained = False

    def run(self):
        """In the arbiter: serve until told to stop, and leave through SystemExit. In a worker: return it."""
        refuse_loaded_application()
        try:
            super().run()
        except Hatched as hatched:
            return hatched.worker
        except SystemExit:
            self._heed_tales()
            for path in self._pid_files:
                zodb.remove_pid_file(path, self.pid)
            raise

    def _forget(self, pid):
        self._heed_tales()
        super()._forget(pid)

    def _reload_config(self):
        self._explained = False
        super()._reload_config()

    def _be_worker(self, worker):
        ready = []
        parts = (lambda: self._enter(worker), worker.prepare, lambda: ready.append(worker))
        code = self._exit_code_of(worker, *parts)
        if not ready:
            self._live(worker, lambda: sys.exit(code))
        sys.excepthook = lambda kind, error, traceback: self._fail_to_load(worker, error)
        raise Hatched(worker)

    def serve(self, worker):
        """In a worker, once the runner has loaded the application: the rest of its life."""
        self._live(worker, lambda: self._meet_zope(worker), worker.load_and_run)

    def _meet_zope(self, worker):
        """Refuse a database that one process owns; mend the pid file that Zope has made for this worker."""
        pid_file = zodb.hand_over_pid_file(self.pid)
        if pid_file is not None:
            self._tell(f"pid {pid_file}")
        path = zodb.writable_file_storage()
        if path is not None and self.num_workers > 1:
            self._tell(f"why {path}: {zodb.ONE_PROCESS}.")
            sys.exit(self.WORKER_BOOT_ERROR)
        if warning := zodb.pool_warning(self.cfg.threads):
            self.log.warning("%s", warning)

    def _fail_to_load(self, worker, error):
        """The end of a worker whose application could not be loaded; the runner's own end is not for it."""
        code = self.WORKER_BOOT_ERROR
        sentence = zodb.explain(error)
        try:
            if sentence is not None:
                self._tell(f"why {sentence}")
            else:
                self.log.error("Exception in worker process", exc_info=error)
            self._see_off(worker)
        finally:
            leave(code)

    # ---- what workers tell

    def _tell(self, tale):
        try:
            os.write(self._teller, f"{tale}\n".encode("utf-8", "surrogateescape")[:LONGEST_TALE])
        except BlockingIOError:
            # Full of what other workers told: the same, most likely.
            pass

    def _heed_tales(self):
        """Note the pid files that workers made; say why workers cannot serve, once for all of them."""
        told = b""
        try:
            while part := os.read(self._tales, 65536):
                told += part
        except BlockingIOError:
            pass
        for tale in told.decode("utf-8", "surrogateescape").splitlines():
            kind, _, text = tale.partition(" ")
            if kind == "pid":
                self._pid_files.add(text)
            elif not self._explained:
                self._explained = True
                self.log.error("%s", text)


def refuse_loaded_application():
    """The processes of a server are forked before the application is loaded, or not at all.

    Errors: ConfigError for a process that has other threads, or an open database.
    """
    others = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
    if others or zodb.databases():
        found = f"threads run ({', '.join(others)})" if others else "a database is open"
        raise ConfigError(
            f"workers beyond one cannot be forked from here: {found}, so the application has been loaded"
            " already. Let the runner make the server before the application, or use workers = 1, or"
            " `tricorn --paste FILE`"
        )
