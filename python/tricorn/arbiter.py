"""The arbiter as hooks and configuration files know it: attributes, methods, and the order of the hooks.

What it is not: the one who decides. Signals, deaths and the clock are gathered by `_core.ArbiterCore`, which
asks the supervisor (a pure function in Rust) and calls the methods below to carry the answers out.

Invariants: the arbiter has no threads when it forks; it never imports the application unless `preload_app`
asks for it; a forked worker never returns into the code that started the server.

Source: the behaviour of Gunicorn 27's `gunicorn.arbiter.Arbiter`.
"""

import os
import sys
import time

from tricorn import SERVER_SOFTWARE, __version__, _core, heap, sock, systemd, title, zodb
from tricorn.errors import AppImportError, HaltServer
from tricorn.pidfile import Pidfile
from tricorn.process_exit import leave

# Seconds that a stop waits for handshakes under way, most round trips being shorter, and how often it looks.
HANDSHAKE_TIMEOUT = 0.5
HANDSHAKE_LOOK = 0.005


class Arbiter:
    """Keeps the workers alive. Hooks get it as `server`."""

    # Exit codes of a worker whose application could not be started, or not be found.
    WORKER_BOOT_ERROR = 3
    APP_LOAD_ERROR = 4

    START_CTX = {}

    def __init__(self, app):
        os.environ["SERVER_SOFTWARE"] = SERVER_SOFTWARE
        self._core = None
        self._num_workers = None
        self._raw_env = {}
        self.WORKERS = {}
        self.LISTENERS = []
        self.systemd = False
        self.worker_age = 0
        self.reexec_pid = 0
        self.master_pid = 0
        self.master_name = "Master"
        self.pidfile = None
        self.pid = None
        self.log = None
        # Always 0 here; configuration files of Gunicorn may look at it.
        self.dirty_arbiter_pid = 0
        self.START_CTX = {
            "args": [sys.executable, *_original_arguments()],
            "cwd": _working_directory(),
            0: sys.executable,
        }
        self.setup(app)

    def __repr__(self):
        return f"<Arbiter {self.pid}>"

    @property
    def num_workers(self):
        """How many workers there shall be; assigning moves the pool there."""
        return self._num_workers

    @num_workers.setter
    def num_workers(self, count):
        if self._core is None:
            self._workers_changed(count, self._num_workers)
        else:
            self._core.set_workers(count)
            self._core.wakeup()

    def setup(self, app):
        """Take over the configuration of `app`, at the start and at each reload."""
        self.app = app
        self._configure(app.cfg, app.cfg.worker_class)
        if self.log is None:
            self.log = self.cfg.logger_class(app.cfg)
        self.address = self.cfg.address
        if self._core is None:
            self.num_workers = self.cfg.workers
        self._log_configuration()
        self._export_environment()
        if self.cfg.preload_app:
            self.app.wsgi()
        heap.settle(self.cfg)

    def _configure(self, cfg, worker_class):
        self.cfg = cfg
        self.worker_class = worker_class
        self.timeout = cfg.timeout
        self.proc_name = cfg.proc_name

    def _log_configuration(self):
        lines = (f"  {name}: {setting.value}\n" for name, setting in sorted(self.cfg.settings.items()))
        self.log.debug("Current configuration:\n%s", "".join(lines))

    def _export_environment(self):
        """Set the variables of `raw_env`, after putting back what the configuration before had changed."""
        for name, before in self._raw_env.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
        wanted = self.cfg.env or {}
        self._raw_env = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)

    # ---- the start

    def run(self):
        """Serve until told to stop; leaves through SystemExit."""
        try:
            self.start()
        except BaseException:
            if self.pid == os.getpid():
                self._remove_pidfile()
            raise
        try:
            title.set_title(f"master [{self.proc_name}]")
            code = self._core.run(self)
        except HaltServer as halt:
            # Only a forked worker gets here; its exit code tells the arbiter.
            code = halt.exit_status
        sys.exit(code)

    def start(self):
        """Everything before the first fork."""
        self.log.info("Starting tricorn %s", __version__)
        if "GUNICORN_PID" in os.environ:
            self.master_pid = int(os.environ["GUNICORN_PID"])
            self.proc_name += ".2"
            self.master_name = "Master.2"
        self.pid = os.getpid()
        if self.cfg.pidfile is not None:
            self._create_pidfile()
        self.cfg.on_starting(self)
        self._core = _core.ArbiterCore(*self._decisive_settings(), self.master_pid != 0)
        self._take_signals()
        self.LISTENERS = self._inherit_listeners() or self._open_listeners()
        self.log.debug("Arbiter booted")
        addresses = ",".join(map(str, self.LISTENERS))
        self.log.info("Listening at: %s (%s)", addresses, self.pid)
        self.log.info("Using worker: %s", self.cfg.worker_class_str)
        systemd.notify("READY=1\nSTATUS=Gunicorn arbiter booted", self.log)
        if hasattr(self.worker_class, "check_config"):
            self.worker_class.check_config(self.cfg, self.log)
        self.cfg.when_ready(self)

    def _take_signals(self):
        self._core.install_signals()

    def _decisive_settings(self):
        cfg = self.cfg
        workers = cfg.workers if self._core is not None else self._num_workers
        return workers, cfg.timeout, cfg.graceful_timeout, cfg.daemon

    def _inherit_listeners(self):
        """Listeners that systemd or the arbiter before us left open."""
        count = systemd.listen_fds()
        if count:
            self.systemd = True
            fds = range(systemd.FIRST_FD, systemd.FIRST_FD + count)
        elif self.master_pid:
            fds = [int(fd) for fd in os.environ.pop("GUNICORN_FD", "").split(",") if fd]
        else:
            return []
        return [sock.adopt(fd, self.cfg) for fd in fds]

    def _open_listeners(self):
        # With reuse_port every worker opens its own.
        return [] if self.cfg.reuse_port else sock.create_sockets(self.cfg, self.log)

    # ---- what hooks may call

    def spawn_worker(self):
        """Fork one worker. Returns its process id, in the arbiter; the worker itself leaves from here."""
        self.worker_age += 1
        slot = self._core.claim_slot()
        try:
            worker = self._make_worker(slot)
            self.cfg.pre_fork(self, worker)
            pid = self._core.fork()
        except BaseException:
            slot.free()
            raise
        if pid:
            worker.pid = pid
            self.WORKERS[pid] = worker
            self._core.spawned(pid, slot)
            return pid
        worker.pid = os.getpid()
        self._be_worker(worker)

    def _make_worker(self, slot):
        timeout = self.timeout / 2.0
        worker = self.worker_class(
            self.worker_age, self.pid, self.LISTENERS, self.app, timeout, self.cfg, self.log
        )
        worker.slot = slot
        return worker

    def spawn_workers(self):
        """Fill the pool up to `num_workers`."""
        self._core.wakeup()

    def manage_workers(self):
        """Bring the pool to `num_workers`."""
        self._core.wakeup()

    def kill_worker(self, pid, sig):
        """Send a worker a signal. One that is gone already is reaped in its turn."""
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            pass

    def _abort_worker(self, pid, sig):
        """End a worker that is stuck, after saying what it was at."""
        worker = self.WORKERS.get(pid)
        if worker is not None:
            for method, target, seconds in worker.slot.requests_in_flight():
                self.log.error("Worker (pid:%s) was busy with %s %s for %.1f s", pid, method, target, seconds)
        self.kill_worker(pid, sig)

    def kill_workers(self, sig):
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)

    def wakeup(self):
        self._core.wakeup()

    def reload(self):
        """What HUP does."""
        self._core.signal("HUP")
        self._core.wakeup()

    def reexec(self):
        """What USR2 does."""
        self._core.signal("USR2")
        self._core.wakeup()

    def stop(self, graceful=True):
        self._core.halt(0, None, graceful)

    def halt(self, reason=None, exit_status=0):
        self._core.halt(exit_status, reason, True)

    # ---- the worker's side of a fork

    def _be_worker(self, worker):
        """The whole life of a worker; never returns."""
        self._live(worker, lambda: self._enter(worker), worker.init_process)

    def _enter(self, worker):
        """What a worker begins with."""
        title.set_title(f"worker [{self.proc_name}]")
        self.log.info("Booting worker with pid: %s", worker.pid)
        if self.cfg.reuse_port:
            worker.sockets = sock.create_sockets(self.cfg, self.log)
        self.cfg.post_fork(self, worker)

    def _live(self, worker, *parts):
        """Run what is left of a worker's life, part by part, and end its process."""
        code = 1
        try:
            code = self._exit_code_of(worker, *parts)
        finally:
            try:
                self._see_off(worker)
            finally:
                leave(code)

    def _exit_code_of(self, worker, *parts):
        try:
            for part in parts:
                part()
            return 0
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        except AppImportError as error:
            self.log.debug("Exception while loading the application", exc_info=True)
            print(f"{error}", file=sys.stderr)
            return self.APP_LOAD_ERROR
        except HaltServer as halt:
            return halt.exit_status
        except Exception as error:
            sentence = zodb.explain(error)
            if sentence is None:
                self.log.exception("Exception in worker process")
            else:
                self.log.error("%s", sentence)
            print(f"{error}", file=sys.stderr)
            return 255 if worker.booted else self.WORKER_BOOT_ERROR

    def _see_off(self, worker):
        self.log.info("Worker exiting (pid: %s)", worker.pid)
        self._call_worker_exit(worker)

    def _call_worker_exit(self, worker):
        try:
            self.cfg.worker_exit(self, worker)
        except Exception:
            import traceback

            self.log.warning("Exception during worker exit:\n%s", traceback.format_exc())

    # ---- what the core asks for

    def _workers_changed(self, new, old):
        self._num_workers = new
        self.cfg.nworkers_changed(self, new, old)

    def _forget(self, pid):
        worker = self.WORKERS.pop(pid, None)
        if worker is not None:
            self.cfg.child_exit(self, worker)

    def _reload_config(self):
        """Read the configuration again; whatever is wrong with it, the one before stays in force."""
        before = self.app.cfg
        address = self.address
        try:
            self.app.reload()
            worker_class = self.app.cfg.worker_class
            self.app.cfg.address  # noqa: B018  (raises for an address that cannot be)
            self.app.cfg.env  # noqa: B018
            self.log.setup(self.app.cfg)
            listeners = self._listeners_after(address, self.app.cfg)
        except (Exception, SystemExit) as error:
            # SystemExit: an address that stays in use, told in the log already.
            self.app.cfg = before
            self.log.setup(before)
            self._core.reload_failed(str(error) or type(error).__name__)
            return
        self._configure(self.app.cfg, worker_class)
        self.address = self.cfg.address
        self._export_environment()
        self._log_configuration()
        if listeners is not None:
            self._replace_listeners(listeners)
        self.cfg.on_reload(self)
        self._rewrite_pidfile()
        title.set_title(f"master [{self.proc_name}]")
        self._core.reloaded(*self._decisive_settings())

    def _listeners_after(self, address, cfg):
        """New listeners when `bind` has changed, else None."""
        if cfg.address == address or self.systemd or cfg.reuse_port:
            return None
        kept = {str(listener): listener for listener in self.LISTENERS}
        return sock.create_sockets(cfg, self.log, kept)

    def _replace_listeners(self, listeners):
        gone = [listener for listener in self.LISTENERS if listener not in listeners]
        sock.close_sockets(gone, unlink=True)
        self.LISTENERS = listeners
        self.log.info("Listening at: %s", ",".join(map(str, listeners)))

    def _rewrite_pidfile(self):
        if self.pidfile is not None:
            self.pidfile.unlink()
            self.pidfile = None
        if self.cfg.pidfile is not None:
            self._create_pidfile()

    def _create_pidfile(self):
        self.pidfile = Pidfile(self.cfg.pidfile + (".2" if self.master_pid else ""))
        self.pidfile.create(self.pid)

    def _owns_listeners(self):
        """Whether nobody but us and our workers listens on our sockets."""
        inherited = any(listener.inherited for listener in self.LISTENERS)
        return not (self.systemd or inherited or self.reexec_pid or self.master_pid or self.cfg.reuse_port)

    def _stop_accepting(self):
        """Let no new connection complete, and have the workers empty the accept queue before they leave."""
        if not self._owns_listeners():
            return
        for listener in self.LISTENERS:
            listener.refuse_newcomers()
        # A client believes it is connected before we do: what it has begun must get into the queue first.
        until = time.monotonic() + HANDSHAKE_TIMEOUT
        while any(listener.has_handshakes() for listener in self.LISTENERS) and time.monotonic() < until:
            time.sleep(HANDSHAKE_LOOK)
        self._core.set_stopping()

    def _close_listeners(self):
        if self._owns_listeners() and getattr(self.worker_class, "accepts_in_engine", False):
            # The workers hold the sockets as well: without this, newcomers would wait for the last of them.
            for listener in self.LISTENERS:
                listener.stop_listening()
        unlink = not (self.reexec_pid or self.master_pid or self.systemd or self.cfg.reuse_port)
        sock.close_sockets(self.LISTENERS, unlink)
        self.LISTENERS = []

    def _remove_pidfile(self):
        if self.pidfile is not None:
            self.pidfile.unlink()

    def _unhandled(self, error):
        self.log.error("Unhandled exception in main loop", exc_info=error)

    def _promote(self):
        """The arbiter that started us is gone: its names are ours now."""
        self.master_name = "Master"
        self.master_pid = 0
        self.proc_name = self.cfg.proc_name
        os.environ.pop("GUNICORN_PID", None)
        if self.pidfile is not None:
            self.pidfile.rename(self.cfg.pidfile)
        title.set_title(f"master [{self.proc_name}]")

    def _reexec(self):
        """Start the program anew over the same listeners, as it stands on disk now."""
        master_pid = os.getpid()
        self.reexec_pid = self._core.fork()
        if self.reexec_pid:
            self._core.reexeced(self.reexec_pid)
            return
        try:
            self.cfg.pre_exec(self)
            self._exec_anew(master_pid)
        except BaseException:
            self.log.exception("Can't start the upgrade")
        finally:
            # Whatever went wrong: this process is no second arbiter.
            os._exit(1)

    def _exec_anew(self, master_pid):
        environ = self.cfg.env_orig.copy()
        environ["GUNICORN_PID"] = str(master_pid)
        fds = [listener.fileno() for listener in self.LISTENERS]
        for fd in fds:
            os.set_inheritable(fd, True)
        if self.systemd:
            environ["LISTEN_PID"] = str(os.getpid())
            environ["LISTEN_FDS"] = str(len(fds))
        elif fds:
            environ["GUNICORN_FD"] = ",".join(map(str, fds))
        os.chdir(self.START_CTX["cwd"])
        os.execvpe(self.START_CTX[0], self.START_CTX["args"], environ)


def _original_arguments():
    """What followed the interpreter on the command line, options such as `-X dev` and `-m` included."""
    return getattr(sys, "orig_argv", [sys.executable, *sys.argv])[1:]


def _working_directory():
    """The current directory by the name the user knows it under, symbolic links kept."""
    name = os.environ.get("PWD")
    try:
        if name and os.path.samefile(name, os.getcwd()):
            return name
    except OSError:
        pass
    return os.getcwd()
