"""Kept connections with pauses: most calls are short, one in twenty is long. How long do the short ones take?

`python uneven.py PORT [SECONDS]` prints one JSON object: times of the short calls in milliseconds, and how
many answers each worker gave. The application is `bench/apps/work.py`.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter

CONNECTIONS = 16
PAUSE = 0.030
LONG_MS = 200
SHORT_MS = 1
ONE_IN = 20


class Visitor:
    """One connection: asks, waits, pauses. A server that closes after each answer gets a new connection."""

    def __init__(self, port: int, seed: int):
        self.port = port
        self.choices = random.Random(seed)
        self.stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.times: list[float] = []
        self.workers: Counter[str] = Counter()
        self.errors = 0

    async def call(self, ms: int) -> None:
        if self.stream is None:
            self.stream = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.stream
        writer.write(b"GET /?ms=%d HTTP/1.1\r\nHost: x\r\n\r\n" % ms)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().splitlines()[1:-1])
        body = await reader.readexactly(int(fields[b"content-length"]))
        self.workers[body.decode()] += 1
        if fields.get(b"connection") == b"close":
            self.close()

    def close(self) -> None:
        if self.stream is not None:
            self.stream[1].close()
            self.stream = None

    async def visit(self, until: float) -> None:
        await asyncio.sleep(self.choices.random() * PAUSE)
        while time.monotonic() < until:
            long = self.choices.randrange(ONE_IN) == 0
            began = time.perf_counter()
            try:
                await self.call(LONG_MS if long else SHORT_MS)
            except (OSError, asyncio.IncompleteReadError):
                self.errors += 1
                self.close()
            else:
                if not long:
                    self.times.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(PAUSE)
        self.close()


async def run(port: int, seconds: float) -> dict[str, object]:
    visitors = [Visitor(port, seed) for seed in range(CONNECTIONS)]
    until = time.monotonic() + seconds
    await asyncio.gather(*(visitor.visit(until) for visitor in visitors))
    times = sorted(time for visitor in visitors for time in visitor.times)
    workers = sum((visitor.workers for visitor in visitors), Counter())
    return {
        "calls": len(times),
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[len(times) * 99 // 100],
        "max_ms": times[-1],
        "workers": sorted(workers.values(), reverse=True),
        "errors": sum(visitor.errors for visitor in visitors),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(int(sys.argv[1]), float((sys.argv[2:] or ["10"])[0])))))
