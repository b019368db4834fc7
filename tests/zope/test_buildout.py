"""The buildout of `examples/plone-buildout`, with Zope in the place of Plone, from a wheel of this checkout.

Needs PyPI: an egg for everything that Zope stands on. `make test-zope` runs these, `make test` does not.
They run one after the other, because they share the folder of the eggs.
"""

from __future__ import annotations

import http.server
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.http import basic_auth
from harness.servers import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "plone-buildout"
# Kept between runs, since making the eggs is what takes the time.
EGGS = ROOT / ".make" / "eggs"
ADMIN = basic_auth("admin", "admin")

pytestmark = [pytest.mark.long, pytest.mark.servers("tricorn"), pytest.mark.timeout(900)]


class Index(http.server.SimpleHTTPRequestHandler):
    """PyPI, with this checkout's wheel in it.

    Given the wheel by `find-links`, buildout would look for its name in the list of everything on PyPI.
    """

    def __init__(self, *args):
        super().__init__(*args, directory=str(ROOT / "dist"))

    def do_GET(self):
        folder, _, name = self.path.strip("/").rpartition("/")
        if folder != "simple":
            super().do_GET()
        elif name != "tricorn":
            self.send_response(302)
            self.send_header("Location", f"https://pypi.org/simple/{name}/")
            self.end_headers()
        else:
            links = "".join(f'<a href="/{wheel.name}">{wheel.name}</a>' for wheel in wheels())
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(links.encode())

    def log_message(self, *args):
        """Requests are of no interest."""


def wheels() -> list[Path]:
    return list((ROOT / "dist").glob("tricorn-*.whl"))


@pytest.fixture(scope="session")
def index() -> Iterator[str]:
    """The address of an `Index`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def buildout(tmp_path_factory, index):
    """Runs a configuration of the example in a folder of its own; gives the folder."""
    if not wheels():
        pytest.skip("no wheel in dist: `make test-zope` builds one")
    folder = tmp_path_factory.mktemp("buildout") / "site"
    shutil.copytree(EXAMPLE, folder)
    (folder / "var" / "blobstorage").mkdir(parents=True, mode=0o700)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    tools = ("zc.buildout==6.0.1", "setuptools<81", "wheel")
    subprocess.run([folder / "venv" / "bin" / "pip", "install", "-q", *tools], check=True)
    # The eggs of another build of the wheel would win over it.
    for old in EGGS.glob("*/tricorn-*"):
        shutil.rmtree(old)

    def run(configuration, port):
        command = [
            folder / "venv" / "bin" / "buildout",
            "-c",
            configuration,
            f"buildout:index={index}",
            f"buildout:eggs-directory={EGGS}",
            "settings:site-eggs=Zope\nPaste",
            f"settings:http-address={port}",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return folder

    return run


def test_instance_serves_through_the_template_and_ends_in_order(buildout, server):
    port = free_port()
    folder = buildout("tricorn.cfg", port)
    running = server.start_command(str(folder / "bin" / "instance"), "console", cwd=folder)
    assert running.port == port
    assert running.request("GET", "/manage_main", [ADMIN]).status == 200
    assert running.request("GET", "/no-such-thing").status == 404
    # `console` replaces its process: the server is the process that loaded the application.
    assert running.workers() == []
    assert running.stop(signal.SIGTERM) == 0
    event_log = (folder / "var" / "log" / "instance.log").read_text()
    assert "Listening at" in event_log and "Shutting down" in event_log


def test_instance_starts_and_stops_in_the_background(buildout, server):
    port = free_port()
    folder = buildout("tricorn.cfg", port)
    instance = str(folder / "bin" / "instance")
    subprocess.run([instance, "start"], cwd=folder, check=True, timeout=60)
    try:
        log = folder / "var" / "log" / "instance.log"
        wait_until(lambda: f":{port}" in log.read_text(), 30, "the start")
    finally:
        subprocess.run([instance, "stop"], cwd=folder, check=True, timeout=60)
    assert "Handling signal: term" in log.read_text()


def test_workers_in_a_buildout_load_the_application_themselves(buildout, server):
    folder = buildout("tricorn.cfg", free_port())
    ini = folder / "parts" / "instance" / "etc" / "wsgi.ini"
    ini.write_text(ini.read_text().replace("threads = 4", "workers = 2"))
    running = server.start_command(str(folder / "bin" / "instance"), "console", cwd=folder, wait=None)
    # Which they do, or they could not find that the database is one process's.
    assert running.wait() == 3
    assert "a FileStorage belongs to one process" in running.log.text()


def test_command_serves_a_module_of_the_buildout(buildout, server):
    port = free_port()
    folder = buildout("tricorn-alt.cfg", port)
    running = server.start_command(str(folder / "bin" / "tricorn-instance"), cwd=folder)
    assert running.port == port
    running.wait_for_workers(1)
    assert running.request("GET", "/manage_main", [ADMIN]).status == 200
    assert running.request("GET", "/no-such-thing").status == 404
    # The shell script is replaced by the server, so signals reach it.
    assert running.stop(signal.SIGTERM) == 0
