"""`make bench`: Tricorn and its rivals side by side, in turns. See bench/README.md."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
from functools import cache

from bench import figures, measure, report, scenarios, servers, slices
from bench.process import Failed
from bench.results import Outcome

LEAST_ROUNDS = 7
DESCRIPTORS = 20_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    for name in ("scenarios", "servers"):
        parser.add_argument(f"--{name}", default="", help="names, separated by commas; all without any")
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS)
    parser.add_argument("--report", action="store_true", help="measure nothing, write the report anew")
    asked = parser.parse_args()
    if asked.report:
        write_report()
        return 0
    for tool, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if not shutil.which(tool) and not _install(package):
            print(f"{tool} is missing: install it (Debian: apt-get install {package})", file=sys.stderr)
            return 1
    if len(os.sched_getaffinity(0)) < 2:
        print("two cores are needed: one for the server, one for the load", file=sys.stderr)
        return 1
    _raise_descriptors()
    try:
        wanted = scenarios.chosen(_names(asked.scenarios))
        takers = servers.chosen(_names(asked.servers))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    notes = [f"{server.name} {reason}" for server in takers if (reason := servers.missing(server))]
    for note in notes:
        print(note, file=sys.stderr)
    takers = [server for server in takers if not servers.missing(server)]
    outcomes: list[Outcome] = []
    complete = not asked.servers and asked.rounds >= LEAST_ROUNDS and servers.VENV == servers.DEFAULT_VENV
    for scenario in wanted:
        origin = figures.origin(takers, notes)
        outcome = run(scenario, takers, asked.rounds)
        outcome.origin = origin
        outcomes.append(outcome)
        # After every scenario, so that a run that is cut short leaves what it has found.
        if complete:
            figures.save(outcome)
            write_report()
        else:
            (servers.BENCH / "last.md").write_text(report.markdown(outcomes))
    return 0


def _install(package: str) -> bool:
    """From the system's packages, where that needs no password."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    print(f"Installing {package} ...", flush=True)
    commands = ["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", package]
    return all(subprocess.run(words, stdout=subprocess.DEVNULL).returncode == 0 for words in commands)


def _raise_descriptors() -> None:
    """For the servers, which inherit it: thousands of connections are open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS), hard))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def run(scenario: scenarios.Scenario, takers: list[servers.Server], rounds: int) -> Outcome:
    """All rounds of a scenario, the servers in turn; one that fails is left out from then on.

    Each round has processes of its own: where the memory of one happens to lie decides about a tenth of its
    CPU, and no number of slices would even that out.
    """
    print(f"{scenario.name}: {scenario.title}", flush=True)
    outcome = Outcome(scenario)
    takers = [server for server in takers if scenario.takes(server)]
    if scenario.closing:
        outcome.remiss = {server.name: reason for server in takers if (reason := _left_out(server))}
    round_of = slices.round_of if scenario.sliced else measure.round_of
    for number in range(rounds if scenario.kind in ("wrk", "echo") else min(rounds, 3)):
        # Nobody is always the first, or always behind the same other.
        first = number % len(takers) if takers else 0
        turn = [server for server in takers[first:] + takers[:first] if server.name not in outcome.failed]
        for name, found in round_of(turn, scenario).items():
            if isinstance(found, Failed):
                outcome.failed[name] = str(found)
                outcome.rounds.pop(name, None)
                print(f"  {name}: {found}", flush=True)
            else:
                outcome.rounds.setdefault(name, []).append(found)
        print(f"  round {number + 1}", flush=True)
    for server in takers:
        if ratios := outcome.ratios(server.name):
            cpu = outcome.middle(server.name, "cpu_us")
            print(f"  {server.name:18} {cpu:9.2f} us  x {sorted(ratios)[len(ratios) // 2]:.2f}", flush=True)
    return outcome


@cache
def _left_out(server: servers.Server) -> str:
    """Which part of the work it never does; empty when it does all."""
    try:
        closes = measure.closes(server)
    except Failed:
        # Its rounds will say why.
        return ""
    if closes:
        return ""
    return "never calls close() of what the application returns, as PEP 3333 demands: shown, not compared"


def write_report() -> None:
    """`results.md` and the charts, from the figures that are kept."""
    outcomes = figures.load()
    findings = (servers.BENCH / "findings.md").read_text()
    (servers.BENCH / "results.md").write_text(report.markdown(outcomes, findings))
    folder = servers.BENCH / "charts"
    folder.mkdir(exist_ok=True)
    for name, text in report.charts(outcomes).items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    sys.exit(main())
