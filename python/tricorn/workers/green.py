"""Workers whose requests run in green threads: gevent and eventlet differ only in the loop they bring.

The loop watches the engine's descriptor. Requests run in a pooled green thread that is switched to straight
from the loop's callback: those that do not block cost no scheduling at all, and no new stack. What blocks
switches to the loop by itself, which has another green thread go on with the next request. Each request gets
a contextvars copy of its own; thread-locals (which the loops make local to green threads) outlive a request,
as in a pool of threads.
"""

import contextvars

from tricorn import _core
from tricorn.workers.base import EngineWorker
from tricorn.workers.blocks import sent_blocks

# Seconds between two looks at deadlines, the heartbeat and the end.
ATTEND_EVERY = 0.25


class GreenWorker(EngineWorker):
    threaded = True

    # ---- what a loop has to bring

    @staticmethod
    def patch():
        """Replace what blocks in the standard library by what switches."""
        raise NotImplementedError

    def hub(self):
        """The green thread that runs the loop."""
        raise NotImplementedError

    def watch(self, fd, callback):
        """Call `callback()` in the hub whenever `fd` is readable."""
        raise NotImplementedError

    def soon(self, callback):
        """Call `callback()` in the hub, once its present step is over."""
        raise NotImplementedError

    def pause(self, seconds):
        """Let the hub run for a while."""
        raise NotImplementedError

    def spawn(self, function, *args):
        """Call `function(*args)` in a green thread of its own."""
        raise NotImplementedError

    # ---- the worker

    def init_process(self):
        self.patch()
        super().init_process()

    def handle_quit(self, sig, frame):
        # Python may be in the hub just now, where hooks and loggers must not block.
        self.spawn(super().handle_quit, sig, frame)

    def handle_usr1(self, sig, frame):
        self.spawn(super().handle_usr1, sig, frame)

    def run(self):
        from greenlet import getcurrent, greenlet

        self.getcurrent, self.greenlet = getcurrent, greenlet
        self.parked = []
        # How often the hub has come to hand out requests.
        self.passes = 0
        self.waiting = {}
        self.flushing = False
        self.exit = None
        self.context = contextvars.copy_context()
        self.home = self.hub()
        self.engine = _core.WsgiEngine(self, self.wait)
        self.watch(self.engine.fileno(), self.on_readable)
        self.watch(self.PIPE[0], self.attend)
        while not self.attend() and self.exit is None:
            self.pause(ATTEND_EVERY)
            self.soon(self.on_readable)
        self.engine.close()
        if self.exit is not None:
            raise self.exit

    def attend(self):
        return self.engine.attend()

    def on_readable(self):
        """In the hub: everything that can go on does."""
        scheduled = self.flushing
        self.flushing = True
        self.engine.begin_step()
        for key in self.engine.turn():
            waiter = self.waiting.pop(key, None)
            if waiter is not None:
                waiter.switch()
        self.take_requests()
        self.engine.end_step()
        self.flushing = scheduled

    def take_requests(self):
        while self.engine.has_request():
            self.passes += 1
            thread = self.parked.pop() if self.parked else self.greenlet(self.serve, self.home)
            thread.switch()

    def serve(self):
        """The life of a pooled green thread: one request after the other, until one has waited.

        Then the hub has gone on meanwhile, and others serve.
        """
        me = self.getcurrent()
        while True:
            passes = self.passes
            while self.answer() and passes == self.passes:
                pass
            self.parked.append(me)
            self.home.switch()

    def answer(self):
        """Answer a request, if there is one."""
        context = self.context.copy()
        try:
            call = context.run(self.engine.answer)
            if call is None:
                return False
            if call is not True:
                context.run(self.stream, call)
        except (SystemExit, KeyboardInterrupt) as raised:
            self.exit = raised
        except BaseException:
            # A timeout of the loop's, say, that the application let through: answered and logged as an error.
            pass
        self.flush_soon()
        return True

    def stream(self, call):
        for _ in sent_blocks(call):
            self.flush_soon()

    def wait(self, key):
        """In a request's green thread: until the engine reports the exchange."""
        self.waiting[key] = self.getcurrent()
        self.flush_soon()
        try:
            self.home.switch()
        finally:
            self.waiting.pop(key, None)

    def flush_soon(self):
        if not self.flushing:
            self.flushing = True
            self.engine.begin_step()
            self.soon(self.flush)

    def flush(self):
        self.flushing = False
        self.engine.begin_step()
        # The answer may have been what the next request of the connection waited for.
        self.take_requests()
        self.engine.end_step()
