"""A server at a time: started, loaded, ended. Units are in the names."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench import wrk
from bench.process import LOAD_CORE, SERVER_CORE, Failed, Process, failure_in
from bench.results import Figures
from bench.scenarios import CLOSING, Scenario
from bench.servers import BENCH, PYTHON, Server

WARM_SECONDS = 0.5
LOAD_SECONDS = 1.0
CLOSE_SECONDS = 0.5
UNEVEN_SECONDS = 10
IDLE_SECONDS = 5.0
IDLE_CONNECTIONS = 10_000
IDLE_WEBSOCKETS = 5_000
STREAM_EVENTS = 12


def round_of(servers: Sequence[Server], scenario: Scenario) -> dict[str, Figures | Failed]:
    """One round of all of them, by name, one after the other: nobody else is there meanwhile."""
    found: dict[str, Figures | Failed] = {}
    for server in servers:
        with failure_in(found, server.name):
            process = Process(server, scenario)
            try:
                with process.explained():
                    found[server.name] = _load(process, scenario)
            finally:
                process.end()
    return found


def closes(server: Server) -> bool:
    """Does it call `close()` of what the application returns? PEP 3333 demands it. Raises Failed."""
    process = Process(server, CLOSING)
    try:
        # The first answer has been read; what is done behind it may take a moment.
        deadline = time.monotonic() + CLOSE_SECONDS
        with process.explained():
            while time.monotonic() < deadline:
                with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/closed", timeout=5) as answer:
                    if int(answer.read()):
                        return True
        return False
    finally:
        process.end()


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
    if scenario.kept:
        alone = _timed(process, scenario)
    with _beside(process, scenario):
        figures = _timed(process, scenario)
    if scenario.kept:
        figures["kept_percent"] = 100 * figures["rps"] / alone["rps"]
    if scenario.sleep_ms is not None:
        bare = _bare_rps(scenario.shape.threads, scenario.sleep_ms)
        figures["of_bare_percent"] = 100 * figures["rps"] / bare
    return figures


def _timed(process: Process, scenario: Scenario) -> Figures:
    wrk.run(process, scenario, WARM_SECONDS)
    before = process.cpu_ns()
    result = wrk.run(process, scenario, LOAD_SECONDS)
    cpu_us = (process.cpu_ns() - before) / result["requests"] / 1000
    return wrk.figures(process, cpu_us, result["errors"], timed=result)


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


def _bare_rps(threads: int, ms: float) -> float:
    """Sleeps of `ms` in a second, in so many threads that do nothing else: what timers and the GIL allow."""
    words = ["taskset", "-c", SERVER_CORE, str(PYTHON), "load/sleepers.py", str(threads), str(ms)]
    said = subprocess.run(words, cwd=BENCH, capture_output=True, text=True, timeout=60, check=True)
    return float(said.stdout)
