"""Open streams of events: how late do they come? `python streams.py PORT STREAMS EVENTS AT`

The application is `bench/apps/events.py` or its ASGI sister: an event says when it was due, and AT is `own`
or `same` as there. The streams are opened over a while, for how a server takes a rush of connections is
another question; events count from when all are open. Prints one JSON object.
"""

import gc
import json
import re
import resource
import select
import socket
import sys
import time

OPEN_SECONDS = 2.0
# Nothing at all for so long: what is missing will not come.
PATIENCE_SECONDS = 10.0
EVENT = re.compile(rb"data: (\d+\.\d+)\n\n")


class Stream:
    __slots__ = ("connection", "rest", "events")

    def __init__(self, port: int, request: bytes):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.connection.sendall(request)
        self.rest = b""
        self.events: list[tuple[float, float]] = []

    def read(self) -> bool:
        """Takes what has come; False when the server has ended the stream."""
        try:
            came = self.connection.recv(65536)
        except ConnectionError:
            return False
        now = time.monotonic()
        text = self.rest + came
        end = 0
        for found in EVENT.finditer(text):
            self.events.append((float(found[1]), now))
            end = found.end()
        self.rest = text[end:]
        return bool(came)


def run(port: int, count: int, events: int, at: str) -> list[Stream]:
    """All streams, each as far as it came."""
    request = f"GET /events?count={events}&at={at} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    poll = select.epoll()
    streams: list[Stream] = []
    living: dict[int, Stream] = {}
    began = heard = time.monotonic()
    while len(streams) < count or living:
        now = time.monotonic()
        if now - heard > PATIENCE_SECONDS:
            break
        if len(streams) < min(count, (now - began) / OPEN_SECONDS * count):
            stream = Stream(port, request)
            streams.append(stream)
            living[stream.connection.fileno()] = stream
            poll.register(stream.connection, select.EPOLLIN)
        next_one = began + len(streams) * OPEN_SECONDS / count
        for fd, _ in poll.poll(max(0.0, next_one - time.monotonic()) if len(streams) < count else 1.0):
            heard = now
            stream = living[fd]
            if not stream.read() or len(stream.events) == events:
                poll.unregister(fd)
                del living[fd]
                stream.connection.close()
    return streams


def main(port: int, count: int, events: int, at: str) -> None:
    gc.disable()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        streams = run(port, count, events, at)
    except OSError as error:
        sys.exit(str(error))
    if not all(stream.events for stream in streams):
        sys.exit(f"{sum(not stream.events for stream in streams)} of {count} streams brought nothing")
    open_since = max(stream.events[0][1] for stream in streams)
    late = sorted(came - due for stream in streams for due, came in stream.events if due > open_since)
    if not late:
        sys.exit("no event was due while all streams were open")
    result = {
        "events": sum(len(stream.events) for stream in streams),
        "late_p50_ms": 1000 * late[len(late) // 2],
        "late_p99_ms": 1000 * late[len(late) * 99 // 100],
        "late_max_ms": 1000 * late[-1],
        "errors": sum(len(stream.events) < events for stream in streams),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
