"""`--reload`: a changed file brings a worker with the new code, a broken one is shown and watched."""

import os
import time

import pytest
from harness.servers import wait_until

pytestmark = pytest.mark.timeout(120)

SITE = """
VERSION = {version!r}
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", str(len(VERSION)))])
    return [VERSION.encode()]
"""


class Site:
    """An application in a folder; every text written gets a modification time of its own."""

    def __init__(self, folder):
        self.folder = folder
        self._time = 1_700_000_000
        self.write(SITE.format(version="one"))

    def write(self, text, name="watched_site.py"):
        path = self.folder / name
        path.write_text(text)
        self._time += 10
        os.utime(path, (self._time, self._time))
        return path


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def let_it_look(server):
    """Gunicorn's watcher first looks some time after the first answer, and misses what changed before."""
    if server.name == "gunicorn":
        time.sleep(1.5)


def start(server, site, worker, *args):
    return server.start(
        "watched_site:app", "--reload", "--reload-engine", "poll", *args, worker=worker, cwd=site.folder
    )


def test_a_changed_module_is_served_by_a_new_worker(server, worker, site):
    running = start(server, site, worker)
    assert running.request().body == b"one"
    running.wait_for_line(r"\[WARNING\] Reloader is on\. Use in development only!")
    let_it_look(server)
    path = site.write(SITE.format(version="two"))
    running.wait_for_line(rf"\[INFO\] Worker reloading: {path} modified")
    wait_until(lambda: running.request().body == b"two", what="the new code")
    assert running.stop() == 0


def test_extra_files_are_watched(server, site):
    path = site.write("colour: green", "settings.yaml")
    running = start(server, site, "sync", "--reload-extra-file", str(path))
    assert running.request().body == b"one"
    let_it_look(server)
    site.write("colour: blue", "settings.yaml")
    running.wait_for_line(rf"Worker reloading: {path} modified")


def test_a_syntax_error_is_shown_until_it_is_mended(server, worker, site):
    site.write("def app(:\n")
    running = start(server, site, worker)
    answer = running.request()
    assert answer.status == 500
    assert (answer.get("Content-Type") or "").startswith("text/plain")
    assert b"SyntaxError" in answer.body
    let_it_look(server)
    site.write(SITE.format(version="mended"))
    wait_until(lambda: running.request().body == b"mended", what="the mended code")


@pytest.mark.servers("tricorn")
def test_a_request_in_progress_is_finished_before_the_worker_leaves(server, worker, site):
    slow = "import time\ndef app(environ, start_response):\n    print('called')\n    time.sleep(3)\n"
    slow += "    start_response('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n"
    site.write(slow)
    running = start(server, site, worker)
    with running.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        running.out.wait_for("called")
        site.write(slow + "# changed\n")
        running.wait_for_line("Worker reloading")
        assert connection.read_response().body == b"ok"
