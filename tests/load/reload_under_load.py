"""A thousand clients against a Flask application, HUP every second for 20 seconds, TERM at the end.

Counts what became of every request. A connection that is refused after the listener has closed is no failure;
a request on an accepted connection that is not answered with 200 is. Exits 1 when there was one. Bounded to
25 seconds for each worker class, loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.crowd import Crowd
from harness.http import request_bytes
from harness.servers import Launcher, Running


async def conduct(running: Running, crowd: Crowd, seconds: int) -> None:
    """HUP every second, then TERM; ends the crowd when the arbiter has gone."""
    for _ in range(seconds):
        await asyncio.sleep(1)
        running.send_signal(signal.SIGHUP)
    running.send_signal(signal.SIGTERM)
    await asyncio.to_thread(running.process.wait, 60)
    crowd.stop()


def load(server: str, worker: str, clients: int, seconds: int, keep: bool) -> int:
    """Runs the scenario once and prints what happened. Returns the number of failed requests."""
    launcher = Launcher(server, {})
    running = launcher.start("flask_site:app", "-w", "2", "--backlog", "2048", worker=worker)
    try:
        fields = [] if keep else [("Connection", "close")]
        request = request_bytes("GET", "/path/load", fields)
        crowd = Crowd(running.port, clients, request, seconds=seconds + 90, keep=keep, timeout=40)
        tally = asyncio.run(crowd.run(lambda: conduct(running, crowd, seconds)))
        code = running.wait()
    finally:
        launcher.end()
    wrong = sum(count for status, count in tally.statuses.items() if status != 200) + len(tally.failures)
    print(
        f"{server} {worker} {'kept' if keep else 'closed'}: {tally.answered} answered, {wrong} failed, "
        f"{tally.refused} refused after the end, {tally.retired} idle connections closed, exit code {code}"
    )
    for line in sorted(set(tally.failures))[:5]:
        print(f"  {tally.failures.count(line)} x {line}")
    return wrong + code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="tricorn", choices=["tricorn", "gunicorn"])
    parser.add_argument("--worker", default="sync,gthread", help="worker classes, comma separated")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=20, help="how long HUP comes every second")
    parser.add_argument("--close", action="store_true", help="a connection for each request")
    opt = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    failed = [
        load(opt.server, worker, opt.clients, opt.seconds, not opt.close) for worker in opt.worker.split(",")
    ]
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
