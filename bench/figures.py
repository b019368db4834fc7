"""What was measured of each scenario, and where: a file each in bench/figures, kept with the project.

A run renews the files of its own scenarios. The report is made of all of them.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from bench import servers
from bench.results import Figures, Outcome
from bench.scenarios import SCENARIOS, Scenario
from bench.servers import BENCH, Server

FOLDER = BENCH / "figures"
# What a run writes itself, and documentation, do not make a commit another one.
HARMLESS = ("bench/figures", "bench/charts", "*.md")


def origin(takers: Sequence[Server], notes: Sequence[str]) -> dict[str, str]:
    """Where and with what it is measured now. `notes`: which servers are left out altogether, and why."""
    distributions = {server.distribution for server in takers if server.distribution}
    versions = sorted(f"{name} {servers.version(name)}" for name in distributions)
    companions = [f"{name} {number}" for name in servers.COMPANIONS if (number := servers.version(name))]
    python = subprocess.run([str(servers.PYTHON), "-V"], capture_output=True, text=True).stdout.strip()
    found = {
        "machine": _machine(),
        "commit": _commit(),
        "date": date.today().isoformat(),
        "Python": python.removeprefix("Python "),
        "rivals": ", ".join(versions) or "none",
        "with": ", ".join(companions) or "nothing else",
    }
    return found | ({"left out": "; ".join(notes)} if notes else {})


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    said = f"{os.cpu_count()} cores, {', '.join(sorted(names))}, Linux {platform.release()}"
    return f"{said}, congestion control {control.read_text().strip()}" if control.exists() else said


def _commit() -> str:
    name = _git("rev-parse", "--short", "HEAD")
    if not name:
        return "unknown"
    changed = _git("status", "--porcelain", "--", ".", *(f":!{path}" for path in HARMLESS))
    return f"{name} with changes" if changed else name


def _git(*words: str) -> str:
    said = subprocess.run(["git", *words], cwd=BENCH.parent, capture_output=True, text=True)
    return said.stdout.strip()


def save(outcome: Outcome, folder: Path = FOLDER) -> None:
    """Replaces what was known of the scenario."""
    folder.mkdir(exist_ok=True)
    parts = {
        "origin": outcome.origin,
        "failed": outcome.failed,
        "remiss": outcome.remiss,
        "rounds": {server: _columns(rounds) for server, rounds in outcome.rounds.items()},
    }
    lines = []
    for name, part in parts.items():
        rows = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in part.items()]
        body = "{\n" + ",\n".join(rows) + "\n }" if rows else "{}"
        lines.append(f' "{name}": {body}')
    path = folder / f"{outcome.scenario.name}.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def load(wanted: Iterable[Scenario] = SCENARIOS, folder: Path = FOLDER) -> list[Outcome]:
    """What is known of these scenarios, in their order; of those never measured nothing."""
    outcomes = []
    for scenario in wanted:
        path = folder / f"{scenario.name}.json"
        if path.exists():
            parts = json.loads(path.read_text())
            rounds = {server: _rows(columns) for server, columns in parts.pop("rounds").items()}
            outcomes.append(Outcome(scenario, rounds, **parts))
    return outcomes


def _columns(rounds: Sequence[Figures]) -> dict[str, list[float | None]]:
    """Six digits of each figure, round by round; None where a round has none."""
    names = list(dict.fromkeys(name for figures in rounds for name in figures))
    return {name: [_rounded(figures.get(name)) for figures in rounds] for name in names}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _rows(columns: dict[str, list[float | None]]) -> list[Figures]:
    count = len(next(iter(columns.values()), []))
    return [
        {name: value for name, values in columns.items() if (value := values[number]) is not None}
        for number in range(count)
    ]
