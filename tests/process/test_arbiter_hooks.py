"""Server hooks: which run, where, in which order, with what in the objects they are given."""

import json
import re
import signal

import pytest

ORDER = """
import os, sys

def tell(name, *facts):
    sys.stderr.write(" ".join(map(str, ["hook", name, os.getpid() == MASTER, *facts])) + "\\n")

MASTER = os.getpid()

def nworkers_changed(server, new, old): tell("nworkers_changed", new, old)
def on_starting(server): tell("on_starting", len(server.LISTENERS), server.pid == MASTER)
def when_ready(server): tell("when_ready", len(server.LISTENERS), len(server.WORKERS))
def pre_fork(server, worker): tell("pre_fork", worker.pid, worker.age)
def post_fork(server, worker): tell("post_fork", worker.pid == os.getpid(), worker.ppid == MASTER)
def post_worker_init(worker): tell("post_worker_init", worker.booted, callable(worker.wsgi), worker.alive)
def pre_request(worker, req): tell("pre_request", req.method, req.path)
def post_request(worker, req, environ, resp): tell("post_request", environ["PATH_INFO"], resp.status)
def worker_int(worker): tell("worker_int", str(worker) == "<Worker %d>" % os.getpid())
def worker_exit(server, worker): tell("worker_exit", worker.pid == os.getpid())
def child_exit(server, worker): tell("child_exit", worker.age, worker.pid in server.WORKERS)
def on_reload(server): tell("on_reload", server.num_workers)
def on_exit(server): tell("on_exit", server.pidfile is not None and os.path.exists(server.pidfile.fname))
"""

LIFE = """
nworkers_changed True 1 None
on_starting True 0 True
when_ready True 1 0
pre_fork True [booting] 1
post_fork False True True
post_worker_init False False True True
pre_request False GET /pid
post_request False /pid 200 OK
worker_exit False True
child_exit True 1 False
on_exit True False
"""


def told(running):
    return [match[1] for match in running.log.matches("^hook (.*)")]


def test_hooks_run_in_this_order_with_these_facts(server, worker, tmp_path):
    running = server.start("web:app", "-p", str(tmp_path / "pid"), config=ORDER, worker=worker)
    running.wait_for_line("hook post_worker_init")
    assert running.request("GET", "/pid").status == 200
    running.wait_for_line("hook post_request")
    assert running.stop() == 0
    assert told(running) == LIFE.strip().splitlines()


def test_reload_and_resize_tell_their_hooks(server):
    running = server.start("web:app", "-w", "2", config=ORDER)
    running.wait_for_workers(2)
    for number, line in [
        (signal.SIGTTIN, "nworkers_changed True 3 2"),
        (signal.SIGTTOU, "nworkers_changed True 2 3"),
    ]:
        running.send_signal(number)
        running.wait_for_line(f"hook {line}")
    mark = running.log.mark()
    running.send_signal(signal.SIGHUP)
    running.wait_for_line("hook on_reload True", after=mark)
    running.wait_for_line("hook nworkers_changed True 2 2", after=mark)
    for _ in range(2):
        running.wait_for_line("hook child_exit", after=mark)


OBJECTS = """
import json, sys

def show(name, value):
    sys.stderr.write(f"object {name} {json.dumps(value)}\\n")

def when_ready(server):
    (listener,) = server.LISTENERS
    show("listener", [str(listener), listener.getsockname(), listener.sock.getsockname()])
    show("server", [
        server.num_workers, server.worker_age, server.timeout, server.proc_name, server.master_name,
        server.master_pid, server.reexec_pid, server.pidfile, server.systemd, server.dirty_arbiter_pid,
        server.worker_class.__name__, server.app.cfg is server.cfg, sorted(map(str, server.START_CTX)),
        server.WORKER_BOOT_ERROR, server.APP_LOAD_ERROR, len(server.address),
    ])
    show("callables", [callable(getattr(server, name)) for name in (
        "kill_worker kill_workers spawn_worker spawn_workers manage_workers wakeup reload reexec stop halt"
    ).split()])

def post_worker_init(worker):
    show("worker", [
        worker.age, worker.timeout, worker.nr, worker.max_requests > 10**9, worker.alive, worker.booted,
        worker.aborted, worker.reloader, len(worker.PIPE), len(worker.wait_fds), len(worker.sockets),
        worker.app.wsgi() is worker.wsgi, worker.tmp.last_update() > 0,
    ])

def child_exit(server, worker):
    show("child", [worker.age, worker.pid not in server.WORKERS])
"""


def test_objects_given_to_hooks_have_gunicorns_attributes(server):
    running = server.start("web:app", "-n", "mine", config=OBJECTS, worker="sync")
    running.wait_for_line("object worker")
    seen = {match[1]: json.loads(match[2]) for match in running.log.matches(r"^object (\w+) (.*)")}
    address = ["127.0.0.1", running.port]
    assert seen["listener"] == [f"http://127.0.0.1:{running.port}", address, address]
    context = ["0", "args", "cwd"]
    assert seen["server"][:8] == [1, 0, 30, "mine", "Master", 0, 0, None]
    assert seen["server"][8:] == [False, 0, "SyncWorker", True, context, 3, 4, 1]
    assert seen["callables"] == [True] * 10
    assert seen["worker"] == [1, 15.0, 0, True, True, False, False, None, 2, 2, 1, True, True]


@pytest.mark.parametrize("hook", ["on_starting", "when_ready"])
def test_a_hook_that_fails_at_the_start_ends_the_server(server, hook, tmp_path):
    config = f"def {hook}(server):\n    raise RuntimeError('hook fails on purpose')\n"
    running = server.start("web:app", "-p", str(tmp_path / "pid"), config=config, wait=None)
    assert running.wait() == 1
    running.wait_for_line("hook fails on purpose")
    assert running.processes() == []
    if server.name == "tricorn":
        assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize("hook", ["post_fork(server, worker)", "post_worker_init(worker)"])
def test_a_hook_that_fails_in_a_worker_is_a_failed_boot(server, hook):
    config = f"def {hook}:\n    raise RuntimeError('hook fails on purpose')\n"
    running = server.start("web:app", config=config, wait=None)
    assert running.wait() == 3
    running.wait_for_line("Exception in worker process")
    running.wait_for_line("Worker failed to boot")


@pytest.mark.servers("tricorn")
def test_a_hook_may_stop_the_server(server):
    """In Gunicorn `stop` only stops the workers there are, and others follow."""
    config = """
def child_exit(server, worker):
    server.stop(graceful=False)

def post_request(worker, req, environ, resp):
    worker.alive = False
"""
    running = server.start("web:app", config=config, worker="sync")
    assert running.request().status == 200
    assert running.wait() == 0


def test_worker_exit_sees_what_the_worker_did(server):
    config = (
        "import sys\n\ndef worker_exit(server, worker):\n"
        "    sys.stderr.write(f'served {worker.nr} {worker.alive}\\n')\n"
    )
    running = server.start("web:app", config=config, worker="sync")
    for _ in range(3):
        assert running.request("GET", "/pid").status == 200
    assert running.stop() == 0
    assert re.search("^served 3 False$", running.log.text(), re.M)
