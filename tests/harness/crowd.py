"""Many clients at once, in one thread: an asyncio crowd that knows exactly what happened to each request.

A refused connection (nobody listens) is not a failed request; a request that was begun on an accepted
connection and not answered in full is one. Bounded by the caller in clients and seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What became of the requests."""

    answered: int = 0
    refused: int = 0
    retired: int = 0  # a kept connection that the server closed between two requests
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    bodies: Counter[bytes] = field(default_factory=Counter)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    """(status, the connection goes on, body) of one answer.

    Errors: `asyncio.IncompleteReadError` when the connection ends before the answer does.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head[:-4].split(b"\r\n")
    status = int(lines[0].split(b" ", 2)[1])
    fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
    goes_on = fields.get(b"connection") != b"close"
    if b"content-length" in fields:
        return status, goes_on, await reader.readexactly(int(fields[b"content-length"]))
    body = b""
    if fields.get(b"transfer-encoding") == b"chunked":
        while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return status, goes_on, body
    return status, False, await reader.read()


class Crowd:
    """`clients` clients that send `request` to `port` until `stop()` is called or `seconds` have passed.

    A server may close a kept connection just while the next request is on its way (RFC 9112 section 9.3.1);
    clients then send an idempotent request again on a new connection. Such a close counts as `retired`, if
    the connection was used before and not one byte of an answer came.
    """

    def __init__(
        self,
        port: int,
        clients: int,
        request: bytes,
        seconds: float,
        keep: bool = True,
        timeout: float = 20.0,
    ):
        self.port, self.clients, self.request = port, clients, request
        self.seconds, self.keep, self.timeout = seconds, keep, timeout
        self.tally = Tally()
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    async def hears_another(self, seconds: float) -> None:
        """Waits for a body that none of the answers so far had: another worker's, where the body is its pid.

        Errors: `TimeoutError` after `seconds`.
        """
        heard = len(self.tally.bodies)
        await self._until(
            lambda: len(self.tally.bodies) > heard, seconds, f"only {heard} workers have answered"
        )

    async def hears_more_than(self, answers: int, seconds: float) -> None:
        """Waits for that many answers from the beginning. Errors: `TimeoutError` after `seconds`."""
        await self._until(lambda: self.tally.answered > answers, seconds, f"not more than {answers} answers")

    async def _until(self, fact: Callable[[], bool], seconds: float, otherwise: str) -> None:
        deadline = time.monotonic() + seconds
        while not fact():
            if time.monotonic() > deadline:
                raise TimeoutError(otherwise)
            await asyncio.sleep(0.02)

    async def stops_after(self, bodies: int, seconds: float) -> None:
        """A conductor: stops the crowd once so many bodies have been heard, each within `seconds`."""
        while len(self.tally.bodies) < bodies:
            await self.hears_another(seconds)
        self.stop()

    async def run(self, conductor: Callable[[], object] | None = None) -> Tally:
        """Runs the crowd; `conductor` is an async function that runs beside it (signals, say)."""
        loop = asyncio.get_running_loop()
        loop.call_later(self.seconds, self.stop)
        jobs = [asyncio.create_task(self._client()) for _ in range(self.clients)]
        if conductor is not None:
            jobs.append(asyncio.create_task(conductor()))  # type: ignore[arg-type]
        await asyncio.gather(*jobs)
        return self.tally

    async def _client(self) -> None:
        while not self._stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                self.tally.refused += 1
                await asyncio.sleep(0.05)
                continue
            except OSError as error:
                self.tally.failures.append(f"connect: {error!r}")
                continue
            try:
                await self._talk(reader, writer)
            finally:
                writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        used = False
        while not self._stopping:
            if used and reader.at_eof():
                self.tally.retired += 1
                return
            try:
                writer.write(self.request)
                status, goes_on, body = await asyncio.wait_for(read_answer(reader), self.timeout)
            except asyncio.IncompleteReadError as error:
                self._lost(used, error.partial)
                return
            except ConnectionResetError:
                self._lost(used, b"", "was reset")
                return
            except (OSError, ValueError, asyncio.TimeoutError) as error:
                self.tally.failures.append(f"{'kept' if used else 'new'} connection: {error!r}")
                return
            self.tally.answered += 1
            self.tally.statuses[status] += 1
            self.tally.bodies[body[:16]] += 1
            used = True
            if not goes_on or not self.keep:
                return

    def _lost(self, used: bool, partial: bytes, how: str = "ended") -> None:
        if used and not partial:
            self.tally.retired += 1
        else:
            self.tally.failures.append(f"{'kept' if used else 'new'} connection {how} after {partial[:80]!r}")
