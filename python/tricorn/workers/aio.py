"""Workers whose engine is turned by an asyncio loop: asgi and tornado differ in what they make of requests.

The loop watches the engine's descriptor and the pipe of the worker's signals; every quarter of a second it
looks at deadlines, the heartbeat and the end.
"""

import asyncio
import sys
import time

from tricorn.workers.base import EngineWorker

# Seconds between two looks at deadlines, the heartbeat and the end.
ATTEND_EVERY = 0.25


class RequestTask(asyncio.Task):
    """A task that calls the application; whose call is `get_coro()`.

    While nothing of it was changed and nobody holds it, it can serve the next call as well.
    """

    __slots__ = ()

    def add_done_callback(self, callback, *, context=None):
        self.get_coro().touch()
        return super().add_done_callback(callback, context=context)

    def set_name(self, value):
        self.get_coro().touch()
        return super().set_name(value)

    def cancel(self, *args, **kwargs):
        self.get_coro().touch()
        return super().cancel(*args, **kwargs)

    if sys.version_info >= (3, 11):

        def uncancel(self):
            self.get_coro().touch()
            return super().uncancel()


async def awaited(awaitable):
    return await awaitable


class LoopWorker(EngineWorker):
    ready_when_loaded = False
    # The application holds the loop while it works, so that the loop may not come to hear of a signal.
    calls_block = False
    loop = None
    # What the loop turns.
    turned = None

    def new_loop(self):
        """The event loop to serve in."""
        raise NotImplementedError

    async def serve(self):
        """Serve in the running loop until everything begun is answered."""
        raise NotImplementedError

    def begin_stop(self):
        """Hook for subclasses: the worker has been told to stop; what was begun goes on."""

    def handle_quit(self, sig, frame):
        if self.calls_block or self.loop is None or not self.loop.is_running():
            super().handle_quit(sig, frame)
        else:
            # Thrown from the loop itself, where it cannot land in the middle of the application.
            self.loop.call_soon_threadsafe(super().handle_quit, sig, frame)

    def run(self):
        self.loop = self.new_loop()
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self.serve())
        finally:
            self.clean_up()

    async def turn(self, engine, on_readable):
        """Call `on_readable` when the engine has something to do, until a stopping worker has answered."""
        self.turned = engine
        self.loop.add_reader(engine.fileno(), on_readable)
        self.loop.add_reader(self.PIPE[0], engine.attend)
        self.set_ready()
        told = False
        while not engine.attend():
            if not (told or self.alive):
                told = True
                self.begin_stop()
            await asyncio.sleep(ATTEND_EVERY)
            # Not from here: whatever it calls runs in a task of its own.
            self.loop.call_soon(on_readable)

    def close(self, engine):
        self.loop.remove_reader(engine.fileno())
        self.loop.remove_reader(self.PIPE[0])
        engine.close()
        self.turned = None

    async def wait_for(self, unfinished):
        """Let what `unfinished()` returns come to an end, within `graceful_timeout`."""
        deadline = time.monotonic() + self.cfg.graceful_timeout
        while (left := unfinished()) and time.monotonic() < deadline:
            self.notify()
            await asyncio.wait(left, timeout=ATTEND_EVERY)

    def clean_up(self):
        """Cancel what is left and close the loop."""
        if self.turned is not None:
            # An exit that was thrown into the loop: it still turns, but must not accept any more.
            self.alive = False
            self.turned.attend()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            waiting = asyncio.wait(tasks, timeout=1.0)
            self.loop.run_until_complete(waiting)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
