"""The arbiter from outside: signals, dying and hanging workers, hooks, pidfiles, sockets."""

import os
import re
import signal
import socket
import stat
import textwrap

import pytest
from harness.servers import wait_until

BOOTING = r"Booting worker with pid: (\d+)"


def write(folder, name, text):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def test_the_first_lines_tell_what_runs(server, worker):
    running = server.start("hello:app", "-w", "2", worker=worker)
    running.wait_for_workers(2)
    wait_until(lambda: len(running.log.matches(BOOTING)) == 2, what="two booting lines")
    line = r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] " + rf"\[{running.pid}\] \[INFO\] "
    running.wait_for_line(line + rf"Starting {server.name} \d+\.\d+\.\d+$")
    running.wait_for_line(line + rf"Listening at: http://127\.0\.0\.1:{running.port} \({running.pid}\)$")
    running.wait_for_line(line + rf"Using worker: {worker}$")


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_signals_that_stop(server, worker, name):
    running = server.start("hello:app", "-w", "2", worker=worker)
    assert running.request().status == 200
    assert running.stop(getattr(signal, f"SIG{name}")) == 0
    running.wait_for_line(rf"\[INFO\] Handling signal: {name.lower()}$")
    running.wait_for_line(r"Shutting down: Master$")
    assert running.processes() == []


def test_ttin_and_ttou_change_the_pool_and_one_worker_stays(server):
    running = server.start("hello:app")
    running.wait_for_workers(1)
    running.send_signal(signal.SIGTTIN)
    running.wait_for_workers(2)
    running.send_signal(signal.SIGTTOU)
    running.wait_for_workers(1)
    mark = running.log.mark()
    running.send_signal(signal.SIGTTOU)
    running.wait_for_line("Handling signal: ttou", after=mark)
    assert running.request().status == 200
    assert len(running.workers()) == 1


def test_hup_takes_new_code_and_new_settings(server, tmp_path):
    source = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'%s']\n"
    write(tmp_path, "site.conf.py", "workers = 1\n")
    module = write(tmp_path, "changing.py", source % "one")
    running = server.start("changing:app", "-c", str(tmp_path / "site.conf.py"), "--chdir", str(tmp_path))
    assert running.request().body == b"one"
    module.write_text(source % "other")
    (tmp_path / "site.conf.py").write_text("workers = 3\n")
    running.send_signal(signal.SIGHUP)
    running.wait_for_line("Hang up: Master")
    wait_until(lambda: running.request().body == b"other", 20, "the new code")
    running.wait_for_workers(3, 20)
    assert running.request().body == b"other"


@pytest.mark.servers("tricorn")
def test_hup_with_a_bad_configuration_keeps_the_old_one(server, tmp_path):
    config = write(tmp_path, "site.conf.py", "workers = 1\n")
    running = server.start("hello:app", "-c", str(config))
    before = running.wait_for_workers(1)
    config.write_text("workers = 'many'\n")
    mark = running.log.mark()
    running.send_signal(signal.SIGHUP)
    running.wait_for_line(r"\[ERROR\]", after=mark)
    assert running.request().status == 200
    assert running.workers() == before


@pytest.mark.servers("tricorn")
def test_hup_with_code_that_does_not_load_keeps_the_old_workers(server, tmp_path):
    module = write(
        tmp_path,
        "fragile.py",
        """
        def app(environ, start_response):
            start_response("200 OK", [])
            return [b"sound"]
        """,
    )
    running = server.start("fragile:app", "--chdir", str(tmp_path))
    before = running.wait_for_workers(1)
    module.write_text("raise RuntimeError('broken on purpose')\n")
    running.send_signal(signal.SIGHUP)
    running.wait_for_line("broken on purpose")
    running.wait_for_workers(1)
    assert running.workers() == before
    assert running.request().body == b"sound"


def test_a_worker_that_dies_is_replaced(server):
    running = server.start("hello:app", "-w", "2")
    victim = running.wait_for_workers(2)[0]
    os.kill(victim, signal.SIGKILL)
    running.wait_for_line(rf"Worker \(pid:{victim}\) was sent SIGKILL! Perhaps out of memory\?")
    wait_until(lambda: victim not in running.workers() and len(running.workers()) == 2, what="a new worker")
    assert running.request().status == 200


def test_a_sync_call_longer_than_timeout_costs_the_worker(server):
    running = server.start("web:app", "-t", "1", worker="sync")
    before = running.wait_for_workers(1)
    with running.connect() as client:
        client.send(b"GET /sleep?ms=8000 HTTP/1.1\r\nHost: x\r\n\r\n")
        running.wait_for_line(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{before[0]}\)")
    wait_until(lambda: running.workers() and running.workers() != before, 15, "another worker")
    assert running.request("GET", "/pid").status == 200


def test_a_gthread_call_may_be_longer_than_timeout(server):
    running = server.start("web:app", "-t", "1", worker="gthread")
    before = running.wait_for_workers(1)
    assert running.request("GET", "/sleep?ms=4000").status == 200
    assert running.workers() == before
    assert not running.log.matches("WORKER TIMEOUT")


@pytest.mark.parametrize(("body", "code"), [("raise RuntimeError('no')", 3), ("app = None", 4)])
@pytest.mark.servers("tricorn")
def test_workers_that_cannot_boot_stop_the_server_cleanly(server, tmp_path, body, code):
    write(tmp_path, "broken.py", body + "\n")
    pidfile = tmp_path / "server.pid"
    running = server.start("broken:app", "-w", "6", "-p", str(pidfile), "--chdir", str(tmp_path), wait=None)
    assert running.wait() == code
    running.wait_for_line("Reason: (Worker failed to boot|App failed to load)")
    assert not pidfile.exists()
    assert running.processes() == []


@pytest.mark.servers("tricorn")
def test_workers_that_die_young_again_and_again_are_not_a_fork_bomb(server, tmp_path):
    write(tmp_path, "suicidal.conf.py", "import os\ndef post_worker_init(worker):\n    os._exit(1)\n")
    running = server.start("hello:app", "-c", str(tmp_path / "suicidal.conf.py"), wait=None)
    wait_until(lambda: len(running.log.matches(r"exited with code 1")) >= 3, 20, "three deaths")
    stamps = [match[1] for match in running.log.matches(r"^\[(\S+ \S+) .*Booting worker")]
    assert max(stamps.count(stamp) for stamp in stamps) <= 10
    assert running.stop() == 0


HOOKS = """
import os
path = os.environ["HOOKS"]
def note(name):
    with open(path, "a") as file:
        file.write(f"{name} {'arbiter' if os.getpid() == arbiter else 'worker'}\\n")
arbiter = os.getpid()
def on_starting(server): note("on_starting")
def when_ready(server): note("when_ready")
def pre_fork(server, worker): note("pre_fork")
def post_fork(server, worker): note("post_fork")
def post_worker_init(worker): note("post_worker_init")
def pre_request(worker, req): note("pre_request " + req.method + " " + req.path)
def post_request(worker, req, environ, resp): note("post_request " + str(resp.status))
def worker_exit(server, worker): note("worker_exit")
def child_exit(server, worker): note("child_exit")
def on_exit(server): note("on_exit")
def nworkers_changed(server, new, old): note(f"nworkers_changed {new} {old}")
"""


def test_hooks_run_in_order_and_in_their_process(server, worker, tmp_path):
    config = write(tmp_path, "hooks.conf.py", HOOKS)
    told = tmp_path / "told"
    running = server.start("hello:app", "-c", str(config), worker=worker, env={"HOOKS": str(told)})
    assert running.request("GET", "/here").status == 200
    wait_until(lambda: "post_request" in told.read_text(), what="post_request")
    assert running.stop() == 0
    assert told.read_text().splitlines() == [
        "nworkers_changed 1 None arbiter",
        "on_starting arbiter",
        "when_ready arbiter",
        "pre_fork arbiter",
        "post_fork worker",
        "post_worker_init worker",
        "pre_request GET /here worker",
        "post_request 200 OK worker",
        "worker_exit worker",
        "child_exit arbiter",
        "on_exit arbiter",
    ]


def test_the_pidfile_holds_the_pid_while_the_server_runs(server, tmp_path):
    pidfile = tmp_path / "server.pid"
    pidfile.write_text("")
    running = server.start("hello:app", "-p", str(pidfile))
    assert pidfile.read_text() == f"{running.pid}\n"
    second = server.start("hello:app", "-p", str(pidfile), wait=None)
    assert second.wait() == 1
    second.wait_for_line(rf"Already running on PID {running.pid}")
    assert running.stop() == 0
    assert not pidfile.exists()


def test_a_unix_socket_has_the_mode_of_umask_and_is_removed(server, tmp_path):
    path = tmp_path / "web.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    running = server.start("hello:app", "-m", "0177", bind=f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert running.request().status == 200
    assert running.stop() == 0
    assert not path.exists()


@pytest.mark.servers("tricorn")
def test_a_file_that_is_no_socket_is_not_replaced(server, tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    running = server.start("hello:app", bind=f"unix:{path}", wait=None)
    assert running.wait() == 1
    assert path.read_text() == "data"


def test_an_address_in_use_is_tried_again_and_then_refused(server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = server.start("hello:app", bind=f"127.0.0.1:{port}", wait=None)
        assert running.wait() == 1
        running.wait_for_line(rf"Connection in use: \('127\.0\.0\.1', {port}\)")
        running.wait_for_line(rf"Can't connect to \('127\.0\.0\.1', {port}\)")


def test_usr1_reopens_the_logs(server, tmp_path):
    log = tmp_path / "access.log"
    running = server.start("hello:app", "--access-logfile", str(log))
    assert running.request("GET", "/first").status == 200
    wait_until(lambda: "/first" in log.read_text(), what="the first line")
    log.rename(tmp_path / "access.log.1")
    running.send_signal(signal.SIGUSR1)
    wait_until(log.exists, what="a new file")

    def told():
        running.request("GET", "/second")
        return "/second" in log.read_text()

    wait_until(told, what="a line in the new file")


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_workers_run_as_the_user_and_the_arbiter_does_not(server):
    running = server.start("hello:app", "-u", "65534", "-g", "65534")
    status = open(f"/proc/{running.wait_for_workers(1)[0]}/status").read()
    assert re.search(r"^Uid:\s+65534\s+65534\s+65534\s+65534$", status, re.M)
    assert re.search(r"^Gid:\s+65534\s+65534\s+65534\s+65534$", status, re.M)
    assert running.request().status == 200


def test_usr2_starts_the_program_anew_over_the_same_sockets(server, tmp_path):
    pidfile = tmp_path / "server.pid"
    running = server.start("hello:app", "-p", str(pidfile))
    running.send_signal(signal.SIGUSR2)
    second = tmp_path / "server.pid.2"
    wait_until(lambda: second.exists() and second.read_text().strip(), 15, "a second arbiter")
    pid = int(second.read_text())
    running.send_signal(signal.SIGTERM)
    running.process.wait(20)
    assert running.request().status == 200
    wait_until(lambda: pidfile.exists() and pidfile.read_text() == f"{pid}\n", 15, "the promotion")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not running.processes(), 15, "the end")
