"""What a request costs when sockets cost next to nothing: hundreds of requests in each packet.

`python -m bench.micro` prints nanoseconds of CPU for each request: of the engine alone (the floor: parse,
hand-off, a canned answer), and with the gateway (environ, the application called, its response head and
body). The server runs on one core, the client on another; what is not `user` is the kernel's.
"""

from __future__ import annotations

import os
import selectors
import socket
from pathlib import Path

from bench import servers
from bench.process import LOAD_CORE, Process
from bench.scenarios import HELLO, Scenario

REQUESTS = 1_000_000
SAMPLES = 3
ONE_FIELD = b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n"
BROWSER = (servers.BENCH / "load" / "browser.http").read_bytes()
SCENARIO = Scenario("micro", "hello, many requests in each packet", HELLO)


def main() -> None:
    by_name = {server.name: server for server in servers.SERVERS}
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    print(f"{'':38}{'CPU':>10}{'of it user':>14}   ns a request, least of {SAMPLES}")
    for title, request in (("1 field", ONE_FIELD), ("16 browser fields", BROWSER)):
        for name, what in (("floor", "engine alone"), ("tricorn", "engine and gateway")):
            process = Process(by_name[name], SCENARIO)
            try:
                samples = [sample(process, request) for _ in range(SAMPLES)]
            finally:
                process.end()
            cpu_ns, user_ns = min(samples)
            print(f"{what + ', ' + title:38}{cpu_ns:>10.0f}{user_ns:>14.0f}")


def sample(process: Process, request: bytes) -> tuple[float, float]:
    """CPU and user nanoseconds of one request."""
    with socket.create_connection(("127.0.0.1", process.port)) as client:
        client.sendall(request)
        size = len(client.recv(65536))
        before, user_before, ticks_before = process.cpu_ns(), *ticks(process)
        exchange(client, request, size)
        cpu_ns = (process.cpu_ns() - before) / REQUESTS
        user, all_ticks = ticks(process)
    share = (user - user_before) / max(1, all_ticks - ticks_before)
    return cpu_ns, cpu_ns * share


def exchange(client: socket.socket, request: bytes, size: int) -> None:
    """Sends all requests and reads all answers, each of `size` bytes."""
    client.setblocking(False)
    batch = memoryview(request * (65536 // len(request)))
    to_send, to_read = REQUESTS * len(request), REQUESTS * size
    offset = 0
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while to_read > 0:
            if to_send == 0:
                selector.modify(client, selectors.EVENT_READ)
            for _, events in selector.select(10):
                if events & selectors.EVENT_READ:
                    to_read -= len(client.recv(1 << 20))
                if events & selectors.EVENT_WRITE and to_send:
                    sent = client.send(batch[offset : offset + to_send])
                    to_send -= sent
                    offset = (offset + sent) % len(batch)


def ticks(process: Process) -> tuple[int, int]:
    """Clock ticks in user mode, and all of them."""
    user = total = 0
    for pid in process.pids():
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user += int(words[11])
        total += int(words[11]) + int(words[12])
    return user, total


if __name__ == "__main__":
    main()
