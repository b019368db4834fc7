"""Who is measured: a name, the command that starts it on a port, and what it can do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Interface = Literal["wsgi", "asgi", "websocket"]

BENCH = Path(__file__).resolve().parent
# One environment for each interpreter: `make bench BENCH_PYTHON=...` names another than the default.
DEFAULT_VENV = ".venv"
VENV = os.environ.get("BENCH_VENV", DEFAULT_VENV)
PYTHON = BENCH / VENV / "bin" / "python"
# What servers and applications stand on, and whose versions matter.
COMPANIONS = ("django", "fastapi", "flask", "httptools", "uvloop", "websockets")
FLOOR = BENCH.parent / "target" / "release" / "examples" / "floor"


@dataclass(frozen=True)
class Shape:
    """What a scenario asks a server for."""

    app: str
    workers: int = 1
    threads: int = 1
    # What `app` is called with; `websocket` is ASGI, for servers that have WebSockets as well.
    interface: Interface = "wsgi"
    # The same application for the other interface, where the scenario names servers of both.
    other: str = ""
    # Connections in progress at once, for servers that set a limit of their own; 0: less than any of them.
    connections: int = 0

    def app_for(self, interface: Interface) -> str:
        """The application for a server that speaks WSGI (or ASGI), whichever `app` is."""
        return self.app if (interface == "wsgi") == (self.interface == "wsgi") else self.other


@dataclass(frozen=True)
class Server:
    name: str
    command: Callable[[int, Shape], list[str]]
    # The distribution it comes from; None: part of this project.
    distribution: str | None = None
    # Can it be given several threads (processes) for one application?
    threads: bool = True
    workers: bool = True
    # Does it run applications at all?
    python: bool = True
    interfaces: tuple[Interface, ...] = ("wsgi",)
    # Takes part only in scenarios that name it.
    on_request: bool = False

    def fits(self, shape: Shape) -> bool:
        return (
            shape.interface in self.interfaces
            and (self.threads or shape.threads == 1)
            and (self.workers or shape.workers == 1)
        )


def _python(*words: str) -> list[str]:
    return [str(PYTHON), *words]


def _binary(name: str, *words: str) -> list[str]:
    return [str(PYTHON.parent / name), *words]


def _gunicorn_like(module: str, kind: str, *more: str) -> Callable[[int, Shape], list[str]]:
    def command(port: int, shape: Shape) -> list[str]:
        words = ["-b", f"127.0.0.1:{port}", "-w", str(shape.workers), "-k", kind, *more]
        if kind == "gthread":
            words += ["--threads", str(shape.threads)]
        if shape.connections:
            words += ["--worker-connections", str(shape.connections)]
        return _python("-m", module, *words, shape.app_for("asgi" if kind == "asgi" else "wsgi"))

    return command


def _tricorn(port: int, shape: Shape) -> list[str]:
    wsgi = "sync" if shape.threads == 1 else "gthread"
    return _gunicorn_like("tricorn", wsgi if shape.interface == "wsgi" else "asgi")(port, shape)


def _launched(name: str) -> Callable[[int, Shape], list[str]]:
    def command(port: int, shape: Shape) -> list[str]:
        words = [str(port), shape.app, str(shape.workers), str(shape.threads)]
        mode = name if shape.interface == "wsgi" else f"{name}-asgi"
        return _python(str(BENCH / "launch.py"), mode, *words)

    return command


def _protocol(shape: Shape) -> str:
    return "wsgi" if shape.interface == "wsgi" else "asgi"


def _granian(port: int, shape: Shape) -> list[str]:
    words = ["--interface", _protocol(shape), "--host", "127.0.0.1", "--port", str(port)]
    words += ["--workers", str(shape.workers)]
    if shape.interface == "wsgi":
        words += ["--blocking-threads", str(shape.threads)]
    if shape.connections:
        words += ["--backpressure", str(shape.connections)]
    return _binary("granian", *words, shape.app)


def _fastpysgi(port: int, shape: Shape) -> list[str]:
    return _binary("fastpysgi", "--host", "127.0.0.1", "-p", str(port), shape.app)


def _peregrine(port: int, shape: Shape) -> list[str]:
    words = ["--port", str(port), "--workers", str(shape.workers), "--wsgi-threads", str(shape.threads)]
    if shape.connections:
        words += ["--max-connections", str(shape.connections)]
    return _binary("peregrine", *words, "--protocol", _protocol(shape), "--python-path", ".", shape.app)


def _m0serve(port: int, shape: Shape) -> list[str]:
    words = ["--host", "127.0.0.1", "--port", str(port), "--protocol", _protocol(shape)]
    if shape.workers > 1:
        words += ["--workers", str(shape.workers)]
    if shape.threads > 1:
        words += ["--blocking-threads", str(shape.threads)]
    return _binary("m0serve", *words, shape.app)


def _uvicorn(port: int, shape: Shape) -> list[str]:
    # It logs every request unless told not to; nobody else here does. Loop and parser are its fastest.
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(shape.workers)]
    words += ["--no-access-log", "--loop", "uvloop", "--http", "httptools"]
    return _binary("uvicorn", *words, shape.app)


def _hypercorn(port: int, shape: Shape) -> list[str]:
    words = ["-b", f"127.0.0.1:{port}", "-w", str(shape.workers), "-k", "uvloop"]
    return _binary("hypercorn", *words, shape.app)


def _waitress(port: int, shape: Shape) -> list[str]:
    words = [f"--listen=127.0.0.1:{port}", f"--threads={shape.threads}"]
    return _binary("waitress-serve", *words, shape.app)


def _uwsgi(port: int, shape: Shape) -> list[str]:
    # It logs every request unless told not to; nobody else here does.
    words = ["--http11-socket", f"127.0.0.1:{port}", "--disable-logging", "--master", "--die-on-term"]
    words += ["--processes", str(shape.workers), "--threads", str(shape.threads)]
    return _binary("uwsgi", *words, "--virtualenv", str(PYTHON.parent.parent), "-w", shape.app)


def _floor(port: int, shape: Shape) -> list[str]:
    return [str(FLOOR), f"127.0.0.1:{port}"]


def _four_threads(port: int, shape: Shape) -> list[str]:
    return _tricorn(port, replace(shape, threads=4))


ASGI: tuple[Interface, ...] = ("asgi", "websocket")
BOTH: tuple[Interface, ...] = ("wsgi", "asgi")
ALL: tuple[Interface, ...] = ("wsgi", "asgi", "websocket")

SERVERS = [
    Server("tricorn", _tricorn, interfaces=ALL),
    # The same command again: how far it is from itself is what this benchmark cannot tell apart.
    Server("control", _tricorn, interfaces=ALL),
    Server("tricorn gthread", _four_threads),
    # `auto`, as everybody's, is uvloop here.
    Server("tricorn asyncio", _gunicorn_like("tricorn", "asgi", "--asgi-loop", "asyncio"), interfaces=ASGI),
    Server("tricorn asgi", _gunicorn_like("tricorn", "asgi"), on_request=True),
    Server("tricorn gevent", _gunicorn_like("tricorn", "gevent"), "gevent", on_request=True),
    Server("tricorn eventlet", _gunicorn_like("tricorn", "eventlet"), "eventlet", on_request=True),
    Server("floor", _floor, threads=False, workers=False, python=False, interfaces=BOTH),
    Server("gunicorn sync", _gunicorn_like("gunicorn", "sync"), "gunicorn", threads=False),
    Server("gunicorn gthread", _gunicorn_like("gunicorn", "gthread"), "gunicorn"),
    Server("gunicorn gevent", _gunicorn_like("gunicorn", "gevent"), "gevent", threads=False),
    Server("gunicorn asgi", _gunicorn_like("gunicorn", "asgi"), "gunicorn", interfaces=ASGI),
    Server("granian", _granian, "granian", interfaces=ALL),
    Server("uvicorn", _uvicorn, "uvicorn", interfaces=ASGI),
    Server("hypercorn", _hypercorn, "hypercorn", interfaces=ASGI),
    Server("bjoern", _launched("bjoern"), "bjoern-binary", threads=False, workers=False),
    # Neither it nor freastal has WebSockets: they answer the handshake as a plain request.
    Server("fastpysgi", _fastpysgi, "fastpysgi", threads=False, workers=False, interfaces=BOTH),
    Server("freastal", _launched("freastal"), "freastal", threads=False, interfaces=BOTH),
    Server("peregrine", _peregrine, "peregrine-server", interfaces=ALL),
    Server("m0serve", _m0serve, "m0serve", interfaces=ALL),
    Server("pyruvate", _launched("pyruvate"), "pyruvate", workers=False),
    Server("waitress", _waitress, "waitress", workers=False),
    Server("cheroot", _launched("cheroot"), "cheroot", workers=False),
    Server("uwsgi", _uwsgi, "uwsgi"),
]


def chosen(names: list[str]) -> list[Server]:
    """The servers of these names (`gunicorn` means all of its worker classes); all without names.

    Tricorn and its control are always among them. Raises ValueError for a name that nobody has.
    """
    if not names:
        return SERVERS
    for name in names:
        if not any(name in (server.name, _family(server)) for server in SERVERS):
            known = ", ".join(server.name for server in SERVERS)
            raise ValueError(f"SERVERS: no server is called {name!r}; there are {known}")
    exact = {"tricorn", "control", *names}
    families = set(names) - {"tricorn"}
    return [server for server in SERVERS if server.name in exact or _family(server) in families]


def _family(server: Server) -> str:
    return server.name.partition(" ")[0]


def missing(server: Server) -> str:
    """Why it cannot take part; empty when it can."""
    if server.name == "floor":
        return "" if FLOOR.exists() else "is not built: cargo build --release --example floor"
    if server.distribution is None or version(server.distribution):
        return ""
    return f"is not installed ({server.distribution} did not install from PyPI here)"


def version(distribution: str) -> str:
    """The installed one; empty when there is none."""
    folder = distribution.replace("-", "_")
    for found in PYTHON.parent.parent.glob(f"lib/python3*/site-packages/{folder}-*.dist-info"):
        return found.name.removeprefix(folder + "-").removesuffix(".dist-info")
    return ""
