"""Starts servers, loads them, reads what it cost them. Units are in the names."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench.scenarios import Scenario
from bench.servers import BENCH, PYTHON, Server

SERVER_CORE, LOAD_CORE = "0", "1"
WARM_SECONDS = 0.5
LOAD_SECONDS = 1.0
UNEVEN_SECONDS = 10
LOAD_END_SECONDS = 10.0
START_SECONDS = 20.0
IDLE_SECONDS = 5.0
IDLE_CONNECTIONS = 10_000
IDLE_WEBSOCKETS = 5_000
STREAM_EVENTS = 12

Figures = dict[str, float]


class Failed(Exception):
    """A server cannot take part in a scenario; the text says why."""


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

    def cpu_ns(self) -> int:
        """CPU time of all its threads so far."""
        return sum(
            int(task.joinpath("schedstat").read_text().split()[0])
            for pid in self.pids()
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


def load(process: Process, scenario: Scenario) -> Figures:
    """One round: what a request cost, how many there were, how long they took. Raises Failed."""
    try:
        return _load(process, scenario)
    except Failed as failure:
        # That nobody can connect any more is not the reason.
        raise Failed(process.fate() or str(failure)) from None


def _load(process: Process, scenario: Scenario) -> Figures:
    if scenario.kind == "uneven":
        return _uneven(process)
    if scenario.kind == "short":
        return _short(process)
    if scenario.kind == "resources":
        return _resources(process)
    if scenario.kind == "websockets":
        return _websockets(process)
    if scenario.kind == "echo":
        return _echo(process, scenario)
    if scenario.kind == "streams":
        return _streams(process, scenario)
    with _beside(process, scenario):
        _wrk(process, scenario, WARM_SECONDS)
        before = process.cpu_ns()
        result = _wrk(process, scenario, LOAD_SECONDS)
        cpu_ns = process.cpu_ns() - before
    if not result["requests"]:
        raise Failed("answered no request in a round")
    return {
        "cpu_us": cpu_ns / result["requests"] / 1000,
        "rps": result["requests"] / result["seconds"],
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "errors": result["errors"],
        "pss_mib": process.pss_kib() / 1024,
    }


def _wrk(process: Process, scenario: Scenario, seconds: float) -> Figures:
    # wrk counts in whole seconds; cut short by a signal it reports what it did until then.
    words = ["wrk", "-t", "1", "-c", str(scenario.connections), "-d", "60", "--timeout", "10"]
    words += ["-s", f"load/{scenario.script}.lua", f"http://127.0.0.1:{process.port}{scenario.path}"]
    if scenario.pinned:
        words = ["taskset", "-c", LOAD_CORE, *words]
    with subprocess.Popen(
        words, cwd=BENCH, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as wrk:
        time.sleep(seconds)
        said = _interrupted(wrk)
    found = re.search(r"^RESULT (.*)$", said, re.M)
    if not found:
        raise Failed(f"wrk said: {said.strip()[-200:]}")
    return json.loads(found[1])


def _interrupted(wrk: subprocess.Popen[str]) -> str:
    """What it says when it is cut short. Raises Failed when it does not end."""
    # Twice: one that comes while it is still starting, on a busy machine, is lost, and it runs to its end.
    for seconds in (1.0, LOAD_END_SECONDS):
        wrk.send_signal(signal.SIGINT)
        try:
            return wrk.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            continue
    # It waits for connections that the server neither accepts nor refuses.
    wrk.kill()
    raise Failed("kept the load waiting for a connection")


@contextmanager
def _beside(process: Process, scenario: Scenario) -> Iterator[None]:
    if not scenario.beside:
        yield
        return
    words = ["taskset", "-c", LOAD_CORE, sys.executable, f"load/{scenario.beside}.py", str(process.port)]
    with subprocess.Popen(words, cwd=BENCH) as other:
        try:
            time.sleep(1.5)
            yield
        finally:
            other.terminate()


def _uneven(process: Process) -> Figures:
    result = _client(process, "uneven", UNEVEN_SECONDS)
    workers = result["workers"]
    return {
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "errors": result["errors"],
        "busiest_to_idlest": workers[0] / workers[-1],
        "workers_seen": len(workers),
    }


def _short(process: Process) -> Figures:
    # The first ones find workers that are still starting.
    _client(process, "short")
    workers = _client(process, "short")["workers"]
    return {"busiest_to_idlest": workers[0] / workers[-1], "workers_seen": len(workers)}


def _echo(process: Process, scenario: Scenario) -> Figures:
    """A message that came back counts as a request."""
    words = ["taskset", "-c", LOAD_CORE, sys.executable, "load/echo.py", str(process.port)]
    words += [str(scenario.connections), str(scenario.message_bytes), str(scenario.in_flight)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=BENCH, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as client:
        said: list[Figures] = []
        cpu_ns: list[int] = []
        # Asked as soon as it is connected, and at both ends of what counts.
        for seconds in (0.0, WARM_SECONDS, LOAD_SECONDS):
            time.sleep(seconds)
            try:
                client.stdin.write("\n")  # type: ignore[union-attr]
                client.stdin.flush()  # type: ignore[union-attr]
            except BrokenPipeError:
                pass
            line = client.stdout.readline()  # type: ignore[union-attr]
            cpu_ns.append(process.cpu_ns())
            if not line:
                reason = client.communicate()[1].strip()
                raise Failed(reason.splitlines()[-1] if reason else "the load ended")
            said.append(json.loads(line))
        client.communicate()
    messages = said[2]["messages"] - said[1]["messages"]
    if not messages:
        raise Failed("echoed no message in a round")
    cpu_us = (cpu_ns[2] - cpu_ns[1]) / messages / 1000
    return {
        "cpu_us": cpu_us,
        "messages_per_cpu_s": 1e6 / cpu_us,
        "rps": messages / (said[2]["seconds"] - said[1]["seconds"]),
        "pss_mib": process.pss_kib() / 1024,
    }


def _streams(process: Process, scenario: Scenario) -> Figures:
    """An event counts as a request, with its share of opening the stream."""
    before = process.cpu_ns()
    words = [str(scenario.connections), str(STREAM_EVENTS), scenario.script]
    result = _client(process, "streams", STREAM_EVENTS, words, pinned=True)
    figures = {"cpu_us": (process.cpu_ns() - before) / result["events"] / 1000}
    return figures | {name: result[name] for name in ("late_p50_ms", "late_p99_ms", "late_max_ms", "errors")}


def _client(
    process: Process, name: str, seconds: int = 0, words: Sequence[str] = (), pinned: bool = False
) -> dict[str, Any]:
    """What a program of bench/load prints. Raises Failed when it fails or does not end."""
    asked = words or ([str(seconds)] if seconds else [])
    command = [sys.executable, f"load/{name}.py", str(process.port), *asked]
    if pinned:
        command = ["taskset", "-c", LOAD_CORE, *command]
    try:
        said = subprocess.run(command, cwd=BENCH, capture_output=True, text=True, timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        raise Failed("left a request without an answer") from None
    if said.returncode:
        raise Failed(f"the load ended with {said.stderr.strip()[-200:]}")
    return json.loads(said.stdout)


def _resources(process: Process) -> Figures:
    """The process is fresh: nothing has been asked but the first answer."""
    pss_kib = process.pss_kib()
    before = process.cpu_ns()
    time.sleep(IDLE_SECONDS)
    idle_ns = process.cpu_ns() - before
    figures = {
        "first_answer_ms": process.first_answer_ms,
        "pss_mib": pss_kib / 1024,
        "idle_cpu_percent": idle_ns / IDLE_SECONDS / 1e7,
    }
    # What the first thousand needs is kept for later ones, and belongs to the server rather than to them.
    with _held(process, 1000, "http") as answered:
        if answered != 1000:
            return figures
    memory = process.anonymous_kib()
    with _held(process, IDLE_CONNECTIONS, "http") as answered:
        more = process.anonymous_kib() - memory
    if answered == IDLE_CONNECTIONS:
        figures["kib_per_idle_connection"] = more / IDLE_CONNECTIONS
    return figures


def _websockets(process: Process) -> Figures:
    """What a WebSocket needs that has spoken once and is silent since. The process is fresh."""
    # Code that has run, not memory for later: of so few the rest does not profit.
    with _held(process, 50, "websocket"):
        pass
    memory = process.anonymous_kib()
    with _held(process, IDLE_WEBSOCKETS, "websocket") as answered:
        more = process.anonymous_kib() - memory
    if answered != IDLE_WEBSOCKETS:
        raise Failed(f"echoed on {answered:,} of {IDLE_WEBSOCKETS:,} WebSockets")
    return {"kib_per_idle_websocket": more / IDLE_WEBSOCKETS, "pss_mib": process.pss_kib() / 1024}


@contextmanager
def _held(process: Process, count: int, kind: str) -> Iterator[int]:
    """So many connections, open and silent meanwhile; yields how many of them were answered."""
    words = [str(PYTHON), "load/idle.py", str(process.port), str(count), kind]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=BENCH, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as client:
        answered = client.stdout.readline().strip()  # type: ignore[union-attr]
        try:
            yield int(answered or 0)
        finally:
            client.communicate()


def bare_rps(threads: int, ms: float) -> float:
    """Sleeps of `ms` in a second, in so many threads that do nothing else: what timers and the GIL allow."""
    words = ["taskset", "-c", SERVER_CORE, str(PYTHON), "load/sleepers.py", str(threads), str(ms)]
    said = subprocess.run(words, cwd=BENCH, capture_output=True, text=True, timeout=60, check=True)
    return float(said.stdout)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
