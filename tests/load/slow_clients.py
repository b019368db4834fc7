"""1,000 clients that drip a byte a second, and one that does not: how much longer does it wait?

Run by hand or by `make test-load`, with nothing else on the machine: the figures are times. For each kind of
dripping (request head, request body) and each worker class, the answers of the quick client are timed without
the crowd and then with it. Fails when the slowest answer takes over 50 ms longer than the slowest without it.
"""

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.http import Connection
from harness.servers import Launcher

DELAY_S = 0.050
DRIPS = {
    "head": b"GET /pid HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "body": b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
}


def drip(port: int, beginning: bytes, count: int, ready, stop) -> None:
    """The crowd: `count` connections, each of which sends a byte a second."""
    crowd = [Connection(port) for _ in range(count)]
    for client in crowd:
        client.send(beginning)
    ready.set()
    began, sent = time.monotonic(), 0
    while not stop.is_set():
        due = int((time.monotonic() - began) * count)
        while sent < due:
            crowd[sent % count].send(b"a")
            sent += 1
        time.sleep(0.002)
    for client in crowd:
        client.close()


def quick(port: int, seconds: float) -> list[float]:
    """Times of the answers to one client, a request every 5 ms, sorted. Units: seconds."""
    times = []
    with Connection(port) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            assert client.request("GET", "/pid").status == 200
            times.append(time.monotonic() - began)
            time.sleep(0.005)
    return sorted(times)


def shown(times: list[float]) -> str:
    places = (times[len(times) // 2], times[int(len(times) * 0.99)], times[-1])
    return "p50 {:.1f}, p99 {:.1f}, max {:.1f} ms".format(*(1000 * place for place in places))


def measure(worker: str, beginning: bytes, clients: int, seconds: float) -> tuple[list[float], list[float]]:
    """The quick client's times without and with the crowd, on one worker of default settings."""
    launcher = Launcher("tricorn", {})
    running = launcher.start("web:app", worker=worker)
    ready, stop = multiprocessing.Event(), multiprocessing.Event()
    crowd = multiprocessing.Process(target=drip, args=(running.port, beginning, clients, ready, stop))
    try:
        alone = quick(running.port, seconds)
        crowd.start()
        assert ready.wait(30), "the crowd did not connect"
        together = quick(running.port, seconds)
        assert crowd.is_alive(), "the crowd was cut"
        return alone, together
    finally:
        stop.set()
        if crowd.pid is not None:
            crowd.join(10)
        launcher.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0, help="each of the two measurements")
    options = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.2f}")
    failed = False
    for worker in ("sync", "gthread"):
        for name, beginning in DRIPS.items():
            alone, together = measure(worker, beginning, options.clients, options.seconds)
            late = together[-1] - alone[-1] > DELAY_S
            failed |= late
            verdict = "TOO LATE" if late else "ok"
            print(f"{worker}, {name}, alone: {shown(alone)}")
            print(f"{worker}, {name}, with {options.clients}: {shown(together)}: {verdict}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
