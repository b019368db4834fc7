"""The overlay of docs/zope.md for plone/plone-backend, without Docker: its `sed` line and what comes of it.

The line is applied to an ini file like the image's, which is then started as the image's start script does.
The image itself, its Plone and `pip install` in it are not tested.
"""

import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from harness.http import basic_auth

pytestmark = pytest.mark.servers("tricorn")

ADMIN = basic_auth("admin", "admin")
SHIPPED = Path(__file__).resolve().parent / "exhibit" / "plone-backend.ini"


@pytest.fixture
def overlaid(server, snippet):
    """Starts an instance like the image's start script, after the overlay."""

    def start(instance, **env):
        ini = instance.folder / "etc" / "zope.ini"
        shutil.copy(SHIPPED, ini)
        (line,) = re.findall(r"&& (sed .+)$", snippet("Docker", "dockerfile"), re.M)
        subprocess.run(["sh", "-c", line], cwd=instance.folder, check=True)
        text = ini.read_text()
        assert "egg:tricorn#main" in text and "egg:waitress#main" not in text
        # Somewhere else than the image, where the tests may listen.
        ini.write_text(text.replace("host = 0.0.0.0", "host = 127.0.0.1").replace("port = 8080", "port = 0"))
        command = (str(instance.bin / "runwsgi"), "-v", "etc/zope.ini", "config_file=zope.conf")
        return server.start_command(*command, cwd=instance.folder, env={**instance.env, **env})

    return start


def test_overlay_serves_and_ends_with_0_on_term(instance, overlaid):
    running = overlaid(instance)
    assert running.workers() == []
    running.wait_for_line("threads: 2")
    page = running.request("GET", "/docs/d1")
    assert (page.status, page.get("Server")) == (200, "tricorn")
    running.out.wait_for(r"GET /docs/d1 HTTP/1\.1")
    data = bytes(range(256)) * 20_000
    fields = [ADMIN, ("Content-Type", "application/octet-stream")]
    assert running.request("PUT", "/big", fields, data).status == 204
    assert running.request("GET", "/big").body == data
    assert running.stop(signal.SIGTERM, seconds=10) == 0
    assert not (instance.folder / "var" / "zope.pid").exists()
    assert not re.search(r"WARNING \[gunicorn|Traceback", running.log.text())


def test_web_concurrency_of_the_container_is_the_number_of_workers(zeo_instance, overlaid):
    running = overlaid(zeo_instance, WEB_CONCURRENCY="2")
    running.wait_for_workers(2)
    assert running.request("GET", "/docs/d1").status == 200
    assert running.stop(signal.SIGTERM, seconds=10) == 0
