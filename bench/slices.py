"""Servers that are alive side by side, each loaded for a slice of time in turn.

What disturbs a machine lasts for a moment or for minutes. Servers that take turns of 50 ms all meet the same
of it; in turns of a second each meets what nobody else does. A load that waits for its turn is stopped: its
connections stay, and its server has nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench import wrk
from bench.process import Failed, Process, failure_in
from bench.results import Figures
from bench.scenarios import Scenario
from bench.servers import Server
from bench.wrk import Wrk

WARM_SECONDS = 0.2
# Without a break: how long requests take cannot be said of a load that is stopped now and then.
WHOLE_SECONDS = 0.5
# All servers have had their slice within the 2 s that Gunicorn and Tricorn keep a silent connection.
SLICE_SECONDS = 0.05
SLICES = 10
# A server is done with what was under way when it has used next to no CPU for this long, or it never will be.
QUIET_SECONDS, QUIET_NS = 0.002, 50_000
DONE_SECONDS = 0.3


def round_of(servers: Sequence[Server], scenario: Scenario) -> dict[str, Figures | Failed]:
    """One round of all of them, by name, in processes of their own."""
    found: dict[str, Figures | Failed] = {}
    takers: list[_Taker] = []
    try:
        for server in servers:
            with failure_in(found, server.name):
                takers.append(_Taker(server, scenario))
        for _ in range(SLICES):
            for taker in takers:
                if taker.name not in found:
                    with failure_in(found, taker.name):
                        taker.slice()
        for taker in takers:
            if taker.name not in found:
                with failure_in(found, taker.name):
                    found[taker.name] = taker.figures()
    finally:
        for taker in takers:
            taker.end()
    return found


class _Taker:
    """A server that was started and warmed, and its load, stopped between the slices. Raises Failed."""

    def __init__(self, server: Server, scenario: Scenario):
        self.name = server.name
        self._scenario = scenario
        self._cpu_ns = 0
        self._load: Wrk | None = None
        self._process = Process(server, scenario)
        try:
            with self._process.explained():
                wrk.run(self._process, scenario, WARM_SECONDS)
                self._whole = wrk.run(self._process, scenario, WHOLE_SECONDS)
        except BaseException:
            self._process.end()
            raise
        self._pids = self._process.pids()

    def slice(self) -> None:
        """Load for a moment, and what it costs until the server is done with it."""
        with self._counted():
            if self._load:
                self._load.go_on()
            else:
                self._load = Wrk(self._process, self._scenario)
            time.sleep(SLICE_SECONDS)
            self._load.stop()

    def figures(self) -> Figures:
        """What the slices come to; the load has ended then."""
        assert self._load
        with self._counted():
            result = self._load.result()
        cpu_us = self._cpu_ns / result["requests"] / 1000
        errors = result["errors"] + self._whole["errors"]
        return wrk.figures(self._process, cpu_us, errors, timed=self._whole)

    def end(self) -> None:
        if self._load:
            self._load.kill()
        self._process.end()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._process.explained():
            before = self._process.cpu_ns(self._pids)
            yield
            self._cpu_ns += self._quiet_cpu_ns() - before

    def _quiet_cpu_ns(self) -> int:
        """Its CPU time, once it has nothing to do any more."""
        deadline = time.monotonic() + DONE_SECONDS
        used = self._process.cpu_ns(self._pids)
        while time.monotonic() < deadline:
            time.sleep(QUIET_SECONDS)
            before, used = used, self._process.cpu_ns(self._pids)
            if used - before < QUIET_NS:
                break
        return used
