"""`tornado`: Tornado's IOLoop, an asyncio loop, turns the engine.

Native applications (`tornado.web.Application`, or whatever else is an HTTPServerConnectionDelegate) are
called through Tornado's own interface, everything else as a WSGI application, in the loop: one call at a
time. A generator that has more than its client takes leaves the loop to the others meanwhile.
"""

import asyncio
import contextvars

from tricorn import _core
from tricorn.workers.aio import LoopWorker
from tricorn.workers.blocks import sent_blocks
from tricorn.workers.requirements import need


class TornadoWorker(LoopWorker):
    engine = None
    # How WebSockets are told of the end, where there may be some.
    close_sockets = None

    @classmethod
    def setup(cls):
        need("tornado", "tornado", "6.5")

    @classmethod
    def check_config(cls, cfg, log):
        # Which kind of application it will be is not known before a worker has loaded it.
        if cfg.settings["request_buffering"].given:
            log.warning(
                "Tornado worker does not use request_buffering: WSGI applications get their bodies whole,"
                " native ones as they come."
            )

    def init_process(self):
        # A loop of this process's own, before the application is imported: it may put callbacks there.
        asyncio.set_event_loop(asyncio.new_event_loop())
        super().init_process()

    def handle_exit(self, sig, frame):
        super().handle_exit(sig, frame)
        # An application that holds the loop just now is to end with an answer that says so.
        if self.engine is not None:
            self.engine.attend()

    def new_loop(self):
        from tornado.ioloop import IOLoop

        self.io_loop = IOLoop.current()
        return self.io_loop.asyncio_loop

    async def serve(self):
        from tornado.httputil import HTTPServerConnectionDelegate

        self.wsgi = unwrapped(self.wsgi)
        if isinstance(self.wsgi, HTTPServerConnectionDelegate):
            await self.serve_native()
        else:
            await self.serve_wsgi()

    async def serve_native(self):
        from tricorn import tornado_http

        self.close_sockets = tornado_http.close_sockets
        app = tornado_http.asgi_app(self.wsgi)
        self.engine = engine = _core.AsgiEngine(self, self.loop, app, native=True)
        engine.start()
        await self.turn(engine, engine.turn)
        # Those of requests that were in progress when the end began.
        self.close_sockets()
        await self.wait_for(lambda: [*engine.tasks(), *tornado_http.DetachedStream.living])
        self.close(engine)

    def begin_stop(self):
        if self.close_sockets is not None:
            self.close_sockets()

    # ---- WSGI

    async def serve_wsgi(self):
        self.calls_block = True
        self.context = contextvars.copy_context()
        self.waiting = {}
        self.engine = _core.WsgiEngine(self, None)
        await self.turn(self.engine, self.on_readable)
        self.close(self.engine)

    def on_readable(self):
        self.engine.begin_step()
        for key in self.engine.turn():
            request = self.waiting.pop(key, None)
            if request is not None:
                self.go_on(*request)
        while True:
            # Nothing that one request puts into its context reaches another.
            context = self.context.copy()
            call = context.run(self.engine.answer)
            if call is None:
                break
            if call is not True:
                self.go_on(call.key, self.stream(call), context)
        self.engine.end_step()

    def go_on(self, key, steps, context):
        """Send of a response as much as its client takes."""
        if context.run(next, steps, None) is not None:
            self.waiting[key] = key, steps, context

    def stream(self, call):
        """Yields the call's key where it has to wait for its client."""
        for _ in sent_blocks(call):
            while not call.has_room():
                yield call.key


def unwrapped(application):
    """The WSGI application in a plain WSGIContainer; other containers as Tornado's server makes them."""
    from tornado.concurrent import dummy_executor
    from tornado.httpserver import HTTPServer
    from tornado.wsgi import WSGIContainer

    if not isinstance(application, WSGIContainer):
        return application
    if type(application) is WSGIContainer and application.executor is dummy_executor:
        return application.wsgi_application

    class Container(HTTPServer):
        def on_close(self, server_conn):
            """It has not accepted this connection and has nothing to forget."""

    return Container(application)
