"""Zope instances in throw-away folders, for the tests and for `make serve-zope` and `make serve-plone`.

As a program: makes an instance from the virtual environment it runs in, fills it, and serves it with Tricorn
until interrupted; the folder goes with it. `--plone` adds a Plone site.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
USER = "admin"

ZOPE_CONF = """
%define INSTANCE {folder}
instancehome $INSTANCE
pid-filename $INSTANCE/var/zope.pid
<zodb_db main>
  mount-point /
  {more}
  {storage}
</zodb_db>
<dos_protection>
  form-memory-limit 8MB
</dos_protection>
"""
FILE_STORAGE = """
  <filestorage>
    path $INSTANCE/var/Data.fs
    blob-dir $INSTANCE/var/blobs
  </filestorage>
"""
ZEO_STORAGE = """
  <zeoclient>
    server 127.0.0.1:{port}
    blob-dir $INSTANCE/var/blobs
    shared-blob-dir on
  </zeoclient>
"""
RELSTORAGE = """
  %import relstorage
  <relstorage>
    blob-dir $INSTANCE/var/blobs
    <sqlite3>
      data-dir $INSTANCE/var/sqlite
    </sqlite3>
  </relstorage>
"""
ZEO_CONF = """
<zeo>
  address 127.0.0.1:{port}
</zeo>
<filestorage 1>
  path {folder}/var/Data.fs
  blob-dir {folder}/var/blobs
</filestorage>
"""
ZOPE_INI = """
[app:zope]
use = egg:Zope#main
zope_conf = {conf}

[pipeline:main]
pipeline = egg:Zope#httpexceptions zope

[server:main]
{server}
"""


class Instance:
    """One instance; `bin` is the folder of its virtual environment's programs."""

    def __init__(self, folder: Path, bin: Path, password: str = "admin"):
        self.folder = folder
        self.bin = bin
        self.password = password
        # The site's package is found like one that is not installed.
        self.env = {"PYTHONPATH": str(HERE)}

    @property
    def conf(self) -> Path:
        return self.folder / "etc" / "zope.conf"

    def make(self) -> None:
        """The instance as Zope's own tool makes it, for waitress."""
        tool = [self.bin / "mkwsgiinstance", "-d", self.folder, "-u", f"{USER}:{self.password}"]
        subprocess.run(tool, check=True, stdout=subprocess.DEVNULL)

    def furnish(self, megabytes: int = 1, **database) -> None:
        """Blobs, the package of the exhibits, and something to show, in a `database` as for `write_conf`."""
        blobs = self.folder / "var" / "blobs"
        blobs.mkdir(mode=0o700)
        includes = self.folder / "etc" / "package-includes"
        includes.mkdir()
        (includes / "exhibit-configure.zcml").write_text('<include package="exhibit"/>\n')
        self.write_conf(**database)
        self.console(HERE / "exhibit" / "seed.py", str(megabytes))

    def write_conf(self, zeo_port: int | None = None, relstorage: bool = False, more: str = "") -> None:
        """A FileStorage, unless a port of ZEO or RelStorage (in SQLite) is asked for."""
        storage = RELSTORAGE if relstorage else FILE_STORAGE
        if zeo_port is not None:
            storage = ZEO_STORAGE.format(port=zeo_port)
        self.conf.write_text(ZOPE_CONF.format(folder=self.folder, storage=storage, more=more))

    def write_ini(self, server: str) -> Path:
        ini = self.folder / "etc" / "zope.ini"
        ini.write_text(ZOPE_INI.format(conf=self.conf, server=server))
        return ini

    def console(self, script: Path, *arguments: str) -> None:
        """Run a script with the database open. What it says is shown when it fails."""
        command = [self.bin / "zconsole", "run", self.conf, script, *arguments]
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{script} failed:\n{done.stdout}{done.stderr}")

    @contextlib.contextmanager
    def zeo(self) -> Iterator[int]:
        """A ZEO server for the instance's data, on the port that it gives."""
        port = free_port()
        conf = self.folder / "etc" / "zeo.conf"
        conf.write_text(ZEO_CONF.format(port=port, folder=self.folder))
        with open(self.folder / "zeo.log", "wb") as log:
            server = subprocess.Popen([self.bin / "runzeo", "-C", conf], stdout=log, stderr=log)
        try:
            wait_for_port(port, server)
            yield port
        finally:
            server.terminate()
            server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen, seconds: float = 60) -> None:
    """Until something listens; SystemExit when the process ends before, or time does."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}: see the output above")


def serve(plone: bool, port: int) -> None:
    """What the program does."""
    folder = Path(tempfile.mkdtemp(prefix="tricorn-zope-"))
    try:
        instance = Instance(folder / "instance", Path(sys.executable).parent, secrets.token_urlsafe(9))
        print("Making an instance ...", flush=True)
        instance.make()
        print("Filling it with 300 documents, a 10 MB File and a blob ...", flush=True)
        instance.furnish(megabytes=10)
        if plone:
            print("Making a Plone site, which takes a minute ...", flush=True)
            instance.console(HERE / "exhibit" / "plone_site.py")
        ini = instance.write_ini(f"use = egg:tricorn#main\nlisten = 127.0.0.1:{port}\nthreads = 4")
        runner = subprocess.Popen([instance.bin / "runwsgi", ini], env={**os.environ, **instance.env})
        # Ctrl-C is the server's: this program only waits for it to have closed its database.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: runner.terminate())
        wait_for_port(port, runner)
        print_addresses(plone, port, instance.password)
        runner.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def print_addresses(plone: bool, port: int, password: str) -> None:
    here = f"http://127.0.0.1:{port}"
    print(f"\nThe ZMI:   {here}/manage_main   user {USER}, password {password}")
    if plone:
        print(f"The site:  {here}/Plone")
    print(f"Documents: {here}/docs/d1   a 10 MB File: {here}/big   a blob: {here}/@@exhibit-download")
    print(f"Database:  {here}/Control_Panel/Database/main/manage_main")
    print("Ctrl-C ends it and removes the folder.\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plone", action="store_true")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    serve(options.plone, options.port)
