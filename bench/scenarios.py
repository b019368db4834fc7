"""What is asked of the servers, and what each answer is judged by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from bench.servers import Server, Shape

# Every server that answers from Python, except ours.
RIVALS = "every rival"
FAST = "fastpysgi, bjoern"
GTHREAD = "gunicorn gthread"
GASGI = "gunicorn asgi"


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    shape: Shape
    # `wrk`: load for a while; `uneven`, `short`, `echo`, `streams`: bench/load/*.py; `resources` and
    # `websockets`: a server on its own.
    kind: Literal["wrk", "uneven", "short", "resources", "echo", "websockets", "streams"] = "wrk"
    # Who takes part; everybody it fits, without any.
    servers: tuple[str, ...] = ()
    path: str = "/"
    connections: int = 64
    # Of wrk; for `streams`, when events are due.
    script: str = "plain"
    # Of an echo: the size of a message, and how many a connection sends before it waits.
    message_bytes: int = 0
    in_flight: int = 1
    # A program of bench/load that runs beside.
    beside: str = ""
    # Measured without it, too, for what is left of the rate.
    kept: bool = False
    # The server on one core, the load on the other; False: both on both.
    pinned: bool = True
    # The floor answers this too.
    floor: bool = False
    # The figure its chart shows.
    figure: Literal["cpu_us", "rps", "p99_ms", "late_max_ms", "kib_per_idle_websocket"] = "cpu_us"
    # Least CPU of a rival divided by ours, by whom it is about.
    targets: dict[str, float] = field(default_factory=dict)
    # What the application returns has to be closed, which is a part of the work that hangs on it (PEP 3333).
    closing: bool = False
    # Milliseconds that each call sleeps: bare threads that do the same are measured behind each server.
    sleep_ms: float | None = None

    @property
    def sliced(self) -> bool:
        """Are all servers alive at once, loaded for a slice of time in turn? What is about waiting is not."""
        # A thousand requests that are under way when a slice ends are more than those answered in it.
        few = self.connections <= 64
        return self.kind == "wrk" and self.figure == "cpu_us" and few and not self.beside

    def takes(self, server: Server) -> bool:
        """Does this server take part?"""
        if self.servers:
            return server.name in self.servers
        # Where threads are asked for, tricorn is gthread with as many already.
        twice = server.name == "tricorn gthread" and self.shape.threads > 1
        asked = self.floor or server.python
        return asked and server.fits(self.shape) and not (server.on_request or twice)


HELLO = Shape("hello:app")
WORK = Shape("work:app", threads=4)
ASGI = Shape("asgi_hello:app", interface="asgi")
ECHO = Shape("echo:app", interface="websocket")
EVENTS = Shape("asgi_events:app", interface="asgi", other="events:app", connections=2_500)
STREAMING = ("tricorn", "tricorn asyncio", "tricorn gevent", "tricorn eventlet", "gunicorn gevent", GASGI)
STREAMING += ("uvicorn", "granian")

SCENARIOS = [
    Scenario(
        "hello",
        "hello, 1 header, 64 connections",
        HELLO,
        floor=True,
        targets={RIVALS: 1.1, FAST: 1.3, "granian": 2.0, GTHREAD: 15},
    ),
    Scenario(
        "hello16",
        "hello, 16 browser headers",
        HELLO,
        script="browser",
        floor=True,
        targets={RIVALS: 1.3, FAST: 1.8, "granian": 2.4, GTHREAD: 15},
    ),
    Scenario("kinds", "hello, browsers of four kinds in turn", HELLO, script="kinds", floor=True),
    Scenario("pipeline16", "hello, 16 requests pipelined", HELLO, script="pipeline16", floor=True),
    Scenario("conn1", "hello, 1 connection", HELLO, connections=1, floor=True),
    Scenario(
        "conn1000",
        "hello, 1,000 keep-alive connections",
        HELLO,
        connections=1000,
        floor=True,
        targets={RIVALS: 1.2, FAST: 1.6, "granian": 2.0, GTHREAD: 13},
    ),
    Scenario(
        "close",
        "a connection per request",
        HELLO,
        script="close",
        floor=True,
        targets={RIVALS: 0.95, FAST: 1.0, "granian": 1.3, GTHREAD: 6},
    ),
    Scenario(
        "body100k",
        "100 KB body",
        HELLO,
        path="/body100k",
        floor=True,
        targets={RIVALS: 1.05, FAST: 1.1, "granian": 1.5, GTHREAD: 5},
    ),
    Scenario(
        "post64k",
        "POST of 64 KB",
        HELLO,
        path="/post",
        floor=True,
        script="post64k",
        targets={RIVALS: 1.5, FAST: 1.5, "granian": 1.8, GTHREAD: 8},
    ),
    # What browsers upload; 1 MB is more than Tricorn keeps in memory of one request by default.
    Scenario("post200k", "POST of 200 KB", HELLO, path="/post", script="post200k"),
    Scenario("post1m", "POST of 1 MB", HELLO, path="/post", script="post1m"),
    Scenario(
        "generator",
        "generator of 20 chunks",
        HELLO,
        path="/generator",
        floor=True,
        targets={RIVALS: 1.0, FAST: 1.2, "granian": 8, GTHREAD: 20},
    ),
    Scenario(
        "file10m",
        "10 MB file through wsgi.file_wrapper",
        HELLO,
        path="/file10m",
        connections=4,
        targets={RIVALS: 1.0, GTHREAD: 1.3},
    ),
    Scenario(
        "flask",
        "JSON in Flask",
        Shape("flask_json:app"),
        closing=True,
        targets={RIVALS: 1.02, "granian": 1.05, GTHREAD: 1.5},
    ),
    Scenario(
        "django",
        "JSON in Django",
        Shape("django_json:app"),
        closing=True,
        targets={RIVALS: 1.02, "granian": 1.05, GTHREAD: 1.5},
    ),
    Scenario(
        "sleep3ms",
        "every call sleeps 3 ms, 4 threads",
        WORK,
        path="/?ms=3",
        connections=32,
        figure="rps",
        sleep_ms=3,
    ),
    Scenario(
        "waits8",
        "0.5 ms of CPU and 1.5 ms of sleep in each call, 8 threads",
        Shape("work:app", threads=8),
        path="/?ms=1.5&cpu=0.5",
        connections=32,
        figure="rps",
    ),
    Scenario(
        "slowmix",
        "quick calls while two clients sit in calls of 50 ms, 4 threads",
        WORK,
        path="/?ms=0",
        connections=32,
        beside="slow_calls",
        kept=True,
        figure="rps",
    ),
    Scenario(
        "drip1000",
        "8 quick clients beside 1,000 that drip",
        HELLO,
        connections=8,
        beside="drip",
        figure="p99_ms",
    ),
    Scenario(
        "twoproc",
        "hello, two processes on two cores",
        Shape("hello:app", workers=2),
        pinned=False,
    ),
    Scenario(
        "uneven",
        "8 workers, 16 kept connections, 1 call in 20 takes 200 ms: the others",
        Shape("work:app", workers=8),
        kind="uneven",
        pinned=False,
        figure="p99_ms",
    ),
    Scenario(
        "short",
        "8 workers of 4 threads, 800 short connections",
        Shape("work:app", workers=8, threads=4),
        kind="short",
        pinned=False,
    ),
    Scenario(
        "short_asgi",
        "ASGI: 8 workers, 800 short connections",
        Shape("asgi_work:app", workers=8, interface="asgi"),
        kind="short",
        pinned=False,
    ),
    Scenario("resources", "start, memory, idleness", HELLO, kind="resources"),
    Scenario(
        "asgi",
        "ASGI: hello, 1 header, 64 connections",
        ASGI,
        floor=True,
        targets={RIVALS: 1.05, "granian": 2.0, "uvicorn": 3.0, GASGI: 5},
    ),
    Scenario(
        "asgi16",
        "ASGI: hello, 16 browser headers",
        ASGI,
        script="browser",
        floor=True,
        targets={RIVALS: 1.2, "granian": 2.4},
    ),
    Scenario("asgi_suspend", "ASGI: hello that suspends once", ASGI, path="/suspend"),
    Scenario("asgi_post64k", "ASGI: POST of 64 KB", ASGI, path="/post", script="post64k", floor=True),
    Scenario("asgi_stream", "ASGI: stream of 20 chunks", ASGI, path="/stream"),
    Scenario(
        "fastapi",
        "JSON in FastAPI",
        Shape("fastapi_json:app", interface="asgi"),
        targets={RIVALS: 1.02, "uvicorn": 1.3},
    ),
    Scenario(
        "classes",
        "hello, the worker classes beside each other",
        Shape("hello:app", other="asgi_hello:app"),
        servers=("tricorn", "control", "tricorn gthread", "tricorn asgi", "tricorn asyncio", "tricorn gevent")
        + ("tricorn eventlet", "gunicorn gevent", "gunicorn asgi"),
    ),
    Scenario(
        "echo20",
        "WebSocket echo, 64 connections, messages of 20 bytes, 8 in flight on each",
        ECHO,
        kind="echo",
        message_bytes=20,
        in_flight=8,
        targets={RIVALS: 1.0},
    ),
    Scenario(
        "echo64k",
        "WebSocket echo, 64 connections, messages of 64 KB",
        ECHO,
        kind="echo",
        message_bytes=65536,
        targets={RIVALS: 1.0},
    ),
    Scenario(
        "websockets",
        "5,000 idle WebSockets",
        replace(ECHO, connections=5_500),
        kind="websockets",
        figure="kib_per_idle_websocket",
    ),
    Scenario(
        "streams",
        "2,000 streams, each getting an event a second",
        EVENTS,
        kind="streams",
        servers=STREAMING,
        connections=2_000,
        script="own",
        figure="late_max_ms",
    ),
    Scenario(
        "broadcast",
        "2,000 streams, all getting an event at the full second",
        EVENTS,
        kind="streams",
        servers=STREAMING,
        connections=2_000,
        script="same",
        figure="late_max_ms",
    ),
]


CLOSING = Scenario("closing", "an answer that has to be closed", Shape("closing:app"), pinned=False)


def chosen(names: list[str]) -> list[Scenario]:
    """The scenarios of these names, all without names. Raises ValueError for a name that is none."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    for name in names:
        if name not in known:
            raise ValueError(f"SCENARIOS: there is no scenario {name!r}; there are {', '.join(known)}")
    return [scenario for scenario in SCENARIOS if not names or scenario.name in names]
