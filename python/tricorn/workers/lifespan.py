"""The lifespan of an ASGI application: started before the first request, shut down after the last.

Source: the ASGI specification, "Lifespan Protocol".
"""

import asyncio

# Seconds for each of startup and shutdown, as Gunicorn gives them.
DEADLINE = 30.0


class LifespanFailed(Exception):
    """The application did not start. `said_so`: by `lifespan.startup.failed`; or it lacks the protocol."""

    def __init__(self, message, said_so=False):
        super().__init__(message)
        self.said_so = said_so


class Lifespan:
    def __init__(self, app, log, state):
        self.app = app
        self.log = log
        self.scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self.events = asyncio.Queue()
        self.started = asyncio.get_running_loop().create_future()
        self.stopped = asyncio.get_running_loop().create_future()
        self.task = None

    async def start_up(self):
        """Errors: LifespanFailed."""
        self.events.put_nowait({"type": "lifespan.startup"})
        self.task = asyncio.ensure_future(self._run())
        try:
            await asyncio.wait_for(asyncio.shield(self.started), DEADLINE)
        except asyncio.TimeoutError:
            self.task.cancel()
            raise LifespanFailed(f"no answer within {DEADLINE:.0f} s") from None

    async def shut_down(self):
        """Tell the application to end; it has some time for it."""
        if self.task.done():
            return
        self.events.put_nowait({"type": "lifespan.shutdown"})
        try:
            await asyncio.wait_for(asyncio.shield(self.stopped), DEADLINE)
        except asyncio.TimeoutError:
            self.log.warning("ASGI lifespan shutdown timed out")
        self.task.cancel()
        await asyncio.wait({self.task}, timeout=1.0)

    async def _run(self):
        try:
            await self.app(self.scope, self.events.get, self._send)
        except Exception as error:
            if self.started.done():
                self.log.exception("Exception in ASGI lifespan")
            self._fail(f"{type(error).__name__}: {error}")
        else:
            self._fail("the application returned before it had started")
        if not self.stopped.done():
            self.stopped.set_result(None)

    def _fail(self, message, said_so=False):
        if not self.started.done():
            self.started.set_exception(LifespanFailed(message, said_so))

    async def _send(self, event):
        kind = event["type"]
        if kind == "lifespan.startup.complete":
            if not self.started.done():
                self.started.set_result(None)
        elif kind == "lifespan.startup.failed":
            self._fail(event.get("message") or "the application gives no reason", said_so=True)
        elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            if kind.endswith("failed"):
                self.log.error("ASGI lifespan shutdown failed: %s", event.get("message", ""))
            if not self.stopped.done():
                self.stopped.set_result(None)
        else:
            raise ValueError(f"unexpected ASGI message {kind!r}")
