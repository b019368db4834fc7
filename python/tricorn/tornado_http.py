"""What a native Tornado application is called with: Tornado's HTTPConnection over a request of the engine's.

The Python half of a gateway; no protocol: the engine parses and encodes heads, frames bodies, keeps
connections. Invariant: a delegate whose `headers_received` was called hears of the end once, by `finish` or
by `on_connection_close`. Source: tornado.httputil (HTTPServerConnectionDelegate, HTTPMessageDelegate,
HTTPConnection); where those are silent, what tornado.http1connection does.
"""

import asyncio
import socket
from functools import partial

import tornado
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPInputError, RequestStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler

from tricorn._core import ClientDisconnected

# As much as Tornado takes of a body that its handler has not set another limit for.
MAX_BODY_SIZE = 100 * 1024 * 1024
# Bytes of a body after which others have their turn.
FAIR_SHARE = 256 * 1024
# The code with which WebSockets are closed at the end of a worker.
SERVICE_RESTART = 1012
# What RequestHandler says when the application does not.
DEFAULT_SERVER = f"TornadoServer/{tornado.version}"


def asgi_app(delegate):
    """A native application as one that the engine can call."""

    def call(scope, receive, send):
        # The request itself, which has more to offer than ASGI asks for.
        return Connection(scope, send.__self__).serve(delegate, receive)

    return call


class Context:
    """`connection.context`: where the request comes from."""

    def __init__(self, scope):
        client = scope["client"]
        self.address = client or ""
        # What Tornado says of the peers of unix sockets.
        self.remote_ip = client[0] if client else "0.0.0.0"
        self.protocol = scope["scheme"]

    def __str__(self):
        return self.remote_ip


class DetachedStream(IOStream):
    """A connection that was given up to the application, beginning with what the engine has read of it."""

    # Those that are open: future of the end -> handler.
    living = {}

    def __init__(self, fd, unread, handler):
        self._unread = bytearray(unread)
        super().__init__(socket.socket(fileno=fd))
        self.over = asyncio.get_running_loop().create_future()
        self.living[self.over] = handler

    def close_fd(self):
        super().close_fd()
        self.living.pop(self.over, None)
        if not self.over.done():
            self.over.set_result(None)

    def read_from_fd(self, buf):
        if not self._unread:
            return super().read_from_fd(buf)
        count = min(len(buf), len(self._unread))
        buf[:count] = self._unread[:count]
        del self._unread[:count]
        return count


def close_sockets():
    """Say good-bye to WebSockets, which do not end by themselves: their clients come back elsewhere."""
    for handler in list(DetachedStream.living.values()):
        if isinstance(handler, WebSocketHandler):
            handler.close(SERVICE_RESTART)


class Connection(HTTPConnection):
    def __init__(self, scope, request):
        self.context = Context(scope)
        self.no_keep_alive = False
        self._app = None
        self._scope = scope
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._max_body_size = MAX_BODY_SIZE
        self._body_timeout = None
        self._close_callback = None
        self._handler = None
        # 101: the head leaves when the connection is given up.
        self._switches = False
        self._finished = False
        self._detached = False

    # ---- the request

    async def serve(self, app, receive):
        self._app = app
        try:
            if await self._deliver(app.start_request(self, self), receive):
                await self._attend(receive)
        except HTTPInputError as error:
            self._finished = True
            self._request.refuse(str(error))
        if not self._detached:
            app.on_close(self)

    async def _deliver(self, delegate, receive):
        """Hand the request on. False when not all of it came, or when nobody wants the rest."""
        start_line, headers = self._head()
        told = False
        try:
            await _settled(delegate.headers_received(start_line, headers))
            told = self._detached or await self._read_body(delegate, headers, receive)
        finally:
            if not told:
                delegate.on_connection_close()
        return told

    async def _attend(self, receive):
        """Wait for the end of the answer, or of the client."""
        # Most handlers have answered after their first step; a client that has shut its own side by then may
        # still listen.
        await asyncio.sleep(0)
        while not (self._finished or self._detached):
            message = await receive()
            if message["type"] == "http.disconnect":
                break
        callback, self._close_callback = self._close_callback, None
        if callback is not None and not (self._finished or self._detached):
            callback()

    def _head(self):
        scope = self._scope
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        headers = HTTPHeaders()
        for name, value in scope["headers"]:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        return RequestStartLine(scope["method"], target, f"HTTP/{scope['http_version']}"), headers

    async def _read_body(self, delegate, headers, receive):
        """Hand the body on as it comes. Returns as `_deliver`."""
        announced = headers.get_list("Content-Length")
        if any(length.isdigit() and int(length) > self._max_body_size for length in announced):
            raise HTTPInputError("Content-Length too long")
        blocks = self._blocks(delegate, receive)
        try:
            whole = await asyncio.wait_for(blocks, self._body_timeout)
        except asyncio.TimeoutError:
            raise HTTPInputError("the request body took too long") from None
        if whole:
            delegate.finish()
        return whole

    async def _blocks(self, delegate, receive):
        received = share = 0
        while not self._finished:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            block = message["body"]
            received += len(block)
            share += len(block)
            if received > self._max_body_size:
                raise HTTPInputError("chunked body too large")
            if block:
                await _settled(delegate.data_received(block))
            if not message["more_body"]:
                return not self._finished
            if share >= FAIR_SHARE:
                share = 0
                await asyncio.sleep(0)
        return False

    # ---- for handlers, beside HTTPConnection

    def set_close_callback(self, callback):
        self._close_callback = callback
        self._handler = getattr(callback, "__self__", self._handler)

    def set_max_body_size(self, size):
        self._max_body_size = size

    def set_body_timeout(self, seconds):
        self._body_timeout = seconds

    def detach(self):
        """Give the connection up: its stream, for another protocol."""
        fd, unread, unsent = self._request.detach()
        self._detached = True
        stream = DetachedStream(fd, unread, self._handler)
        stream.over.add_done_callback(lambda _: self._app.on_close(self))
        if unsent:
            stream.write(unsent)
        return stream

    # ---- HTTPConnection

    def write_headers(self, start_line, headers, chunk=None):
        _, code, reason = start_line
        fields = [
            (name, value)
            for name, value in headers.get_all()
            if not (value == DEFAULT_SERVER and name == "Server")
        ]
        if self.no_keep_alive:
            fields.append(("Connection", "close"))
        self._switches = code == 101
        return self._sent(lambda: self._begin(code, reason, fields, chunk or b""))

    def _begin(self, code, reason, fields, chunk):
        self._request.start_answer(code, reason, fields)
        return None if self._switches else self._request.write(chunk, True)

    def write(self, chunk):
        return self._sent(lambda: self._request.write(chunk, True))

    def finish(self):
        self._finished = not self._switches
        if self._finished:
            self._sent(lambda: self._request.write(b"", False))

    def _sent(self, send):
        """A future that is done when there is room for more."""
        future = self._loop.create_future()
        try:
            waiting = send()
        except ClientDisconnected:
            _fail(future)
        else:
            if waiting is None:
                future.set_result(None)
            else:
                waiting.add_done_callback(partial(_follow, future))
        return future


async def _settled(result):
    """Delegates may return something to wait for."""
    if result is not None:
        await result


def _follow(future, waiting):
    failed = not waiting.cancelled() and waiting.exception() is not None
    if future.done():
        return
    if failed:
        _fail(future)
    else:
        future.set_result(None)


def _fail(future):
    future.set_exception(StreamClosedError())
    # Nobody has to look at it.
    future.exception()
