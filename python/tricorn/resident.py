"""The server in the process that has loaded the application: no arbiter beside it, no fork.

What it is not: another worker class. The engine is turned by the driver of `gthread`, with `threads` threads
that live as long as the server; the main thread looks after signals. What hooks get as `server` is an arbiter
without worker processes.

Invariants: every thread that lived before (a ZEO client's) lives on; the server's end is a return to its
caller, who has databases to close and a pid file to remove; signal handlers are put back as they were.

Source: the entry points of PasteDeploy, `paste.server_runner` and `paste.server_factory`.
"""

import os
import signal
import sys
import threading

from tricorn import heap, process_exit, sock, title, zodb
from tricorn.app.kind import is_asgi
from tricorn.arbiter import Arbiter
from tricorn.errors import AppImportError
from tricorn.workers.gthread import ThreadWorker

POOL_THREAD = "tricorn-"


class ResidentWorker(ThreadWorker):
    """The one worker, which lives in its arbiter's process."""

    def __init__(self, arbiter, *args):
        super().__init__(*args)
        self.arbiter = arbiter
        self.threaded = self.cfg.threads > 1
        self._handlers_before = {}
        self._wakeup_before = -1
        self._deadline = None

    def prepare(self):
        self._take_place()
        self._keep_descriptors()

    def _suit_application(self):
        if is_asgi(self.wsgi):
            raise AppImportError(
                "An ASGI application needs worker processes of its own: serve the file with"
                " `tricorn --paste FILE -k asgi`."
            )

    def init_signals(self):
        self._open_pipe()
        handlers = {
            signal.SIGTERM: self.handle_exit,
            signal.SIGINT: self.handle_quit,
            signal.SIGQUIT: self.handle_quit,
            signal.SIGHUP: self.handle_hup,
            signal.SIGUSR1: self.handle_usr1,
            # Zope's tools ask for it with USR2.
            signal.SIGUSR2: self.handle_usr1,
            signal.SIGTTIN: self.handle_workers,
            signal.SIGTTOU: self.handle_workers,
            signal.SIGWINCH: self.handle_winch,
        }
        for number, handler in handlers.items():
            self._handlers_before[number] = signal.signal(number, handler)
        self._wakeup_before = signal.set_wakeup_fd(self.PIPE[1], warn_on_full_buffer=False)

    def restore_signals(self):
        """Put back what handled the signals before us."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self._handlers_before:
            signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def handle_exit(self, sig, frame):
        """TERM: answer what was accepted, `graceful_timeout` seconds at most."""
        if not self.alive:
            return
        self.log.info("Handling signal: term")
        self.alive = False
        if not self.arbiter.LISTENERS:
            # Still waiting for an address: there is nothing to answer.
            sys.exit(0)
        self.arbiter.stop_accepting()
        self._deadline = threading.Timer(self.cfg.graceful_timeout, self._give_up)
        self._deadline.daemon = True
        self._deadline.start()

    def _give_up(self):
        self.log.warning("Requests still run after graceful_timeout (%s s)", self.cfg.graceful_timeout)
        os.kill(os.getpid(), signal.SIGQUIT)

    def handle_quit(self, sig, frame):
        """INT and QUIT: leave now. The requests in flight end with the process."""
        if self.alive:
            self.log.info("Handling signal: %s", signal.Signals(sig).name[3:].lower())
        super().handle_quit(sig, frame)

    def handle_hup(self, sig, frame):
        self.log.warning(
            "HUP is ignored: the application lives in the server's own process; restart that instead"
        )

    def handle_workers(self, sig, frame):
        self.log.warning("TTIN and TTOU are ignored: this server has no worker processes")


class ResidentArbiter(Arbiter):
    """Serves the application that `app` holds, in this process."""

    _worker = None

    def _configure(self, cfg, worker_class):
        super()._configure(cfg, ResidentWorker)

    def _take_signals(self):
        """Have the worker take the signals: from the first listener on they end in a return."""
        self._worker = self._make_worker(self._core.claim_slot())
        self._worker.init_signals()

    def _make_worker(self, slot):
        worker = ResidentWorker(
            self, 1, self.pid, self.LISTENERS, self.app, self.timeout / 2.0, self.cfg, self.log
        )
        worker.slot = slot
        worker.pid = self.pid
        return worker

    def _enter(self, worker):
        if warning := zodb.pool_warning(self.cfg.threads):
            self.log.warning("%s", warning)
        title.set_title(f"master [{self.proc_name}]")
        if self.cfg.reuse_port:
            worker.sockets = self.LISTENERS = sock.create_sockets(self.cfg, self.log)
        self.log.info("Serving in this process, threads: %s", self.cfg.threads)

    def run(self):
        """Serve until told to stop, then return.

        Errors: SystemExit with the code of what went wrong.
        """
        try:
            self.start()
            self._worker.sockets = self.LISTENERS
            code = self._serve(self._worker)
        except SystemExit as error:
            # An address in use; or INT and QUIT while the server was starting.
            code = error.code
        finally:
            if self._worker is not None:
                self._worker.restore_signals()
            heap.unsettle(self.cfg)
            self._close_listeners()
            self._remove_pidfile()
        if code:
            sys.exit(code)

    def _serve(self, worker):
        self.WORKERS = {self.pid: worker}
        code = 1
        try:
            code = self._exit_code_of(worker, lambda: self._enter(worker), worker.init_process)
            return code
        finally:
            process_exit.leave_stragglers(POOL_THREAD, code)
            self._see_off(worker)
            self.cfg.on_exit(self)

    def _see_off(self, worker):
        self.log.info("Shutting down: %s", self.master_name)
        self._call_worker_exit(worker)

    def stop_accepting(self):
        """Let no further connection begin; what has begun is answered."""
        self._stop_accepting()
