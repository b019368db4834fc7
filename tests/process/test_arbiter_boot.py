"""From the command to the first worker, and the ways it can fail."""

import re

import pytest
from harness.servers import wait_until

FAILURES = {
    "raises": ("raise RuntimeError('broken on purpose')\n", 3, "Worker failed to boot."),
    "imports": ("import no_such_module\n", 3, "Worker failed to boot."),
    "syntax": ("def (:\n", 3, "Worker failed to boot."),
    "missing": ("other = 1\n", 4, "App failed to load."),
    "uncallable": ("app = 1\n", 4, "App failed to load."),
}
ON_EXIT = "import sys\n\ndef on_exit(server):\n    print('on_exit ran', file=sys.stderr, flush=True)\n"


def write_app(folder, text):
    (folder / "broken_app.py").write_text(text)
    return "broken_app:app"


def test_threads_turn_sync_into_gthread(server):
    running = server.start("hello:app", "--threads", "2")
    running.wait_for_line("Using worker: gthread")


@pytest.mark.parametrize("kind", FAILURES)
def test_a_worker_that_cannot_boot_halts_the_server(server, kind, tmp_path):
    text, code, reason = FAILURES[kind]
    app = write_app(tmp_path, text)
    pidfile = tmp_path / "pid"
    running = server.start(app, "-p", str(pidfile), cwd=tmp_path, config=ON_EXIT, wait=None)
    assert running.wait() == code
    running.wait_for_line(r"\[ERROR\] Shutting down: Master")
    running.wait_for_line(rf"\[ERROR\] Reason: {re.escape(reason)}")
    running.wait_for_line("on_exit ran")
    assert not pidfile.exists()


def test_an_app_that_is_not_found_is_named_without_a_traceback(server, tmp_path):
    running = server.start(write_app(tmp_path, "other = 1\n"), cwd=tmp_path, wait=None)
    assert running.wait() == 4
    running.wait_for_line("Failed to find attribute 'app' in 'broken_app'.")
    assert "Traceback" not in running.log.text()


def test_preload_of_a_broken_app_ends_with_1(server, tmp_path):
    running = server.start(write_app(tmp_path, FAILURES["imports"][0]), "--preload", cwd=tmp_path, wait=None)
    assert running.wait() == 1
    running.wait_for_line("No module named 'no_such_module'")


def test_a_worker_that_exits_is_reported_with_its_code(server):
    config = "import os\n\ndef pre_request(worker, req):\n    os._exit(7)\n"
    running = server.start("web:app", config=config)
    (worker,) = running.wait_for_workers(1)
    with running.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        client.expect_closed()
    running.wait_for_line(rf"\[ERROR\] Worker \(pid:{worker}\) exited with code 7\.")
    wait_until(lambda: running.workers() not in ([], [worker]), what="another worker")
