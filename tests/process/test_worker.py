"""One worker's own life: its signals, its classes (other people's too), its end."""

import os
import re
import signal

import pytest
from harness.http import request_bytes
from harness.servers import Held, wait_until

# What a worker class from elsewhere looks like: base class and Python, none of our engine.
FOREIGN = """
import os
import select
import sys

from {server}.workers.base import Worker


class Foreign(Worker):
    def init_process(self):
        sys.stderr.write(f"foreign init {{self.ppid == os.getppid()}}\\n")
        super().init_process()

    def run(self):
        sys.stderr.write("foreign runs\\n")
        listener = self.sockets[0]
        listener.setblocking(False)
        while self.alive:
            {notify}
            readable, _, _ = select.select([listener, self.PIPE[0]], [], [], 0.5)
            if listener in readable:
                try:
                    client, _ = listener.accept()
                except BlockingIOError:
                    # The other worker was quicker.
                    continue
                client.recv(65536)
                client.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 7\\r\\n\\r\\nforeign")
                client.close()
                self.nr += 1

    def handle_exit(self, sig, frame):
        sys.stderr.write(f"foreign exit after {{self.nr}}\\n")
        super().handle_exit(sig, frame)


worker_class = Foreign
"""


def test_a_foreign_worker_class_serves_and_stops(server):
    config = FOREIGN.format(server=server.name, notify="self.notify()")
    running = server.start("hello:app", "-w", "2", config=config)
    running.wait_for_line("Using worker: Foreign")
    running.wait_for_line("foreign init True")
    assert running.request().body == b"foreign"
    running.wait_for_workers(2)
    # A worker has its signal handlers only when it runs.
    wait_until(lambda: len(running.log.matches("foreign runs")) == 2, what="the second worker's run")
    begun = running.log.mark()
    assert running.stop() == 0
    assert len(running.log.matches("foreign exit after [01]$")) == 2
    assert not any("ERROR" in line for line in running.log.text().splitlines()[begun:])


def test_a_foreign_worker_that_stops_to_notify_is_ended(server):
    config = FOREIGN.format(server=server.name, notify="self.nr or self.notify()")
    running = server.start("hello:app", "-t", "1", config=config)
    (first,) = running.wait_for_workers(1)
    assert running.request().body == b"foreign"
    running.wait_for_line(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{first}\)")
    wait_until(lambda: first not in running.processes(), what="the end of the silent worker")


def test_a_foreign_worker_is_replaced_at_hup(server):
    config = FOREIGN.format(server=server.name, notify="self.notify()")
    running = server.start("hello:app", config=config)
    (first,) = running.wait_for_workers(1)
    assert running.request().body == b"foreign"
    running.send_signal(signal.SIGHUP)
    wait_until(lambda: first not in running.processes(), what="the end of the old worker")
    assert running.request().body == b"foreign"


def test_a_worker_told_to_leave_is_replaced(server, worker):
    running = server.start("web:app", worker=worker)
    (first,) = running.wait_for_workers(1)
    assert running.request().status == 200
    os.kill(first, signal.SIGTERM)
    wait_until(lambda: running.workers() not in ([], [first]), what="another worker")
    assert int(running.request("GET", "/pid").body) != first


# Gunicorn itself loses worker_abort now and then when the signal comes right after an answer.
@pytest.mark.servers("tricorn")
def test_quit_runs_worker_int_and_abrt_runs_worker_abort(server, worker):
    config = """
import sys

def worker_int(worker):
    sys.stderr.write(f"int {worker.pid}\\n")

def worker_abort(worker):
    sys.stderr.write(f"abort {worker.pid}\\n")
"""
    running = server.start("web:app", config=config, worker=worker)
    (first,) = running.wait_for_workers(1)
    assert running.request().status == 200
    os.kill(first, signal.SIGINT)
    running.wait_for_line(f"^int {first}$")
    second = wait_until(lambda: set(running.workers()) - {first}, what="another worker").pop()
    with running.connect() as client:
        assert int(client.request("GET", "/pid", [("Connection", "close")]).body) == second
        # An abort in the middle of a write would be taken for a failure of the application.
        client.expect_closed()
    os.kill(second, signal.SIGABRT)
    running.wait_for_line(f"^abort {second}$")
    running.wait_for_line(rf"Worker \(pid:{second}\) exited with code 1\.")
    # Gunicorn loses a stop that comes while it boots a worker.
    assert running.request().status == 200


def test_usr1_and_winch_leave_a_worker_alone(server, worker):
    running = server.start("web:app", worker=worker)
    (first,) = running.wait_for_workers(1)
    for number in (signal.SIGUSR1, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU):
        assert int(running.request("GET", "/pid").body) == first
        os.kill(first, number)
    assert int(running.request("GET", "/pid").body) == first


def test_a_worker_forked_in_the_moment_of_a_stop_is_stopped_too(server):
    """The arbiter finds a dead worker and the order to stop at the same look."""
    running = server.start("web:app")
    (first,) = running.wait_for_workers(1)
    assert running.request().status == 200
    running.send_signal(signal.SIGSTOP)
    os.kill(first, signal.SIGKILL)
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGCONT)
    assert running.wait() == 0
    assert running.processes() == []
    assert not running.log.matches("Parent changed")
    assert "Shutting down: Master" in running.log.text().splitlines()[-1]


def test_hup_to_a_worker_kills_it_and_the_log_says_so(server):
    running = server.start("web:app")
    (first,) = running.wait_for_workers(1)
    assert running.request().status == 200
    os.kill(first, signal.SIGHUP)
    running.wait_for_line(rf"\[WARNING\] Worker \(pid:{first}\) was sent SIGHUP!")


def test_exit_handlers_of_the_application_run(server, worker):
    config = """
import atexit, sys, threading, time

def post_worker_init(worker):
    atexit.register(lambda: print("atexit ran", file=sys.stderr, flush=True))
"""
    running = server.start("web:app", config=config, worker=worker)
    assert running.request().status == 200
    assert running.stop() == 0
    assert len(running.log.matches("^atexit ran$")) == 1


@pytest.mark.servers("tricorn")
def test_a_call_that_never_ends_does_not_keep_a_quick_stop_waiting(server, worker, tmp_path):
    running = server.start("web:app", worker=worker)
    with running.connect() as client:
        Held(client, tmp_path)
        running.send_signal(signal.SIGINT)
        assert running.wait(5) == 0
    assert not running.log.matches("was sent SIGKILL")


@pytest.mark.servers("tricorn")
def test_a_worker_never_returns_into_the_program_that_embeds_the_server(server, tmp_path):
    (tmp_path / "embedding.py").write_text("""
import sys

from hello import app
from tricorn.app.base import BaseApplication


class Embedded(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", "127.0.0.1:0")
        self.cfg.set("workers", 2)

    def load(self):
        return app


try:
    Embedded().run()
finally:
    print("the program goes on", file=sys.stderr, flush=True)
""")
    here = os.path.join(os.path.dirname(__file__), "..", "fixtures")
    running = _run_program(server, tmp_path / "embedding.py", here)
    running.wait_for_workers(2)
    assert running.request().status == 200
    assert running.stop() == 0
    assert len(running.log.matches("the program goes on")) == 1


def _run_program(server, path, library):
    """`python PATH`: the shell drops what the harness appends."""
    import sys

    return server.start(
        None,
        bind=None,
        python=("/bin/sh", "-c", f'exec "{sys.executable}" "{path}"'),
        env={"PYTHONPATH": library},
    )


@pytest.mark.servers("tricorn")
def test_a_timeout_names_the_request_that_hung(server):
    running = server.start("web:app", "-t", "1", worker="sync")
    with running.connect() as client:
        client.send(request_bytes("GET", "/sleep?ms=60000"))
        running.wait_for_line("WORKER TIMEOUT")
        found = running.wait_for_line(r"Worker \(pid:\d+\) was .*GET /sleep\?ms=60000 .*?([\d.]+) s")
    assert 1.0 <= float(re.search(r"([\d.]+) s$", found[0])[1]) < 4
