"""`asgi`: ASGI applications in an asyncio or uvloop loop, which turns the engine.

Requests, WebSockets and what the application is called with are the extension module's; here are the loop,
the lifespan of the application, and the end. Source: Gunicorn's asgi worker for settings, log lines and exit
codes.
"""

import asyncio
import sys

from tricorn import _core
from tricorn.workers.aio import ATTEND_EVERY, LoopWorker
from tricorn.workers.lifespan import Lifespan, LifespanFailed

BOOT_ERROR = 3


class AsgiWorker(LoopWorker):
    @classmethod
    def check_config(cls, cfg, log):
        if cfg.threads > 1:
            log.warning("ASGI worker does not use threads: applications bring their own.")
        if cfg.settings["request_buffering"].given:
            log.warning("ASGI worker does not use request_buffering: receive() gives bodies as they come.")
        if cfg.asgi_loop == "uvloop":
            import_uvloop()

    @property
    def asgi(self):
        return self.wsgi

    def new_loop(self):
        return new_event_loop(self.cfg.asgi_loop)

    async def serve(self):
        state = {}
        lifespan = await self.start_lifespan(state)
        engine = _core.AsgiEngine(self, self.loop, self.asgi, state if lifespan else None)
        engine.start()
        for listener in self.sockets:
            self.log.info("ASGI server listening on %s", listener)
        await self.turn(engine, engine.turn)
        # Work that the application does after its answers.
        await self.wait_for(engine.tasks)
        self.close(engine)
        if lifespan:
            await lifespan.shut_down()

    async def start_lifespan(self, state):
        """The running lifespan, or None when the application has none.

        Exits with the arbiter's code for a failed boot when the application says that it cannot start.
        """
        mode = self.cfg.asgi_lifespan
        if mode == "off":
            return None
        lifespan = Lifespan(self.asgi, self.log, state)
        try:
            # Startup may take longer than `timeout`: it has a deadline of its own.
            await self.beating(lifespan.start_up())
        except LifespanFailed as error:
            if mode == "on" or error.said_so:
                self.log.error("ASGI lifespan startup failed: %s", error)
                sys.exit(BOOT_ERROR)
            self.log.debug("ASGI lifespan not supported by app: %s", error)
            return None
        return lifespan

    async def beating(self, coroutine):
        """Wait for something while the heart goes on beating."""
        task = asyncio.ensure_future(coroutine)
        while not task.done():
            self.notify()
            await asyncio.wait({task}, timeout=ATTEND_EVERY)
        return task.result()


def new_event_loop(kind):
    """An event loop of the kind that `asgi_loop` names; `auto` is uvloop when it is installed."""
    if kind == "uvloop":
        return import_uvloop().new_event_loop()
    if kind == "auto":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def import_uvloop():
    """Errors: RuntimeError with the one line to say when it is missing."""
    try:
        import uvloop
    except ImportError as error:
        raise RuntimeError(
            f"the setting asgi_loop = 'uvloop' needs uvloop: pip install 'tricorn[uvloop]' ({error})"
        ) from None
    return uvloop
