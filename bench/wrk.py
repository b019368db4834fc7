"""The load of most scenarios: wrk, which can be stopped for a while, and reports when it is cut short."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time

from bench.process import LOAD_CORE, Failed, Process
from bench.results import Figures
from bench.scenarios import Scenario
from bench.servers import BENCH

END_SECONDS = 10.0


class Wrk:
    """Runs from now on. Whoever starts it calls `result()` or `kill()` in the end."""

    def __init__(self, process: Process, scenario: Scenario):
        # It counts in whole seconds, and is cut short before they are over.
        words = ["wrk", "-t", "1", "-c", str(scenario.connections), "-d", "60", "--timeout", "10"]
        words += ["-s", f"load/{scenario.script}.lua", f"http://127.0.0.1:{process.port}{scenario.path}"]
        if scenario.pinned:
            words = ["taskset", "-c", LOAD_CORE, *words]
        self._child = subprocess.Popen(
            words, cwd=BENCH, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def stop(self) -> None:
        """Until `go_on`: nothing is sent, and what arrives waits."""
        self._child.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def result(self) -> Figures:
        """What it did until now: it ends, stopped or not. Raises Failed when it does not, or cannot say."""
        said = self._interrupted()
        found = re.search(r"^RESULT (.*)$", said, re.M)
        if not found:
            raise Failed(f"wrk said: {said.strip()[-200:]}")
        result = json.loads(found[1])
        if not result["requests"]:
            raise Failed("answered no request in a round")
        return result

    def _interrupted(self) -> str:
        # Twice: one that comes while it starts, on a busy machine, is lost, and it runs to its end.
        for seconds in (1.0, END_SECONDS):
            self._child.send_signal(signal.SIGINT)
            self.go_on()
            try:
                return self._child.communicate(timeout=seconds)[0]
            except subprocess.TimeoutExpired:
                continue
        # It waits for connections that the server neither accepts nor refuses.
        self.kill()
        raise Failed("kept the load waiting for a connection")

    def kill(self) -> None:
        """Ends it, stopped or not; nothing happens when it has ended."""
        self._child.kill()
        self._child.communicate()


def run(process: Process, scenario: Scenario, seconds: float) -> Figures:
    """What so many seconds of load come to. Raises Failed."""
    load = Wrk(process, scenario)
    try:
        time.sleep(seconds)
        return load.result()
    finally:
        load.kill()


def figures(process: Process, cpu_us: float, errors: float, timed: Figures) -> Figures:
    """Of a round. `timed`: a load without a break."""
    return {
        "cpu_us": cpu_us,
        "rps": timed["requests"] / timed["seconds"],
        "p50_ms": timed["p50_ms"],
        "p99_ms": timed["p99_ms"],
        "errors": errors,
        "pss_mib": process.pss_kib() / 1024,
    }
