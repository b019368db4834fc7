"""Worker classes from elsewhere, named by their dotted path, under the arbiter with real listening sockets.

Gunicorn runs the same classes with its own base class: the import is their only difference.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from harness.servers import wait_until

ACCEPTING, OWN_SIGNALS = "third_party.Accepting", "third_party.OwnSignals"
CLASSES = pytest.mark.parametrize("kind", [ACCEPTING, OWN_SIGNALS])
RUNS = "^(runs|serves)"


def start(server, kind, *args, **how):
    return server.start("third_party:app", "-k", kind, *args, env={"SERVER": server.name}, **how)


def pid_of_answer(running):
    pid, said = running.request().body.split()
    assert said == b"third"
    return int(pid)


def wait_for_runs(running, count):
    wait_until(lambda: len(running.log.matches(RUNS)) >= count, what=f"{count} workers that run")


@CLASSES
def test_it_accepts_on_the_listeners_and_calls_the_application(server, kind):
    running = start(server, kind)
    assert pid_of_answer(running) in running.workers()
    assert running.stop() == 0


def test_its_attributes_are_those_of_gunicorns_base_class(server):
    running = start(server, ACCEPTING)
    running.wait_for_line("setup")
    running.wait_for_line("checked with timeout 30")
    running.wait_for_line("init 1 False True True")
    running.wait_for_line("runs True True")
    url = re.escape(f"http://127.0.0.1:{running.port}")
    name = re.escape(f"('127.0.0.1', {running.port})")
    running.wait_for_line(f"listener {url} True True AF_INET {name}")


def test_it_serves_tcp_and_unix_listeners(server, tmp_path):
    path = str(tmp_path / "s")
    running = start(server, ACCEPTING, "-b", f"unix:{path}")
    running.wait_for_line(f"listener unix:{path} True True AF_UNIX '{path}'")
    assert running.path == path and running.port
    first = running.request()
    running.path = None
    assert running.request().body == first.body


@CLASSES
def test_term_lets_it_end_by_itself(server, kind):
    running = start(server, kind, "-w", "2")
    wait_for_runs(running, 2)
    assert running.stop() == 0
    assert len(running.log.matches("^(handles exit|served)")) == 2


@CLASSES
@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_quit_ends_it_at_once(server, kind, number):
    running = start(server, kind)
    wait_for_runs(running, 1)
    assert running.stop(number, seconds=10) == 0
    running.wait_for_line("^(handles quit|served)")


@CLASSES
def test_hup_replaces_it_without_a_refusal(server, kind):
    running = start(server, kind)
    before = pid_of_answer(running)
    running.send_signal(signal.SIGHUP)
    wait_until(lambda: pid_of_answer(running) != before, what="another worker")
    wait_until(lambda: before not in running.processes(), what="the end of the first worker")
    assert running.stop() == 0


@CLASSES
def test_usr1_reopens_its_log(server, kind, tmp_path):
    log = tmp_path / "error.log"
    running = start(server, kind, "--error-logfile", str(log), wait=None)
    wait_for_runs(running, 1)
    wait_until(lambda: "Booting worker" in log.read_text(), what="the log")
    (worker,) = running.workers()
    log.rename(tmp_path / "old.log")
    running.send_signal(signal.SIGUSR1)
    wait_until(lambda: log.exists(), what="another log file")
    wait_until(lambda: holds(worker, log), what="the worker's descriptor on it")
    assert running.workers() == [worker]


def holds(pid, path):
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(descriptor.readlink())
        except FileNotFoundError:
            continue
    return path in found


def test_it_is_replaced_when_it_has_served_max_requests(server):
    running = start(server, ACCEPTING, "--max-requests", "3")
    pids = [pid_of_answer(running) for _ in range(3)]
    assert len(set(pids)) == 1
    running.wait_for_line("enough after 3")
    wait_until(lambda: pid_of_answer(running) != pids[0], what="another worker")


@CLASSES
def test_it_lives_longer_than_its_timeout_when_it_notifies(server, kind):
    running = start(server, kind, "-t", "1")
    before = pid_of_answer(running)
    late = running.log.mark()
    with pytest.raises(AssertionError, match="no line matched"):
        running.wait_for_line("WORKER TIMEOUT", seconds=3, after=late)
    assert pid_of_answer(running) == before


def test_it_may_leave_errors_to_the_base_class(server):
    running = start(server, ACCEPTING)
    answer = running.request("GET", "/fail")
    assert (answer.status, answer.get("Connection")) == (500, "close")
    assert b"Internal Server Error" in answer.body
    running.wait_for_line(r"Error handling request \(no URI read\)")
    running.wait_for_line("RuntimeError: on purpose")
    assert running.request().body.endswith(b"third")


def test_it_may_say_that_it_cannot_boot(server):
    running = start(server, "third_party.Unbootable", wait=None)
    assert running.wait() == 3
    running.wait_for_line("Worker failed to boot")


@pytest.mark.servers("tricorn")
def test_two_workers_share_the_listener(server):
    running = start(server, ACCEPTING, "-w", "2")
    wait_for_runs(running, 2)
    for _ in range(20):
        assert pid_of_answer(running) in running.workers()
