"""What every worker is: a forked process that loads the application, handles its signals and serves until
told to stop. Subclasses, ours and other people's, override `run`.

Source: Gunicorn's `gunicorn.workers.base.Worker`, whose attributes and methods these are.
"""

import os
import signal
import sys

from tricorn import _core, heap, privileges


class Heart:
    """`worker.tmp`: the heartbeat, kept in memory shared with the arbiter instead of in a temporary file."""

    def __init__(self):
        self.slot = None

    def notify(self):
        if self.slot is not None:
            self.slot.beat()

    def last_update(self):
        """Units: monotonic seconds."""
        return 0.0 if self.slot is None else self.slot.last_beat

    def close(self):
        """Nothing to close: the memory belongs to the arbiter."""


class Worker:
    SIGNALS = [
        getattr(signal, f"SIG{name}")
        for name in ("ABRT", "HUP", "QUIT", "INT", "TERM", "USR1", "USR2", "WINCH", "CHLD")
    ]

    # The engine accepts for this class: it leaves the accept set at once when told to, and shows it.
    accepts_in_engine = False
    # The application is called by several threads of this process (wsgi.multithread).
    threaded = False
    # It serves as soon as the application is loaded; a class that has more to do calls `set_ready` itself.
    ready_when_loaded = True
    # Requests begun; classes that count them themselves add to it.
    nr = 0

    def __init__(self, age, ppid, sockets, app, timeout, cfg, log):
        self.age = age
        self.pid = "[booting]"
        self.ppid = ppid
        self.sockets = sockets
        self.app = app
        self.wsgi = None
        self.timeout = timeout
        self.cfg = cfg
        self.booted = False
        self.aborted = False
        self.reloader = None
        self.max_requests = _jittered(cfg.max_requests, cfg.max_requests_jitter) or sys.maxsize
        self.alive = True
        self.log = log
        self.tmp = Heart()
        self.PIPE = ()
        self.wait_fds = []

    def __str__(self):
        return f"<Worker {self.pid}>"

    @property
    def slot(self):
        """The worker's place in the memory shared with the arbiter."""
        return self.tmp.slot

    @slot.setter
    def slot(self, slot):
        self.tmp.slot = slot

    @classmethod
    def setup(cls):
        """Hook for subclasses: called when the class is looked up."""

    @classmethod
    def check_config(cls, cfg, log):
        """Hook for subclasses: warn about settings that do not go together."""

    def notify(self):
        """Show the arbiter that this worker is alive; rarer than every `timeout` seconds it is killed."""
        self.tmp.notify()

    def run(self):
        """Serve. Subclasses look at `alive` at least as often as they call `notify`."""
        raise NotImplementedError

    def init_process(self):
        """Become a worker: environment, user, signals, application; then serve."""
        self.prepare()
        self.load_and_run()

    def prepare(self):
        """What comes before the application: environment, user, signals."""
        self._take_place()
        _core.follow_parent()
        self._open_pipe()
        self._keep_descriptors()
        self.init_signals()
        if self.ppid != os.getppid():
            # It died before the kernel was asked to tell.
            sys.exit(0)

    def _take_place(self):
        for name, value in (self.cfg.env or {}).items():
            os.environ[name] = value
        privileges.drop(self.cfg.uid, self.cfg.gid, self.cfg.initgroups)

    def _open_pipe(self):
        """Make the pipe that signals wake `run` through."""
        self.PIPE = os.pipe()
        for fd in self.PIPE:
            os.set_blocking(fd, False)

    def _keep_descriptors(self):
        """Keep ours out of programs that this process starts."""
        self.wait_fds = [*self.sockets, self.PIPE[0]]
        for listener in self.sockets:
            os.set_inheritable(listener.fileno(), False)
        self.log.close_on_exec()

    def load_and_run(self):
        """Load the application, then serve it."""
        if self.cfg.reload:
            # Imported where it is needed: it costs a quick start.
            from tricorn.reloader import make_reloader

            self.reloader = make_reloader(self.cfg, self._on_reload)
        self.load_wsgi()
        self._suit_application()
        if self.reloader is not None:
            self.log.warning("Reloader is on. Use in development only!")
            self.reloader.start()
        self.cfg.post_worker_init(self)
        self.booted = True
        if self.ready_when_loaded:
            self.set_ready()
        self.run()

    def set_ready(self):
        """Tell the arbiter that this worker serves; what it is made of has been loaded by now."""
        heap.settle(self.cfg)
        self.slot.set_ready()

    def load_wsgi(self):
        """Load the application into `wsgi`. With `reload` a broken one is answered for until it is mended."""
        try:
            self.wsgi = self.app.wsgi()
        except SyntaxError as error:
            if not self.cfg.reload:
                raise
            from tricorn.reloader import BrokenApplication

            self.log.exception("The application cannot be loaded")
            self.wsgi = BrokenApplication(error)
            if error.filename:
                self.reloader.add_extra_file(error.filename)

    def _suit_application(self):
        """An ASGI application gets the asgi worker, unless somebody has chosen a class."""
        if self.cfg.settings["worker_class"].given:
            return
        from tricorn.app.kind import is_asgi

        if is_asgi(self.wsgi):
            from tricorn.workers.asgi import AsgiWorker

            self.log.info("Using worker: asgi")
            self.__class__ = AsgiWorker

    def _on_reload(self, filename):
        """A watched file has changed: finish what was begun; a worker with the new code takes over."""
        self.log.info("Worker reloading: %s modified", filename)
        self.cfg.worker_int(self)
        self.alive = False
        os.write(self.PIPE[1], b"1")

    def init_signals(self):
        """Take the arbiter's handlers off and put the worker's on; each also wakes `run` through the pipe."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGQUIT, self.handle_quit)
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGINT, self.handle_quit)
        signal.signal(signal.SIGWINCH, self.handle_winch)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.signal(signal.SIGABRT, self.handle_abort)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.siginterrupt(number, False)
        signal.set_wakeup_fd(self.PIPE[1], warn_on_full_buffer=False)

    def handle_usr1(self, sig, frame):
        self.log.reopen_files()

    def handle_exit(self, sig, frame):
        if self.ppid != os.getppid():
            self.log.info("Parent changed, shutting down: %s", self)
        self.alive = False

    def handle_quit(self, sig, frame):
        self.alive = False
        self.cfg.worker_int(self)
        sys.exit(0)

    def handle_abort(self, sig, frame):
        self.alive = False
        self.aborted = True
        self.cfg.worker_abort(self)
        sys.exit(1)

    def handle_winch(self, sig, frame):
        self.log.debug("worker: SIGWINCH ignored.")

    def handle_error(self, req, client, addr, exc):
        """For classes that read requests from sockets themselves: log what ended one, and answer 500.

        Shape: called while `exc` is being handled; `req` is None, or has `method` and `uri`.
        """
        if hasattr(req, "method") and hasattr(req, "uri"):
            self.log.exception("Error handling request %s %s", req.method, req.uri)
        elif hasattr(req, "uri"):
            self.log.exception("Error handling request %s", req.uri)
        else:
            self.log.exception("Error handling request (no URI read)")
        try:
            client.sendall(_core.internal_error_page())
        except OSError:
            self.log.debug("Failed to send error message.")


class EngineWorker(Worker):
    """A worker whose requests the engine takes in, and counts."""

    accepts_in_engine = True

    @property
    def nr(self):
        """The requests begun so far."""
        return 0 if self.slot is None else self.slot.requests


def _jittered(limit, jitter):
    """`max_requests` with its jitter; 0 = no limit."""
    if limit <= 0 or jitter <= 0:
        return max(limit, 0)
    import random

    return limit + random.randint(0, jitter)
