"""Signals to the arbiter: what each does to the workers, and what the log says."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from harness.http import WireError, request_bytes
from harness.servers import Held, wait_until

pytestmark = pytest.mark.timeout(120)

VERSIONED = """
VERSION = {version!r}
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", str(len(VERSION)))])
    return [VERSION.encode()]
"""


@pytest.fixture
def site(tmp_path):
    """A folder with an application that answers its version, and a way to write another one."""

    def write(version):
        (tmp_path / "site_of_test.py").write_text(VERSIONED.format(version=version))
        return tmp_path

    write("one")
    return write


def test_term_kills_at_graceful_timeout(server, worker, tmp_path):
    running = server.start("web:app", "--graceful-timeout", "1", worker=worker)
    with running.connect() as connection:
        Held(connection, tmp_path)
        begin = time.monotonic()
        assert running.stop() == 0
        assert 0.5 < time.monotonic() - begin < 4


def test_an_impatient_int_cuts_a_graceful_stop_short(server, tmp_path):
    running = server.start("web:app")
    with running.connect() as connection:
        Held(connection, tmp_path)
        running.send_signal(signal.SIGTERM)
        running.wait_for_line("Handling signal: term")
        running.send_signal(signal.SIGINT)
        running.wait_for_line("Quick shutdown requested")
        assert running.wait(6) == 0


def test_hup_brings_new_code_with_new_workers(server, site):
    running = server.start("site_of_test:app", "-w", "2", cwd=site("one"))
    assert running.request().body == b"one"
    old = set(running.wait_for_workers(2))
    site("two")
    running.send_signal(signal.SIGHUP)
    running.wait_for_line(r"\[INFO\] Hang up: Master")
    wait_until(lambda: not old & set(running.workers()), what="the end of the old workers")
    running.wait_for_workers(2)
    assert running.request().body == b"two"


def test_hup_brings_new_configuration(server):
    running = server.start("life:app", config="workers = 1\n")
    first = running.wait_for_workers(1)
    conf = running.folder / "conf.py"
    conf.write_text("workers = 3\nraw_env = ['COLOUR=blue']\n")
    running.send_signal(signal.SIGHUP)
    wait_until(lambda: len(set(running.workers()) - set(first)) == 3, what="three new workers")
    running.wait_for_workers(3)
    assert running.request(target="/env?COLOUR").body == b"blue"


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize(
    "text", ["workers = 'many'\n", "this is no Python\n", "worker_class = 'no.such.Class'\n"]
)
def test_hup_with_a_bad_configuration_changes_nothing_and_says_so(server, text):
    running = server.start("life:app", config="workers = 2\n")
    before = running.wait_for_workers(2)
    (running.folder / "conf.py").write_text(text)
    running.send_signal(signal.SIGHUP)
    running.wait_for_line(r"\[ERROR\] Reload failed, the old configuration and workers stay: ")
    assert running.request().status == 200
    assert running.workers() == before
    (running.folder / "conf.py").write_text("workers = 1\n")
    running.send_signal(signal.SIGHUP)
    running.wait_for_workers(1)
    assert running.stop() == 0


@pytest.mark.servers("tricorn")
def test_hup_with_code_that_does_not_load_keeps_the_old_workers(server, site):
    running = server.start("site_of_test:app", "-w", "2", cwd=site("one"))
    before = running.wait_for_workers(2)
    assert running.request().body == b"one"
    (site("two") / "site_of_test.py").write_text("import no_such_thing\n")
    running.send_signal(signal.SIGHUP)
    running.wait_for_line(r"\[ERROR\] Reload failed, the old workers stay: ")
    wait_until(lambda: running.workers() == before, what="only the old workers")
    assert running.request().body == b"one"
    site("three")
    running.send_signal(signal.SIGHUP)
    wait_until(lambda: running.request().body == b"three", what="the mended code")


@pytest.mark.servers("tricorn")
def test_hup_does_not_move_an_address_of_the_command_line(server, tmp_path):
    path = tmp_path / "sock"
    running = server.start("life:app", config="", bind="127.0.0.1:0")
    (running.folder / "conf.py").write_text(f"bind = ['127.0.0.1:{running.port}', 'unix:{path}']\n")
    assert running.request().status == 200
    running.send_signal(signal.SIGHUP)
    running.wait_for_line("Hang up: Master")
    wait_until(lambda: running.request().status == 200, what="an answer")
    assert not path.exists()


@pytest.mark.servers("tricorn")
def test_hup_replaces_listeners_when_bind_changed(server, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    running = server.start("life:app", config=f"bind = 'unix:{first}'\n", bind=None)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(first))
    (running.folder / "conf.py").write_text(f"bind = 'unix:{second}'\n")
    mark = running.log.mark()
    running.send_signal(signal.SIGHUP)
    running.wait_for_line(f"Listening at: unix:{second}$", after=mark)
    assert not first.exists()
    running.path = str(second)
    assert running.request().status == 200


@pytest.mark.servers("tricorn")
def test_a_storm_of_hup_ends_in_a_calm(server):
    running = server.start("life:app", "-w", "2")
    for _ in range(200):
        running.send_signal(signal.SIGHUP)
        time.sleep(0.005)
    wait_until(lambda: running.request().status == 200, what="an answer")
    running.wait_for_workers(2, 20)
    # Orders that came while a reload was under way were answered by one more: not two workers for each.
    assert len(running.log.matches("Booting worker")) < 200
    assert running.stop() == 0


def test_a_reload_gets_through_to_a_worker_that_is_never_idle(server):
    """More requests than it can answer: it always finds another one before it looks at its signals."""
    running = server.start("web:app", worker="sync")
    old = running.wait_for_workers(1)[0]
    over = threading.Event()

    def hammer():
        while not over.is_set():
            try:
                with running.connect() as client:
                    client.send(request_bytes("GET", "/sleep?ms=3") * 20)
                    while not over.is_set() and client.read_response().keeps_alive:
                        client.send(request_bytes("GET", "/sleep?ms=3"))
            except (OSError, WireError):
                # Gunicorn's worker closes after each answer, and loses what it has not accepted yet.
                continue

    crowd = [threading.Thread(target=hammer) for _ in range(12)]
    try:
        for client in crowd:
            client.start()
        mark = running.log.mark()
        running.send_signal(signal.SIGHUP)
        running.wait_for_line(rf"Worker exiting \(pid: {old}\)", 15, after=mark)
    finally:
        over.set()
        for client in crowd:
            client.join()


def test_ttin_and_ttou_move_the_number_of_workers(server):
    config = "def nworkers_changed(server, new, old): server.log.info('workers %s -> %s', old, new)\n"
    running = server.start("life:app", config=config)
    oldest = running.wait_for_workers(1)[0]
    running.send_signal(signal.SIGTTIN)
    running.wait_for_workers(2)
    running.wait_for_line("workers 1 -> 2")
    # The new one handles TERM once it has booted.
    wait_until(lambda: len(running.log.matches("Booting worker")) == 2, what="two workers")
    running.send_signal(signal.SIGTTOU)
    assert oldest not in running.wait_for_workers(1)
    mark = running.log.mark()
    running.send_signal(signal.SIGTTOU)
    running.wait_for_line("Handling signal: ttou", after=mark)
    time.sleep(1.2)
    assert len(running.workers()) == 1


@pytest.mark.servers("tricorn")
def test_every_one_of_many_ttin_counts(server):
    running = server.start("life:app")
    running.wait_for_workers(1)
    for count in range(1, 5):
        running.send_signal(signal.SIGTTIN)
        # The kernel merges signals that are pending; one that was seen cannot be lost any more.
        wait_until(lambda n=count: len(running.log.matches("Handling signal: ttin")) == n, what="the signal")
    running.wait_for_workers(5)


def test_winch_is_ignored_in_the_foreground(server):
    running = server.start("life:app", "--log-level", "debug")
    running.wait_for_workers(1)
    running.send_signal(signal.SIGWINCH)
    running.wait_for_line(r"\[DEBUG\] SIGWINCH ignored\. Not daemonized")
    assert running.request().status == 200


def test_usr1_reopens_the_log_files(server, tmp_path):
    log = tmp_path / "error.log"
    running = server.start("life:app", "--log-file", str(log), wait=None)
    wait_until(lambda: log.exists() and "Booting worker" in log.read_text(), what="a worker")
    log.rename(tmp_path / "error.log.1")
    running.send_signal(signal.SIGUSR1)
    wait_until(log.exists, what="a new log file")
    wait_until(lambda: len(children_with_open(running, log)) == 2, what="arbiter and worker in the new file")
    assert running.stop() == 0
    assert "Shutting down: Master" in log.read_text()


def children_with_open(running, path):
    def holds(pid):
        try:
            return str(path) in (os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return False

    return [pid for pid in running.processes() if holds(pid)]


def test_usr2_starts_a_second_arbiter_over_the_same_socket(server, tmp_path, site):
    pidfile = tmp_path / "pid"
    running = server.start("site_of_test:app", "-p", str(pidfile), cwd=site("one"))
    assert running.request().body == b"one"
    site("two")
    running.send_signal(signal.SIGUSR2)
    second = tmp_path / "pid.2"
    wait_until(second.exists, 10, "the second pid file")
    successor = int(second.read_text())
    # Until the first arbiter stops, the kernel decides which of the two answers.
    wait_until(lambda: len(running.log.matches("Booting worker")) == 2, what="the second worker")
    running.send_signal(signal.SIGUSR2)
    running.wait_for_line(r"\[WARNING\] USR2 signal ignored\. Child exists\.")
    running.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    running.wait_for_line(r"\[INFO\] Master has been promoted\.")
    wait_until(lambda: not second.exists() and pidfile.exists(), what="the promotion")
    assert int(pidfile.read_text()) == successor
    assert running.request().body == b"two"
    os.kill(successor, signal.SIGTERM)
    wait_until(lambda: not running.processes(), what="the end of the successor")
    assert not pidfile.exists()


def test_a_daemon_leaves_the_terminal_and_heeds_winch(server, tmp_path):
    pidfile, log = tmp_path / "pid", tmp_path / "log"
    running = server.start(
        "life:app", "--daemon", "-p", str(pidfile), "--log-file", str(log), bind="127.0.0.1:0", wait=None
    )
    assert running.process.wait(10) == 0
    wait_until(lambda: log.exists() and "Booting worker" in log.read_text(), what="a daemon")
    daemon = int(pidfile.read_text())
    try:
        assert os.getsid(daemon) != os.getsid(0)
        os.kill(daemon, signal.SIGWINCH)
        wait_until(lambda: "graceful stop of workers" in log.read_text(), what="the answer to WINCH")
        wait_until(lambda: not children_of(daemon), what="an arbiter without workers")
        os.kill(daemon, signal.SIGHUP)
        wait_until(lambda: len(children_of(daemon)) == 1, what="a worker again")
    finally:
        os.kill(daemon, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{daemon}").exists(), what="the end of the daemon")
    assert not pidfile.exists()


def children_of(parent):
    return Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
