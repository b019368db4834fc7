"""Servers under test: started as their users start them, watched by facts, and never left behind.

A `Running` server is a real process tree on an ephemeral port. Its log is read line by line as it comes;
every wait has a deadline and says what it saw when the deadline passes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from harness.http import Connection, Response, request_bytes

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
START_SECONDS = 30.0
MARK = "SERVER_UNDER_TEST"
LISTENING = r"Listening at: (?P<urls>.+?) \(\d+\)"
# Settings of the shell that runs the tests must not reach the servers.
FOREIGN = re.compile(
    r"(GUNICORN_|TRICORN_|XDG_RUNTIME|LISTEN_|NOTIFY_SOCKET|PORT$|WEB_CONCURRENCY$|FORWARDED_ALLOW_IPS$|SCRIPT_NAME$)"
)
WORKER_ARGS = {
    "sync": ["-k", "sync"],
    "gthread": ["-k", "gthread", "--threads", "4"],
    "gevent": ["-k", "gevent"],
    "eventlet": ["-k", "eventlet"],
    "tornado": ["-k", "tornado"],
    "asgi": ["-k", "asgi"],
}


def wait_until(fact: Callable[[], object], seconds: float = 10.0, what: str = "the fact") -> object:
    """Returns the first true value of `fact()`; fails when `seconds` pass without one."""
    deadline = time.monotonic() + seconds
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.01)


class Held:
    """A request that is in the application until it is let go (`web:app` and `asgi_app:app` can)."""

    def __init__(self, client: Connection, folder: Path):
        self.client = client
        self.file = folder / "held"
        client.send(request_bytes("GET", f"/hold_file?file={self.file}"))
        wait_until(self.file.exists, START_SECONDS, "the request in the application")

    def let_go(self) -> Response:
        """Returns the answer."""
        self.file.unlink()
        response = self.client.read_response()
        assert (response.status, response.body) == (200, b"let go")
        return response


class Lines:
    """The lines of one output stream, as they come."""

    def __init__(self, stream: IO[bytes]):
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._pump, args=(stream,), daemon=True)
        self._thread.start()

    def _pump(self, stream: IO[bytes]) -> None:
        with stream:
            for raw in stream:
                with self._news:
                    self._lines.append(raw.decode("utf-8", "backslashreplace").rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def mark(self) -> int:
        """Position after the last line so far; give it to `wait_for` to look only at what comes later."""
        return len(self._lines)

    def wait_for(self, pattern: str, seconds: float = 10.0, after: int = 0) -> re.Match[str]:
        """The first line from `after` on in which `pattern` is found."""
        deadline = time.monotonic() + seconds
        at = after
        with self._news:
            while True:
                while at < len(self._lines):
                    match = re.search(pattern, self._lines[at])
                    if match:
                        return match
                    at += 1
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    raise AssertionError(f"no line matched {pattern!r}; the log:\n" + self.text())
                self._news.wait(left)

    def join(self, seconds: float = 5.0) -> None:
        """Waits for the end of the stream, which comes with the last process that holds it."""
        self._thread.join(seconds)

    def matches(self, pattern: str) -> list[re.Match[str]]:
        """All matches so far, one a line at most."""
        return [match for line in list(self._lines) if (match := re.search(pattern, line))]

    def text(self) -> str:
        return "\n".join(list(self._lines))


def _stat(pid: int) -> tuple[int, int, str] | None:
    """(parent, session, state) of a process, None when it is gone."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(rest[1]), int(rest[3]), rest[0]


def _marked(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


class Running:
    """A server that was started. `port` (TCP) or `path` (unix) is where it listens."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], folder: Path, mark: str):
        self.name = name
        self.process = process
        self.folder = folder
        self.log = Lines(process.stderr)  # type: ignore[arg-type]
        self.out = Lines(process.stdout)  # type: ignore[arg-type]
        self.port = 0
        self.path: str | None = None
        self.urls: list[str] = []
        self._mark = mark
        self._ending = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> int | str:
        return self.path or self.port

    def connect(self, timeout: float = 10.0, **how) -> Connection:
        return Connection(self.address, timeout, **how)

    def request(self, method: str = "GET", target: str = "/", fields=None, body=None, **how) -> Response:
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.request(method, target, fields, body, **how)

    def wait_for_line(self, pattern: str, seconds: float = 10.0, after: int = 0) -> re.Match[str]:
        """A line of the error log, which is stderr unless the test said otherwise."""
        return self.log.wait_for(pattern, seconds, after)

    # ---- processes
    def processes(self) -> list[int]:
        """Living processes of the tree, the arbiter included, in any session."""
        out = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            stat = _stat(int(entry))
            if stat is None or stat[2] == "Z":
                continue
            if stat[1] == self.pid or _marked(int(entry), self._mark):
                out.append(int(entry))
        return out

    def workers(self) -> list[int]:
        """Direct children of the arbiter that still live."""
        return [pid for pid in self.processes() if (stat := _stat(pid)) and stat[0] == self.pid]

    def wait_for_workers(self, count: int, seconds: float = 10.0) -> list[int]:
        wait_until(lambda: len(self.workers()) == count, seconds, f"{count} workers (have {self.workers()})")
        return self.workers()

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 40.0) -> int:
        """Exit code of the arbiter."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the arbiter still runs after {seconds} s:\n{self.log.text()}") from None
        self.log.join()
        self.out.join()
        return code

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40.0) -> int:
        """Sends the signal and waits for the exit code."""
        if self.process.poll() is None:
            self.send_signal(number)
        return self.wait(seconds)

    def memory_kib(self, pid: int | None = None) -> int:
        """Resident anonymous memory of a process (default: the first worker)."""
        pid = pid if pid is not None else self._first_worker()
        status = Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.M)[1])  # type: ignore[index]

    def _first_worker(self) -> int:
        """It may have to be forked yet."""
        wait_until(self.workers, what="a worker")
        return self.workers()[0]

    def descriptors(self, pid: int | None = None) -> int:
        """Open descriptors of a process (default: the first worker)."""
        return len(os.listdir(f"/proc/{pid if pid is not None else self._first_worker()}/fd"))

    def begin_to_end(self) -> None:
        """Sends the signal of `end` without waiting, for those who end many."""
        if self.process.poll() is None and not self._ending:
            self._ending = True
            self.send_signal(signal.SIGQUIT)

    def end(self) -> str:
        """Ends whatever is left. Returns what was wrong, empty when all went as it should."""
        wrong = ""
        self.begin_to_end()
        if self.process.poll() is None:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                # The oracle does that on its own now and then (a worker of gthread that never exits);
                # what it does at its end is asserted where a test is about ending.
                if self.name == "gunicorn":
                    return self._clear_away()
                wrong = "the arbiter did not stop within 10 s of SIGQUIT"
        deadline = time.monotonic() + 3
        while not wrong and (left := self.processes()):
            if time.monotonic() > deadline:
                wrong = f"processes left behind: {left}"
            time.sleep(0.02)
        return self._clear_away(wrong)

    def _clear_away(self, wrong: str = "") -> str:
        """Kills what is left of the tree and passes on what was wrong, with the log."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process.poll() is None:
            self.process.wait(5)
        self.log.join()
        self.out.join()
        shutil.rmtree(self.folder, ignore_errors=True)
        return f"{self.name}: {wrong}\n{self.log.text()}" if wrong else ""


class Launcher:
    """Starts servers of one kind; `server` in the tests.

    A server from `start` lives as long as the test, one from `shared` as long as the test session.
    """

    def __init__(self, name: str, shared: dict[object, Running]):
        self.name = name
        # The interpreter and its options.
        self.python: tuple[str, ...] = (sys.executable,)
        self._started: list[Running] = []
        self._shared = shared

    def __repr__(self) -> str:
        return self.name

    @staticmethod
    def installed(name: str) -> bool:
        return importlib.util.find_spec(name) is not None

    def start(
        self,
        app: str | None,
        *args: str,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        bind: str | None = "127.0.0.1:0",
        worker: str | None = None,
        wait: str | None = LISTENING,
        python: tuple[str, ...] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Running:
        """Starts `python -m NAME -b BIND [-c CONFIG] ARGS APP`, waits until it listens.

        Shape: `config` is the text of a configuration file; `bind=None` gives no `-b`; `wait` is the line
        that means "started", None returns at once (for starts that are meant to fail); `worker` is one
        of `WORKER_ARGS`; `python` is the interpreter and its options.
        """
        running = self._spawn(app, args, config, env, cwd, bind, worker, python or self.python, pass_fds)
        self._started.append(running)
        self._await(running, wait)
        return running

    def start_command(
        self,
        *command: str,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        wait: str | None = LISTENING,
    ) -> Running:
        """Starts the server through another program, such as a runner of PasteDeploy."""
        folder = Path(tempfile.mkdtemp(prefix="server-"))
        running = self._open(list(command), folder, env, cwd, ())
        self._started.append(running)
        self._await(running, wait)
        return running

    def shared(self, app: str, *args: str, worker: str | None = None, config: str | None = None) -> Running:
        """A server that other tests use as well: same app and arguments, same processes."""
        key = (self.name, app, args, worker, config)
        running = self._shared.get(key)
        if running is None or running.process.poll() is not None:
            running = self._spawn(app, args, config, None, None, "127.0.0.1:0", worker, self.python, ())
            self._shared[key] = running
            self._await(running, LISTENING)
        return running

    def _spawn(self, app, args, config, env, cwd, bind, worker, python, pass_fds) -> Running:
        folder = Path(tempfile.mkdtemp(prefix="server-"))
        command = [*python, "-m", self.name]
        if bind is not None:
            command += ["-b", bind]
        if worker is not None:
            command += WORKER_ARGS[worker]
        if config is not None:
            (folder / "conf.py").write_text(config)
            command += ["-c", str(folder / "conf.py")]
        command += args
        if app is not None:
            command.append(app)
        return self._open(command, folder, env, cwd, pass_fds)

    def _open(self, command, folder, env, cwd, pass_fds) -> Running:
        mark = uuid.uuid4().hex
        environ = {key: value for key, value in os.environ.items() if not FOREIGN.match(key)}
        # HOME: Gunicorn keeps its control socket there. Unbuffered: what applications print comes at once.
        environ |= {"HOME": str(folder), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environ |= {MARK: mark, **(env or {})}
        process = subprocess.Popen(
            command,
            cwd=cwd or FIXTURES,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        return Running(self.name, process, folder, mark)

    @staticmethod
    def _await(running: Running, wait: str | None) -> None:
        if wait is None:
            return
        match = running.wait_for_line(wait, START_SECONDS)
        running.urls = (match.groupdict().get("urls") or "").split(",")
        for url in running.urls:
            if found := re.fullmatch(r"https?://.*:(\d+)", url):
                running.port = running.port or int(found[1])
            elif url.startswith("unix:"):
                running.path = url.removeprefix("unix:")

    def end(self) -> None:
        """Ends what `start` started. Fails when something had to be killed."""
        wrong = [said for running in self._started if (said := running.end())]
        self._started.clear()
        if wrong:
            raise AssertionError("\n".join(wrong))


def free_port() -> int:
    """A port that was free a moment ago, for the few tests that must name one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
