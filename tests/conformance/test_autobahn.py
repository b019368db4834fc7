"""Autobahn's WebSocket cases (RFC 6455, RFC 7692), judged strictly: non-strict is not good enough."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("autobahn.py")
QUICK = [
    "1.*",
    "2.*",
    "3.*",
    "4.*",
    "5.*",
    "6.*",
    "7.*",
    "10.*",
    "9.1.1",
    "9.2.1",
    "9.5.6",
    "12.1.5",
    "13.3.3",
]
GOOD = {"OK", "INFORMATIONAL"}


def judged(server, tmp_path, *cases):
    running = server.start("websocket_echo:app", worker="asgi")
    done = subprocess.run(
        [sys.executable, str(RUNNER), f"127.0.0.1:{running.port}", str(tmp_path), *cases],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    report = json.loads((tmp_path / "index.json").read_text())
    results = {case: result for agent in report.values() for case, result in agent.items()}
    print(done.stdout)
    return results


def assert_good(results):
    assert {case: result for case, result in results.items() if result["behavior"] not in GOOD} == {}
    assert {case: result for case, result in results.items() if result["behaviorClose"] not in GOOD} == {}


@pytest.mark.servers("tricorn")
def test_the_quick_cases_pass(server, tmp_path):
    results = judged(server, tmp_path, *QUICK)
    assert len(results) > 240
    assert_good(results)


@pytest.mark.servers("tricorn")
@pytest.mark.long
@pytest.mark.timeout(1300)
def test_every_case_passes(server, tmp_path):
    results = judged(server, tmp_path, "*")
    assert len(results) == 517
    assert_good(results)
