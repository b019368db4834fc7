"""A server that was started, alone or beside others, and what the system says about it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench.results import Figures
from bench.scenarios import Scenario
from bench.servers import BENCH, Server

SERVER_CORE, LOAD_CORE = "0", "1"
START_SECONDS = 20.0


class Failed(Exception):
    """A server cannot take part in a scenario; the text says why."""


@contextmanager
def failure_in(found: dict[str, Figures | Failed], name: str) -> Iterator[None]:
    """What a server fails with is its result; the others go on."""
    try:
        yield
    except Failed as failure:
        found[name] = failure


class Process:
    """A server that was started, and everything it has forked."""

    def __init__(self, server: Server, scenario: Scenario):
        self.server = server
        self.port = _free_port()
        self._said: IO[bytes] = tempfile.TemporaryFile()
        words = server.command(self.port, scenario.shape)
        if scenario.pinned:
            words = ["taskset", "-c", SERVER_CORE, *words]
        # Bytecode is cached, as it is where applications are deployed, whatever this shell says.
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        begun = time.perf_counter()
        self._child = subprocess.Popen(
            words,
            cwd=BENCH / "apps",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._await_answer(scenario)
        except Failed:
            self.end()
            raise
        self.first_answer_ms = (time.perf_counter() - begun) * 1000

    def _await_answer(self, scenario: Scenario) -> None:
        deadline = time.monotonic() + START_SECONDS
        path = "/" if scenario.script.startswith("post") else scenario.path
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        while True:
            if fate := self.fate():
                raise Failed(fate)
            if time.monotonic() > deadline:
                raise Failed(f"did not answer within {START_SECONDS:.0f} s: {self._last_line()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                    probe.sendall(request)
                    answer = probe.recv(65536)
            except OSError:
                time.sleep(0.001)
                continue
            if re.match(rb"HTTP/1\.[01] 200", answer):
                return
            raise Failed(f"answered {answer[:60]!r}")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """What goes wrong meanwhile is Failed: because it has ended, if it has, whatever that led to."""
        try:
            yield
        except (OSError, Failed) as failure:
            raise Failed(self.fate() or str(failure)) from None

    def fate(self) -> str:
        """How it ended; empty while it lives."""
        code = self._child.poll()
        return "" if code is None else f"ended with code {code}: {self._last_line()}"

    def _last_line(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "nothing was said"

    def pids(self) -> list[int]:
        """The living processes of its session."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    rest = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(rest[3]) == self._child.pid and rest[0] != "Z":
                    found.append(int(entry))
        return found

    def cpu_ns(self, pids: Sequence[int] | None = None) -> int:
        """CPU time of all its threads so far; given its processes, it need not look for them."""
        return sum(
            int(task.joinpath("schedstat").read_text().split()[0])
            for pid in (self.pids() if pids is None else pids)
            for task in Path(f"/proc/{pid}/task").iterdir()
        )

    def pss_kib(self) -> int:
        rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids())
        return sum(int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) for text in rollups)  # type: ignore[index]

    def anonymous_kib(self) -> int:
        texts = (Path(f"/proc/{pid}/status").read_text() for pid in self.pids())
        return sum(int(found[1]) for text in texts if (found := re.search(r"^RssAnon:\s+(\d+)", text, re.M)))

    def end(self) -> None:
        for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            if self._child.poll() is None:
                try:
                    os.killpg(self._child.pid, number)
                    self._child.wait(seconds)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self._said.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
